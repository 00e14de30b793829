"""Tasks and batches of bytes for channels to workers: small ones travel inline, large ones in the arena."""

from __future__ import annotations

import numpy as np

from runtime.batching.scheduler import Scheduler
from tests.support.execution import Inputs
from tests.support.tasks import RecordingTask
from tests.support.workers import key_of

WIDE = 100_000
LARGE = key_of({"x": np.zeros((1, WIDE), np.uint8)})
SMALL = key_of({"x": np.zeros((1, 2), np.uint8)})


def forget() -> None:
    """Make the keys as new: what a scheduler has taught them, such as a limit, is not the next one's."""
    for key in (LARGE, SMALL):
        key.curve, key.limit = None, 0


def plus_one(inputs: Inputs) -> Inputs:
    return {"y": np.add(inputs["x"], np.uint8(1))}


def large(value: int, rows: int = 1, **options: int) -> RecordingTask:
    return RecordingTask(LARGE, rows, parts=[bytes([value]) * (WIDE * rows)], **options)


def small(value: int, rows: int = 1) -> RecordingTask:
    return RecordingTask(SMALL, rows, parts=[bytes([value]) * (2 * rows)])


def submit(to: Scheduler, *tasks: RecordingTask) -> None:
    for task in tasks:
        to.submit(task)
    to.pump()
