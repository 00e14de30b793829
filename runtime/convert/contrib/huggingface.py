"""Export of Hugging Face transformers by task: the inputs, their names and their axes need not be given.

Everything happens offline: a model comes as an object, from a ``save_pretrained`` folder with safetensors,
or new from a configuration. What is exported takes tensors and returns the tensors of the model's output,
without a cache; tokenising stays outside.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from frameworks import base
from frameworks.hf.folder import read_model
from runtime.convert.contrib import huggingface_inputs as inputs
from runtime.convert.contrib.huggingface_inputs import Batch
from runtime.convert.reading import InvalidArguments

if TYPE_CHECKING:
    from runtime.convert.descriptor import PackageDescriptor

try:
    import torch
    import transformers
except ModuleNotFoundError as error:
    raise base.missing("transformers with torch", "transformers") from error

TASKS: Final[Mapping[str, str]] = {
    "feature-extraction": "AutoModel",
    "fill-mask": "AutoModelForMaskedLM",
    "image-classification": "AutoModelForImageClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "text-classification": "AutoModelForSequenceClassification",
    "text-generation": "AutoModelForCausalLM",
    "token-classification": "AutoModelForTokenClassification",
}
"""Task to the class of transformers that knows which model a configuration has for it."""

Source: TypeAlias = "transformers.PreTrainedModel | transformers.PretrainedConfig | str | Path"

_PLAIN: Final[Mapping[str, bool]] = {
    "output_attentions": False,
    "output_hidden_states": False,
    "return_dict": True,
    "use_cache": False,
}
"""What a configuration must say for a model to return named tensors and nothing else."""


def export(  # noqa: PLR0913 - each may be left out
    model: Source,
    task: str | None = None,
    *,
    dataloader: object = None,
    dataset: Iterable[Any] | None = None,
    tokenizer: Any = None,
    preprocess: Callable[[Any], Any] | None = None,
    sequence_lengths: Sequence[int] | None = None,
    image_size: int | tuple[int, int] | None = None,
    batch_size: int = 2,
    **arguments: Any,
) -> PackageDescriptor:
    """Export a model of transformers to all formats that it can become.

    Args:
        model: a model, the path of a ``save_pretrained`` folder, or a configuration, of which a model with
            random weights is made.
        task: one of ``TASKS``. A configuration needs one; of a model it is checked.
        dataloader: batches of inputs, each a mapping of name to tensor with the rows along axis 0; has
            ``len()`` and ``iter()``. Default: inputs made of the dataset, else random ones that suit the
            configuration.
        dataset: rows for the tokenizer: texts, pairs of texts, or mappings of its keywords.
        tokenizer: makes the inputs of the dataset's rows.
        preprocess: turns one row of the dataset into what the tokenizer takes; default: as it is.
        sequence_lengths: tokens of the random inputs; each makes a batch. Different ones make the axis
            dynamic. Default 8 and 16, or less where the model has fewer positions.
        image_size: pixels of random images, as a side or (height, width); default as configured.
        batch_size: rows of a batch that is made here, from 1.
        arguments: all others of ``runtime.convert.torch.export``; they win over what is found out here.

    Raises:
        InvalidArguments: an unknown task, a model that does not fit it, or inputs that cannot be made or that
            the model cannot execute; the argument is named.
        InvalidModel: the folder cannot be loaded.
        FrameworkError: see ``runtime.convert.torch.export``.
    """
    if dataloader is not None and dataset is not None:
        raise InvalidArguments("give a dataloader or a dataset, not both", field="dataset")
    found = _model_of(model, task)
    arguments.setdefault("model_name", "-".join(filter(None, (found.config.model_type, task))))
    own: Sequence[Batch] = ()
    if dataset is not None:
        own = inputs.tokenised(found, dataset, tokenizer, preprocess, batch_size)
    elif dataloader is None:
        own = inputs.random(found, sequence_lengths, image_size, batch_size)
    return _export(found, own, dataloader, arguments)


def _export(
    model: Any, own: Sequence[Batch], dataloader: object, arguments: Mapping[str, Any]
) -> PackageDescriptor:
    """Find out names and axes, and export; ``own`` batches stand for the dataloader where there are any."""
    face = importlib.import_module(
        "runtime.convert.torch"
    )  # brings what converts; not needed to look at tasks
    with _plain_outputs(model.config):
        described = _describe(model, own or [inputs.first_of(dataloader)])
        if not own:
            del described["dynamic_axes"]  # one batch does not show them; the samples will
        descriptor: PackageDescriptor = face.export(
            model=model, dataloader=own or dataloader, **{**described, **arguments}
        )
    return descriptor


def _model_of(source: Source, task: str | None) -> Any:
    if task is not None and task not in TASKS:
        raise InvalidArguments(f"there is no task {task!r}; there are {', '.join(TASKS)}", field="task")
    if isinstance(source, transformers.PretrainedConfig):
        if task is None:
            raise InvalidArguments(
                f"a configuration needs a task, to choose its model: {', '.join(TASKS)}", field="task"
            )
        _classes(source, task)
        return getattr(transformers, TASKS[task]).from_config(source).eval()
    model: Any = read_model(Path(source)) if isinstance(source, str | Path) else source
    if not isinstance(model, transformers.PreTrainedModel):
        raise InvalidArguments(
            f"a {type(model).__name__} is neither a model of transformers, nor a folder, nor a configuration",
            field="model",
        )
    if task is not None and type(model) not in _classes(model.config, task):
        names = " or ".join(kind.__name__ for kind in _classes(model.config, task))
        raise InvalidArguments(f"{type(model).__name__} does not do {task}; {names} does", field="task")
    return model


def _classes(config: Any, task: str) -> tuple[type, ...]:
    """Return the classes that do the task with this kind of configuration."""
    auto = getattr(transformers, TASKS[task])
    try:
        kinds = auto._model_mapping[type(config)]
    except KeyError:
        raise InvalidArguments(
            f"transformers has no model for {task} with a {type(config).__name__}", field="task"
        ) from None
    return tuple(kinds) if isinstance(kinds, list | tuple) else (kinds,)


def _describe(model: Any, batches: Sequence[Batch]) -> dict[str, Any]:
    """Return names of inputs and outputs, and the axes that differ between the batches."""
    by_size = sorted(batches, key=_row_elements)
    extremes = [by_size[0], by_size[-1]]
    answers = [_run(model, batch) for batch in extremes]
    axes: dict[str, dict[int, str]] = {}
    for first, last in (extremes, answers):
        for name, tensor in first.items():
            differ = [axis for axis in range(1, tensor.ndim) if tensor.shape[axis] != last[name].shape[axis]]
            axes[name] = {0: "batch", **dict.fromkeys(differ, "sequence")}
    return {"input_names": tuple(batches[0]), "output_names": tuple(answers[0]), "dynamic_axes": axes}


def _row_elements(batch: Batch) -> int:
    return sum(tensor[0].numel() for tensor in batch.values())


def _run(model: Any, batch: Batch) -> dict[str, torch.Tensor]:
    """Return the tensors that the model answers."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            answer = model(**{name: tensor.to(model.device) for name, tensor in batch.items()})
    except Exception as error:
        raise InvalidArguments(
            f"{type(model).__name__} cannot execute {', '.join(batch)}: {error!r}; give a dataloader with "
            "the inputs that it needs, without labels",
            field="dataloader",
        ) from error
    finally:
        model.train(was_training)
    return {name: value for name, value in answer.items() if isinstance(value, torch.Tensor)}


@contextmanager
def _plain_outputs(config: Any) -> Iterator[None]:
    """Have the model return named tensors only, for as long as this lasts."""
    configs = {id(each): each for each in (config, config.get_text_config())}.values()
    before = [(each, name, getattr(each, name)) for each in configs for name in _PLAIN if hasattr(each, name)]
    for each, name, _ in before:
        setattr(each, name, _PLAIN[name])
    try:
        yield
    finally:
        for each, name, value in before:
            setattr(each, name, value)
