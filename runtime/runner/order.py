"""What a worker process is told to load."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One instance of a model version.

    Attributes:
        store: path of the model store.
        tag: name and version.
        instance: name of this instance, for logs.
        device: ``cpu``, ``cuda:0``, …
        threads: CPU threads that the framework may use.
        max_batch_size: the largest batch to warm up for, and to merge batches of several services to.
        log_level: of the process.
    """

    store: str
    tag: str
    instance: str
    device: str = "cpu"
    threads: int = 1
    max_batch_size: int = 64
    log_level: str = "INFO"
