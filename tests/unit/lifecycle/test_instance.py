"""Keeping a worker alive."""

from __future__ import annotations

import asyncio

from runtime.clock import SECOND
from runtime.lifecycle.instance import MAX_LOAD_FAILURES, Instance, State
from runtime.runner.order import Order
from tests.support.children import FakeChild
from tests.support.clock import FakeClock
from tests.support.virtual_loop import run, until

ORDER = Order(store="/s", tag="m:1", instance="m:1#0", threads=3)
READY = {"type": "ready"}


def made(order: Order = ORDER) -> tuple[Instance, list[State]]:
    states: list[State] = []
    instance = Instance(order, lambda changed: states.append(changed.state))
    instance.start()
    return instance, states


async def nth(children: list[FakeChild], count: int) -> FakeChild:
    """The worker that is started for the so-manieth time."""
    await until(lambda: len(children) >= count)
    return children[-1]


def test_a_worker_is_told_what_to_load_and_how_many_threads_it_may_use(children: list[FakeChild]) -> None:
    instance, _ = made()
    (child,) = children
    assert child.heard[0]["tag"] == "m:1"
    assert child.environment["OMP_NUM_THREADS"] == "3"
    assert child.environment["CUDA_VISIBLE_DEVICES"] == ""
    assert instance.state is State.LOADING


def test_a_worker_on_a_device_sees_the_devices(children: list[FakeChild]) -> None:
    made(Order(store="/s", tag="m:1", instance="i", device="cuda:0"))
    assert "CUDA_VISIBLE_DEVICES" not in children[0].environment


def test_a_worker_that_ends_is_started_again_at_once_and_then_later(
    children: list[FakeChild], clock: FakeClock
) -> None:
    async def main() -> None:
        instance, states = made()
        loop = asyncio.get_running_loop()
        for delay in (0.0, 0.1, 0.2, 0.4, 0.8, 1.6):
            children[-1].says(READY)
            assert instance.state is State.AVAILABLE
            clock.advance(SECOND)
            ended = loop.time()
            children[-1].ends(-9)
            assert (instance.state, instance.child) == (State.LOADING, None)
            await nth(children, len(children) + 1)
            assert delay - 0.001 < loop.time() - ended < delay + 0.1
        assert instance.restarts == 6
        assert states == [State.AVAILABLE, State.LOADING] * 6
        children[-1].says(READY)
        assert instance.error == ""

    run(main())


def test_a_model_that_cannot_be_loaded_fails_after_some_attempts(
    children: list[FakeChild], clock: FakeClock
) -> None:
    async def main() -> None:
        instance, states = made()
        for attempt in range(1, MAX_LOAD_FAILURES + 1):
            child = await nth(children, attempt)
            child.says({"type": "failed", "message": "no such file"})
            child.ends(1)
        await asyncio.sleep(100)
        assert (instance.state, instance.error, len(children)) == (
            State.FAILED,
            "no such file",
            MAX_LOAD_FAILURES,
        )
        assert states[-1] is State.FAILED

    run(main())


def test_a_worker_that_dies_while_loading_fails_with_its_status(
    children: list[FakeChild], clock: FakeClock
) -> None:
    async def main() -> None:
        instance, _ = made()
        for attempt in range(1, MAX_LOAD_FAILURES + 1):
            (await nth(children, attempt)).ends(-11)
        assert instance.state is State.FAILED
        assert "status -11" in instance.error

    run(main())


def test_short_lives_are_no_failures_to_load(children: list[FakeChild], clock: FakeClock) -> None:
    async def main() -> None:
        instance, _ = made()
        for attempt in range(1, 2 * MAX_LOAD_FAILURES):
            child = await nth(children, attempt)
            child.says(READY)
            child.ends(-9)
        (await nth(children, 2 * MAX_LOAD_FAILURES)).ends(-9)
        assert instance.state is State.LOADING
        await nth(children, 2 * MAX_LOAD_FAILURES + 1)

    run(main())


def test_a_stopped_worker_is_not_started_again(children: list[FakeChild]) -> None:
    async def main() -> None:
        instance, states = made()
        children[0].says(READY)
        instance.stop()
        assert children[0].closed
        children[0].ends(0)
        await asyncio.sleep(100)
        assert (len(children), instance.child, states[-1]) == (1, None, State.STOPPED)
        instance.stop()

    run(main())


def test_a_worker_that_finishes_loading_after_it_was_stopped_stays_stopped(children: list[FakeChild]) -> None:
    async def main() -> None:
        instance, states = made()
        instance.stop()
        children[0].says(READY)
        children[0].ends(0)
        await asyncio.sleep(100)
        assert (instance.state, len(children)) == (State.STOPPED, 1)
        assert State.AVAILABLE not in states

    run(main())


def test_stopping_while_a_restart_is_due_cancels_it(children: list[FakeChild], clock: FakeClock) -> None:
    async def main() -> None:
        instance, _ = made()
        children[0].says(READY)
        children[0].ends(-9)
        instance.stop()
        await asyncio.sleep(100)
        assert len(children) == 1

    run(main())


def test_a_worker_can_be_killed(children: list[FakeChild]) -> None:
    instance, _ = made()
    instance.kill()
    assert children[0].killed
    instance.child = None
    instance.kill()
