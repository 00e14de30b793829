"""Making a pipeline of a model and its parts, and calling it with named arrays.

Pipelines are called with a generator of rows, so that each gives one result per row, never a shortened form
for a single one. Texts that are longer than ``max_length`` tokens are cut.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from frameworks import base
from frameworks.arrays import Array, Arrays
from frameworks.errors import InvalidModel, UnsupportedInput
from frameworks.hf.folder import Recipe
from frameworks.hf.tasks import COMMON, FEATURES, POOLINGS, Task, task_of, to_outputs
from frameworks.pt.tensors import InferenceCall, to_array

try:
    import torch
    import transformers
except ModuleNotFoundError as error:
    raise base.missing("transformers with torch", "transformers") from error

_NO_LIMIT: Final = 1_000_000
"""Tokenizers that know no limit say a number beyond this."""

_STORED_PARAMETERS: Final = ("_preprocess_params", "_forward_params", "_postprocess_params")


def recipe_for(pipeline: Any, settings: Mapping[str, Any]) -> tuple[Recipe, Task]:
    """Return what has to be stored of a pipeline beside its model, and its task under the settings.

    Raises:
        InvalidModel: a task that is not served, a class of pipeline that is not transformers' own, a part
            that is missing, or keywords that would be lost.
    """
    name, task = task_of(str(pipeline.task))
    if not type(pipeline).__module__.startswith("transformers."):
        raise InvalidModel(
            f"{type(pipeline).__name__} is no pipeline of transformers; its code would not be stored: "
            "save it by the python adapter",
            field="model",
        )
    if getattr(pipeline, task.part, None) is None:
        raise InvalidModel(f"a {name} pipeline needs a {task.part.replace('_', ' ')}", field=task.part)
    if not set(settings) - set(COMMON) and _was_told_something(pipeline):
        raise InvalidModel(
            f"this pipeline was made with parameters that its folder does not keep; repeat them as "
            f"options={{'load': {{...}}}}: there are {', '.join(task.parameters)}",
            field="options",
        )
    return Recipe(name, (task.part,)), task.given(settings)


def make(
    model: Any, parts: Mapping[str, Any], recipe: Recipe, settings: Mapping[str, Any], place: torch.device
) -> Any:
    """Return the pipeline on the device.

    Raises:
        InvalidModel: a setting has a value that the pipeline refuses.
    """
    _, task = task_of(recipe.task)
    _limit(model, parts.get("tokenizer"), settings.get("max_length"), generating=task.outputs[0].name)
    keywords = {name: value for name, value in settings.items() if name in task.parameters}
    keywords.pop("pooling", None)  # ours, not the pipeline's
    build: Any = transformers.pipeline  # its overloads know no names that come from a table
    try:
        return build(
            recipe.task, model=model, device=place, **parts, **task.truncates, **{**task.fixed, **keywords}
        )
    except Exception as error:
        raise InvalidModel(
            f"no {recipe.task} pipeline can be made with {keywords}: {error!r}", field="load"
        ) from error


class PipelineMethod:
    """Runs a pipeline; an ``Opened``.

    Args:
        pipeline: from ``make``.
        task: under the settings.
        settings: the load settings.
        threads: CPU threads of one execution.
    """

    def __init__(self, pipeline: Any, task: Task, settings: Mapping[str, Any], threads: int) -> None:
        self._pipeline = pipeline
        self._task = task
        self._pooling = settings.get("pooling", POOLINGS[0])
        self._rows_at_once = _rows_at_once(pipeline, task, settings)
        self._call = InferenceCall(self._run, threads)

    def __call__(self, inputs: Arrays, /) -> Arrays:
        """Answer each row.

        Raises:
            UnsupportedInput: a text is not UTF-8, or the input is missing. What the pipeline raises passes.
        """
        name = self._task.input.name
        if set(inputs) != {name}:
            raise UnsupportedInput(f"this pipeline takes {name!r} alone, not {', '.join(inputs)}", field=name)
        return self._call(inputs[name])  # type: ignore[return-value]  # what ``_run`` returns

    def input_names(self, count: int) -> tuple[str, ...]:
        """Return the name of the only input; more have none that would fit."""
        return (self._task.input.name, *(f"input_{index}" for index in range(1, count)))[:count]

    def _run(self, array: Array) -> Arrays:
        rows = _images(array) if array.dtype.kind != "O" else _texts(array, self._task.input.name)
        size = min(len(rows), self._rows_at_once) or 1
        if self._task.outputs == (FEATURES,):
            parts = [self._features(rows[start : start + size]) for start in range(0, len(rows), size)]
            return {FEATURES.name: np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)}
        return to_outputs(self._task, list(self._pipeline(_each(rows), batch_size=size)))

    def _features(self, texts: list[Any]) -> Array:
        """Return one vector per text: the mean over its tokens, or its first token, padding left out."""
        tokenizer, model = self._pipeline.tokenizer, self._pipeline.model
        tokens = tokenizer(texts, padding=len(texts) > 1, truncation=True, return_tensors="pt")
        tokens = tokens.to(model.device)
        states = model(**tokens)[0].float()
        if states.ndim > 2:
            mask = tokens.get("attention_mask")
            mask = torch.ones_like(tokens["input_ids"]) if mask is None else mask
            states = _pool(states, mask, self._pooling)
        return to_array(states)


def _pool(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Shapes: ``states: [rows, tokens, width]``, ``mask: [rows, tokens]``; returns ``[rows, width]``."""
    if pooling == "first":
        first = mask.argmax(dim=1)  # padding may be on the left
        return states[torch.arange(len(states), device=states.device), first]
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def _each(rows: list[Any]) -> Iterator[Any]:
    yield from rows


def _texts(array: Array, name: str) -> list[Any]:
    texts = []
    for index, item in enumerate(array.ravel().tolist()):
        try:
            texts.append(item.decode())
        except UnicodeDecodeError as error:
            raise UnsupportedInput(
                f"input {name!r}, element {index}: not UTF-8: {error}", field=name
            ) from error
    return texts


def _images(array: Array) -> list[Any]:
    """Return one picture per row; pipelines of every version take these, and never guess the axes."""
    picture: Any = importlib.import_module("PIL.Image")  # where there is an image processor, it is there
    return [picture.fromarray(row) for row in array]


def _limit(model: Any, tokenizer: Any, given: int | None, *, generating: str) -> None:
    """Tell the tokenizer where texts are cut: where it is asked to, else at what it or the model can take."""
    if tokenizer is None:
        return
    if given is not None:
        tokenizer.model_max_length = given
    elif tokenizer.model_max_length > _NO_LIMIT:
        positions = getattr(model.config, "max_position_embeddings", None)
        if isinstance(positions, int) and positions > 0:
            tokenizer.model_max_length = positions
    if generating == "generated_text":
        # The end of a prompt is what is continued: it must neither be cut off nor be followed by padding.
        tokenizer.truncation_side = tokenizer.padding_side = "left"


def _rows_at_once(pipeline: Any, task: Task, settings: Mapping[str, Any]) -> int:
    """Return how many rows one forward pass may have; a row alone where nothing can be padded."""
    asked = settings.get("rows_at_once", _NO_LIMIT if task.together else 1)
    tokenizer = pipeline.tokenizer
    if task.part == "tokenizer" and (
        tokenizer.pad_token_id is None or "attention_mask" not in tokenizer.model_input_names
    ):
        return 1
    return int(asked)


def _was_told_something(pipeline: Any) -> bool:
    """Return whether the pipeline was made with keywords of its own."""
    plain = pipeline._sanitize_parameters()
    own = [getattr(pipeline, name, {}) for name in _STORED_PARAMETERS]
    generating = getattr(pipeline, "_generate_kwargs", {})
    # Compared as text, since arrays among the values do not compare as one truth.
    return bool(generating) or [repr(each) for each in own] != [repr(each) for each in plain]
