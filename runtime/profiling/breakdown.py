"""What the server says of the time inside it: differences of its statistics around a run.

``ModelStatistics`` is an extension of the Open Inference Protocol that Triton defined; a server without it
answers UNIMPLEMENTED, and then there is no server side in the result. Counters are sums since the server
started, so only differences mean anything. Stages, per request and in this order: queue, merge (gathering
inputs), compute, split (taking outputs apart); what the server's total has beyond them is front-end and hop,
and what the client's service time has beyond that total is transport: network and both gRPC stacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import grpc

from protos import open_inference_pb2 as pb
from protos.service import path

if TYPE_CHECKING:
    from runtime.profiling.target import Target

STAGES: Final = ("queue", "merge", "compute", "split", "hop", "transport")
"""The parts of a request's time, in the order in which they pass."""

_TIMEOUT_S: Final = 5.0
_MS: Final = 1e6
_REFUSALS: Final = frozenset(
    {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Sums since the server started, over the versions of the models that are looked at; times in ns.

    Attributes:
        requests, failed: answered and not.
        rows, executions: rows answered, and batches executed.
        total_ns, queue_ns, merge_ns, compute_ns, split_ns: of requests that succeeded, summed.
        batches: rows of a batch to (how often it was executed, ns of merge, compute and split in all).
    """

    requests: int = 0
    failed: int = 0
    rows: int = 0
    executions: int = 0
    total_ns: int = 0
    queue_ns: int = 0
    merge_ns: int = 0
    compute_ns: int = 0
    split_ns: int = 0
    batches: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    def __add__(self, other: Counters) -> Counters:
        return self._combine(other, 1)

    def __sub__(self, earlier: Counters) -> Counters:
        return self._combine(earlier, -1)

    def _combine(self, other: Counters, sign: int) -> Counters:
        numbers = {name: getattr(self, name) + sign * getattr(other, name) for name in _NUMBERS}
        batches = dict(self.batches)
        for rows, (count, spent) in other.batches.items():
            had = batches.get(rows, (0, 0))
            batches[rows] = (had[0] + sign * count, had[1] + sign * spent)
        return Counters(**numbers, batches={rows: pair for rows, pair in sorted(batches.items()) if pair[0]})

    @property
    def is_backward(self) -> bool:
        """Whether a difference is of no use: the server was started anew in between."""
        return any(getattr(self, name) < 0 for name in _NUMBERS)

    @property
    def busy_ns(self) -> int:
        """Time that instances spent on batches, summed over instances."""
        return sum(spent for _, spent in self.batches.values())


_NUMBERS: Final = (
    "requests", "failed", "rows", "executions", "total_ns", "queue_ns", "merge_ns", "compute_ns", "split_ns",
)  # fmt: skip


def parse(response: pb.ModelStatisticsResponse, models: frozenset[str]) -> Counters:
    """Add up a server's answer over the versions of the named models.

    Args:
        response: the answer.
        models: which models count; empty means all.
    """
    found = Counters()
    for model in response.model_stats:
        if models and model.name not in models:
            continue
        times = model.inference_stats
        found += Counters(
            requests=times.success.count,
            failed=times.fail.count,
            rows=model.inference_count,
            executions=model.execution_count,
            total_ns=times.success.ns,
            queue_ns=times.queue.ns,
            merge_ns=times.compute_input.ns,
            compute_ns=times.compute_infer.ns,
            split_ns=times.compute_output.ns,
            batches={
                int(entry.batch_size): (
                    entry.compute_infer.count,
                    entry.compute_input.ns + entry.compute_infer.ns + entry.compute_output.ns,
                )
                for entry in model.batch_stats
            },
        )
    return found


class StatisticsReader:
    """Asks a server for its statistics, over a connection of its own.

    Once the server has said that it has none, or does not answer, it is not asked again.

    Args:
        target: the server.
        models: names of the models that count.
    """

    def __init__(self, target: Target, models: frozenset[str]) -> None:
        self._models = models
        self._metadata = tuple(target.metadata)
        self._channel = target.open_channel()
        self._call = self._channel.unary_unary(
            path("ModelStatistics"),
            request_serializer=pb.ModelStatisticsRequest.SerializeToString,
            response_deserializer=pb.ModelStatisticsResponse.FromString,
        )
        self._offered = True

    def read(self) -> Counters | None:
        """Return the counters now; None when the server does not tell."""
        if not self._offered:
            return None
        name = next(iter(self._models)) if len(self._models) == 1 else ""
        try:
            response = self._call(
                pb.ModelStatisticsRequest(name=name), timeout=_TIMEOUT_S, metadata=self._metadata
            )
        except grpc.RpcError as error:
            self._offered = error.code() not in _REFUSALS
            return None
        return parse(response, self._models)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def summary(difference: Counters, elapsed_ns: int, service_mean_ms: float) -> dict[str, Any] | None:
    """Return the server side of a result as plain values; None when nothing was counted.

    Args:
        difference: counters after the run less those before it.
        elapsed_ns: time between the two.
        service_mean_ms: the client's mean from actual send to answer; 0 when there were no answers.

    Returns:
        ``mean_ms`` by stage and ``total`` (the server's own), ``batches`` {rows: count}, ``batch_ms``
        {rows: ms of one execution}, ``busy`` (mean number of instances that executed), and counts. Keys
        of both maps are text, as in JSON.
    """
    if not difference.requests or difference.is_backward:
        return None
    per_request = {
        "queue": difference.queue_ns,
        "merge": difference.merge_ns,
        "compute": difference.compute_ns,
        "split": difference.split_ns,
    }
    mean_ms = {name: spent / difference.requests / _MS for name, spent in per_request.items()}
    total = difference.total_ns / difference.requests / _MS
    mean_ms["hop"] = max(0.0, total - sum(mean_ms.values()))
    mean_ms["transport"] = max(0.0, service_mean_ms - total) if service_mean_ms else 0.0
    return {
        "requests": difference.requests,
        "failed": difference.failed,
        "rows": difference.rows,
        "executions": difference.executions,
        "mean_rows": difference.rows / difference.executions if difference.executions else 0.0,
        "mean_ms": {**mean_ms, "total": total},
        "batches": {str(rows): count for rows, (count, _) in difference.batches.items()},
        "batch_ms": {
            str(rows): spent / count / _MS for rows, (count, spent) in difference.batches.items() if count
        },
        "busy": difference.busy_ns / elapsed_ns if elapsed_ns else 0.0,
    }
