"""A policy that fails does not stop the service."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from runtime.batching.guarded import Guarded
from runtime.batching.policy import Decision, Greedy, Seat
from runtime.batching.queue import TaskQueue
from runtime.batching.statistics import Stages
from runtime.batching.task import Batch, Task
from runtime.errors import QueueFull, RuntimeServingError
from tests.support.scheduling import NO_LIMIT, A, Rig
from tests.support.tasks import RecordingTask

STAGES = Stages.bare(1, 1, 2, 1)


class Broken:
    """Raises in the hooks that it is told to, and is greedy in the others."""

    def __init__(self, *hooks: str) -> None:
        self.hooks = hooks
        self.asked: list[str] = []
        self.greedy = Greedy(8, NO_LIMIT)

    def _ask(self, hook: str) -> None:
        self.asked.append(hook)
        if hook in self.hooks:
            raise ZeroDivisionError(hook)

    def refusal(
        self, task: Task, queue: TaskQueue, seats: Sequence[Seat], now_ns: int
    ) -> RuntimeServingError | None:
        self._ask("refusal")
        return QueueFull("no") if task.rows == 7 else None

    def arrived(self, task: Task, now_ns: int) -> None:
        self._ask("arrived")

    def decide(self, queue: TaskQueue, seats: Sequence[Seat], now_ns: int) -> Decision:
        self._ask("decide")
        return self.greedy.decide(queue, seats, now_ns)._replace(reason="advised")

    def finished(self, batch: Batch, stages: Stages) -> None:
        self._ask("finished")

    def insight(self) -> dict[str, object]:
        return {"asked": len(self.asked)}


def guarded(*hooks: str) -> Guarded:
    return Guarded(Broken(*hooks), Greedy(8, NO_LIMIT))


def ask_all(policy: Guarded) -> tuple[object, str]:
    """Ask everything once; returns the refusal and the reason of the decision."""
    task = RecordingTask(A)
    queue = TaskQueue(max_rows=9, max_bytes=99)
    queue.add(task, 1)
    policy.arrived(task, 1)
    decision = policy.decide(queue, [Seat()], 1)
    assert decision.tasks == [task]
    policy.finished(Batch(A, [task], 1), STAGES)
    return policy.refusal(RecordingTask(A, 7), queue, [], 1), decision.reason


def test_advice_that_comes_is_taken() -> None:
    policy = guarded()
    refusal, reason = ask_all(policy)
    assert isinstance(refusal, QueueFull)
    assert reason == "advised"
    assert policy.insight() == {"asked": 4}


@pytest.mark.parametrize("hook", ["refusal", "arrived", "decide", "finished"])
def test_where_a_policy_raises_the_greedy_one_decides_and_it_is_logged(
    hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    refusal, reason = ask_all(guarded(hook))
    assert (refusal is None) == (hook == "refusal")
    assert reason == ("idle" if hook == "decide" else "advised")
    (record,) = caplog.records
    assert (record.msg, record.asked) == ("policy_failed", hook)  # type: ignore[attr-defined]
    assert record.exc_info


def test_service_goes_on_with_a_policy_that_raises_whatever_it_is_asked() -> None:
    rig = Rig(policy=Broken("refusal", "arrived", "decide", "finished"))
    tasks = [RecordingTask(A) for _ in range(5)]
    rig.submit(*tasks[:2])
    rig.submit(*tasks[2:])
    rig.only.finish(rig.scheduler, failed=True)
    rig.finish_all()
    assert [len(task.outcomes) for task in tasks] == [1] * 5
    assert rig.balance() == (5, 5)
    assert not rig.scheduler.busy
