"""TLS and mutual TLS from files, reloaded when the files change.

Each handshake looks at the files' state, which costs three ``stat`` calls, and reads them again only
if something changed. New files that do not fit together, as in the middle of a rotation, are logged
and looked at again at the next handshake; the last good ones stay in use. Connections that exist keep
what they were opened with.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from runtime.errors import ConfigError

log = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files of a server."""

    certificate_file: Path
    """The server's certificate, followed by intermediate ones if there are any."""

    key_file: Path
    """Its private key, not encrypted."""

    client_ca_file: Path | None = None
    """Certificates of the authorities that sign clients; with it every client must show a certificate
    (mutual TLS), without it none is asked for one."""


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Make credentials that follow the files.

    Raises:
        ConfigError: a file is missing or is not what it should be; ``field`` names the option.

    Concurrency: the C library asks for the current files on its own threads, one at a time.
    """
    source = _Source(files)
    is_mutual = files.client_ca_file is not None
    return grpc.dynamic_ssl_server_credentials(
        source.first, source.fetch, require_client_authentication=is_mutual
    )


class _Source:
    """The current certificate configuration and the files' state that it was read at."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp = self._look()
        self._reported: _Stamp | None = None
        self.first = _configuration(files)

    def fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """The new configuration, or None to go on with the last."""
        stamp = self._look()
        if stamp == self._stamp:
            return None
        try:
            configuration = _configuration(self._files)
        except ConfigError as error:
            if stamp != self._reported:
                log.warning("tls_reload_failed", extra={"reason": error.message})
                self._reported = stamp
            return None
        self._stamp = stamp
        log.info("tls_reloaded", extra={"certificate_file": str(self._files.certificate_file)})
        return configuration

    def _look(self) -> _Stamp:
        paths = (self._files.certificate_file, self._files.key_file, self._files.client_ca_file)
        return tuple(_state(path) for path in paths if path is not None)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    """Read and check the files.

    Raises:
        ConfigError: naming the option and what is wrong.
    """
    certificate = _read(files.certificate_file, "certificate_file", "CERTIFICATE")
    key = _read(files.key_file, "key_file", "PRIVATE KEY")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:  # an empty password makes an encrypted key an error instead of a question on the terminal
        context.load_cert_chain(files.certificate_file, files.key_file, password=lambda: "")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ConfigError(
            f"certificate_file {files.certificate_file} and key_file {files.key_file} do not fit: {error}",
            field="certificate_file",
        ) from error
    authorities = None
    if files.client_ca_file is not None:
        authorities = _read(files.client_ca_file, "client_ca_file", "CERTIFICATE")
        try:
            context.load_verify_locations(cadata=authorities.decode())
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError(
                f"client_ca_file {files.client_ca_file} is not usable: {error}", field="client_ca_file"
            ) from error
    return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=authorities)


def _read(path: Path, option: str, kind: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{option}: cannot read {path}: {error.strerror}", field=option) from error
    if b"-----BEGIN " not in data or f"{kind}-----".encode() not in data:
        raise ConfigError(f"{option}: {path} holds no PEM block of a {kind.lower()}", field=option)
    return data
