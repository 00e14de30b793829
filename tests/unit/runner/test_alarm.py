"""Alarms of the kernel, on the reader's thread. Real time passes, a few milliseconds of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from runtime.batching.limits import Limits
from runtime.batching.scheduler import Scheduler
from runtime.clock import MILLISECOND, SECOND, now_ns
from runtime.errors import DeadlineExceeded
from runtime.runner.alarm import Alarm
from runtime.runner.channel import Channel
from runtime.runner.reader import Reader
from tests.support.tasks import RecordingTask
from tests.support.workers import WAIT_S

SOON = 2 * MILLISECOND
PAST = 1
NEVER = 1 << 62


class Bell:
    """An alarm, and when it rang."""

    def __init__(self, reader: Reader, then: Callable[[], object] = bool) -> None:
        self.alarm = Alarm()
        self.rang_ns: list[int] = []
        self._then = then
        self._changed = threading.Condition()
        reader.add_alarm(self.alarm, self._ring)

    def wait(self, times: int = 1) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.rang_ns) >= times, WAIT_S)

    def _ring(self) -> None:
        rang_ns = now_ns()
        try:
            self._then()
        finally:
            with self._changed:
                self.rang_ns.append(rang_ns)
                self._changed.notify_all()


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader(_no_channel)
    yield reader
    reader.stop()


@pytest.fixture
def make(reader: Reader) -> Iterator[Callable[..., Bell]]:
    """Makes bells, and closes them."""
    made: list[Bell] = []

    def make(then: Callable[[], object] = bool) -> Bell:
        made.append(Bell(reader, then))
        return made[-1]

    yield make
    for bell in made:
        reader.remove_alarm(bell.alarm)


Make = Callable[..., Bell]


def _no_channel(_: Channel) -> None:
    raise AssertionError("there is none")


def test_it_rings_once_and_not_before_its_instant(make: Make) -> None:
    bell, after = make(), make()
    at = now_ns() + SOON
    bell.alarm.set(at)
    bell.wait()
    after.alarm.set(now_ns() + SOON)
    after.wait()
    (rang,) = bell.rang_ns
    assert rang >= at


@pytest.mark.parametrize("at", [PAST, SECOND - 1, SECOND])
def test_an_instant_that_has_passed_rings_at_once(make: Make, at: int) -> None:
    bell = make()
    bell.alarm.set(at)
    bell.wait()


def test_it_rings_even_if_it_was_set_before_anybody_listened(reader: Reader) -> None:
    alarm, rang = Alarm(), threading.Event()
    alarm.set(PAST)
    reader.add_alarm(alarm, rang.set)
    assert rang.wait(WAIT_S)
    reader.remove_alarm(alarm)


def test_one_that_is_brought_forward_rings_then(make: Make) -> None:
    bell = make()
    bell.alarm.set(NEVER)
    at = now_ns() + SOON
    bell.alarm.set(at)
    bell.wait()
    assert bell.rang_ns[0] >= at


def test_one_that_is_put_off_rings_once_at_the_later_instant(make: Make) -> None:
    bell = make()
    now = now_ns()
    for later in range(1, 6):
        bell.alarm.set(now + later * SOON)
    bell.wait()
    assert bell.rang_ns[0] >= now + 5 * SOON
    bell.alarm.set(now_ns() + SOON)
    bell.wait(2)
    assert len(bell.rang_ns) == 2


def test_one_that_is_called_off_does_not_ring(make: Make) -> None:
    bell, later = make(), make()
    bell.alarm.set(now_ns() + SOON)
    bell.alarm.set(0)
    later.alarm.set(now_ns() + 2 * SOON)
    later.wait()
    later.alarm.set(PAST)  # whatever was ready together with it has rung by then
    later.wait(2)
    assert bell.rang_ns == []


def test_whoever_it_rings_for_may_set_it_again(make: Make) -> None:
    instants = iter([PAST, SECOND, PAST, 0])
    bell = make(lambda: bell.alarm.set(next(instants)))
    bell.alarm.set(PAST)
    bell.wait(4)
    assert next(instants, None) is None


def test_many_alarms_ring_each_at_its_own_instant(make: Make) -> None:
    bells = [make() for _ in range(20)]
    now = now_ns()
    instants = [now + (index * 7 % 20) * MILLISECOND // 4 for index in range(20)]
    for bell, at in zip(bells, instants, strict=True):
        bell.alarm.set(at)
    for bell, at in zip(bells, instants, strict=True):
        bell.wait()
        assert bell.rang_ns[0] >= at
    assert [len(bell.rang_ns) for bell in bells] == [1] * 20


def test_trouble_of_one_does_not_stop_the_others(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    broken, sound = make(lambda: 1 / 0), make()
    for times in (1, 2):
        broken.alarm.set(PAST)
        broken.wait(times)
    sound.alarm.set(PAST)
    sound.wait()
    assert caplog.text.count("alarm_failed") == 2


def test_a_scheduler_is_woken_when_a_deadline_passes(reader: Reader) -> None:
    told = threading.Event()

    class Task(RecordingTask):
        __slots__ = ()

        def fail(self, error: Exception) -> None:
            super().fail(error)
            told.set()

    alarm = Alarm()
    scheduler = Scheduler(Limits(), alarm=alarm.set)
    reader.add_alarm(alarm, scheduler.pump)
    task = Task(deadline_ns=now_ns() + SOON)
    scheduler.submit(task)
    scheduler.pump()
    assert told.wait(WAIT_S)
    assert isinstance(task.error, DeadlineExceeded)
    reader.remove_alarm(alarm)


# -- by hand ----------------------------------------------------------------------------------------


@pytest.fixture
def rung() -> list[str]:
    return []


@pytest.fixture
def alarm(rung: list[str]) -> Iterator[Alarm]:
    alarm = Alarm()
    alarm.on_ring = lambda: rung.append("ding")
    yield alarm
    alarm.close()


@pytest.mark.parametrize("anew", [0, NEVER])
def test_one_that_was_set_anew_before_it_could_ring_does_not(
    alarm: Alarm, rung: list[str], anew: int
) -> None:
    alarm.set(PAST)
    alarm.set(anew)
    alarm.ring()
    assert rung == []
    alarm.set(PAST)
    alarm.ring()
    assert rung == ["ding"]


def test_a_ring_without_a_reason_is_none(alarm: Alarm, rung: list[str]) -> None:
    alarm.ring()
    assert rung == []


def test_a_closed_one_keeps_no_descriptor_and_may_still_be_set(alarm: Alarm) -> None:
    descriptor = alarm.fileno()
    os.fstat(descriptor)
    alarm.close()
    alarm.close()
    alarm.set(PAST)
    assert alarm.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_it_is_not_inherited(alarm: Alarm) -> None:
    assert not os.get_inheritable(alarm.fileno())


def test_an_instant_before_the_clock_began_is_refused(alarm: Alarm) -> None:
    with pytest.raises(OSError, match="cannot be set to -1"):
        alarm.set(-1)
