"""Typed options of the transport and the one checked table from them to grpc channel arguments.

The C library ignores argument names that it does not know, so no other module spells one, and each
option has a test that shows its effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from runtime.errors import ConfigError

MAX_INT = 2**31 - 1
MIB = 2**20
ChannelArguments = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportOptions:
    """How the front-end treats connections and messages. Every bound is inclusive.

    Raises:
        ConfigError: one or more values are out of bounds; the message names each of them.
    """

    max_message_bytes: int = 64 * MIB
    """Largest message, both ways; 1 to 2**31-1. The memory bound is this times the calls in flight."""

    max_concurrent_calls: int = 100_000
    """Calls accepted at a time; more are refused with RESOURCE_EXHAUSTED. From 1. A last resort: the
    batch queues refuse far earlier."""

    keepalive_time_ms: int = 30_000
    """Silence on a connection after which the server pings the client; from 100. Shorter finds a
    vanished client sooner and costs a packet."""

    keepalive_timeout_ms: int = 10_000
    """How long the answer to a ping may take before the connection is given up; from 100."""

    min_client_ping_interval_ms: int = 5_000
    """Pings that a client sends more often count as strikes; from 0. The default tolerates clients
    that ping every 10 s, and jitter."""

    permit_pings_without_calls: bool = True
    """Whether a client may ping while it has no call; load balancers and idle pools do."""

    max_ping_strikes: int = 2
    """Strikes after which a connection is closed with ENHANCE_YOUR_CALM; 0 never closes one."""

    max_connection_age_ms: int = 0
    """Age at which a client is asked to reconnect, so that it finds new replicas; 0 = never."""

    max_connection_age_grace_ms: int = 0
    """How long calls of such a connection may go on; 0 = as long as they like."""

    max_connection_idle_ms: int = 0
    """Time without a call after which a connection is closed; 0 = never."""

    reuse_port: bool = False
    """Whether several processes may listen on the port (SO_REUSEPORT); the kernel spreads
    connections, not calls, over them."""

    compression: bool = False
    """Whether answers are compressed for clients that accept it; costs CPU. Compressed requests are
    always understood."""

    def __post_init__(self) -> None:
        problems = {rule[0]: problem for rule in _BOUNDS if (problem := _violation(self, *rule))}
        if problems:
            raise ConfigError("; ".join(problems.values()), field=next(iter(problems)))


_BOUNDS: Sequence[tuple[str, int, int]] = (
    ("max_message_bytes", 1, MAX_INT),
    ("max_concurrent_calls", 1, MAX_INT),
    ("keepalive_time_ms", 100, MAX_INT),
    ("keepalive_timeout_ms", 100, MAX_INT),
    ("min_client_ping_interval_ms", 0, MAX_INT),
    ("max_ping_strikes", 0, MAX_INT),
    ("max_connection_age_ms", 0, MAX_INT),
    ("max_connection_age_grace_ms", 0, MAX_INT),
    ("max_connection_idle_ms", 0, MAX_INT),
)

_ALWAYS: dict[str, tuple[str, ...]] = {
    "max_message_bytes": ("grpc.max_receive_message_length", "grpc.max_send_message_length"),
    "keepalive_time_ms": ("grpc.keepalive_time_ms",),
    # the ping's own timeout decides when a connection is given up; without it a minute passes
    "keepalive_timeout_ms": ("grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms"),
    "min_client_ping_interval_ms": ("grpc.http2.min_ping_interval_without_data_ms",),
    "permit_pings_without_calls": ("grpc.keepalive_permit_without_calls",),
    "max_ping_strikes": ("grpc.http2.max_ping_strikes",),
    "reuse_port": ("grpc.so_reuseport",),
}
_UNLESS_ZERO: dict[str, tuple[str, ...]] = {
    "max_connection_age_ms": ("grpc.max_connection_age_ms",),
    "max_connection_age_grace_ms": ("grpc.max_connection_age_grace_ms",),
    "max_connection_idle_ms": ("grpc.max_connection_idle_ms",),
}
_BURSTS: ChannelArguments = (
    ("grpc.server.max_pending_requests", MAX_INT),
    ("grpc.server.max_pending_requests_hard_limit", MAX_INT),
)
"""Calls that wait inside the C library to be picked up. From 1000 on it would break off some of them at
random, as CANCELLED; they are picked up within milliseconds, and refused by us where that has to be."""

_COMPRESSION = ("grpc.default_compression_level", 2)
"""The one compression switch that asks what the peer accepts; 2 is the middle level."""


def channel_arguments(options: TransportOptions) -> ChannelArguments:
    """The channel arguments that stand for the options; ``max_concurrent_calls`` is the server's own."""
    arguments: list[tuple[str, int]] = list(_BURSTS)
    for field in fields(options):
        value = int(getattr(options, field.name))
        names = _ALWAYS.get(field.name, ())
        if value:
            names += _UNLESS_ZERO.get(field.name, ())
        arguments.extend((name, value) for name in names)
    if options.compression:
        arguments.append(_COMPRESSION)
    return tuple(arguments)


def _violation(options: TransportOptions, name: str, low: int, high: int) -> str | None:
    value = getattr(options, name)
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return None
    return f"{name} must be a whole number from {low} to {high}, not {value!r}"
