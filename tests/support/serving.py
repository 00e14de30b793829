"""Routes to models that run in the test's own thread, when the test says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from protos import open_inference_pb2 as pb
from runtime.batching.limits import Limits
from runtime.batching.scheduler import Scheduler
from runtime.batching.statistics import Stages
from runtime.batching.task import Batch, Result, Task
from runtime.errors import ModelError, RuntimeServingError
from runtime.lifecycle.routes import Route, Routes
from runtime.runner.executor import Executor
from runtime.runner.merging import Group
from runtime.tensors.layout import LayoutTable
from store import Signature, TensorSpec
from store.datatypes import from_numpy
from tests.support.execution import Inputs, Method, raw

EXECUTION_NS = 10_000_000
X = TensorSpec("x", "FP32", (-1, 2))
BATCHABLE = Signature(batchable=True)


class Inline:
    """An instance that executes what it was sent when :meth:`work` is called."""

    def __init__(self, scheduler: Scheduler, executor: Executor) -> None:
        self._scheduler = scheduler
        self._executor = executor
        self._layouts = LayoutTable()
        self.running: list[Batch] = []
        self.batches = 0

    def send(self, batch: Batch) -> None:
        self.running.append(batch)

    def cancel(self, batch: Batch, task: Task) -> None:
        """Too late."""

    def abandon(self) -> list[Batch]:
        running, self.running = self.running, []
        return running

    def work(self) -> None:
        """Execute and answer everything."""
        while self.running:
            self._answer(self.running.pop(0))

    def _answer(self, batch: Batch) -> None:
        self.batches += 1
        columns = [[task.parts[index] for task in batch.tasks] for index in range(len(batch.key.variable))]
        sizes = [
            len(part)
            for column, variable in zip(columns, batch.key.variable, strict=True)
            if variable
            for part in column
        ]
        payload = bytearray(b"".join(part for column in columns for part in column))
        rows = [task.rows for task in batch.tasks]
        failure: RuntimeServingError | None = None
        try:
            (share,) = self._executor.execute(batch.key.head, [Group(rows, sizes, payload)]).shares
        except RuntimeServingError as error:
            failure = error
        except ArithmeticError:
            failure = ModelError("the model raised")
        stages = Stages.bare(batch.closed_ns, EXECUTION_NS, batch.closed_ns + EXECUTION_NS, batch.rows)
        if failure is not None:
            for task in self._scheduler.failed(self, batch, failure, stages):
                task.fail(failure)
            return
        self._scheduler.finished(self, batch, stages)
        result = Result(
            self._layouts[share.head], b"".join(share.parts), share.sizes, tasks=len(rows), rows=sum(rows)
        )  # fmt: skip
        for task in batch.tasks:
            task.succeed(result)


def echo(inputs: Inputs) -> Inputs:
    return dict(inputs)


def serve(
    routes: Routes,
    method: Method = echo,
    signature: Signature = BATCHABLE,
    *,
    name: str = "m",
    version: str = "1",
    order: int = 0,
    methods: Mapping[str, Method] | None = None,
    module: str = "python",
    **limits: Any,
) -> tuple[Route, Inline]:
    """Route to a model with one instance."""
    scheduler = Scheduler(Limits(**limits))
    callables = methods or {"__call__": method}
    signatures = dict.fromkeys(callables, signature)
    instance = Inline(scheduler, Executor(callables, signatures))
    scheduler.attach(instance)
    route = Route(
        name=name, version=version, module=module, signatures=signatures, scheduler=scheduler, order=order
    )
    routes.add(route)
    return route, instance


def infer_request(
    model: str = "m", /, *, id: str = "", version: str = "", **inputs: Any
) -> pb.ModelInferRequest:
    """A request with raw contents."""
    request = pb.ModelInferRequest(model_name=model, model_version=version, id=id)
    for name, value in inputs.items():
        array = np.asarray(value)
        request.inputs.add(name=name, datatype=from_numpy(array.dtype), shape=array.shape)
        request.raw_input_contents.append(raw(array))
    return request
