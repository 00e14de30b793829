"""The instances of one model version, and what each was sent. Pure; under the scheduler's lock."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.batching.instance import Instance
from runtime.batching.policy import Seat
from runtime.batching.statistics import Stages
from runtime.batching.task import Batch, Task


class Seats:
    """Keeps instances and seats together.

    Attributes:
        seats: for a policy to look at; each belongs to the instance of the same index.
    """

    def __init__(self) -> None:
        self.seats: list[Seat] = []
        self._instances: list[Instance] = []

    def __len__(self) -> int:
        return len(self.seats)

    @property
    def busy(self) -> bool:
        """Whether any batch was sent and not answered."""
        return any([seat.sent for seat in self.seats])

    @property
    def idle(self) -> int:
        """The first instance that has nothing to do, -1 if there is none."""
        return next((index for index, seat in enumerate(self.seats) if not seat.sent), -1)

    def add(self, instance: Instance) -> None:
        """Use one more instance."""
        self._instances.append(instance)
        self.seats.append(Seat())

    def remove(self, instance: Instance) -> None:
        """Use an instance no longer, if it is used."""
        if instance in self._instances:
            self.remove_at(self._instances.index(instance))

    def remove_at(self, at: int) -> None:
        """Use an instance no longer."""
        del self._instances[at], self.seats[at]

    def send(self, batch: Batch, at: int) -> None:
        """Hand a batch to an instance.

        Raises:
            WorkerLost: the instance is gone; the batch was not taken.
            Exception: the batch cannot be run.
        """
        self._instances[at].send(batch)
        seat = self.seats[at]
        start = max(batch.closed_ns, seat.ends_ns) if seat.sent else batch.closed_ns
        seat.sent.append(batch)
        seat.ends_ns = start + int(batch.predicted_ns) if batch.predicted_ns else 0

    def release(self, instance: Instance, batch: Batch, stages: Stages) -> None:
        """A batch was answered."""
        if instance not in self._instances:
            return
        seat = self.seats[self._instances.index(instance)]
        seat.sent.remove(batch)
        if seat.sent and seat.sent[0].predicted_ns:
            seat.ends_ns = stages.finished_ns + int(seat.sent[0].predicted_ns)

    def recall(self, task: Task) -> None:
        """Ask the instance that was sent a task not to begin it."""
        for instance, seat in zip(self._instances, self.seats, strict=True):
            for batch in seat.sent:
                if task in batch.tasks:
                    instance.cancel(batch, task)


def is_begun(batches: Sequence[Batch], at: int) -> bool:
    """Whether the instance that was sent these batches, and answered none, may have begun this one.

    Only the first, and what runs alone is not worth the doubt: should it be what kills workers, no time is
    lost by counting it.
    """
    return not at or batches[at].alone
