"""When a process is started again."""

from __future__ import annotations

from runtime.clock import SECOND
from runtime.lifecycle.backoff import LONGEST_NS, STABLE_NS, Backoff


def test_delays_double_up_to_the_longest() -> None:
    backoff = Backoff()
    delays = [backoff.next_delay_ns(0) / SECOND for _ in range(10)]
    assert delays == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    assert [backoff.next_delay_ns(0) for _ in range(100)][-1] == LONGEST_NS


def test_a_long_life_earns_an_immediate_restart() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.next_delay_ns(STABLE_NS - 1)
    assert backoff.next_delay_ns(STABLE_NS) == 0
    assert backoff.failures == 1
