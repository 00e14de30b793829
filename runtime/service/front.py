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
from runtime.rpc.statistics import Gather, ModelStatistics
from runtime.transport import credentials, health, reflection, selfcheck
from runtime.transport.interface import Server
from runtime.transport.options import TransportOptions


class Front:
    """What clients see of this process.

    Args:
        routes: what is served.
        settings: the supervisor's ``configure`` message.
        gather: collects what all service processes have counted; None if this is the only one.
    """

    def __init__(self, routes: Routes, settings: dict[str, Any], gather: Gather | None = None) -> None:
        self._routes = routes
        self._inspection = Inspection(routes)
        self._tls = settings["tls"]
        make = selfcheck.choose(settings["implementation"])
        self._server: Server = make(TransportOptions(**settings["transport"]))
        register(self._server, Infer(routes), self._inspection, ModelStatistics(routes, gather))
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
        """Publish whether a version can execute, as ``name:version``; the newest also as ``name``."""
        draining = self._inspection.draining
        latest = self._routes.resolve(route.name)
        self._health.set(route.name, serving=latest.is_ready and not draining)
        self._health.set(f"{route.name}:{route.version}", serving=route.is_ready and not draining)

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
