"""Applies a load to a server and reports what became of it: :func:`run`.

The engine encodes the requests, starts the generator processes, lets them begin together, follows their ticks
and merges their windows. It measures nothing itself. A run always ends: nothing is sent after the load's
time, and what is unanswered after that is given up (see ``drive``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from runtime.clock import MILLISECOND, SECOND, now_ns
from runtime.profiling import link, watch
from runtime.profiling.inputs import RequestSource
from runtime.profiling.processes import Fleet, SenderUnusable
from runtime.profiling.recording import Deck
from runtime.profiling.records import Load, Run, Window
from runtime.profiling.target import Target
from runtime.profiling.timeline import Progress, Timeline

log = logging.getLogger(__name__)

MOST_WINDOWS: Final = 60
LEAST_WINDOWS: Final = 10
_WAIT_S: Final = 0.1
_JUDGED_NS: Final = SECOND
_COUNTED_WINDOW_NS: Final = 100 * MILLISECOND


def run(
    target: Target,
    load: Load,
    requests: RequestSource | Deck,
    *,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    sender: str = "auto",
) -> Run:
    """Carry out a load.

    Args:
        target: the server.
        load: what to offer.
        requests: what to send; a deck that was prepared before may serve many runs.
        progress: called about ten times a second, on the caller's thread.
        stop: set it to end the load early; the run then holds what was measured until then.
        sender: ``core``, ``public``, or ``auto`` for the second only where the first does not work.

    Returns:
        The run; ``invalid`` tells whether the generator itself was the limit.

    Raises:
        NotReady: nobody answers at the target.
        InvalidInput: the requests cannot be made.
        RpcFailed: the server does not describe the model.
        WorkerLost: a generator process died.
        SenderUnusable: ``sender`` is ``core`` and it does not work with the installed grpcio.

    Concurrency: blocks. The processes end with the calling thread, whatever it dies of.
    """
    deck = requests if isinstance(requests, Deck) else requests.prepare(target)
    if sender != "auto":
        return _Engine(target, load, deck, sender).run(progress, stop)
    try:
        return _Engine(target, load, deck, "core").run(progress, stop)
    except SenderUnusable as error:
        log.warning("profiler_sender_fallback", extra={"reason": str(error)})
        return _Engine(target, load, deck, "public").run(progress, stop)


class _Engine:
    """One run with one kind of sender."""

    def __init__(self, target: Target, load: Load, deck: Deck, sender: str) -> None:
        self._target = target
        self._load = load
        self._deck = deck
        self._sender = sender
        self._window_ns = window_length_ns(load)
        self._results: dict[int, dict[str, Any]] = {}

    def run(self, progress: Callable[[Progress], None] | None, stop: threading.Event | None) -> Run:
        with Fleet(self._target, self._load, self._deck, self._window_ns, self._sender) as fleet:
            fleet.wait_ready()
            start_ns = fleet.start()
            timeline = Timeline(start_ns, self._load)
            told = False
            while len(self._results) < self._load.processes:
                self._receive(fleet, timeline)
                if progress is not None:
                    progress(timeline.progress(now_ns()))
                if stop is not None and stop.is_set() and not told:
                    told = True
                    fleet.stop()
        return self._finish(start_ns, timeline)

    def _receive(self, fleet: Fleet, timeline: Timeline) -> None:
        for share, message, descriptors in fleet.receive(_WAIT_S):
            if isinstance(message, link.Tick):
                timeline.add(share, message)
            elif message is not None:
                self._results[share] = link.read_document(descriptors[0])
            elif share not in self._results:
                raise fleet.lost(share)

    def _finish(self, start_ns: int, timeline: Timeline) -> Run:
        parts = [[Window.from_dict(w) for w in result["windows"]] for result in self._results.values()]
        measured_ns = start_ns + round(self._load.warm_up_s * SECOND)
        end_ns = measured_ns + round(self._load.duration_s * SECOND)
        ended = [result["ended_ns"] for result in self._results.values()]
        if all(ended):  # trace or count used up, or stopped
            end_ns = max(ended) if self._load.count else min(end_ns, max(ended))
        windows = merged(parts, end_ns)
        made = Run(
            load=self._load,
            windows=windows,
            elapsed_ns=timeline.last_ns - start_ns,
            timeline=timeline.rows(),
        )
        made.invalid = watch.reasons(self._load, made.total, cpu_shares(parts, measured_ns, end_ns))
        return made


def cpu_shares(parts: Sequence[Sequence[Window]], start_ns: int, end_ns: int) -> list[float]:
    """Share of a core that each process used; nothing for a time too short to tell, as ticks are coarse."""
    if end_ns - start_ns < _JUDGED_NS:
        return []
    used = (sum(window.cpu_ns for window in part if window.start_ns < end_ns) for part in parts)
    return [spent / (end_ns - start_ns) for spent in used]


def window_length_ns(load: Load) -> int:
    """A second, if that makes neither too many windows nor too few to tell their spread."""
    if load.count:
        return _COUNTED_WINDOW_NS
    return round(max(load.duration_s / MOST_WINDOWS, min(1.0, load.duration_s / LEAST_WINDOWS)) * SECOND)


def merged(parts: Sequence[Sequence[Window]], end_ns: int) -> list[Window]:
    """One list of windows of those of all processes: cut at the end, and at most ``MOST_WINDOWS``.

    What lies beyond the end has no time to be counted in; the last window within takes its requests.
    """
    whole: list[Window] = []
    for part in parts:
        for index, window in enumerate(part):
            if index == len(whole):
                whole.append(Window(window.start_ns, window.end_ns))
            whole[index].merge(window)
    inside = [window for window in whole if window.start_ns < end_ns] or whole[:1]
    for window in whole[len(inside) :]:
        inside[-1].merge(window)
    if inside:
        inside[-1].end_ns = max(end_ns, inside[-1].start_ns + 1)
    step = -(-len(inside) // MOST_WINDOWS) or 1
    grouped = [inside[at : at + step] for at in range(0, len(inside), step)]
    for first, *rest in grouped:
        for window in rest:
            first.merge(window)
    return [group[0] for group in grouped]
