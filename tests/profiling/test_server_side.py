"""The server's side from differences of its statistics."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import pytest

from protos import open_inference_pb2 as pb
from runtime.profiling.breakdown import Counters, StatisticsReader, parse, summary
from runtime.profiling.target import Target

MS = 1_000_000
BEFORE = Counters(
    requests=10, rows=10, executions=10, total_ns=50 * MS, batches={1: (10, 30 * MS), 4: (1, MS)}
)
AFTER = Counters(
    requests=30, failed=2, rows=50, executions=20, total_ns=150 * MS, queue_ns=20 * MS, merge_ns=2 * MS,
    compute_ns=40 * MS, split_ns=4 * MS, batches={1: (10, 30 * MS), 4: (11, 41 * MS)},
)  # fmt: skip


def statistics(name: str, requests: int) -> pb.ModelStatistics:
    duration = pb.StatisticDuration(count=requests, ns=requests * MS)
    return pb.ModelStatistics(
        name=name,
        inference_count=2 * requests,
        execution_count=requests,
        inference_stats=pb.InferStatistics(
            success=duration,
            queue=duration,
            compute_input=duration,
            compute_infer=duration,
            compute_output=duration,
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=2, compute_input=duration, compute_infer=duration, compute_output=duration
            )
        ],
    )


def test_a_summary_is_the_mean_of_the_difference() -> None:
    found = summary(AFTER - BEFORE, 100 * MS, 6.5)
    assert found is not None
    assert found["mean_ms"] == pytest.approx(
        {"queue": 1.0, "merge": 0.1, "compute": 2.0, "split": 0.2, "hop": 1.7, "transport": 1.5, "total": 5.0}
    )
    assert (found["requests"], found["failed"], found["rows"], found["mean_rows"]) == (20, 2, 40, 4.0)
    assert found["batches"] == {"4": 10}
    assert found["batch_ms"] == {"4": 4.0}
    assert found["busy"] == pytest.approx(0.4)


def test_the_stages_add_up_to_what_the_client_saw() -> None:
    found = summary(AFTER - BEFORE, 100 * MS, 6.5)
    assert found is not None
    assert sum(value for name, value in found["mean_ms"].items() if name != "total") == pytest.approx(6.5)


def test_a_server_that_was_started_anew_tells_nothing() -> None:
    assert summary(BEFORE - AFTER, MS, 1.0) is None


def test_a_server_that_answered_nothing_tells_nothing() -> None:
    assert summary(AFTER - AFTER, MS, 1.0) is None
    assert summary(replace(AFTER - BEFORE, executions=0), 0, 0.0) is not None


def test_only_the_named_models_count_and_their_versions_add_up() -> None:
    response = pb.ModelStatisticsResponse(
        model_stats=[statistics("a", 1), statistics("a", 2), statistics("b", 4)]
    )
    found = parse(response, frozenset({"a"}))
    assert (found.requests, found.rows, found.executions, found.compute_ns) == (3, 6, 3, 3 * MS)
    assert found.batches == {2: (3, 9 * MS)}
    assert parse(response, frozenset()).requests == 7


@pytest.mark.parametrize(
    ("code", "again"),
    [(grpc.StatusCode.UNIMPLEMENTED, False), (grpc.StatusCode.UNAVAILABLE, True)],
)
def test_a_server_without_statistics_is_not_asked_twice(code: grpc.StatusCode, again: bool) -> None:
    asked = []

    def answer(_: pb.ModelStatisticsRequest, context: grpc.ServicerContext) -> None:
        asked.append(1)
        context.abort(code, "no")

    handlers = {
        "ModelStatistics": grpc.unary_unary_rpc_method_handler(
            answer, pb.ModelStatisticsRequest.FromString, pb.ModelStatisticsResponse.SerializeToString
        )
    }
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    reader = StatisticsReader(Target(url=f"127.0.0.1:{port}"), frozenset({"m"}))
    try:
        assert reader.read() is None
        assert reader.read() is None
        assert len(asked) == (2 if again else 1)
    finally:
        reader.close()
        server.stop(None).wait()
