"""A policy whose failure is not the server's: batching goes on, greedily, should advice fail to come."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from runtime.batching.policy import Decision, Greedy, Policy, Seat
from runtime.batching.queue import TaskQueue
from runtime.batching.statistics import Stages
from runtime.batching.task import Batch, Task
from runtime.errors import RuntimeServingError

log = logging.getLogger(__name__)


class Guarded:
    """Asks a policy, and decides greedily wherever it raises.

    Args:
        policy: that is asked.
        fallback: that decides instead.
    """

    def __init__(self, policy: Policy, fallback: Greedy) -> None:
        self._policy = policy
        self._fallback = fallback
        self._failures = 0

    def refusal(
        self, task: Task, queue: TaskQueue, seats: Sequence[Seat], now_ns: int
    ) -> RuntimeServingError | None:
        """Why a task should not be admitted; none that fails to be told."""
        try:
            return self._policy.refusal(task, queue, seats, now_ns)
        except Exception as error:  # noqa: BLE001  # that is what it is for
            self._complain("refusal", error)
            return None

    def arrived(self, task: Task, now_ns: int) -> None:
        """Tell of an admission."""
        try:
            self._policy.arrived(task, now_ns)
        except Exception as error:  # noqa: BLE001  # that is what it is for
            self._complain("arrived", error)

    def decide(self, queue: TaskQueue, seats: Sequence[Seat], now_ns: int) -> Decision:
        """What to do now."""
        try:
            return self._policy.decide(queue, seats, now_ns)
        except Exception as error:  # noqa: BLE001  # that is what it is for
            self._complain("decide", error)
            return self._fallback.decide(queue, seats, now_ns)

    def finished(self, batch: Batch, stages: Stages) -> None:
        """Tell of an answer."""
        try:
            self._policy.finished(batch, stages)
        except Exception as error:  # noqa: BLE001  # that is what it is for
            self._complain("finished", error)

    def insight(self) -> dict[str, object]:
        """What was learned, in plain values."""
        try:
            return self._policy.insight()
        except Exception as error:  # noqa: BLE001  # that is what it is for
            self._complain("insight", error)
            return {}

    def _complain(self, asked: str, error: Exception) -> None:
        """Log the failure: the first one, and ever fewer of those that follow."""
        self._failures += 1
        if self._failures & (self._failures - 1) == 0:
            log.error("policy_failed", exc_info=error, extra={"asked": asked, "times": self._failures})
