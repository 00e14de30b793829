"""Adapter for Hugging Face transformers: models that take tensors, and pipelines that take texts or images.

The artifact is a ``save_pretrained`` folder with safetensors. It holds no pickle, none of its code is run,
and nothing is ever looked up on a network.

A model's ``__call__`` takes tensors by the names of its parameters (``input_ids``, ``attention_mask``,
``pixel_values`` …) and returns the tensors of its output by name; what is no tensor, such as a cache, is left
out, and so is what the signature's outputs do not name. Other methods can be served likewise: ``generate``
returns ``sequences``. A sample fixes every axis but the batch axis: give specs with -1 at the sequence axes,
or a ``padding`` for them (``store.padding``), with which requests of different lengths share batches.

A pipeline has one method, ``__call__``, whose rows are single texts or images: see
``frameworks.hf.tasks``. It is batchable.

Load settings, given as ``options={"load": {...}}``: ``dtype`` to compute in ("float32", "float16",
"bfloat16", or "auto", the one of the weights); a model's ``generate`` and pipelines that generate take the
keywords in ``transformers_tasks.GENERATING``. Pipelines take ``max_length``, tokens at which a text is cut
(default: what the tokenizer or the model can take), ``rows_at_once``, rows of one forward pass, and their
task's own keywords.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, Unpack

from frameworks import base, objects
from frameworks.base import LoadOptions, Method, SaveArguments
from frameworks.calling import Opened
from frameworks.errors import InvalidModel
from frameworks.hf import folder as folders
from frameworks.hf.folder import FOLDER, VERSIONS, Recipe
from frameworks.hf.model import SETTINGS, bind
from frameworks.hf.pipeline import PipelineMethod, make, recipe_for
from frameworks.hf.tasks import check_settings, complete, task_of
from frameworks.pt.tensors import device_of, to_array
from store import Model, ModelStore, Signature, Tag

try:
    import torch
    import transformers
except ModuleNotFoundError as error:
    raise base.missing("transformers with torch", "transformers") from error

MODULE: Final = "transformers"

Source: TypeAlias = "transformers.PreTrainedModel | transformers.Pipeline | str | Path"

_MODEL_DEFAULT: Final = {objects.CALL: Signature(batchable=False)}
_PIPELINE_DEFAULT: Final = {objects.CALL: Signature(batchable=True)}


def save_model(name: str, model: Source, **arguments: Unpack[SaveArguments]) -> Model:
    """Save a model or a pipeline.

    Args:
        name: model name, or ``name:version`` to choose the version.
        model: a ``PreTrainedModel``, a ``Pipeline`` with its tokenizer or image processor, or the path of a
            ``save_pretrained`` folder, of which the model is taken.
        arguments: see ``frameworks.base.SaveArguments``; signatures default to ``__call__``: of a model not
            batchable, of a pipeline batchable and with all specs.

    Raises:
        InvalidModel: none of these, a class or a task that cannot be stored, no such method, or a wrong load
            setting.
        SampleFailed: it does not do on the sample what its signature says.
        StoreError: a name, signature or record is wrong, or the version exists.
    """
    given = base.given_signatures(arguments)
    settings = base.given_settings(arguments)
    if isinstance(model, str | Path):
        model = folders.read_model(Path(model))
    recipe, source = None, model
    known = SETTINGS
    if isinstance(model, transformers.Pipeline):
        known = task_of(str(model.task))[1].settings
        recipe, signatures = _of_pipeline(model, given, settings)
        source = model.model
    else:
        check_settings(settings, SETTINGS)
        signatures = given if given is not None else _MODEL_DEFAULT
    _check_class(source)
    for method in signatures:
        objects.function_of(source, method)
    # The budget that is in force: trying the sample must not change the caller's process.
    options = LoadOptions(threads=torch.get_num_threads(), settings=settings)
    plan = base.Plan(
        module=MODULE,
        versions=VERSIONS,
        pickled=False,
        signatures=signatures,
        settings=known,
        write=lambda folder: folders.write(folder, source, recipe, model),
        open=lambda folder, completed, _: _open(folder, completed, options),
        convert=to_array,
    )
    return base.save(name, plan, arguments)


def load_model(tag: str | Tag | Model, *, store: ModelStore | None = None, device: str = "cpu") -> Any:
    """Return the ``PreTrainedModel``, in evaluation mode, or the ``Pipeline``, on the device.

    Raises:
        WrongModule: another adapter saved it.
        InvalidModel: it cannot be loaded here, or the device is not there.
        StoreError: it is unknown or its files are damaged.
    """
    found = base.find(tag, MODULE, store)
    options = _load_settings(found, LoadOptions(device=device))
    return base.load(found, MODULE, VERSIONS, lambda folder: _read(folder, options)[0])


def get(tag: str | Tag, *, store: ModelStore | None = None) -> Model:
    """Return the reference to a model that this adapter saved.

    Raises:
        WrongModule: another adapter saved it.
        StoreError: there is no such model.
    """
    return base.find(tag, MODULE, store)


def open_methods(model: Model, options: LoadOptions) -> Mapping[str, Method]:
    """Load the model or the pipeline and return one callable per method.

    Raises:
        InvalidModel: it cannot be loaded here, a method is missing, a load setting is wrong, or the device is
            not there.
        StoreError: its files are damaged or gone.
    """
    found = base.find(model, MODULE)
    options = _load_settings(found, options)
    return base.load(found, MODULE, VERSIONS, lambda folder: _open(folder, found.info.signatures, options))


def _read(folder: Path, options: LoadOptions) -> tuple[Any, Recipe | None]:
    place = device_of(options.device)
    recipe = folders.recipe_of(folder)
    model = folders.read_model(folder / FOLDER, str(options.settings.get("dtype", "auto"))).to(place)
    if recipe is None:
        return model, None
    parts = folders.read_parts(folder / FOLDER, recipe)
    return make(model, parts, recipe, options.settings, place), recipe


def _open(folder: Path, signatures: Mapping[str, Signature], options: LoadOptions) -> Mapping[str, Opened]:
    loaded, recipe = _read(folder, options)
    if recipe is None:
        return bind(loaded, signatures, options)
    task = task_of(recipe.task)[1].given(options.settings)
    return {objects.CALL: PipelineMethod(loaded, task, options.settings, options.threads)}


def _of_pipeline(
    pipeline: Any, given: dict[str, Signature] | None, settings: Mapping[str, Any]
) -> tuple[Recipe, dict[str, Signature]]:
    """Return the pipeline's recipe and its one method's signature, with all specs."""
    _, task = task_of(str(pipeline.task))
    check_settings(settings, task.settings)
    recipe, task = recipe_for(pipeline, settings)
    signatures = _PIPELINE_DEFAULT if given is None else given
    if set(signatures) != {objects.CALL}:
        raise InvalidModel(f"a pipeline has exactly one method, {objects.CALL!r}", field="signatures")
    return recipe, {objects.CALL: complete(signatures[objects.CALL], task)}


def _check_class(model: object) -> None:
    if not isinstance(model, transformers.PreTrainedModel):
        raise InvalidModel(
            f"a {type(model).__name__} is neither a PreTrainedModel, nor a Pipeline, nor a folder",
            field="model",
        )
    if not folders.is_known(model):
        raise InvalidModel(
            f"{type(model).__name__} is no class of transformers, and its folder would not bring its code: "
            "save it by the pytorch adapter",
            field="model",
        )


def _load_settings(model: Model, options: LoadOptions) -> LoadOptions:
    """Return the options, the model's own settings below them; which there are depends on what it is."""
    with model.present():
        recipe = folders.recipe_of(model.path)
    known = SETTINGS if recipe is None else task_of(recipe.task)[1].settings
    options = base.load_settings(model, options, known)
    check_settings(options.settings, known)
    return options
