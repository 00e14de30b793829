"""Which part limits the throughput: generator, front-end, hop, worker, or the machine that they share. Pure.

Cases, the first that holds decides:

1. the generator says that it was the limit: ``generator``; the server's figures mean nothing then;
2. instances execute nearly all the time: ``worker``;
3. worker processes use nearly a whole core, though not for the model: ``hop``;
4. front-end processes use nearly a whole core each: ``front-end``;
5. all cores of the machine are in use: ``machine``;
6. an open loop got what it asked for: ``none``, there is room;
7. nothing is saturated: the stage in which requests spend most of their time;
8. nobody tells anything: ``unknown``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from runtime.profiling.breakdown import STAGES

FULL: Final = 0.85
"""Share of time from which on a process counts as saturated: above it queues grow steeply (at 0.85 a queue
with random arrivals is already 5.7 tasks long on average, rho / (1 - rho))."""

MACHINE_FULL: Final = 0.95
KEPT_UP: Final = 0.98
"""Share of the offered rate that counts as all of it; the rest is the randomness of a short run."""

_PART: Final = {
    "queue": "worker", "merge": "worker", "compute": "worker", "split": "worker", "hop": "hop",
    "transport": "front-end",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of one operating point; None where nobody tells.

    Attributes:
        invalid: why the generator was the limit.
        offered, answered: requests per second; offered is 0 for a closed loop.
        busy: share of the time in which instances executed, 0 to 1.
        worker_cpu, front_end_cpu: cores in use per process.
        machine_cpu: share of all cores in use, 0 to 1.
        mean_ms: the mean request's time by stage.
    """

    invalid: tuple[str, ...] = ()
    offered: float = 0.0
    answered: float = 0.0
    busy: float | None = None
    worker_cpu: float | None = None
    front_end_cpu: float | None = None
    machine_cpu: float | None = None
    mean_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The part that limits, and the figure that says so."""

    bottleneck: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Return plain values."""
        return {"bottleneck": self.bottleneck, "reason": self.reason}


def judge(known: Evidence) -> Verdict:
    """Name the bottleneck of one operating point; the cases are in the module's docstring."""
    if known.invalid:
        return Verdict("generator", known.invalid[0])
    saturated = _saturated(known)
    if saturated is not None:
        return saturated
    if known.offered and known.answered >= KEPT_UP * known.offered:
        return Verdict("none", "the server keeps up with the offered load")
    stages = {name: known.mean_ms.get(name, 0.0) for name in STAGES}
    total = sum(stages.values())
    if total <= 0:
        return Verdict("unknown", "the server tells nothing of its side")
    longest = max(stages, key=lambda name: stages[name])
    share = stages[longest] / total
    return Verdict(
        _PART[longest],
        f"nothing is saturated; {longest} is {share:.0%} of the mean request's {total:.2f} ms",
    )


def _saturated(known: Evidence) -> Verdict | None:
    """Return cases 2 to 5."""
    if known.busy is not None and known.busy >= FULL:
        return Verdict("worker", f"instances execute {min(known.busy, 1.0):.0%} of the time")
    if known.worker_cpu is not None and known.worker_cpu >= FULL:
        if known.busy is None:
            return Verdict("worker", f"each worker uses {known.worker_cpu:.2f} cores")
        return Verdict(
            "hop",
            f"each worker uses {known.worker_cpu:.2f} cores, but executes only {known.busy:.0%} of the time",
        )
    if known.front_end_cpu is not None and known.front_end_cpu >= FULL:
        return Verdict("front-end", f"each front-end process uses {known.front_end_cpu:.2f} cores")
    if known.machine_cpu is not None and known.machine_cpu >= MACHINE_FULL:
        return Verdict(
            "machine", f"{known.machine_cpu:.0%} of all cores are in use, by this and whatever else runs"
        )
    return None
