"""Runs one variant in the caller's process, with the face of a Polygraphy runner.

::

    with descriptor.get_runner(Format.ONNX) as runner:
        outputs = runner.infer({"input": array})

Concurrency: one call at a time.
"""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from frameworks.arrays import Array, Arrays, as_array
from frameworks.calling import Opened
from frameworks.cores import usable_cores
from frameworks.errors import FrameworkError, InvalidOutput
from frameworks.row_errors import complete
from store import Signature, TensorSpec, datatypes
from store.signature import DYNAMIC


class RunnerInactive(FrameworkError):
    """A runner is used before it was activated, or after the end (FAILED_PRECONDITION)."""

    reason = "runner_inactive"


class InvalidFeed(FrameworkError):
    """What a runner is given is not what the variant takes (INVALID_ARGUMENT)."""

    reason = "invalid_input"


class InputMetadata(NamedTuple):
    """Datatype and shape of an input; -1 is a dynamic axis."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class Runner:
    """One variant on one runtime.

    States: made → active → made again; ``infer`` works in ``active`` only. The framework is loaded by
    ``activate``, which entering a ``with`` block calls.

    Args:
        name: for people: variant and runtime.
        signatures: of the methods that the variant has.
        method: that is called unless another is named.
        load: opens the variant.
    """

    def __init__(
        self,
        name: str,
        signatures: Mapping[str, Signature],
        method: str,
        load: Callable[[], Mapping[str, Opened]],
    ) -> None:
        self.name = name
        self._signatures = dict(signatures)
        self._method = method
        self._load = load
        self._opened: Mapping[str, Opened] | None = None
        self._seconds = 0.0

    @property
    def is_active(self) -> bool:
        """Whether ``infer`` may be called."""
        return self._opened is not None

    def activate(self) -> None:
        """Load the variant, unless it is loaded.

        Raises:
            FrameworkError: it cannot be loaded here.
        """
        if self._opened is None:
            self._opened = self._load()

    def deactivate(self) -> None:
        """Let go of what was loaded; the runner may be activated again."""
        self._opened = None

    def __enter__(self) -> Self:
        self.activate()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.deactivate()

    def infer(
        self, feed_dict: Mapping[str, object], check_inputs: bool = True, *, method: str | None = None
    ) -> OrderedDict[str, Array]:
        """Execute the variant.

        Args:
            feed_dict: input name to array.
            check_inputs: compare names, datatypes and shapes with the specs; nothing is ever cast.
            method: to call.

        Returns:
            Output name to array, in the order of the specs.

        Raises:
            RunnerInactive: not activated.
            InvalidFeed: an input is missing, unknown, or of another datatype or shape.
        """
        if self._opened is None:
            raise RunnerInactive(
                f"the runner of {self.name} is not active; use it in a with block, or call activate()"
            )
        name = self._named(method)
        inputs = _arrange(feed_dict, self._signatures[name], check_inputs)
        begin = time.perf_counter()
        answer = self._opened[name](inputs)
        self._seconds = time.perf_counter() - begin
        outputs = complete(answer)
        return OrderedDict((key, np.array(array)) for key, array in outputs.items())

    __call__ = infer

    def get_input_metadata(self, *, method: str | None = None) -> OrderedDict[str, InputMetadata]:
        """Return datatype and shape of each input, in order."""
        specs = self._signatures[self._named(method)].inputs or ()
        return OrderedDict(
            (spec.name, InputMetadata(datatypes.numpy_dtype(spec.datatype), spec.shape)) for spec in specs
        )

    def last_inference_time(self) -> float:
        """Return the seconds that the last execution took; 0 before the first."""
        return self._seconds

    def _named(self, method: str | None) -> str:
        if method is None:
            return self._method
        if method not in self._signatures:
            raise InvalidFeed(
                f"{self.name} has no method {method!r}; there are {', '.join(self._signatures)}",
                field="method",
            )
        return method

    def __repr__(self) -> str:
        return f"Runner({self.name!r})"


def threads() -> int:
    """Return the threads for an execution in this process: torch's own where it is used, else every core.

    A runner must not change how many threads the caller's own computations have.
    """
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch is not None else usable_cores()


def _arrange(given: Mapping[str, object], signature: Signature, check: bool) -> Arrays:
    """Return the inputs as methods want them: in order, contiguous, writable."""
    specs = signature.inputs or ()
    if not isinstance(given, Mapping):
        raise InvalidFeed(f"feed_dict must map input names to arrays, not be a {type(given).__name__}")
    missing = [spec.name for spec in specs if spec.name not in given]
    unknown = [name for name in given if name not in {spec.name for spec in specs}]
    if missing or unknown:
        raise InvalidFeed(
            f"the inputs are {', '.join(spec.name for spec in specs)}; "
            + "; ".join(
                [f"missing is {name!r}" for name in missing] + [f"unknown is {name!r}" for name in unknown]
            ),
            field=(missing or unknown)[0],
        )
    return {spec.name: _input(given[spec.name], spec, check) for spec in specs}


def _input(value: object, spec: TensorSpec, check: bool) -> Array:
    try:
        array = as_array(value)
    except InvalidOutput as error:
        raise InvalidFeed(f"input {spec.name!r}: {error.message}", field=spec.name) from error
    if check:
        datatype = datatypes.from_numpy(array.dtype)
        if datatype != spec.datatype:
            raise InvalidFeed(
                f"input {spec.name!r} has datatype {datatype}; it must be {spec.datatype}", field=spec.name
            )
        if array.ndim != len(spec.shape) or any(
            size not in (DYNAMIC, actual) for actual, size in zip(array.shape, spec.shape, strict=True)
        ):
            raise InvalidFeed(
                f"input {spec.name!r} has shape {list(array.shape)}; it must be {list(spec.shape)}",
                field=spec.name,
            )
    return array if array.flags.writeable else array.copy()
