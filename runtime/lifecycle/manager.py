"""The supervisor's heart: which models, instances and service processes there are, and who is connected.

Every service process has one channel to every available instance. The supervisor makes both ends of each
channel and its two arenas, and hands them out; from then on it is not in the way of any request.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from frameworks.cores import usable_cores
from runtime.batching.statistics import add_up
from runtime.config import ModelConfig, Settings
from runtime.errors import LoadFailed
from runtime.lifecycle.frontend import Frontend
from runtime.lifecycle.instance import Instance, State
from runtime.lifecycle.warm_start import stored_curve
from runtime.runner.control import Message
from runtime.runner.order import Order
from runtime.tensors import arena
from store import Model

log = logging.getLogger(__name__)

ENDING_S: Final = 2.0
"""How long a worker without work may take to end before it is killed."""
COUNTING_S: Final = 1.0
"""How long a service process may take to tell what it has counted before it is left out."""

_LIMITS: Final = (
    "max_batch_size", "max_queue_delay_ms", "slo_ms", "max_queue_ms", "max_queued_rows", "max_queued_bytes",
    "priority_levels", "default_priority_level", "isolation_depth",
)  # fmt: skip
"""Options of a model that a scheduler is given as they are."""


@dataclass(slots=True, eq=False)
class Served:
    """One model version and its instances.

    Attributes:
        order: position in the order of creation: the highest of a name is its ``latest``.
    """

    model: Model
    config: ModelConfig
    order: int
    instances: list[Instance] = field(default_factory=list)

    @property
    def tag(self) -> str:
        """Name and version."""
        return str(self.model.tag)

    @property
    def available(self) -> int:
        """Instances that can execute now."""
        return sum(instance.state is State.AVAILABLE for instance in self.instances)


class Manager:
    """Starts, connects, restarts and stops the processes of one server.

    Args:
        settings: of the server and of each model.
        models: what to serve; several versions of a name are fine.

    Concurrency: belongs to one event loop.
    """

    def __init__(self, settings: Settings, models: Sequence[Model]) -> None:
        self._settings = settings
        oldest_first = sorted(models, key=lambda model: (model.info.creation_time, model.info.version))
        self.served = [
            Served(model, settings.model(model.info.name, model.info.options), position)
            for position, model in enumerate(oldest_first)
        ]
        self.frontends: list[Frontend] = []
        self._arena_bytes = max(arena.DEFAULT_BYTES, 4 * settings.transport.max_message_bytes)
        self._changed = asyncio.Event()
        self._stopping = False
        self._errands: set[asyncio.Task[None]] = set()

    # -- life -----------------------------------------------------------------------------------

    async def start(self) -> int:
        """Load every model, warm it up, and begin to listen; returns the port.

        Raises:
            LoadFailed: a model cannot be loaded; the message has the cause.
            OSError: the address cannot be bound.
        """
        self._place()
        for index in range(self._settings.server.services):
            frontend = Frontend(f"service-{index}", self._service_settings(), self._introduce, self._asked)
            self.frontends.append(frontend)
            frontend.start()
        await self._loaded()
        port = self._settings.server.port
        for frontend in self.frontends:
            port = await frontend.listen(port)
        return port

    async def drain(self) -> None:
        """Say NOT_SERVING while still serving, so that clients and balancers can turn away."""
        for frontend in self.frontends:
            frontend.send({"type": "drain"})

    async def stop(self, grace_s: float) -> None:
        """Stop accepting, finish what was admitted within the grace, then end workers. May be repeated."""
        self._stopping = True
        await asyncio.gather(*(frontend.stop(grace_s) for frontend in self.frontends))
        instances = [instance for served in self.served for instance in served.instances]
        for instance in instances:
            instance.stop()
        try:
            async with asyncio.timeout(ENDING_S):
                await self._until(lambda: all(instance.child is None for instance in instances))
        except TimeoutError:  # in the middle of a batch that nobody waits for any more, or stopped
            log.warning(
                "workers_killed", extra={"left": [i.order.instance for i in instances if i.child is not None]}
            )
            for instance in instances:
                instance.kill()
            await self._until(lambda: all(instance.child is None for instance in instances))

    def kill(self) -> None:
        """End every process now."""
        for served in self.served:
            for instance in served.instances:
                instance.state = State.STOPPED
        for child in [frontend.child for frontend in self.frontends] + [
            instance.child for served in self.served for instance in served.instances
        ]:
            if child is not None:
                child.kill()

    async def statistics(self) -> list[Message]:
        """What each service process has counted; one that does not answer in time is left out."""
        replies = await asyncio.gather(*(_counted(frontend) for frontend in self.frontends))
        return [reply for reply in replies if reply]

    @property
    def is_ready(self) -> bool:
        """Whether calls are accepted, every model can execute and the server is not going down."""
        listening = bool(self.frontends) and any(frontend.port for frontend in self.frontends)
        return listening and not self._stopping and all(served.available for served in self.served)

    # -- start-up -------------------------------------------------------------------------------

    def _place(self) -> None:
        """Start the instances, each with its share of the cores."""
        total = sum(served.config.instances for served in self.served)
        share = max(1, usable_cores() // max(1, total))
        for served in self.served:
            devices = served.config.device.split(",")
            for index in range(served.config.instances):
                order = Order(
                    store=str(served.model.path.parent.parent),
                    tag=served.tag,
                    instance=f"{served.tag}#{index}",
                    device=devices[index % len(devices)].strip(),
                    threads=served.config.threads or share,
                    max_batch_size=served.config.max_batch_size,
                    allowed_batch_sizes=served.config.batch_sizes,
                    log_level=self._settings.server.log_level,
                )
                instance = Instance(order, functools.partial(self._on_change, served))
                served.instances.append(instance)
                instance.start()

    async def _loaded(self) -> None:
        """Wait until every instance is available."""
        instances = [instance for served in self.served for instance in served.instances]
        await self._until(
            lambda: any(i.error for i in instances) or all(i.state is State.AVAILABLE for i in instances)
        )
        for instance in instances:
            if instance.error:
                raise LoadFailed(
                    f"model {instance.order.tag} cannot be served: {instance.error}", field=instance.order.tag
                )

    # -- questions of service processes ---------------------------------------------------------

    def _asked(self, frontend: Frontend, message: Message) -> None:
        """Answer a service process that wants to know what all of them have counted."""
        errand = asyncio.get_running_loop().create_task(self._tell_totals(frontend, message["number"]))
        self._errands.add(errand)
        errand.add_done_callback(self._errands.discard)

    async def _tell_totals(self, frontend: Frontend, number: int) -> None:
        replies = await self.statistics()
        totals = add_up(model for reply in replies for model in reply["models"])
        models = [
            {"name": name, "version": version, "statistics": total.to_record()}
            for (name, version), total in totals.items()
        ]
        frontend.send({"type": "totals", "number": number, "models": models})

    # -- connections ----------------------------------------------------------------------------

    def _introduce(self, frontend: Frontend) -> None:
        """Tell a service process that has just started what is served and by whom."""
        for served in self.served:
            frontend.send(self._description(served))
            for instance in served.instances:
                if instance.state is State.AVAILABLE:
                    self._connect(frontend, served, instance)

    def _on_change(self, served: Served, instance: Instance) -> None:
        if instance.state is State.AVAILABLE:
            for frontend in self.frontends:
                self._connect(frontend, served, instance)
        if instance.state is State.FAILED and all(i.state is State.FAILED for i in served.instances):
            for frontend in self.frontends:
                frontend.send({"type": "failed", "tag": served.tag, "error": instance.error})
        self._changed.set()

    def _connect(self, frontend: Frontend, served: Served, instance: Instance) -> None:
        """Make a channel between a service process and a worker and hand out its ends."""
        if frontend.child is None or instance.child is None:
            return
        front, back = socket.socketpair()
        outgoing, incoming = arena.create(self._arena_bytes), arena.create(self._arena_bytes)
        try:
            name = instance.order.instance
            frontend.send(
                {"type": "attach", "tag": served.tag, "instance": name}, (front.fileno(), outgoing, incoming)
            )
            instance.child.send(
                {"type": "attach", "service": frontend.name}, (back.fileno(), outgoing, incoming)
            )
        finally:
            front.close()
            back.close()
            os.close(outgoing)
            os.close(incoming)

    def _description(self, served: Served) -> Message:
        info = served.model.info
        config = served.config
        return {
            "type": "model",
            "tag": served.tag,
            "name": info.name,
            "version": info.version,
            "order": served.order,
            "module": info.module,
            "signatures": {name: signature.to_dict() for name, signature in info.signatures.items()},
            "limits": {
                **{name: getattr(config, name) for name in _LIMITS},
                "allowed_batch_sizes": config.batch_sizes,
                "max_batch_bytes": self._arena_bytes // 4,
            },
            "profile": stored_curve(served.model),
        }

    def _service_settings(self) -> Message:
        settings = self._settings
        options = asdict(settings.transport)
        options["reuse_port"] = options["reuse_port"] or settings.server.services > 1
        return {
            "host": settings.server.host,
            "services": settings.server.services,
            "implementation": settings.server.transport,
            "log_level": settings.server.log_level,
            "transport": options,
            "tls": asdict(settings.tls),
        }

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition on the instances' states."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()


async def _counted(frontend: Frontend) -> Message:
    """What a service process has counted; an empty message if it does not say."""
    try:
        async with asyncio.timeout(COUNTING_S):
            return await frontend.ask({"type": "statistics"})
    except TimeoutError:
        log.warning("statistics_missing", extra={"service": frontend.name})
        return {}
