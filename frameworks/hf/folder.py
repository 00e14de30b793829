"""A ``save_pretrained`` folder: writing one, and reading it again without network, pickle or foreign code.

Weights are safetensors only. The model's class is looked up by name in transformers itself, never imported
from the folder. ``pipeline.json`` beside the folder says which pipeline it is, where it is one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from frameworks import base
from frameworks.errors import InvalidModel
from frameworks.pt.tensors import VERSIONS as TORCH_VERSIONS

try:
    import safetensors
    import transformers
except ModuleNotFoundError as error:
    raise base.missing("transformers with safetensors", "transformers") from error

VERSIONS: Final = {
    "transformers": str(transformers.__version__),
    "safetensors": str(safetensors.__version__),
    **TORCH_VERSIONS,
}
FOLDER: Final = "pretrained"

_PIPELINE: Final = "pipeline.json"
_WEIGHTS: Final = "*.safetensors"
_LOADERS: Final = {"tokenizer": "AutoTokenizer", "image_processor": "AutoImageProcessor"}
_DTYPE_KEYWORD_SINCE: Final = (4, 56)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What turns a folder's model into a pipeline.

    Args:
        task: transformers' own name of the task.
        parts: which of tokenizer and image processor the folder has.
    """

    task: str
    parts: tuple[str, ...]


def is_known(model: object) -> bool:
    """Return whether a model's class is one of transformers, so that the folder alone can bring it back."""
    return getattr(transformers, type(model).__name__, None) is type(model)


def write(folder: Path, model: Any, recipe: Recipe | None = None, pipeline: Any = None) -> None:
    """Write the model, and the parts of its pipeline, below ``folder``."""
    target = folder / FOLDER
    with _without_progress():
        model.save_pretrained(target)
        for part in recipe.parts if recipe is not None else ():
            getattr(pipeline, part).save_pretrained(target)
    if recipe is not None:
        text = json.dumps({"task": recipe.task, "parts": list(recipe.parts)})
        (folder / _PIPELINE).write_text(text, encoding="utf-8")


def recipe_of(folder: Path) -> Recipe | None:
    """Return how the stored pipeline is made; None for a plain model.

    Raises:
        InvalidModel: the file is damaged.
    """
    path = folder / _PIPELINE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        recipe = Recipe(str(found["task"]), tuple(str(part) for part in found["parts"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidModel(f"{_PIPELINE} is unreadable: {error!r}", field="model") from error
    if not set(recipe.parts) <= set(_LOADERS):
        raise InvalidModel(f"{_PIPELINE} names parts that there are not: {recipe.parts}", field="model")
    return recipe


def read_model(path: Path, dtype: str = "auto") -> Any:
    """Return the model of a ``save_pretrained`` folder, on the CPU and in evaluation mode.

    Args:
        path: the folder itself.
        dtype: see ``tasks.DTYPES``.

    Raises:
        InvalidModel: no such folder, no safetensors, a class that is not of transformers, or weights that are
            missing and so would be random.
    """
    kind = _class_of(path)
    try:
        with _without_progress():
            model, report = kind.from_pretrained(
                path,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                **{_dtype_keyword(): dtype},
            )
    except Exception as error:
        raise InvalidModel(f"{path} cannot be loaded as {kind.__name__}: {error}", field="model") from error
    absent = sorted(str(key) for key in report["missing_keys"])
    if absent:
        raise InvalidModel(
            f"{path} has no weights for {len(absent)} parameters of {kind.__name__}, among them "
            f"{absent[0]!r}; they would be random: train the model and save it again",
            field="model",
        )
    return model.eval()


def read_parts(path: Path, recipe: Recipe) -> dict[str, Any]:
    """Return the pipeline's tokenizer and image processor by their keywords.

    Raises:
        InvalidModel: the folder lacks one, or a library that it needs is not installed.
    """
    # The worker's threads are counted elsewhere; the tokenizer's own would come on top of them.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    parts = {}
    for part in recipe.parts:
        loader: Any = getattr(transformers, _LOADERS[part])
        try:
            parts[part] = loader.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            raise InvalidModel(f"the {part} of {path} cannot be loaded: {error}", field=part) from error
    return parts


def _class_of(path: Path) -> Any:
    """Return the class that ``config.json`` names; only transformers' own are looked at."""
    config = path / "config.json"
    if not config.is_file():
        raise InvalidModel(
            f"{path} is no save_pretrained folder: it has no config.json. Names of a model hub are not "
            "downloaded; save the model to a folder first",
            field="model",
        )
    try:
        names = json.loads(config.read_text(encoding="utf-8")).get("architectures") or []
    except (ValueError, AttributeError) as error:
        raise InvalidModel(f"{config} is unreadable: {error!r}", field="model") from error
    kind = getattr(transformers, str(names[0]), None) if isinstance(names, list) and names else None
    if not isinstance(kind, type) or not issubclass(kind, transformers.PreTrainedModel):
        raise InvalidModel(
            f"{config} names {names!r} as architectures; there must be a model class of transformers "
            f"{transformers.__version__}. Code in the folder is never run: save other classes by the pytorch "
            "adapter",
            field="model",
        )
    if not any(path.glob(_WEIGHTS)):
        raise InvalidModel(
            f"{path} has no {_WEIGHTS}; load the model where its files are trusted and "
            "call save_pretrained(..., safe_serialization=True)",
            field="model",
        )
    return kind


def _dtype_keyword() -> str:
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    return "dtype" if version >= _DTYPE_KEYWORD_SINCE else "torch_dtype"


@contextmanager
def _without_progress() -> Iterator[None]:
    """Keep progress bars off the caller's terminal and a worker's log; the setting is put back."""
    logging: Any = transformers.utils.logging
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
