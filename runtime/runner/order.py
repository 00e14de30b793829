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
        allowed_batch_sizes: rows to which batches are padded, ascending, the last being ``max_batch_size``;
            none: batches are executed as they are.
        log_level: of the process.
    """

    store: str
    tag: str
    instance: str
    device: str = "cpu"
    threads: int = 1
    max_batch_size: int = 64
    allowed_batch_sizes: tuple[int, ...] = ()
    log_level: str = "INFO"

    def __post_init__(self) -> None:
        # what has come through JSON is a list
        object.__setattr__(self, "allowed_batch_sizes", tuple(self.allowed_batch_sizes))
