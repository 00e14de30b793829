"""A runner in the caller's process: for tests and notebooks.

The model is loaded here, and each call goes through the executor that a worker runs: arrays are brought into
wire form, executed as one batch, checked against the signature and cut out again. What works here works when
it is served; what would be refused there is refused here.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from frameworks.cores import usable_cores
from runtime.config import ModelConfig, model_config
from runtime.errors import InvalidInput, MethodNotFound, WrongState
from runtime.runner import arguments
from runtime.runner.executor import Executor
from runtime.runner.merging import Group
from runtime.runner.splitting import Share
from runtime.tensors import strings
from runtime.tensors.layout import Array, Layout, LayoutTable
from runtime.tensors.padding import cropped
from store import Model, Signature, default_method

Result = Array | tuple[Array, ...] | dict[str, Array]

_NUMBERED: Final = re.compile(r"output_(\d+)")


class Runner:
    """Calls a saved model; ``runner.predict.run(x)`` calls its method ``predict``.

    States: new ─``init_local``─► loaded ─``close``─► closed; ``with`` does both.

    Args:
        model: what to run.
        options: of ``runtime.config.ModelConfig``, over those saved with the model; ``device`` and
            ``threads`` matter here.

    Raises:
        ConfigError: an option is unknown or out of bounds.

    Concurrency: any thread; calls are executed one at a time, as in a worker.
    """

    def __init__(self, model: Model, **options: object) -> None:
        self._model = model
        self._config = model_config(model.info.name, model.info.options, options)
        self._layouts = LayoutTable()
        self._lock = threading.Lock()
        self._executor: Executor | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._closed = False

    @property
    def model(self) -> Model:
        """The saved model."""
        return self._model

    @property
    def config(self) -> ModelConfig:
        """How it is run."""
        return self._config

    @property
    def methods(self) -> Mapping[str, RunnerMethod]:
        """Every method by name, also those whose names the runner has a use for itself."""
        return {name: RunnerMethod(self, name) for name in self._model.info.signatures}

    def init_local(self) -> None:
        """Load the model into this process; once it is loaded, calling again does nothing.

        Raises:
            WrongState: the runner is closed.
            StoreError, FrameworkError: the model is damaged or cannot be loaded here.
        """
        from frameworks import registry
        from frameworks.base import LoadOptions

        with self._lock:
            if self._closed:
                raise WrongState(f"the runner of {self._model.tag} is closed; make a new one")
            if self._executor is not None:
                return
            adapter = registry.adapter(self._model.info.module)
            threads = self._config.threads or usable_cores()
            options = LoadOptions(device=self._config.device.partition(",")[0].strip(), threads=threads)
            self._executor = Executor(
                adapter.open_methods(self._model, options),
                self._model.info.signatures,
                allowed_batch_sizes=self._config.batch_sizes,
            )
            self._thread = ThreadPoolExecutor(1, f"runner-{self._model.info.name}")

    def run(self, *args: object, **kwargs: object) -> Result:
        """Call the model itself, else its ``predict``, else its only method; see ``RunnerMethod.run``."""
        return self._default().run(*args, **kwargs)

    async def async_run(self, *args: object, **kwargs: object) -> Result:
        """Call like ``run``, without blocking the event loop."""
        return await self._default().async_run(*args, **kwargs)

    def close(self) -> None:
        """Let go of the model; waits for the call that runs."""
        with self._lock:
            self._closed = True
            self._executor = None
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=True)

    def __enter__(self) -> Runner:
        self.init_local()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> RunnerMethod:
        # only called for what is no attribute otherwise; dunders are asked for by copy, pickle and notebooks
        model: Model | None = self.__dict__.get("_model")
        if model is not None and name in model.info.signatures and not name.startswith("__"):
            return RunnerMethod(self, name)
        known = ", ".join(model.info.signatures) if model is not None else ""
        raise AttributeError(f"the runner has no method {name!r}; the model's are: {known}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._model.info.signatures})

    def __repr__(self) -> str:
        return f'Runner(tag="{self._model.tag}")'

    def _default(self) -> RunnerMethod:
        methods = self._model.info.signatures
        default = default_method(methods)
        if default is not None:
            return RunnerMethod(self, default)
        raise InvalidInput(
            f"{self._model.tag} has several methods: call one of {', '.join(methods)}", field="method"
        )

    def _execute(self, method: str, args: Sequence[object], kwargs: Mapping[str, object]) -> Result:
        self._ready()
        signature = self._signature(method)
        tensors = arguments.bind(signature, args, kwargs)
        call = arguments.encode(method, signature, tensors)
        with self._lock:
            executor = self._ready()[0]
            (share,) = executor.execute(call.head, [Group([call.rows], call.sizes, call.payload)]).shares
            for error in share.refused.values():
                raise error
            layout = self._layouts[share.head]
            outputs = dict(_decode(layout, share, call.rows))
        for tensor in cropped(layout, call.crops) if call.crops else ():
            kept = tuple([slice(extent) for extent in tensor.shape(call.rows)])
            outputs[tensor.name] = outputs[tensor.name][kept]
        return _result(outputs)

    def _signature(self, method: str) -> Signature:
        signatures = self._model.info.signatures
        if method not in signatures:
            raise MethodNotFound(
                f"{self._model.tag} has no method {method!r}; it has {', '.join(signatures)}"
            )
        return signatures[method]

    def _ready(self) -> tuple[Executor, ThreadPoolExecutor]:
        if self._executor is None or self._thread is None:
            what = (
                "is closed; make a new one" if self._closed else "is not initialised: call init_local() first"
            )
            raise WrongState(f"the runner of {self._model.tag} {what}")
        return self._executor, self._thread


class RunnerMethod:
    """One method of a runner's model.

    Args:
        runner: whose model.
        name: of the method in the model's signatures.
    """

    __slots__ = ("_name", "_runner")

    def __init__(self, runner: Runner, name: str) -> None:
        self._runner = runner
        self._name = name

    @property
    def signature(self) -> Signature:
        """What the method promises."""
        return self._runner._signature(self._name)

    def run(self, *args: object, **kwargs: object) -> Result:
        """Execute the method.

        Args:
            args: inputs by position: arrays, tensors, or what numpy makes arrays of.
            kwargs: inputs by name.

        Returns:
            The output, or several: in a tuple when they have no names of their own, else in a dict. Text is
            ``bytes``.

        Raises:
            InvalidInput: the inputs contradict the signature (INVALID_ARGUMENT).
            OutputMismatch: the outputs do (INTERNAL).
            ModelError: the model returned an error for a row of the call (INTERNAL).
            WrongState: the runner was not initialised, or is closed (FAILED_PRECONDITION).
            Exception: whatever the model's code raised.

        Concurrency: any thread; waits for the call that runs.
        """
        return self._runner._execute(self._name, args, kwargs)

    async def async_run(self, *args: object, **kwargs: object) -> Result:
        """Execute the method in the runner's own thread; see ``run``.

        Concurrency: a call that has not begun when it is cancelled never does; one that has ends unheard.
        """
        thread = self._runner._ready()[1]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(thread, self._runner._execute, self._name, args, kwargs)

    def __repr__(self) -> str:
        return f"{self._runner!r}.{self._name}"


def _decode(layout: Layout, share: Share, rows: int) -> Iterator[tuple[str, Array]]:
    """Make arrays of the outputs' wire form; copies, since a model may go on using its own."""
    sizes = iter(share.sizes)
    for tensor, part in zip(layout.tensors, share.parts, strict=True):
        shape = tensor.shape(rows)
        if tensor.variable:
            elements = tensor.row_elements() * (rows if -1 in tensor.dims else 1)
            array, _ = strings.decode(memoryview(part)[: next(sizes)], elements)
            yield tensor.name, array.reshape(shape)
        else:
            yield tensor.name, arguments.from_bytes(bytearray(part), tensor.dtype, shape)


def _result(outputs: dict[str, Array]) -> Result:
    """Return one output bare, several in a tuple if they were merely numbered, else by name."""
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    numbers = [int(match[1]) for name in outputs if (match := _NUMBERED.fullmatch(name))]
    if numbers == list(range(len(outputs))):
        return tuple(outputs.values())
    return outputs
