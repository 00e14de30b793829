"""Requests that killed two workers."""

from __future__ import annotations

import pytest

from runtime.batching.quarantine import MAX_HELD, TERM_NS, Quarantine
from tests.support.tasks import RecordingTask, key

NOW = 1_000


def task(content: bytes = b"poison", *more: bytes, method: str = "predict") -> RecordingTask:
    return RecordingTask(key(method), parts=[content, *more])


def test_nobody_is_held_at_first() -> None:
    quarantine = Quarantine()
    assert not quarantine
    assert len(quarantine) == 0
    assert not quarantine.holds(task(), NOW)


def test_the_same_bytes_to_the_same_method_are_the_same_request() -> None:
    quarantine = Quarantine()
    quarantine.add(task(), NOW)
    assert quarantine
    assert quarantine.holds(task(), NOW)
    assert quarantine.holds(RecordingTask(key("predict"), parts=[memoryview(b"poison")]), NOW)


@pytest.mark.parametrize(
    "other",
    [
        task(b"harmless"),
        task(method="explain"),
        task(b"poi", b"son"),
        task(b"poison", b""),
        task(b""),
    ],
)
def test_another_request_is_another(other: RecordingTask) -> None:
    quarantine = Quarantine()
    quarantine.add(task(), NOW)
    assert not quarantine.holds(other, NOW)


def test_the_same_bytes_cut_differently_are_another_request() -> None:
    quarantine = Quarantine()
    quarantine.add(task(b"a", b"bc"), NOW)
    assert not quarantine.holds(task(b"ab", b"c"), NOW)


def test_a_request_is_let_go_after_its_term() -> None:
    quarantine = Quarantine()
    quarantine.add(task(), NOW)
    assert not quarantine.holds(task(), NOW + TERM_NS)
    assert not quarantine


def test_asking_does_not_prolong_the_term() -> None:
    quarantine = Quarantine()
    quarantine.add(task(b"first"), NOW)
    assert quarantine.holds(task(b"first"), NOW + TERM_NS - 1)
    assert not quarantine.holds(task(b"first"), NOW + TERM_NS)
    assert not quarantine


def test_equal_beginnings_are_not_enough() -> None:
    quarantine = Quarantine()
    quarantine.add(task(bytes(100) + b"a"), NOW)
    assert not quarantine.holds(task(bytes(100) + b"b"), NOW)


def test_only_so_many_are_held_and_the_oldest_are_let_go() -> None:
    quarantine = Quarantine()
    for number in range(MAX_HELD + 2):
        quarantine.add(task(b"%d" % number), NOW)
    assert len(quarantine) == MAX_HELD
    assert not quarantine.holds(task(b"1"), NOW)
    assert quarantine.holds(task(b"2"), NOW)


def test_holding_twice_holds_once() -> None:
    quarantine = Quarantine()
    quarantine.add(task(), NOW)
    quarantine.add(task(), NOW + 1)
    assert len(quarantine) == 1
