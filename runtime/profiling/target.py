"""The server under load: where it is, how to reach it, and what every call carries along.

A plain description that travels to the generator processes as JSON. Any server of the Open Inference
Protocol will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc

from runtime.errors import ConfigError

if TYPE_CHECKING:
    from runtime.client import Client

INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
LIVE: Final = "/inference.GRPCInferenceService/ServerLive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server.

    Attributes:
        url: what gRPC takes: ``host:port``, ``unix:path``, ``dns:///name:port`` …
        tls: encrypt; implied by any of the three files.
        ca_file: PEM of the authorities that may sign the server; empty for the system's.
        certificate_file, key_file: PEM with which the client shows who it is; both or none.
        authority: name to expect in the server's certificate, and to send; empty for the url's host.
        metadata: sent with every call.

    Raises:
        ConfigError: no url, one of the pair of files is missing, or metadata that gRPC cannot carry.
    """

    url: str
    tls: bool = False
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    authority: str = ""
    metadata: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.url:
            raise ConfigError("a target needs a url such as 127.0.0.1:8001", field="url")
        if bool(self.certificate_file) != bool(self.key_file):
            raise ConfigError("certificate_file and key_file go together", field="certificate_file")
        for key, _ in self.metadata:
            if not key or key != key.lower() or key.endswith("-bin"):
                raise ConfigError(
                    f"metadata key {key!r} must be lower case and not end in -bin", field="metadata"
                )

    @property
    def is_secure(self) -> bool:
        """Whether the connection is encrypted."""
        return self.tls or bool(self.ca_file or self.certificate_file)

    @property
    def arguments(self) -> tuple[tuple[str, int | str], ...]:
        """Channel arguments of every connection to it: no bound on messages, quick reconnects."""
        named = (("grpc.default_authority", self.authority),) if self.authority else ()
        expected = (("grpc.ssl_target_name_override", self.authority),) if self.authority else ()
        return (
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.use_local_subchannel_pool", 1),
            *named,
            *expected,
        )

    def credentials(self) -> grpc.ChannelCredentials | None:
        """TLS credentials; None for plain text.

        Raises:
            ConfigError: a file cannot be read.
        """
        if not self.is_secure:
            return None
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca_file, "ca_file"),
            private_key=_read(self.key_file, "key_file"),
            certificate_chain=_read(self.certificate_file, "certificate_file"),
        )

    def open_channel(self) -> grpc.Channel:
        """A channel of the public API, for questions that are not measured; the caller closes it."""
        credentials = self.credentials()
        if credentials is None:
            return grpc.insecure_channel(self.url, options=self.arguments)
        return grpc.secure_channel(self.url, credentials, options=self.arguments)

    def open_client(self, timeout_s: float = 10.0) -> Client:
        """A client for the protocol's questions; the caller closes it. It does not use ``authority``."""
        from runtime.client import Client

        return Client(self.url, timeout=timeout_s, credentials=self.credentials(), metadata=self.metadata)

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Target:
        """The target that :meth:`to_dict` described."""
        return cls(**{**data, "metadata": tuple((key, value) for key, value in data["metadata"])})


def _read(file: str, option: str) -> bytes | None:
    if not file:
        return None
    try:
        return Path(file).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"{option} {file}: {error.strerror or error}", field=option) from error
