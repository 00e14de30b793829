"""The adaptive policy: greedy, except where something learned says that another choice pays.

One decision, in this order; each step has a function or a module of its own:

1. which instance: an idle one, or one that will be idle by the time the batch gets there (just in time);
2. which lane: the head that is due first, with credit for how full its batch would be;
3. who is hopeless: tasks that cannot be answered in time whatever is done are dropped now;
4. who comes along: the head and what fits behind it (``fill``);
5. deadlines: a batch too slow for its first task becomes smaller, or goes without it (``window``);
6. several idle instances: share the rows if that is faster;
7. one idle instance: hold the batch if company is known to be coming (``hold``);
8. efficiency: leave out the rows that make all others dear, as padding to the next size does.

Nothing learned is needed: while little is known, each step falls back to greedy, and nothing is refused.

Source: the constants were chosen by simulation and are insensitive where that was tested; ``python -m
benchmarks.batching`` shows what they are worth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from runtime.batching.fill import fill, first_fit
from runtime.batching.hold import Hold
from runtime.batching.latency import LatencyCurve
from runtime.batching.limits import Limits
from runtime.batching.policy import NOTHING, Decision, Seat
from runtime.batching.queue import Lane, TaskQueue
from runtime.batching.statistics import Stages
from runtime.batching.task import Batch, BatchKey, Task
from runtime.batching.window import DEPTH, Choice, Window
from runtime.clock import MILLISECOND, SECOND
from runtime.errors import DeadlineUnreachable, QueueFull, RuntimeServingError

MIN_HAND_OVER_NS: Final = 50_000
"""A way to the worker shorter than this is not worth committing early for."""
OVERDUE: Final = 4
"""An instance that is late by more than so many hand-overs is not counted on any more."""
MIN_HOLD_NS: Final = 100_000
"""A model that saves less by larger batches is never held for, so that committing early costs nothing."""
SPREAD: Final = 0.7
"""A part of the rows must take at most so much of the time of all of them to be worth an instance."""
STALE: Final = 3
"""After so many executions of one row without an answer, what was learned is no reason to drop anybody."""
MIN_STARVE_NS: Final = SECOND
STARVE: Final = 20
"""Starved is who waits longer than ``MIN_STARVE_NS`` and so many executions of one row."""
TURN: Final = 8
"""Every so many batches the lane of whoever has starved goes first, and within it the starved."""
SCHOOLED: Final = 64
LEARN_EVERY_NS: Final = 2_000_000
"""After so many batches a curve learns from one batch in this time: learning costs as much as some models."""
SMOOTHING: Final = 1 / 16
"""Of the hand-over times: the weight of one observation, which counts at most ``OVERDUE`` times the mean."""


class Case(NamedTuple):
    """One decision: a lane that could leave to an instance.

    Attributes:
        limit: most rows of a batch of this lane.
        at: the instance, an index into the seats.
        idle: how many instances are idle; with none, ``at`` will soon be.
        start_ns: when the batch would begin.
    """

    queue: TaskQueue
    seats: Sequence[Seat]
    lane: Lane
    curve: LatencyCurve
    limit: int
    at: int
    idle: int
    start_ns: int
    now_ns: int


class Adaptive:
    """Decides about one model version.

    Args:
        limits: of the model.
        profile: rows to the milliseconds of one execution, measured earlier: a hint, never a veto.
    """

    def __init__(self, limits: Limits, profile: Mapping[int, float] | None = None) -> None:
        self._limits = limits
        known = {rows: ms * MILLISECOND for rows, ms in (profile or {}).items()}
        self._curve = LatencyCurve(limits.max_batch_size, limits.allowed_batch_sizes, known)
        self._is_curve_owned = False
        cap = limits.max_queue_delay_ms
        self._hold = Hold(math.inf if cap < 0 else cap * MILLISECOND)
        self._can_hold = cap != 0
        self._hand_over_ns = 0.0
        self._return_ns = 0.0
        self._answered_ns = 0
        self._batches = 0
        self._learn_ns = 0
        self._listens = True
        self._most_rows = math.inf

    # -- what is learned ------------------------------------------------------------------------

    def arrived(self, task: Task, now_ns: int) -> None:
        """Take note of an admission."""
        if self._listens:
            self._hold.arrived(now_ns)

    def finished(self, batch: Batch, stages: Stages) -> None:
        """Learn how long the batch took, and the ways to the worker and back."""
        curve = batch.key.curve or self._learner(batch.key)
        answered = stages.answered_ns
        if not stages.joined and (answered >= self._learn_ns or curve.batches < SCHOOLED):
            self._learn_ns = answered + LEARN_EVERY_NS
            curve.observe(stages.rows, stages.finished_ns - stages.begun_ns)
            self._note(curve, self._limit_of(batch.key))
        if stages.free_ns == stages.closed_ns:  # it did not wait for the batch before it
            self._hand_over_ns = _smooth(self._hand_over_ns, stages.begun_ns - stages.closed_ns)
        self._return_ns = _smooth(self._return_ns, answered - stages.finished_ns)
        self._answered_ns = answered
        if self._listens:
            self._hold.completed(len(batch.tasks), answered, curve.mean(1))

    def _note(self, curve: LatencyCurve, limit: int) -> None:
        """Keep at hand from how many queued rows on it is worth asking how long they will take."""
        if curve.high(1):
            self._most_rows = self._limits.max_queue_ms * MILLISECOND * limit / curve.mean(limit)

    def _learner(self, key: BatchKey) -> LatencyCurve:
        """Give a key a curve of its own; that of the first key is where the others start."""
        key.curve = curve = self._curve.copy() if self._is_curve_owned else self._curve
        self._is_curve_owned = True
        return curve

    def _curve_of(self, key: BatchKey) -> LatencyCurve:
        return key.curve or self._curve

    def insight(self) -> dict[str, object]:
        """What was learned, for whoever wants to know why."""
        return {
            "curve": self._curve.knots(),
            "alpha_ns": self._curve.alpha,
            "hand_over_ns": self._hand_over_ns,
            "return_ns": self._return_ns,
            "away": self._hold.away,
            "arrivals_per_s": self._hold.rate(self._answered_ns) * SECOND,
        }

    # -- admission ------------------------------------------------------------------------------

    def refusal(
        self, task: Task, queue: TaskQueue, seats: Sequence[Seat], now_ns: int
    ) -> RuntimeServingError | None:
        """Refuse only the hopeless: late even if it went next, or behind more than may wait."""
        if not seats:
            return None
        if task.deadline_ns:
            return self._unreachable(task, seats, now_ns)
        if queue.rows <= self._most_rows * len(seats):
            return None
        wait = sum([self._backlog(lane) for lane in queue.lanes.values()]) / len(seats) / MILLISECOND
        if wait <= self._limits.max_queue_ms:
            return None
        return QueueFull(
            f"{queue.rows} rows wait, for about {wait:.0f} ms: retry later", retry_after_ms=math.ceil(wait)
        )

    def _backlog(self, lane: Lane) -> float:
        """How long one instance would work on a lane."""
        limit = self._limit_of(lane.key)
        return lane.rows * self._curve_of(lane.key).mean(limit) / limit

    def _unreachable(self, task: Task, seats: Sequence[Seat], now_ns: int) -> DeadlineUnreachable | None:
        """Why a task would be late even if it went next."""
        curve = self._curve_of(task.key)
        needed = self._until_answered(curve, min(task.rows, self._limit_of(task.key)))
        wait = max(0, min([seat.ends_ns - now_ns if seat.sent else 0 for seat in seats]))
        if not needed or now_ns + wait + needed <= task.deadline_ns or self._is_stale(seats, now_ns):
            return None
        return DeadlineUnreachable(
            f"the answer would take {(wait + needed) / MILLISECOND:.3g} ms: too late for the deadline",
            retry_after_ms=max(1, math.ceil(wait / MILLISECOND)),
        )

    # -- the decision ---------------------------------------------------------------------------

    def decide(self, queue: TaskQueue, seats: Sequence[Seat], now_ns: int) -> Decision:
        """Go through the steps of the module's list."""
        at, idle, until = self._choose_seat(seats, now_ns)
        if at < 0 or not queue.lanes:
            return Decision(until_ns=until) if until else NOTHING
        start = now_ns if idle else max(now_ns, seats[at].ends_ns)
        lane = self._choose_lane(queue, now_ns)
        curve = self._curve_of(lane.key)
        self._listens = len(seats) > 1 or self._may_hold(curve) or not curve.known
        is_dated = queue.next_deadline_ns > 0
        if idle and len(queue) == 1 and not is_dated and not self._may_hold(curve):
            return self._leave((lane.head,), "idle", at, curve, now_ns)  # what follows would say the same
        case = Case(queue, seats, lane, curve, self._limit_of(lane.key), at, idle, start, now_ns)
        if is_dated:
            hopeless = self._hopeless(case)
            if hopeless:
                return Decision(drop=hopeless)
        return self._decide_batch(case)

    def _decide_batch(self, case: Case) -> Decision:
        """Decide on the batch that one lane gives to one instance."""
        curve, max_bytes = case.curve, self._limits.max_batch_bytes
        aged = self._aged(curve, case.now_ns) if len(case.lane.levels) > 1 else 0
        tasks = fill(case.lane, case.limit, max_bytes, aged, lead=self._batches % TURN == TURN - 1)
        rows = sum([task.rows for task in tasks])
        since = self._hold.held_since
        if since and min([task.enqueued_ns for task in tasks]) > since:
            self._hold.released()  # those who were held have gone without leaving
        due = 0
        if case.queue.next_deadline_ns:
            due = min([task.deadline_ns for task in tasks if task.deadline_ns], default=0)
        if due and case.start_ns + self._until_answered(curve, rows) > due:
            return self._tight(case)
        waiting = self._hold_back(case, rows, due)
        if waiting is not None:
            return waiting
        size, reason = self._size(case, rows)
        if size < rows:
            tasks = fill(case.lane, size, max_bytes)
        return self._leave(tasks, reason, case.at, curve, case.now_ns)

    def _leave(
        self, tasks: Sequence[Task], reason: str, at: int, curve: LatencyCurve, now_ns: int
    ) -> Decision:
        since = self._hold.held_since
        self._batches += 1
        predicted = curve.mean(max(1, sum([task.rows for task in tasks])))
        if since:
            self._hold.released()
            return Decision(tasks, at, "held", predicted, now_ns - since)
        return Decision(tasks, at, reason, predicted)

    def _choose_seat(self, seats: Sequence[Seat], now_ns: int) -> tuple[int, int, int]:
        """The instance to send to (-1: none), how many are idle, and when to ask again if none will do."""
        first, idle = -1, 0
        for index, seat in enumerate(seats):
            if not seat.sent:
                first = first if idle else index
                idle += 1
        if idle:
            return first, idle, 0
        hand_over = self._hand_over_ns
        if hand_over < MIN_HAND_OVER_NS:
            return -1, 0, 0
        found, until, earliest = -1, 0, math.inf
        for index, seat in enumerate(seats):
            ends = seat.ends_ns
            if len(seat.sent) > 1 or not ends or now_ns > ends + OVERDUE * hand_over or ends >= earliest:
                continue
            commit = math.ceil(ends - hand_over)
            found, until, earliest = (index, 0, ends) if commit <= now_ns else (-1, commit, ends)
        return found, 0, until

    def _choose_lane(self, queue: TaskQueue, now_ns: int) -> Lane:
        """The lane that is due first, with credit for a full batch; in turn, that of the starved."""
        lanes = queue.lanes.values()
        if len(lanes) == 1:
            return next(iter(lanes))
        if self._batches % TURN == TURN - 1:
            aged = self._aged(self._curve, now_ns)
            oldest = min(lanes, key=_oldest)
            if _oldest(oldest) < aged:
                return oldest
        return min(lanes, key=self._rank)

    def _rank(self, lane: Lane) -> tuple[int, float]:
        limit = self._limit_of(lane.key)
        credit = self._curve_of(lane.key).mean(limit) * min(1.0, lane.rows / limit)
        return lane.level, lane.head.order_ns - credit

    def _hopeless(self, case: Case) -> Sequence[Task]:
        """The tasks at the head of a lane that would be late even if they went alone and now."""
        if self._is_stale(case.seats, case.start_ns):
            return ()
        dropped: list[Task] = []
        for task in case.lane:
            alone = self._until_answered(case.curve, min(task.rows, case.limit))
            if not (alone and 0 < task.deadline_ns < case.start_ns + alone):
                break
            dropped.append(task)
        return dropped

    def _tight(self, case: Case) -> Decision:
        """Not everybody is in time in the batch that would leave."""
        most = DEPTH * case.limit
        tasks: list[Task] = []
        rows = 0
        for task in case.lane:
            tasks.append(task)
            rows += task.rows
            if rows >= most:
                break
        choice = self._window(case, tasks)
        level = tasks[0].priority
        if choice.drop and tasks[choice.drop + choice.take - 1].priority != level:
            # nobody is given up for the sake of those who are less urgent
            choice = self._window(case, [task for task in tasks if task.priority == level])
        if choice.drop:
            return Decision(drop=tasks[: choice.drop])
        fitting = first_fit(tasks[: max(1, choice.take)], case.limit, self._limits.max_batch_bytes)
        return self._leave(fitting, "tight", case.at, case.curve, case.now_ns)

    def _window(self, case: Case, tasks: Sequence[Task]) -> Choice:
        return Window(
            tasks, limit=case.limit, start_ns=case.start_ns, mean=case.curve.mean, instances=len(case.seats),
            high=lambda rows: self._until_answered(case.curve, rows),
        ).choose()  # fmt: skip

    def _hold_back(self, case: Case, rows: int, due: int) -> Decision | None:
        """Let a batch that is all there is wait for company; None to go on."""
        if rows >= case.limit or rows < case.queue.rows or case.idle > 1 or not self._may_hold(case.curve):
            return None
        now = case.now_ns
        if not case.idle:
            running = len(case.seats[case.at].sent[0].tasks)
            coming = self._hold.awaits(running, rows, case.limit, case.curve, now)
            return NOTHING if coming else None
        ends = [max(0, seat.ends_ns - now) for seat in case.seats if seat.sent]
        slack = (due - now - self._until_answered(case.curve, rows + 1)) / 2 if due else math.inf
        wait = self._hold.wait(
            rows, case.limit, case.curve, now, residual_ns=min(ends, default=math.inf), slack_ns=slack
        )
        return Decision(until_ns=now + math.ceil(wait)) if wait else None

    def _size(self, case: Case, rows: int) -> tuple[int, str]:
        """How many of the rows that could leave should, and why."""
        if case.idle > 1:
            share = self._share(case.curve, rows, case.idle, case.now_ns)
            if share < rows:
                return share, "spread"
        elif rows > 1:
            efficient = case.curve.efficient(rows)
            if efficient < rows:
                return efficient, "efficient"
        return rows, "idle" if rows == case.lane.rows else "full"

    def _share(self, curve: LatencyCurve, rows: int, idle: int, now_ns: int) -> int:
        """How many of the rows one of several idle instances should take: the share that costs least."""
        if not curve.known:
            return rows
        together = curve.mean(rows)
        best, least = rows, rows * together
        for parts in range(2, idle + 1):
            share = math.ceil(rows / parts)
            apart = curve.mean(share)
            if apart > SPREAD * together:
                continue
            cost = rows * apart
            if parts == idle:  # whoever comes meanwhile finds every instance busy
                cost += self._hold.rate(now_ns) * apart * apart / 2
            if cost < least:
                best, least = share, cost
        return best

    def _may_hold(self, curve: LatencyCurve) -> bool:
        return self._can_hold and curve.alpha >= MIN_HOLD_NS

    # -- figures --------------------------------------------------------------------------------

    def _limit_of(self, key: BatchKey) -> int:
        if not key.batchable:
            return 1
        return key.limit or self._limits.max_batch_size

    def _until_answered(self, curve: LatencyCurve, rows: int) -> float:
        """What a batch will hardly exceed, from its start to the callers; 0 while that is not known."""
        high = curve.high(max(1, rows))
        return high + self._return_ns if high else 0.0

    def _is_stale(self, seats: Sequence[Seat], now_ns: int) -> bool:
        """Nothing runs and nothing was answered for long: somebody has to go, so that we learn."""
        if any(seat.sent for seat in seats):
            return False
        return now_ns - self._answered_ns > STALE * self._curve.mean(1)

    def _aged(self, curve: LatencyCurve, now_ns: int) -> int:
        """Who was admitted before this instant has starved."""
        return now_ns - math.ceil(max(MIN_STARVE_NS, STARVE * curve.mean(1)))


def _oldest(lane: Lane) -> int:
    return min([line[0].enqueued_ns for line in lane.levels.values()])


def _smooth(mean: float, value: int) -> float:
    if not mean:
        return float(value)
    return mean + SMOOTHING * (min(value, OVERDUE * mean) - mean)
