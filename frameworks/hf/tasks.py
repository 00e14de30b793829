"""The pipelines that are served, as a table: what each takes, returns, and can be told.

A row of a pipeline is one text or one image; rows know nothing of each other. Where the answer is a number or
a label it is a tensor; all else is one JSON text per row, as the pipeline itself returns it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from frameworks import base
from frameworks.arrays import Array, Arrays, as_array
from frameworks.base import Kinds
from frameworks.errors import InvalidModel
from store import Signature, TensorSpec
from store.plain import Plain
from store.signature import DYNAMIC

_TEXT: Final = TensorSpec("text", "BYTES", (DYNAMIC,))
_IMAGE: Final = TensorSpec("image", "UINT8", (DYNAMIC, DYNAMIC, DYNAMIC, 3))
_LABEL: Final = (TensorSpec("label", "BYTES", (DYNAMIC,)), TensorSpec("score", "FP32", (DYNAMIC,)))
_JSON: Final = (TensorSpec("json", "BYTES", (DYNAMIC,)),)
_GENERATED: Final = (TensorSpec("generated_text", "BYTES", (DYNAMIC,)),)
FEATURES: Final = TensorSpec("features", "FP32", (DYNAMIC, DYNAMIC))

_CLASSIFYING: Final[Mapping[str, Kinds]] = {"top_k": int, "function_to_apply": str}

GENERATING: Final[Mapping[str, Kinds]] = {
    "max_new_tokens": int,
    "min_new_tokens": int,
    "do_sample": bool,
    "temperature": (float, int),
    "top_k": int,
    "top_p": (float, int),
    "num_beams": int,
    "repetition_penalty": (float, int),
    "no_repeat_ngram_size": int,
    "length_penalty": (float, int),
    "eos_token_id": int,
    "pad_token_id": int,
}
"""Keywords of ``generate`` that a manifest may set. Chosen one by one: others name files to load or code."""

DTYPES: Final = ("auto", "float32", "float16", "bfloat16")
"""What a model may compute in; ``auto`` is what its weights are stored in."""

POOLINGS: Final = ("mean", "first")
"""How the vectors of a text's tokens become one."""

_CHOICES: Final = {"dtype": DTYPES, "pooling": POOLINGS}
_FROM_ONE: Final = ("max_length", "rows_at_once")

COMMON: Final[Mapping[str, Kinds]] = {"dtype": str, "max_length": int, "rows_at_once": int}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One kind of pipeline.

    Args:
        input: spec of the only input.
        outputs: specs in result order.
        parameters: keywords of the pipeline that load settings may give.
        together: rows are computed together unless ``rows_at_once`` says otherwise. Sums of a padded batch
            differ in the last digits from those of a row alone, which JSON would show; so not there.
        part: what the pipeline cannot do without.
        truncates: the pipeline takes ``truncation``.
        fixed: keywords that are always given to the pipeline.
    """

    input: TensorSpec = _TEXT
    outputs: tuple[TensorSpec, ...] = _JSON
    parameters: Mapping[str, Kinds] = field(default_factory=dict)
    together: bool = False
    part: str = "tokenizer"
    truncates: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Mapping[str, Kinds]:
        """Every load setting of the task."""
        return {**COMMON, **self.parameters}

    def given(self, settings: Mapping[str, Any]) -> Task:
        """Return the task as these settings make it: several labels have no tensors of one row each."""
        if self.outputs == _LABEL and settings.get("top_k", 1) != 1:
            return replace(self, outputs=_JSON, together=False)
        return self


TASKS: Final[Mapping[str, Task]] = {
    "feature-extraction": Task(outputs=(FEATURES,), parameters={"pooling": str}, together=True),
    "fill-mask": Task(
        parameters={"top_k": int, "targets": list},
        truncates={"tokenizer_kwargs": {"truncation": True}},
    ),
    "image-classification": Task(
        input=_IMAGE,
        outputs=_LABEL,
        parameters=_CLASSIFYING,
        together=True,
        part="image_processor",
        fixed={"top_k": 1},
    ),
    "text-classification": Task(
        outputs=_LABEL, parameters=_CLASSIFYING, together=True, truncates={"truncation": True}
    ),
    "text-generation": Task(
        outputs=_GENERATED,
        parameters={**GENERATING, "return_full_text": bool, "stop_sequence": str},
        truncates={"truncation": True},
    ),
    "token-classification": Task(
        parameters={"aggregation_strategy": str, "stride": int, "ignore_labels": list}
    ),
}

ALIASES: Final[Mapping[str, str]] = {
    "ner": "token-classification",
    "sentiment-analysis": "text-classification",
}


def task_of(name: str) -> tuple[str, Task]:
    """Return a task by transformers' name for it, and that name without aliases.

    Raises:
        InvalidModel: it is not served; those that are stand in the message.
    """
    canonical = ALIASES.get(name, name)
    if canonical not in TASKS:
        raise InvalidModel(
            f"pipelines of task {name!r} are not served; there are {', '.join(TASKS)}. "
            "Save the pipeline's model alone, which takes tensors, or wrap the pipeline in the python "
            "adapter",
            field="model",
        )
    return canonical, TASKS[canonical]


def check_settings(settings: Mapping[str, Plain], known: Mapping[str, Kinds]) -> None:
    """Make sure that load settings mean something.

    Raises:
        InvalidModel: one is unknown or of another type, or has no such value.
    """
    base.check_settings(settings, known)
    for name, choices in _CHOICES.items():
        if name in settings and settings[name] not in choices:
            raise InvalidModel(
                f"load option {name!r} must be one of {', '.join(choices)}, not {settings[name]!r}",
                field=f"load.{name}",
            )
    for name in _FROM_ONE:
        value = settings.get(name)
        if isinstance(value, int) and value < 1:
            raise InvalidModel(f"load option {name!r} must be at least 1, not {value}", field=f"load.{name}")


def complete(signature: Signature, task: Task) -> Signature:
    """Return the signature with the task's specs where it has none.

    Raises:
        InvalidModel: given specs name other tensors than the task has.
        InvalidSignature: its batch axis is not the first.
    """
    for side, given, known in (
        ("inputs", signature.inputs, (task.input,)),
        ("outputs", signature.outputs, task.outputs),
    ):
        names = [spec.name for spec in known]
        if given is not None and [spec.name for spec in given] != names:
            raise InvalidModel(f"{side} of this pipeline are {', '.join(names)}", field=side)
    return replace(
        signature, inputs=signature.inputs or (task.input,), outputs=signature.outputs or task.outputs
    )


def to_outputs(task: Task, results: Sequence[Any]) -> Arrays:
    """Return the task's outputs for one result of the pipeline per row."""
    # A pipeline wraps the best answer of a row in a list where it could have given several.
    if task.outputs is _JSON:
        return {"json": _texts([json.dumps(result, default=_plain) for result in results])}
    firsts = [result[0] if isinstance(result, list) else result for result in results]
    if task.outputs is _GENERATED:
        return {"generated_text": _texts([first["generated_text"] for first in firsts])}
    return {
        "label": _texts([str(first["label"]) for first in firsts]),
        "score": np.array([first["score"] for first in firsts], dtype=np.float32),
    }


def _texts(values: list[str]) -> Array:
    return as_array(np.array(values, dtype=object))


def _plain(value: Any) -> object:
    """Turn what JSON does not know, numpy's and torch's values, into numbers and lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
