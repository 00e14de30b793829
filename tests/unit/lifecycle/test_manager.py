"""The supervisor's heart, with children that the test speaks for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from frameworks import python
from runtime.batching.limits import Limits
from runtime.config import ServerConfig, Settings
from runtime.errors import LoadFailed
from runtime.lifecycle.instance import MAX_LOAD_FAILURES
from runtime.lifecycle.manager import Manager
from runtime.runner.alarm import Alarm
from runtime.service.process import make_scheduler
from store import Model, ModelStore
from store.profiles import ProfileStore
from tests.support.children import FakeChild
from tests.support.clock import FakeClock
from tests.support.virtual_loop import run, until

READY = {"type": "ready"}


@dataclass(frozen=True)
class Transport:
    """Stands for the transport's options."""

    max_message_bytes: int = 1 << 20
    reuse_port: bool = False


class Server:
    """A manager and its children; what they are asked is answered."""

    def __init__(self, children: list[FakeChild], models: list[Model], **server: Any) -> None:
        self.children = children
        self.manager = Manager(Settings(transport=Transport(), server=ServerConfig(**server)), models)

    @property
    def frontends(self) -> list[FakeChild]:
        return [child for child in self.children if child.module == "runtime.service.process"]

    @property
    def workers(self) -> list[FakeChild]:
        return [child for child in self.children if child.module == "runtime.runner.worker"]

    async def start(self) -> int:
        """Start with every worker ready and every frontend listening."""
        starting = asyncio.ensure_future(self.manager.start())
        await until(lambda: self.frontends)
        for worker in self.workers:
            worker.says(READY)
        await self.answer("listen", port=9000)
        return await starting

    async def answer(self, kind: str, **fields: object) -> None:
        """Answer each frontend's question of this type."""
        for frontend in list(self.frontends):
            await until(lambda frontend=frontend: frontend.of_type(kind))  # type: ignore[misc]
            frontend.says({"type": "reply", "number": frontend.of_type(kind)[-1]["number"], **fields})

    async def stop(self) -> None:
        stopping = asyncio.ensure_future(self.manager.stop(1.0))
        await self.answer("stop")
        for frontend in self.frontends:
            await until(lambda frontend=frontend: frontend.closed)  # type: ignore[misc]
            frontend.ends(0)
        await until(lambda: all(worker.closed for worker in self.workers))
        for worker in self.workers:
            worker.ends(0)
        await stopping


Make = Callable[..., Server]


@pytest.fixture
def models(tmp_path: Path) -> list[Model]:
    store = ModelStore(tmp_path)
    return [
        python.save_model(name, len, store=store, options=options)
        for name, options in (("a", {"instances": 2}), ("b", {}), ("b", {}))
    ]


@pytest.fixture
def make(children: list[FakeChild], clock: FakeClock, models: list[Model]) -> Make:
    return lambda **server: Server(children, models, **server)


def in_loop(main: Callable[[], Coroutine[Any, Any, object]]) -> None:
    run(main())


def test_every_service_is_connected_to_every_worker_before_it_listens(make: Make) -> None:
    async def main() -> None:
        server = make(services=2)
        assert await server.start() == 9000
        assert server.manager.is_ready
        assert len(server.workers) == 4
        for frontend in server.frontends:
            kinds = [message["type"] for message in frontend.heard]
            assert kinds == ["configure", "model", "model", "model", *["attach"] * 4, "listen"]
            assert all(message["descriptors"] == 3 for message in frontend.of_type("attach"))
        for worker in server.workers:
            assert [message["service"] for message in worker.of_type("attach")] == ["service-0", "service-1"]
        assert server.frontends[1].of_type("listen")[0]["address"] == "127.0.0.1:9000"
        assert server.frontends[0].of_type("configure")[0]["transport"]["reuse_port"] is True

    in_loop(main)


def test_versions_are_ordered_by_their_creation(make: Make) -> None:
    server = make()
    tags = [served.tag for served in server.manager.served]
    assert [served.order for served in server.manager.served] == [0, 1, 2]
    assert [tag.partition(":")[0] for tag in tags] == ["a", "b", "b"]


def test_instances_share_the_cores_and_have_names_of_their_own(make: Make) -> None:
    async def main() -> None:
        server = make()
        await server.start()
        orders = [worker.heard[0] for worker in server.workers]
        assert len({order["instance"] for order in orders}) == 4
        assert all(order["threads"] >= 1 for order in orders)

    in_loop(main)


def test_services_and_workers_are_told_how_a_model_is_batched(
    children: list[FakeChild], clock: FakeClock, tmp_path: Path
) -> None:
    options = {"allowed_batch_sizes": "1,2,8", "slo_ms": 30.5, "priority_levels": 5, "max_queue_delay_ms": 0}
    model = python.save_model("m", len, store=ModelStore(tmp_path / "models"), options=options)
    ProfileStore(tmp_path / "profiles").save(model.tag, {"curve": {"1": 0.5, "8": 2}})

    async def main() -> None:
        server = Server(children, [model])
        await server.start()
        (described,) = server.frontends[0].of_type("model")
        message = json.loads(json.dumps(described))  # as it travels
        scheduler = make_scheduler(message, Alarm())
        limits = scheduler.limits
        assert (limits.allowed_batch_sizes, limits.max_batch_size) == ((1, 2, 8), 8)
        assert (limits.slo_ms, limits.max_queue_ms, limits.max_queue_delay_ms) == (30.5, 10_000, 0)
        assert (limits.priority_levels, limits.default_priority_level, limits.isolation_depth) == (5, 3, 16)
        assert message["profile"] == {"1": 0.5, "8": 2}
        assert scheduler.insight()["curve"]
        (order,) = [worker.heard[0] for worker in server.workers]
        assert (list(order["allowed_batch_sizes"]), order["max_batch_size"]) == ([1, 2, 8], 8)

    in_loop(main)


def test_without_options_the_limits_of_a_scheduler_are_its_defaults(make: Make) -> None:
    async def main() -> None:
        server = make()
        await server.start()
        described = server.frontends[0].of_type("model")[0]
        scheduler = make_scheduler(json.loads(json.dumps(described)), Alarm())
        bytes_of_arena = scheduler.limits.max_batch_bytes
        assert scheduler.limits == Limits(max_batch_bytes=bytes_of_arena)
        assert described["profile"] == {}

    in_loop(main)


def test_a_model_that_cannot_be_loaded_stops_the_start_with_its_cause(make: Make) -> None:
    async def main() -> None:
        server = make()
        starting = asyncio.ensure_future(server.manager.start())
        await until(lambda: server.frontends)
        server.workers[0].says({"type": "failed", "message": "no such file"})
        server.workers[0].ends(1)
        with pytest.raises(LoadFailed, match="no such file") as caught:
            await starting
        assert str(caught.value.field).startswith("a:")

    in_loop(main)


def test_a_worker_that_comes_back_is_connected_again(make: Make) -> None:
    async def main() -> None:
        server = make()
        await server.start()
        count = len(server.workers)
        server.workers[0].ends(-9)
        assert server.manager.is_ready  # the other instance of its model goes on
        await until(lambda: len(server.workers) > count)
        server.workers[-1].says(READY)
        assert len(server.frontends[0].of_type("attach")) == 5
        assert len(server.workers[-1].of_type("attach")) == 1

    in_loop(main)


def test_a_model_without_workers_is_not_ready(make: Make) -> None:
    async def main() -> None:
        server = make()
        await server.start()
        server.workers[-1].ends(-9)
        assert not server.manager.is_ready
        assert server.manager.served[-1].available == 0

    in_loop(main)


def test_services_are_told_of_a_model_that_is_lost_for_good(make: Make) -> None:
    async def main() -> None:
        server = make()
        await server.start()
        dead = server.workers[-1]
        for _ in range(MAX_LOAD_FAILURES + 1):
            count = len(server.workers)
            dead.says({"type": "failed", "message": "gone"})
            dead.ends(1)
            if server.frontends[0].of_type("failed"):
                break
            await until(lambda count=count: len(server.workers) > count)  # type: ignore[misc]
            dead = server.workers[-1]
        (failed,) = server.frontends[0].of_type("failed")
        assert (failed["tag"], failed["error"]) == (server.manager.served[-1].tag, "gone")

    in_loop(main)


def test_a_service_that_comes_back_is_told_everything_again(make: Make) -> None:
    async def main() -> None:
        server = make()
        await server.start()
        server.frontends[0].ends(-9)
        await until(lambda: len(server.frontends) == 2)
        again = server.frontends[1]
        assert (len(again.of_type("model")), len(again.of_type("attach"))) == (3, 4)
        await until(lambda: again.of_type("listen"))

    in_loop(main)


def test_what_the_services_counted_is_collected(make: Make) -> None:
    async def main() -> None:
        server = make(services=2)
        await server.start()
        counting = asyncio.ensure_future(server.manager.statistics())
        first = server.frontends[0]
        await until(lambda: all(frontend.of_type("statistics") for frontend in server.frontends))
        server.frontends[1].ends(-9)
        first.says({"type": "reply", "number": first.of_type("statistics")[0]["number"], "models": {}})
        assert [reply["models"] for reply in await counting] == [{}]

    in_loop(main)


def test_draining_and_stopping_go_in_order(make: Make) -> None:
    async def main() -> None:
        server = make()
        await server.start()
        await server.manager.drain()
        assert server.frontends[0].of_type("drain")
        assert server.manager.is_ready
        await server.stop()
        assert not server.manager.is_ready
        await asyncio.sleep(100)
        assert len(server.workers) == 4

    in_loop(main)


def test_a_worker_that_does_not_end_is_killed(make: Make) -> None:
    async def main() -> None:
        server = make()
        await server.start()
        stopping = asyncio.ensure_future(server.manager.stop(1.0))
        await server.answer("stop")
        await until(lambda: server.frontends[0].closed)
        server.frontends[0].ends(0)
        for worker in server.workers[1:]:
            await until(lambda worker=worker: worker.closed)  # type: ignore[misc]
            worker.ends(0)
        await until(lambda: server.workers[0].killed)
        server.workers[0].ends(-9)
        await stopping
        assert not any(worker.killed for worker in server.workers[1:])

    in_loop(main)


def test_everything_can_be_killed_at_once(make: Make) -> None:
    async def main() -> None:
        server = make()
        await server.start()
        server.manager.kill()
        assert all(child.killed for child in server.children)
        for worker in server.workers:
            worker.ends(-9)
        await asyncio.sleep(100)
        assert len(server.workers) == 4

    in_loop(main)
