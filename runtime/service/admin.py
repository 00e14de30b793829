"""The supervisor's HTTP port: liveness, readiness, Prometheus metrics. GET only, one answer a connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, NamedTuple

from runtime.lifecycle.manager import Manager
from runtime.service.metrics import CONTENT_TYPE, render

log = logging.getLogger(__name__)

_REQUEST_BYTES: Final = 8192
_REQUEST_SECONDS: Final = 10.0
_PLAIN: Final = "text/plain; charset=utf-8"


class Page(NamedTuple):
    """An answer."""

    status: HTTPStatus
    content_type: str
    body: bytes


class Admin:
    """Serves ``/livez``, ``/readyz``, ``/models`` and ``/metrics``.

    Args:
        manager: asked at each request.
    """

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._server: asyncio.Server | None = None
        self._pages: dict[str, Callable[[], Awaitable[Page]]] = {
            "/livez": self._live,
            "/readyz": self._ready,
            "/models": self._models,
            "/metrics": self._metrics,
        }

    async def start(self, host: str, port: int) -> int:
        """Begin to listen; returns the port.

        Raises:
            OSError: the address cannot be bound.
        """
        self._server = await asyncio.start_server(self._serve, host, port, limit=_REQUEST_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            page = await self._answer(reader)
            head = (
                f"HTTP/1.1 {page.status.value} {page.status.phrase}\r\ncontent-type: {page.content_type}\r\n"
                f"content-length: {len(page.body)}\r\nconnection: close\r\n\r\n"
            )
            writer.write(head.encode() + page.body)
            await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> Page:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _text(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "request header too large")
        words = request.split(b"\r\n", 1)[0].decode("latin-1").split()
        if len(words) != 3:
            return _text(HTTPStatus.BAD_REQUEST, "not an HTTP request")
        if words[0] != "GET":
            return _text(HTTPStatus.METHOD_NOT_ALLOWED, "only GET is served here")
        page = self._pages.get(words[1].partition("?")[0])
        if page is None:
            return _text(HTTPStatus.NOT_FOUND, f"no such page; there are {', '.join(self._pages)}")
        try:
            return await page()
        except Exception:  # a fence: a page that fails must say so
            log.exception("page_failed", extra={"page": words[1]})
            return _text(HTTPStatus.INTERNAL_SERVER_ERROR, "the page failed; see the server's log")

    async def _live(self) -> Page:
        return _text(HTTPStatus.OK, "live")

    async def _ready(self) -> Page:
        if self._manager.is_ready:
            return _text(HTTPStatus.OK, "ready")
        return _text(HTTPStatus.SERVICE_UNAVAILABLE, "not ready")

    async def _models(self) -> Page:
        models = [
            {
                "tag": served.tag,
                "module": served.model.info.module,
                "instances": [
                    {
                        "name": instance.order.instance,
                        "state": instance.state.value,
                        "device": instance.order.device,
                        "threads": instance.order.threads,
                        "pid": instance.child.pid if instance.child else None,
                        "restarts": instance.restarts,
                        "error": instance.error,
                    }
                    for instance in served.instances
                ],
            }
            for served in self._manager.served
        ]
        return Page(HTTPStatus.OK, "application/json", json.dumps(models, indent=1).encode())

    async def _metrics(self) -> Page:
        return Page(HTTPStatus.OK, CONTENT_TYPE, render(self._manager, await self._manager.statistics()))


def _text(status: HTTPStatus, text: str) -> Page:
    return Page(status, _PLAIN, text.encode() + b"\n")
