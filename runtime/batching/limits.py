"""What bounds a model's queue and batches, and how it is to be batched. Plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one model version; see ``[model]`` in the configuration for how to choose.

    Attributes:
        max_batch_size: rows of one batch; default 64. Larger tasks are cut.
        allowed_batch_sizes: what batches are padded to, ascending, the last one ``max_batch_size``; empty for
            any size.
        max_batch_bytes: bytes of tensors of one batch; default 256 MiB, a quarter of the arena.
        max_queued_rows: rows that may wait; default 10,000. Above it calls are refused at once.
        max_queued_bytes: bytes of tensors that may wait; default 1 GiB.
        max_queue_ms: predicted wait above which calls without a deadline are refused; default 10 s.
        max_queue_delay_ms: longest time that an idle instance waits for a batch to grow; below 0 as long as
            was learned to pay, 0 for never.
        slo_ms: deadline of calls that bring none; 0 for none.
        priority_levels: levels that calls may choose from, 1 the most urgent.
        default_priority_level: of calls that choose none.
        isolation_depth: how many times a failed batch is halved to find the task at fault; 0 for never.
    """

    max_batch_size: int = 64
    allowed_batch_sizes: tuple[int, ...] = ()
    max_batch_bytes: int = 256 << 20
    max_queued_rows: int = 10_000
    max_queued_bytes: int = 1 << 30
    max_queue_ms: float = 10_000
    max_queue_delay_ms: float = -1
    slo_ms: float = 0
    priority_levels: int = 3
    default_priority_level: int = 2
    isolation_depth: int = 16
