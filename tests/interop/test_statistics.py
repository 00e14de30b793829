"""Statistics and timings of a real server with two service processes, as clients and Prometheus see them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from protos import open_inference_pb2 as pb
from runtime.client.sync import Client
from store import ModelStore
from tests.interop import environment
from tests.support import models
from tests.support.rpc import Caller
from tests.support.server import Server, serving
from tests.support.zoo import save

CONNECTIONS = 8
STAGES = ("queue", "hop", "merge", "compute", "split")
STOCK = """
import sys
import tritonclient.grpc as stock
client = stock.InferenceServerClient(sys.argv[1])
print(client.get_server_metadata().extensions)
(model,) = client.get_inference_statistics("rows").model_stats
print(model.inference_stats.success.count)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    store = ModelStore(tmp_path_factory.mktemp("store"))
    save(store, "rows", models.Tags())
    save(store, "never", models.Tags())
    save(store, "moody", models.Mortal())
    return store


@pytest.fixture(scope="module")
def server(store: ModelStore) -> Iterator[Server]:
    with serving(store, server={"services": 2}) as server:
        yield server


def ask(server: Server, name: str) -> pb.ModelStatistics:
    with Caller(server.target) as caller:
        (model,) = caller.rpc("ModelStatistics", pb.ModelStatisticsRequest(name=name)).model_stats
    assert isinstance(model, pb.ModelStatistics)
    return model


def call(server: Server, rows: int, connections: int = CONNECTIONS) -> list[dict[str, float]]:
    """One request on each connection, so that both processes have some; their timings."""
    tags = np.arange(rows, dtype=np.int64)
    timings = []
    for _ in range(connections):
        with Client(server.target, metadata=(("runtime-timings", "1"),)) as client:
            result = client.infer("rows", {"tags": tags})
            assert result["batch"].tolist() == [rows] * rows
            timings.append(dict(result.timings))
    return timings


def test_every_process_tells_the_sum_of_all(server: Server) -> None:
    before = ask(server, "rows")
    call(server, 3)
    for after in [ask(server, "rows") for _ in range(4)]:
        assert after.inference_count - before.inference_count == 3 * CONNECTIONS
        assert after.execution_count - before.execution_count == CONNECTIONS
        assert after.inference_stats.success.count - before.inference_stats.success.count == CONNECTIONS
        stats = after.inference_stats
        stages = stats.queue.ns + stats.compute_input.ns + stats.compute_infer.ns + stats.compute_output.ns
        assert 0 < stages < stats.success.ns
        (size,) = [batch for batch in after.batch_stats if batch.batch_size == 3]
        assert size.compute_infer.count >= CONNECTIONS
        assert after.last_inference >= before.last_inference
    assert ask(server, "never").inference_stats.success.count == 0


def test_all_models_are_told_without_a_name(server: Server) -> None:
    with Caller(server.target) as caller:
        found = caller.rpc("ModelStatistics", pb.ModelStatisticsRequest()).model_stats
    assert {model.name for model in found} == {"rows", "never", "moody"}


def test_failures_are_told(server: Server) -> None:
    with Client(server.target) as client, pytest.raises(Exception, match="ValueError"):
        client.infer("moody", {"tags": np.array([2 * models.MARK])})
    told = ask(server, "moody")
    assert (told.inference_stats.fail.count, told.execution_count, told.inference_count) == (1, 0, 0)
    assert told.inference_stats.fail.ns > 0


def test_timings_of_a_call_add_up_and_are_told_only_when_asked_for(server: Server) -> None:
    for timings in call(server, 2):
        assert sum(timings[stage] for stage in STAGES) == pytest.approx(timings["total"], abs=1e-7)
        assert all(timings[stage] >= 0 for stage in STAGES)
        assert (timings["rows"], timings["batch"]) == (2, 2)
    with Client(server.target) as client:
        assert dict(client.infer("rows", {"tags": np.arange(2)}).timings) == {}


def test_prometheus_has_the_histograms(server: Server) -> None:
    call(server, 1)
    answered = ask(server, "rows").inference_stats.success
    executed = ask(server, "rows").execution_count
    for name, count in {"queue_delay": answered.count, "request_duration": answered.count}.items():
        assert server.counted(f"runtime_{name}_seconds_count", "rows") == count
    assert server.counted("runtime_execution_duration_seconds_count", "rows") == executed
    assert server.counted("runtime_batch_rows_count", "rows") == executed
    total = server.counted("runtime_request_duration_seconds_sum", "rows")
    assert total == pytest.approx(answered.ns / 1e9)
    lines = [
        line
        for line in server.get("/metrics").splitlines()
        if "runtime_request_duration_seconds_bucket" in line
    ]
    values = [float(line.rpartition(" ")[2]) for line in lines if 'model="rows"' in line]
    assert values == sorted(values)
    assert values[-1] == answered.count


def test_a_stock_client_reads_them(server: Server) -> None:
    call(server, 1, connections=1)
    extensions, count = environment.run(STOCK, server.target).splitlines()
    assert "statistics" in extensions
    assert int(count) == ask(server, "rows").inference_stats.success.count


def test_a_silent_process_is_left_out(store: ModelStore) -> None:
    with serving(store, "rows", server={"services": 2}) as server:
        call(server, 1)
        whole = ask(server, "rows").inference_stats.success.count
        assert whole == CONNECTIONS
        parts = []
        for silent in server.services():
            os.kill(silent, signal.SIGSTOP)
            try:
                parts.append(server.counted("runtime_requests_completed_total", "rows"))
            finally:
                os.kill(silent, signal.SIGCONT)
        assert sum(parts) == whole
