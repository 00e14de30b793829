"""What clients may ask about time: ModelStatistics, and the timings of a call in its trailing metadata.

ModelStatistics counts as Triton does, so that whatever computes differences between two answers works
unchanged:

* ``inference_count`` counts the rows of successful requests, ``execution_count`` successful executions;
* ``inference_stats`` count requests: a stage of a batch counts once for each of its requests.
  ``queue`` is the wait until an instance was free, ``compute_input`` the merging, ``compute_infer`` the
  model's method, ``compute_output`` the splitting. ``success`` is the time from admission to answer; what
  its stages do not explain is the hop between the processes. ``fail`` counts all that was admitted or
  refused by the queue and not answered with outputs;
* ``batch_stats`` count executions by the rows that were executed together.

Source: Triton's statistics extension (docs/protocol/extension_statistics.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from protos import open_inference_pb2 as pb
from runtime.batching.statistics import Counted, Stages, Statistics, add_up
from runtime.batching.task import Batch
from runtime.clock import SECOND, unix_ms
from runtime.errors import InvalidInput
from runtime.lifecycle.routes import Route, Routes
from runtime.rpc import status
from runtime.transport.interface import Call, Metadata

Answer = Callable[[Iterable[Counted]], None]
Gather = Callable[[Answer], None]

TIMINGS: Final = "runtime-timings"
WANTED: Final = (TIMINGS, "1")
"""Request metadata of a client that wants to know where the time of its call went."""


class ModelStatistics:
    """Handles ModelStatistics.

    Args:
        routes: what is served.
        gather: calls back, from any thread, with what all service processes have counted; None where
            there is no process but this one.

    Concurrency: called on the transport's thread, which does not wait for the other processes.
    """

    def __init__(self, routes: Routes, gather: Gather | None = None) -> None:
        self._routes = routes
        self._gather = gather

    def __call__(self, call: Call) -> None:
        """Handle one call."""
        try:
            routes = self._asked(call.request)
            if self._gather is None:
                call.respond(response([(route, route.scheduler.snapshot()) for route in routes]))
                return
            self._gather(lambda counted: self._answer(call, routes, counted))
        except Exception as error:  # noqa: BLE001  # a fence: status logs what is unforeseen
            status.fail(call, error)

    def _asked(self, data: bytes) -> list[Route]:
        """The versions asked for: of one name, or all.

        Raises:
            InvalidInput: no valid request (INVALID_ARGUMENT).
            ModelNotFound, VersionNotFound: NOT_FOUND.
        """
        try:
            request = pb.ModelStatisticsRequest.FromString(data)
        except DecodeError:
            raise InvalidInput("the request is not a valid ModelStatisticsRequest", field="request") from None
        if not request.name:
            return list(self._routes)
        route = self._routes.resolve(request.name, request.version)
        if request.version:
            return [route]
        return [
            self._routes.resolve(request.name, version) for version in self._routes.versions(request.name)
        ]

    def _answer(self, call: Call, routes: Sequence[Route], counted: Iterable[Counted]) -> None:
        try:
            totals = add_up(counted)
            found = [(route, totals.get((route.name, route.version), Statistics())) for route in routes]
            call.respond(response(found))
        except Exception as error:  # noqa: BLE001  # a fence: status logs what is unforeseen
            status.fail(call, error)


def response(found: Iterable[tuple[Route, Statistics]]) -> bytes:
    """The encoded response, versions in the order given."""
    message = pb.ModelStatisticsResponse()
    for route, statistics in found:
        _fill(message.model_stats.add(name=route.name, version=route.version), statistics)
    return message.SerializeToString()


def _fill(model: pb.ModelStatistics, counted: Statistics) -> None:
    model.last_inference = unix_ms(counted.last_ns) if counted.last_ns else 0
    model.inference_count = counted.rows
    model.execution_count = counted.execution_count
    stats = model.inference_stats
    done = counted.completed
    _set(stats.success, done, counted.request_ns)
    _set(stats.fail, counted.unsuccessful, counted.fail_ns)
    _set(stats.queue, done, counted.queue_ns + counted.wait_ns)
    _set(stats.compute_input, done, counted.merge_ns)
    _set(stats.compute_infer, done, counted.compute_ns)
    _set(stats.compute_output, done, counted.split_ns)
    for rows, executions in sorted(counted.executions.items()):
        batch = model.batch_stats.add(batch_size=rows)
        _set(batch.compute_input, executions.count, executions.merge_ns)
        _set(batch.compute_infer, executions.count, executions.compute_ns)
        _set(batch.compute_output, executions.count, executions.split_ns)


def _set(duration: pb.StatisticDuration, count: int, ns: int) -> None:
    duration.count = count
    duration.ns = ns


def timings(enqueued_ns: int, rows: int, stages: Stages, now_ns: int, batch: Batch | None = None) -> Metadata:
    """The trailing metadata of a call whose client wants timings.

    Args:
        enqueued_ns: when its task was admitted.
        rows: of the request.
        stages: of its batch.
        now_ns: when the answer is sent.
        batch: that it was part of, if that is known.

    Returns:
        Seconds by stage, which add up to ``total``: ``hop`` is the way to the worker and back, the encoding
        of the answer and of those of the same batch before it included. Counts: ``rows`` of the request,
        ``batch``, the rows that were executed together, and ``padded``, these and their padding. And of the
        batch: the ``reason`` why it left when it did, one of the policy's words, the seconds that it was
        ``held`` for company (a part of ``queue``), and the ``predicted`` seconds in the worker, 0 if nothing
        was known.
    """
    parts: dict[str, float] = {
        "queue": stages.free_ns - enqueued_ns,
        "merge": stages.started_ns - stages.begun_ns,
        "compute": stages.executed_ns - stages.started_ns,
        "split": stages.finished_ns - stages.executed_ns,
    }
    total = max(now_ns, stages.answered_ns) - enqueued_ns
    seconds = {"hop": total - sum(parts.values()), **parts, "total": total}
    counts = {"rows": rows, "batch": stages.rows, "padded": stages.padded}
    texts = [f"{name}={count}" for name, count in counts.items()]
    if batch is not None:
        seconds |= {"held": batch.held_ns, "predicted": batch.predicted_ns}
        texts.append(f"reason={batch.reason}")
    return ((TIMINGS, ",".join([*[f"{name}={ns / SECOND:.9f}" for name, ns in seconds.items()], *texts])),)
