"""One instance of a model version: the worker process that holds it, started again when it ends."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

from runtime.clock import SECOND, now_ns
from runtime.lifecycle.backoff import Backoff
from runtime.lifecycle.child import Child
from runtime.runner.control import Message
from runtime.runner.order import Order

log = logging.getLogger(__name__)

WORKER: Final = "runtime.runner.worker"
MAX_LOAD_FAILURES: Final = 5
_THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)


class State(enum.Enum):
    """Where an instance is in its life.

    ::

        LOADING ─► AVAILABLE ─► (worker ends) ─► LOADING …
           └─────► FAILED     the model could not be loaded, five times in a row
        any ─► STOPPED
    """

    LOADING = "loading"
    AVAILABLE = "available"
    FAILED = "failed"
    STOPPED = "stopped"


class Instance:
    """Keeps one worker process alive.

    Args:
        order: what to load, where.
        on_change: called after every change of :attr:`state`.

    Attributes:
        state: see :class:`State`.
        error: why the model could not be loaded, "" if it could.
        restarts: how often the worker was started again.
    """

    def __init__(self, order: Order, on_change: Callable[[Instance], None]) -> None:
        self.order = order
        self.state = State.LOADING
        self.error = ""
        self.restarts = 0
        self.child: Child | None = None
        self._on_change = on_change
        self._backoff = Backoff()
        self._load_failures = 0
        self._available_ns = 0

    def start(self) -> None:
        """Start the worker; it says by itself when it is ready."""
        self._available_ns = 0
        self.child = Child(
            self.order.instance, WORKER, _environment(self.order), on_message=self._heard, on_end=self._ended
        )
        self.child.send(asdict(self.order))

    def stop(self) -> None:
        """Let the worker end; it is not started again."""
        self.state = State.STOPPED
        if self.child is not None:
            self.child.close()

    def kill(self) -> None:
        """End the worker now, whatever it does; what follows depends on the state."""
        if self.child is not None:
            self.child.kill()

    def _heard(self, message: Message) -> None:
        if self.state is State.STOPPED:  # it was loading when it was told to end, and has just finished
            return
        if message["type"] == "ready":
            self.error = ""
            self._load_failures = 0
            self._available_ns = now_ns()
            self._change(State.AVAILABLE)
        elif message["type"] == "failed":
            self.error = message["message"]

    def _ended(self, status: int) -> None:
        self.child = None
        if self.state is State.STOPPED:
            self._on_change(self)
            return
        lived = now_ns() - self._available_ns if self._available_ns else 0
        delay = self._backoff.next_delay_ns(lived)
        log.warning(
            "worker_ended",
            extra={
                "instance": self.order.instance,
                "status": status,
                "lived_s": lived / SECOND,
                "error": self.error,
            },
        )
        self._load_failures += not self._available_ns
        if self._load_failures >= MAX_LOAD_FAILURES:
            self.error = self.error or f"the worker ended with status {status} while it loaded the model"
            self._change(State.FAILED)
            return
        self.error = self.error or f"the worker ended with status {status}"
        self._change(State.LOADING)
        asyncio.get_running_loop().call_later(delay / SECOND, self._restart)

    def _restart(self) -> None:
        if self.state is State.LOADING:
            self.restarts += 1
            self.start()

    def _change(self, state: State) -> None:
        self.state = state
        log.info("instance_state", extra={"instance": self.order.instance, "state": state.value})
        self._on_change(self)


def _environment(order: Order) -> dict[str, str]:
    """Thread budget and device mask, which must be set before a framework is imported."""
    environment = dict.fromkeys(_THREAD_VARIABLES, str(order.threads))
    environment["TOKENIZERS_PARALLELISM"] = "false"
    if order.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment
