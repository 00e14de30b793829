"""The service process: gRPC in front, channels to the workers behind.

Started by the supervisor as ``python -m runtime.service.process FD``. Threads: the transport's queue thread
(hot path), the reader over all channels, and this main thread, which only obeys the supervisor. No model
and no framework is ever imported here.
"""

from __future__ import annotations

import gc
import itertools
import logging
import os
import signal
import socket
import sys
import threading

from runtime.transport.environment import prepare_environment

prepare_environment()  # before anything imports grpc

from runtime import logs  # noqa: E402
from runtime.batching.limits import Limits  # noqa: E402
from runtime.batching.scheduler import Scheduler  # noqa: E402
from runtime.batching.statistics import Counted  # noqa: E402
from runtime.clock import now_ns  # noqa: E402
from runtime.errors import NotReady, RuntimeServingError  # noqa: E402
from runtime.lifecycle.routes import Route, Routes  # noqa: E402
from runtime.rpc.statistics import Answer  # noqa: E402
from runtime.runner import control  # noqa: E402
from runtime.runner.alarm import Alarm  # noqa: E402
from runtime.runner.channel import Channel  # noqa: E402
from runtime.runner.control import Message  # noqa: E402
from runtime.runner.reader import Reader  # noqa: E402
from runtime.service.front import Front  # noqa: E402
from runtime.tensors.layout import LayoutTable  # noqa: E402
from store import Signature  # noqa: E402

log = logging.getLogger("runtime.service.process")  # this module runs as __main__

_GC_THRESHOLDS = (50_000, 20, 100)


class Totals:
    """Asks the supervisor what all service processes have counted.

    Args:
        supervisor: the control connection.

    Concurrency: asked on any thread; answers come on the main thread. The supervisor answers in any case,
    if need be without those that are silent.
    """

    def __init__(self, supervisor: socket.socket) -> None:
        self._supervisor = supervisor
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Answer] = {}

    def gather(self, answer: Answer) -> None:
        """Ask; ``answer`` is called later with what each process has counted.

        Raises:
            OSError: the supervisor is gone.
        """
        number = next(self._numbers)
        self._waiting[number] = answer
        try:
            control.send(self._supervisor, {"type": "totals", "number": number})
        except OSError:
            del self._waiting[number]
            raise

    def told(self, number: int, counted: list[Counted]) -> None:
        """Hand over an answer; one that nobody asked for in this process's life is dropped."""
        answer = self._waiting.pop(number, None)
        if answer is not None:
            answer(counted)


class Service:
    """Obeys the supervisor.

    Args:
        supervisor: the control connection.
        front: the gRPC server.
        routes: the table that both share.
        totals: told what the supervisor was asked for.
    """

    def __init__(self, supervisor: socket.socket, front: Front, routes: Routes, totals: Totals) -> None:
        self._supervisor = supervisor
        self._front = front
        self._routes = routes
        self._totals = totals
        self._by_tag: dict[str, Route] = {}
        self._tags: dict[Channel, str] = {}
        self._layouts = LayoutTable()
        self._reader = Reader(self._lost)

    def run(self) -> None:
        """Obey until the control connection ends."""
        while (received := control.receive(self._supervisor)) is not None:
            message, descriptors = received
            handler = getattr(self, f"_do_{message['type']}")
            handler(message, descriptors)

    # -- messages -------------------------------------------------------------------------------

    def _do_model(self, message: Message, _: list[int]) -> None:
        """Route to a model version; it has no instance yet."""
        signatures = {name: Signature.parse(value) for name, value in message["signatures"].items()}
        alarm = Alarm()
        scheduler = make_scheduler(message, alarm)
        self._reader.add_alarm(alarm, scheduler.pump)
        route = Route(
            name=message["name"],
            version=message["version"],
            module=message["module"],
            signatures=signatures,
            scheduler=scheduler,
            order=message["order"],
        )
        self._by_tag[message["tag"]] = route
        self._routes.add(route)
        self._front.show_health(route)

    def _do_attach(self, message: Message, descriptors: list[int]) -> None:
        """Use one more instance."""
        route = self._by_tag[message["tag"]]
        stream, outgoing, incoming = descriptors
        channel = Channel(
            message["instance"], socket.socket(fileno=stream), outgoing, incoming,
            scheduler=route.scheduler, layouts=self._layouts,
        )  # fmt: skip
        self._tags[channel] = message["tag"]
        route.scheduler.attach(channel)
        self._reader.add(channel)
        self._front.show_health(route)
        log.info("instance_attached", extra={"instance": channel.name})

    def _do_failed(self, message: Message, _: list[int]) -> None:
        """A model cannot be loaded any more: stop queueing for it."""
        route = self._by_tag[message["tag"]]
        route.scheduler.close(NotReady(f"model {message['tag']} cannot be loaded: see the server's log"))
        self._front.show_health(route)

    def _do_listen(self, message: Message, _: list[int]) -> None:
        """Bind and begin to serve."""
        try:
            self._reply(message, {"port": self._front.listen(message["address"])})
        except (OSError, RuntimeServingError) as error:
            self._reply(message, {"error": str(error)})

    def _do_statistics(self, message: Message, _: list[int]) -> None:
        """Report what was counted."""
        models: list[Message] = [
            {
                "name": route.name,
                "version": route.version,
                "instances": route.scheduler.instances,
                "queued_rows": route.scheduler.queued_rows,
                "statistics": route.scheduler.snapshot().to_record(),
                "insight": route.scheduler.insight(),
            }
            for route in self._routes
        ]
        self._reply(message, {"models": models, "active_calls": self._front.active})

    def _do_totals(self, message: Message, _: list[int]) -> None:
        """Hear what all service processes have counted."""
        self._totals.told(message["number"], message["models"])

    def _do_drain(self, message: Message, _: list[int]) -> None:
        """Tell clients to turn away; go on serving."""
        self._front.drain()

    def _do_stop(self, message: Message, _: list[int]) -> None:
        """Stop accepting; report when everything that was accepted is over."""
        stopped = self._front.stop(message["grace_s"])

        def report() -> None:
            stopped.wait()
            self._reply(message, {})

        threading.Thread(target=report, name="stopping", daemon=True).start()

    def _reply(self, message: Message, reply: Message) -> None:
        try:
            control.send(self._supervisor, {"type": "reply", "number": message["number"], **reply})
        except OSError:
            log.info("reply_lost", extra={"to": message["type"]})

    # -- reader's thread ------------------------------------------------------------------------

    def _lost(self, channel: Channel) -> None:
        route = self._by_tag[self._tags.pop(channel)]
        self._front.show_health(route)
        log.warning("instance_detached", extra={"instance": channel.name, "left": route.scheduler.instances})


def make_scheduler(message: Message, alarm: Alarm) -> Scheduler:
    """Make the scheduler that a ``model`` message describes; JSON has no tuples, and no numbers as keys."""
    limits = message["limits"]
    return Scheduler(
        Limits(**{**limits, "allowed_batch_sizes": tuple(limits["allowed_batch_sizes"])}),
        alarm=alarm.set,
        profile={int(rows): ms for rows, ms in message["profile"].items()},
    )


def main(descriptor: int) -> int:
    """Run a service process until the supervisor lets go of it."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the supervisor decides when to stop
        signal.signal(number, signal.SIG_IGN)
    control.die_with_parent()
    supervisor = socket.socket(fileno=descriptor)
    received = control.receive(supervisor)
    if received is None:
        return 0
    settings = received[0]
    logs.configure(settings["log_level"], role=settings["name"])
    routes = Routes()
    totals = Totals(supervisor)
    front = Front(routes, settings, totals.gather if settings["services"] > 1 else None)
    log.info("service_started", extra={"pid": os.getpid(), "at_ns": now_ns()})
    gc.freeze()  # what start-up made lives for ever, and requests make no cycles: look less often
    gc.set_threshold(*_GC_THRESHOLDS)
    Service(supervisor, front, routes, totals).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
