"""When a request's task is due and how urgent it is: the earliest of what the caller and the model said."""

from __future__ import annotations

import math

import pytest

from runtime.clock import SECOND
from runtime.lifecycle.routes import Route, Routes
from runtime.rpc import infer as module
from runtime.rpc.infer import Infer, InferTask
from runtime.rpc.stream import InferStream, StreamTask
from tests.support.calls import FakeCall, FakeStream
from tests.support.serving import infer_request, serve

NOW = 1_000 * SECOND
ROWS = [[1.0, 2.0]]


@pytest.fixture(autouse=True)
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands still, and the two clocks are one."""
    monkeypatch.setattr(module, "now_ns", lambda: NOW)
    monkeypatch.setattr(module, "deadline_ns", lambda seconds: int(seconds * SECOND))


def task(
    *, deadline: float = math.inf, timeout_us: int = 0, slo_ms: float = 0, priority: int | None = None
) -> InferTask:
    """The task of one call; ``deadline`` is in seconds from now."""
    routes = Routes()
    serve(routes, slo_ms=slo_ms)
    request = infer_request(x=ROWS)
    if timeout_us:
        request.parameters["timeout"].int64_param = timeout_us
    if priority is not None:
        request.parameters["priority"].int64_param = priority
    call = FakeCall(request.SerializeToString(), deadline=NOW / SECOND + deadline)
    plan, identity, parts = Infer(routes).parse(call.request)
    return InferTask(call, plan, identity, parts)


@pytest.mark.parametrize(
    ("deadline", "timeout_us", "slo_ms", "due"),
    [
        (math.inf, 0, 0, None),
        (2.0, 0, 0, 2.0),
        (math.inf, 500_000, 0, 0.5),
        (2.0, 500_000, 0, 0.5),
        (0.25, 500_000, 0, 0.25),
        (math.inf, 0, 125, 0.125),
        (2.0, 0, 125, 2.0),
        (math.inf, 500_000, 125, 0.5),
        (math.inf, -1, 125, 0.125),
    ],
)
def test_a_task_is_due_at_the_earliest_instant_that_the_caller_named(
    deadline: float, timeout_us: int, slo_ms: float, due: float | None
) -> None:
    made = task(deadline=deadline, timeout_us=timeout_us, slo_ms=slo_ms)
    assert made.deadline_ns == (0 if due is None else NOW + int(due * SECOND))


@pytest.mark.parametrize(("priority", "level"), [(None, 0), (0, 0), (1, 1), (3, 3), (9, 0)])
def test_a_task_has_the_level_that_its_request_asked_for(priority: int | None, level: int) -> None:
    assert task(priority=priority).priority == level


def test_requests_of_one_stream_have_deadlines_and_levels_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    routes = Routes()
    route: Route
    route, _ = serve(routes, slo_ms=125)
    submitted: list[StreamTask] = []
    monkeypatch.setattr(route.scheduler, "submit", submitted.append)
    stream = FakeStream()
    InferStream(stream, Infer(routes))
    urgent = infer_request(x=ROWS)
    urgent.parameters["timeout"].int64_param = 1_000
    urgent.parameters["priority"].int64_param = 1
    stream.client(urgent.SerializeToString(), infer_request(x=ROWS).SerializeToString())
    assert [(made.deadline_ns, made.priority) for made in submitted] == [
        (NOW + 1_000_000, 1),
        (NOW + 125_000_000, 0),
    ]
