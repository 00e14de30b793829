"""What ModelStatistics and the timings of a call tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from grpc import StatusCode

from protos import open_inference_pb2 as pb
from protos import service
from runtime.batching.statistics import Counted, Executions, Stages, Statistics
from runtime.batching.task import Batch, Result
from runtime.client.codec import infer_result
from runtime.clock import SECOND, now_ns, unix_ms
from runtime.lifecycle.routes import Routes
from runtime.rpc.infer import Infer, InferTask
from runtime.rpc.inspection import Inspection
from runtime.rpc.register import register
from runtime.rpc.statistics import WANTED, Answer, ModelStatistics, timings
from runtime.tensors.layout import Layout, TensorLayout
from runtime.transport.interface import Metadata
from tests.support.calls import FakeCall
from tests.support.serving import EXECUTION_NS, Inline, infer_request, serve
from tests.support.tasks import RecordingTask, key

ROW = np.zeros((1, 2), np.float32)
STAGES = Stages(
    closed_ns=100, free_ns=110, begun_ns=130, started_ns=135, executed_ns=235, finished_ns=238,
    answered_ns=300, rows=8, padded=16,
)  # fmt: skip
OUTPUT = Layout("", (0, 0), (TensorLayout.of("x", "FP32", (-1, 2)),))


@pytest.fixture
def routes() -> Routes:
    return Routes()


def ask(handler: ModelStatistics, name: str = "", version: str = "") -> FakeCall:
    call = FakeCall(pb.ModelStatisticsRequest(name=name, version=version).SerializeToString())
    handler(call)
    return call


def told(handler: ModelStatistics, name: str = "", version: str = "") -> list[pb.ModelStatistics]:
    call = ask(handler, name, version)
    assert (call.code, call.answers) == (StatusCode.OK, 1), call.details
    return list(pb.ModelStatisticsResponse.FromString(call.message or b"").model_stats)


def infer(routes: Routes, instance: Inline, *rows: int) -> None:
    """Requests of so many rows each; those that wait together run together."""
    handler = Infer(routes)
    for count in rows:
        handler(FakeCall(infer_request(x=np.zeros((count, 2), np.float32)).SerializeToString()))
    handler.flush()
    instance.work()


# -- ModelStatistics --------------------------------------------------------------------------------


def test_requests_executions_and_rows_are_counted_apart(routes: Routes) -> None:
    _, instance = serve(routes)
    infer(routes, instance, 2, 3)
    infer(routes, instance, 4)
    (model,) = told(ModelStatistics(routes))
    assert (model.name, model.version) == ("m", "1")
    assert (model.inference_count, model.execution_count) == (9, 2)
    stats = model.inference_stats
    counts = {stats.success.count, stats.queue.count, stats.compute_input.count, stats.compute_output.count}
    assert counts == {3}
    assert (stats.compute_infer.count, stats.compute_infer.ns) == (3, 3 * EXECUTION_NS)
    assert stats.success.ns >= stats.queue.ns + stats.compute_infer.ns
    assert (stats.fail.count, stats.cache_hit.count) == (0, 0)
    sizes = [
        (batch.batch_size, batch.compute_infer.count, batch.compute_infer.ns) for batch in model.batch_stats
    ]
    assert sizes == [(4, 1, EXECUTION_NS), (5, 1, EXECUTION_NS)]


def test_failures_count_with_their_time_and_are_no_executions(routes: Routes) -> None:
    def fail(inputs: object) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
        raise ArithmeticError

    _, instance = serve(routes, fail)
    infer(routes, instance, 1, 1)
    (model,) = told(ModelStatistics(routes))
    assert (model.inference_count, model.execution_count, len(model.batch_stats)) == (0, 0, 0)
    assert model.inference_stats.fail.count == 2
    assert model.inference_stats.fail.ns >= 2 * EXECUTION_NS
    assert model.inference_stats.success.count == model.inference_stats.queue.count == 0


def test_the_last_inference_is_told_in_unix_time(routes: Routes) -> None:
    _, instance = serve(routes)
    assert told(ModelStatistics(routes))[0].last_inference == 0
    infer(routes, instance, 1)
    assert abs(told(ModelStatistics(routes))[0].last_inference - unix_ms(now_ns())) < 60_000


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("", "", ["m:1", "m:2", "n:1"]),
        ("m", "", ["m:1", "m:2"]),
        ("m", "2", ["m:2"]),
        ("m", "latest", ["m:2"]),
        ("n", "", ["n:1"]),
    ],
)
def test_an_empty_name_or_version_means_all(
    routes: Routes, name: str, version: str, expected: list[str]
) -> None:
    serve(routes)
    serve(routes, version="2", order=1)
    serve(routes, name="n")
    found = told(ModelStatistics(routes), name, version)
    assert [f"{model.name}:{model.version}" for model in found] == expected


@pytest.mark.parametrize(("name", "version"), [("z", ""), ("m", "9")])
def test_what_is_not_served_is_not_found(routes: Routes, name: str, version: str) -> None:
    serve(routes)
    assert ask(ModelStatistics(routes), name, version).code is StatusCode.NOT_FOUND


def test_nonsense_is_refused(routes: Routes) -> None:
    call = FakeCall(b"\xff")
    ModelStatistics(routes)(call)
    assert call.code is StatusCode.INVALID_ARGUMENT
    assert "ModelStatisticsRequest" in call.details


class Others:
    """The other processes; they answer when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Answer] = []

    def gather(self, answer: Answer) -> None:
        self.waiting.append(answer)

    def reply(self, counted: Sequence[Counted]) -> None:
        self.waiting.pop(0)(counted)


def counted(name: str, rows: int) -> Counted:
    statistics = Statistics(completed=1, rows=rows, executions={rows: Executions(1, 1, 2, 3)})
    return {"name": name, "version": "1", "statistics": statistics.to_record()}


def test_all_service_processes_are_summed_without_waiting_for_them(routes: Routes) -> None:
    serve(routes)
    serve(routes, name="idle")
    others = Others()
    call = ask(ModelStatistics(routes, others.gather))
    assert call.answers == 0
    others.reply([counted("m", 2), counted("m", 2), counted("m", 3), counted("gone", 1)])
    first, idle = pb.ModelStatisticsResponse.FromString(call.message or b"").model_stats
    assert (first.inference_count, first.execution_count, first.inference_stats.success.count) == (7, 3, 3)
    assert [(b.batch_size, b.compute_output.count, b.compute_output.ns) for b in first.batch_stats] == [
        (2, 2, 6),
        (3, 1, 3),
    ]
    assert (idle.name, idle.inference_count) == ("idle", 0)


def test_unknown_names_are_refused_before_anybody_is_asked(routes: Routes) -> None:
    serve(routes)
    others = Others()
    assert ask(ModelStatistics(routes, others.gather), "z").code is StatusCode.NOT_FOUND
    assert others.waiting == []


def test_figures_that_cannot_be_read_are_an_error_of_the_server(
    routes: Routes, caplog: pytest.LogCaptureFixture
) -> None:
    serve(routes)
    others = Others()
    call = ask(ModelStatistics(routes, others.gather))
    others.reply([{"name": "m", "version": "1"}])  # type: ignore[typeddict-item]
    assert call.code is StatusCode.INTERNAL
    assert "call_failed" in caplog.text


def test_it_is_offered_and_advertised(routes: Routes) -> None:
    class Registered:
        def __init__(self) -> None:
            self.handlers: dict[str, object] = {}
            self.after_drain: list[object] = []
            self.add_unary = self.add_stream = self.handlers.__setitem__

    server, inspection = Registered(), Inspection(routes)
    handler = ModelStatistics(routes)
    register(server, Infer(routes), inspection, handler)  # type: ignore[arg-type]
    assert server.handlers[service.path("ModelStatistics")] is handler
    assert "statistics" in inspection.server_metadata(pb.ServerMetadataRequest()).extensions


# -- timings ----------------------------------------------------------------------------------------


def answered(routes: Routes, call: FakeCall, stages: Stages | None) -> FakeCall:
    """The call after its batch came back."""
    plan, identity, parts = Infer(routes).parse(call.request)
    task = InferTask(call, plan, identity, parts)
    task.enqueued_ns = 40
    task.succeed(Result(OUTPUT, ROW.tobytes(), (), tasks=1, rows=1, stages=stages))
    assert call.code is StatusCode.OK
    return call


def test_a_call_that_asks_is_told_its_timings(routes: Routes) -> None:
    serve(routes)
    metadata = (("user-agent", "x"), WANTED)
    call = answered(routes, FakeCall(infer_request(x=ROW).SerializeToString(), metadata=metadata), STAGES)
    found = dict(infer_result(call.message or b"", tuple(call.trailing.items())).timings)
    assert {"queue", "hop", "merge", "compute", "split", "total", "rows", "batch", "padded"} <= set(found)
    assert (found["queue"], found["merge"], found["compute"], found["split"]) == (70e-9, 5e-9, 100e-9, 3e-9)
    assert (found["rows"], found["batch"], found["padded"]) == (1, 8, 16)


@pytest.mark.parametrize("metadata", [(), (("runtime-timings", "0"),), (("other", "1"),)])
def test_a_call_that_does_not_ask_is_not_told(routes: Routes, metadata: tuple[tuple[str, str], ...]) -> None:
    serve(routes)
    call = FakeCall(infer_request(x=ROW).SerializeToString(), metadata=metadata)
    assert answered(routes, call, STAGES).trailing == {}


def test_an_instance_that_knows_no_stages_tells_none(routes: Routes) -> None:
    serve(routes)
    call = FakeCall(infer_request(x=ROW).SerializeToString(), metadata=(WANTED,))
    assert answered(routes, call, None).trailing == {}


def texts(metadata: Metadata) -> dict[str, str]:
    """What the timings of a call say, by name."""
    ((name, text),) = metadata
    assert name == WANTED[0]
    assert isinstance(text, str)
    return dict(pair.split("=") for pair in text.split(","))


def test_a_call_is_told_why_its_batch_left_when_it_did() -> None:
    batch = Batch(key(), [RecordingTask()], 100, reason="held", predicted_ns=90.5, held_ns=30)
    found = texts(timings(40, 1, STAGES, 340, batch))
    assert (found["reason"], found["held"], found["predicted"]) == ("held", "0.000000030", "0.000000090")
    assert found.keys() - texts(timings(40, 1, STAGES, 340)).keys() == {"reason", "held", "predicted"}


def test_the_stages_of_a_call_add_up_to_its_total() -> None:
    parts = {name: round(float(value) * SECOND) for name, value in texts(timings(40, 1, STAGES, 340)).items()}
    assert parts["total"] == 300
    assert parts["queue"] + parts["hop"] + parts["merge"] + parts["compute"] + parts["split"] == 300
