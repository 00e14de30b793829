"""The gRPC server of a service process: the protocol, health and reflection on one transport."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import grpc

from protos import service
from runtime.lifecycle.routes import Route, Routes
from runtime.rpc.infer import Infer
from runtime.rpc.inspection import Inspection
from runtime.rpc.register import register
from runtime.transport import credentials, health, reflection, selfcheck
from runtime.transport.interface import Server
from runtime.transport.options import TransportOptions


class Front:
    """What clients see of this process.

    Args:
        routes: what is served.
        settings: the supervisor's ``configure`` message.
    """

    def __init__(self, routes: Routes, settings: dict[str, Any]) -> None:
        self._inspection = Inspection(routes)
        self._tls = settings["tls"]
        make = selfcheck.choose(settings["implementation"])
        self._server: Server = make(TransportOptions(**settings["transport"]))
        register(self._server, Infer(routes), self._inspection)
        self._health = health.HealthBoard()
        self._health.serve_on(self._server)
        reflection.Reflection((service.SERVICE,), service.reflection_pool()).serve_on(self._server)

    @property
    def active(self) -> int:
        """Calls accepted and not over."""
        return self._server.active

    def listen(self, address: str) -> int:
        """Bind and begin to serve; returns the port.

        Raises:
            OSError: the address cannot be bound.
            ConfigError: a certificate or key cannot be used.
        """
        secure = _credentials(**self._tls) if any(self._tls.values()) else None
        port = self._server.add_port(address, secure)
        self._server.start()
        self._health.set("", serving=True)
        return port

    def show_health(self, route: Route) -> None:
        """Publish whether a model can execute, under its name and under ``name:version``."""
        serving = route.is_ready and not self._inspection.draining
        self._health.set(route.name, serving=serving)
        self._health.set(f"{route.name}:{route.version}", serving=serving)

    def drain(self) -> None:
        """Say NOT_SERVING to everybody, and go on serving."""
        self._inspection.draining = True
        self._health.shutdown()

    def stop(self, grace_s: float) -> threading.Event:
        """Refuse new calls; the event is set when the accepted ones are over."""
        return self._server.stop(grace_s)


def _credentials(cert: str, key: str, client_ca: str) -> grpc.ServerCredentials:
    return credentials.server_credentials(
        credentials.TlsFiles(
            certificate_file=Path(cert),
            key_file=Path(key),
            client_ca_file=Path(client_ca) if client_ca else None,
        )
    )
