"""Deadlines become monotonic instants."""

from __future__ import annotations

import time

from runtime.clock import LONGEST_NS, SECOND, deadline_ns, now_ns, unix_ms


def test_a_deadline_keeps_its_distance_from_now() -> None:
    at = deadline_ns(time.time() + 100)
    assert abs(at - now_ns() - 100 * SECOND) < 10 * SECOND


def test_a_deadline_that_passed_lies_in_the_past() -> None:
    assert deadline_ns(time.time() - 1) < now_ns()


def test_a_deadline_before_the_machine_was_started_is_still_an_instant() -> None:
    assert deadline_ns(0.0) == 1


def test_the_longest_deadline_that_grpc_can_say_fits_into_64_bits() -> None:
    hours = 99_999_999
    at = deadline_ns(time.time() + hours * 3600.0)
    assert now_ns() < at < 1 << 63
    assert at <= now_ns() + LONGEST_NS


def test_an_instant_is_told_in_milliseconds_of_unix_time() -> None:
    told = unix_ms(now_ns() - 5 * SECOND)
    assert abs(told - (time.time() - 5) * 1000) < 10_000
