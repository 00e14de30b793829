"""``runtime serve``: the supervisor process, from start to the last goodbye.

It owns the configuration and the child processes, never touches gRPC's C core and imports no framework.

Order of a shutdown: health NOT_SERVING → (drain delay) → stop accepting → finish what was admitted, within
the grace → end the workers. A second signal ends everything at once.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from typing import Final

import uvloop

from runtime import logs
from runtime.config import Settings
from runtime.errors import LoadFailed
from runtime.lifecycle.frontend import address
from runtime.lifecycle.manager import Manager
from runtime.service.admin import Admin
from store import Model

log = logging.getLogger(__name__)

OK: Final = 0
FAILED: Final = 1
MILLISECONDS: Final = 1000


def serve(settings: Settings, models: Sequence[Model]) -> int:
    """Serve models until SIGTERM or SIGINT; returns the exit status.

    Prints one line on stdout once every model is loaded, warm and reachable::

        ready grpc=HOST:PORT http=HOST:PORT models=N
    """
    logs.configure(settings.server.log_level, role="supervisor")
    return uvloop.run(_Supervisor(settings, models).run())


class _Supervisor:
    def __init__(self, settings: Settings, models: Sequence[Model]) -> None:
        self._settings = settings
        self._models = models
        self._signals: asyncio.Queue[signal.Signals] = asyncio.Queue()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        manager = Manager(self._settings, self._models)
        admin = Admin(manager)
        starting = asyncio.ensure_future(self._start(manager, admin))
        stopping = asyncio.ensure_future(self._signals.get())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            manager.kill()
            return OK
        if not starting.result():
            stopping.cancel()
            manager.kill()
            return FAILED
        await self._stop(manager, await stopping)
        admin.stop()
        return OK

    async def _start(self, manager: Manager, admin: Admin) -> bool:
        """Start everything and say so; False, after saying why, if something cannot be started."""
        server = self._settings.server
        try:
            http_port = await admin.start(server.host, server.http_port)
            port = await manager.start()
        except (LoadFailed, OSError) as error:
            sys.stderr.write(f"error: {error}\n")
            return False
        grpc, http = address(server.host, port), address(server.host, http_port)
        sys.stdout.write(f"ready grpc={grpc} http={http} models={len(self._models)}\n")
        sys.stdout.flush()
        return True

    async def _stop(self, manager: Manager, number: signal.Signals) -> None:
        """Drain and stop; a second signal cuts it short. Nobody has to wait for a ctrl-C at a terminal."""
        server = self._settings.server
        log.info("stopping", extra={"signal": number.name})
        delay_ms = server.drain_delay_ms if number == signal.SIGTERM else 0
        orderly = asyncio.ensure_future(
            self._orderly(manager, delay_ms / MILLISECONDS, server.grace_ms / MILLISECONDS)
        )
        again = asyncio.ensure_future(self._signals.get())
        await asyncio.wait({orderly, again}, return_when=asyncio.FIRST_COMPLETED)
        if again.done():
            log.warning("stopping_at_once")
            orderly.cancel()
            manager.kill()
        again.cancel()

    async def _orderly(self, manager: Manager, delay_s: float, grace_s: float) -> None:
        await manager.drain()
        await asyncio.sleep(delay_s)
        await manager.stop(grace_s)
        log.info("stopped")
