"""The sections of the configuration that the runtime owns. The transport's own stands with the transport.

Bounds are inclusive. A text after each field says how to choose.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from runtime.config.schema import Between, Matching, check
from runtime.errors import ConfigError

MAX_PORT: Final = 65_535
HOUR_MS: Final = 3_600_000
MAX_ROWS: Final = 2**31 - 1
MAX_BYTES: Final = 2**63 - 1

MAX_BATCH: Final = 65_536

_DEVICE: Final = r"(cpu|cuda(:\d+)?)"
_SIZE: Final = r" *[1-9]\d{0,4} *"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """``[server]``: one server.

    Raises:
        ConfigError: a value is out of bounds.
    """

    host: Annotated[str, Matching(r"\S+", "a host name or address")] = "127.0.0.1"
    """Address to listen on. The default serves this machine only; 0.0.0.0 or :: serve every network."""

    port: Annotated[int, Between(0, MAX_PORT)] = 8001
    """gRPC port; 0 takes a free one, which the ready line tells."""

    http_port: Annotated[int, Between(0, MAX_PORT)] = 8002
    """Port of health and metrics over HTTP; 0 takes a free one."""

    services: Annotated[int, Between(1, 256)] = 1
    """Front-end processes that share the port. One serves some ten thousand requests a second; add one
    when it has a core to itself and the core is full."""

    store: str = ""
    """Folder of the model store; empty is ``models`` below $RUNTIME_HOME, or below ~/.runtime without it."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level that is logged. INFO has no line per request; DEBUG shows the decisions."""

    drain_delay_ms: Annotated[int, Between(0, HOUR_MS)] = 1_000
    """How long the server goes on accepting after it has announced its end. At least what balancers and
    clients need to notice."""

    grace_ms: Annotated[int, Between(0, HOUR_MS)] = 30_000
    """How long accepted calls may then take. At least the slowest call; less than the patience of whoever
    sends the signal."""

    transport: Literal["auto", "completion_queue", "aio"] = "auto"
    """gRPC implementation. ``auto`` takes the fast one if it passes its check at the start."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """``[tls]``: encryption of the gRPC port; all empty is plain text. Files are PEM.

    Raises:
        ConfigError: a certificate without its key, or the other way round.
    """

    cert: str = ""
    """File with the server's certificate chain."""

    key: str = ""
    """File with its private key."""

    client_ca: str = ""
    """File with the authorities whose clients are let in; empty lets in every client."""

    def __post_init__(self) -> None:
        check(self)
        if bool(self.cert) != bool(self.key):
            raise ConfigError("cert and key belong together: give both or none", field="tls")
        if self.client_ca and not self.cert:
            raise ConfigError("client_ca needs cert and key", field="tls")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """``[model]`` for every model, ``[models.NAME]`` for one: how a model is served.

    Raises:
        ConfigError: a value is out of bounds.
    """

    instances: Annotated[int, Between(1, 1_024)] = 1
    """Loaded copies, each in a process of its own. Small models gain from one per core; each costs the
    model's memory. Two let calls survive the death of one."""

    device: Annotated[
        str, Matching(rf"{_DEVICE}( *, *{_DEVICE})*", "cpu, cuda, cuda:N, or several with commas")
    ] = "cpu"
    """Where instances execute; of several devices the instances take turns."""

    threads: Annotated[int, Between(0, 1_024)] = 0
    """CPU threads of one instance; 0 shares the usable cores evenly among all instances, at least one each.
    More threads in all than cores make everything slower."""

    max_batch_size: Annotated[int, Between(1, MAX_BATCH)] = 64
    """Most rows executed together. Where twice the rows take twice the time, or memory ends, more does not
    pay; what is below that the server finds out by itself."""

    allowed_batch_sizes: Annotated[
        str, Matching(rf"|{_SIZE}(,{_SIZE})*", "ascending numbers of rows with commas, such as 1,2,4,8")
    ] = ""
    """The only numbers of rows that are executed; batches are padded up to the next. Empty allows every
    number. For engines with fixed shapes; otherwise padding is waste. The last one is the
    ``max_batch_size``, whatever else that is set to."""

    max_queue_delay_ms: Annotated[float, Between(-1, HOUR_MS)] = -1.0
    """How long an idle instance may wait for a batch to grow. -1 learns when and how long waiting pays; 0
    never waits; more caps what is learned. Set it where the first call of a quiet time must not wait."""

    slo_ms: Annotated[float, Between(0, HOUR_MS)] = 0.0
    """Deadline of calls that bring none; 0 is none. What would be answered later is worthless to callers:
    it is dropped, so that the rest is in time."""

    max_queue_ms: Annotated[float, Between(1, HOUR_MS)] = 10_000.0
    """Longest predicted wait of calls without a deadline; more are refused at once. The longest wait that
    callers put up with."""

    max_queued_rows: Annotated[int, Between(1, MAX_ROWS)] = 10_000
    """Rows that may wait; more are refused at once. About the rows executed within the longest wait that
    callers put up with."""

    max_queued_bytes: Annotated[int, Between(1, MAX_BYTES)] = 1 << 30
    """Bytes of tensors that may wait; more are refused at once. Bounds the front-end's memory."""

    priority_levels: Annotated[int, Between(1, 64)] = 3
    """How many levels of urgency the request parameter ``priority`` tells apart; 1 is the most urgent. More
    levels than kinds of callers are of no use."""

    default_priority_level: Annotated[int, Between(0, 64)] = 0
    """Level of calls that name none; 0 is the middle one. Leave levels before it for the urgent and behind it
    for what can wait."""

    isolation_depth: Annotated[int, Between(0, 16)] = 16
    """How often a batch that failed is halved and run again, so that only the culprit fails; 0 fails all of
    it at once. Less for models whose errors have nothing to do with the inputs."""

    def __post_init__(self) -> None:
        check(self)
        sizes = self.batch_sizes
        if sizes:
            self._check_sizes(sizes)
            object.__setattr__(self, "max_batch_size", sizes[-1])
        levels, default = self.priority_levels, self.default_priority_level
        if default > levels:
            raise ConfigError(
                f"default_priority_level must be at most priority_levels, {levels}, not {default}",
                field="model",
            )
        object.__setattr__(self, "default_priority_level", default or (levels + 1) // 2)

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """``allowed_batch_sizes`` as numbers; empty if every number of rows is allowed."""
        return tuple([int(size) for size in self.allowed_batch_sizes.split(",") if size])

    def _check_sizes(self, sizes: tuple[int, ...]) -> None:
        name, text = "allowed_batch_sizes", self.allowed_batch_sizes
        if any(larger <= smaller for smaller, larger in itertools.pairwise(sizes)):
            raise ConfigError(f"{name} must ascend, unlike {text!r}", field=name)
        if sizes[-1] > MAX_BATCH:
            raise ConfigError(f"{name} must end with at most {MAX_BATCH}, unlike {text!r}", field=name)
