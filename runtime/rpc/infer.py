"""ModelInfer: from the request's bytes to a queued task, and from a result to the response's bytes.

The hot path of the service process, on the transport's thread: cut the request, look its head up, compare
the tensors' sizes, queue. Nothing is parsed for a head that was seen before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from google.protobuf.message import DecodeError

from protos import open_inference_pb2 as pb
from runtime.batching.scheduler import Scheduler
from runtime.batching.task import Buffer, Result, State, Task
from runtime.clock import deadline_ns, now_ns
from runtime.errors import InvalidInput, RuntimeServingError, ShapeMismatch
from runtime.lifecycle.routes import Routes
from runtime.rpc import status, typed
from runtime.rpc.answer import Template
from runtime.rpc.plan import Plan, make
from runtime.rpc.statistics import WANTED, timings
from runtime.tensors import strings, wire
from runtime.tensors.heads import HeadTable
from runtime.transport.interface import Call


class InferTask(Task):
    """The task of one unary call.

    Concurrency: ``succeed`` and ``fail`` on any thread, ``abandoned`` on the transport's.
    """

    __slots__ = ("call", "identity", "plan")

    def __init__(self, call: Call, plan: Plan, identity: bytes, parts: Sequence[Buffer]) -> None:
        super().__init__(plan.key, plan.rows, parts, _due_ns(call.deadline, plan), plan.priority)
        self.call = call
        self.plan = plan
        self.identity = identity

    def succeed(self, result: Result) -> None:
        """Encode and send the response."""
        buffers = result.take(self.rows)
        try:
            message = self.message(result, buffers)
        except RuntimeServingError as error:
            self.fail(error)
            return
        call = self.call
        if WANTED in call.metadata and result.stages is not None:
            call.respond(message, timings(self.enqueued_ns, self.rows, result.stages, now_ns(), result.batch))
        else:
            call.respond(message)

    def fail(self, error: Exception) -> None:
        """Send the status that belongs to the error."""
        status.fail(self.call, error)

    def post(self, function: Callable[[], object]) -> bool:
        """Answers are cheapest on the transport's own thread."""
        return self.call.post(function)

    def message(self, result: Result, buffers: Sequence[Buffer]) -> bytes:
        """The encoded response."""
        plan = self.plan
        template = plan.template
        if template is None or template.layout is not result.layout:
            route = plan.route
            template = plan.template = Template(
                route.name, route.version, result.layout, self.rows, plan.wanted,
                typed=plan.typed, crops=plan.crops,
            )  # fmt: skip
        return template.fill(self.identity, buffers)

    def abandoned(self) -> None:
        """Nobody waits for the answer any more: do not begin the work."""
        if self.state is not State.DONE:
            self.plan.route.scheduler.cancel(self)


class Infer:
    """Turns requests into tasks.

    Args:
        routes: what is served.
    """

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._plans: HeadTable[Plan] = HeadTable()
        self._generation = routes.generation
        self._touched: set[Scheduler] = set()

    def __call__(self, call: Call) -> None:
        """Handle one ModelInfer call (transport's thread)."""
        try:
            plan, identity, parts = self.parse(call.request)
            task = InferTask(call, plan, identity, parts)
            self.submit(task)
        except Exception as error:  # noqa: BLE001  # a fence: status logs what is unforeseen
            status.fail(call, error)
            return
        call.on_cancelled(task.abandoned)

    def submit(self, task: InferTask) -> None:
        """Queue a task; it leaves at the next :meth:`flush`."""
        scheduler = task.plan.route.scheduler
        scheduler.submit(task)
        self._touched.add(scheduler)

    def flush(self) -> None:
        """Send what was queued since the last time; after each group of events (transport's thread)."""
        touched = self._touched
        while touched:
            touched.pop().pump()

    def parse(self, data: bytes) -> tuple[Plan, bytes, Sequence[Buffer]]:
        """The plan, the id and the inputs, in the order of the plan's batch key.

        Raises:
            RuntimeServingError: as in :func:`runtime.rpc.plan.make`, or a tensor whose size is wrong.
        """
        cut = wire.split(data)
        if cut is None:
            cut = _reparse(data)
        head, identity, raws = cut
        if self._generation != self._routes.generation:
            self._generation = self._routes.generation
            self._plans.clear()
        plan = self._plans.get(head)
        if plan is None:
            plan, raws = self._plan(head, raws)
        if identity and not identity.isascii():
            _check_text(identity)
        if len(raws) != len(plan.sizes):
            raise InvalidInput(
                f"{len(raws)} raw_input_contents for {len(plan.sizes)} inputs", field="raw_input_contents"
            )
        for index, expected in enumerate(plan.sizes):
            if len(raws[index]) != expected or plan.variable[index]:
                _check_size(plan, index, raws[index])
        if plan.padder is not None:
            return plan, identity, plan.padder.pad(raws)
        return plan, identity, raws if len(raws) == 1 else [raws[position] for position in plan.order]

    def _plan(self, head: bytes, raws: list[Buffer]) -> tuple[Plan, list[Buffer]]:
        """Parse and validate a head that is not known; keep its plan unless it holds tensors itself."""
        request = _decode(head)
        if not typed.has_contents(request):
            plan = make(request, self._routes)
            return self._plans.keep(head, plan), raws
        if raws:
            raise InvalidInput(
                "the request has both raw_input_contents and typed contents: use one", field="inputs"
            )
        contents: list[Buffer] = [*typed.to_raw(request)]
        return make(request, self._routes), contents


def _due_ns(deadline: float, plan: Plan) -> int:
    """The instant at which a call gives up, 0 for never: the earliest that the caller named.

    The model's own deadline is for callers who named none.
    """
    timeout = plan.timeout_ns
    if deadline == math.inf:
        timeout = timeout or plan.slo_ns
        return now_ns() + timeout if timeout else 0
    due = deadline_ns(deadline)
    return min(due, now_ns() + timeout) if timeout else due


def _decode(data: bytes) -> pb.ModelInferRequest:
    try:
        return pb.ModelInferRequest.FromString(data)
    except DecodeError:
        raise InvalidInput("the request is not a valid ModelInferRequest", field="request") from None


def _reparse(data: bytes) -> wire.Cut:
    """Cut a request that has fields unknown to us."""
    request = _decode(data)
    raws: list[Buffer] = list(request.raw_input_contents)
    identity = request.id.encode()
    request.ClearField("raw_input_contents")
    request.ClearField("id")
    return request.SerializeToString(), identity, raws


def _check_text(identity: bytes) -> None:
    try:
        identity.decode()
    except UnicodeDecodeError:
        raise InvalidInput("the id is not valid UTF-8", field="id") from None


def _check_size(plan: Plan, index: int, raw: Buffer) -> None:
    """Compare a tensor with its shape; ``plan.sizes`` holds elements for BYTES and bytes otherwise."""
    expected = plan.sizes[index]
    field = f"inputs[{plan.names[index]!r}]"
    if plan.variable[index]:
        found = strings.count(raw, field=field)
        if found != expected:
            raise ShapeMismatch(f"{field}: {found} elements sent, its shape has {expected}", field=field)
    elif len(raw) != expected:
        raise ShapeMismatch(
            f"{field}: {len(raw)} bytes sent, its shape and datatype need {expected}", field=field
        )
