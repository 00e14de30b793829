"""What every torch step does around its exporter: keep it quiet, tell why it failed, try what it wrote."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from frameworks import base, registry
from frameworks.base import FileAdapter, LoadOptions
from frameworks.convert.steps.torch_shapes import example
from frameworks.convert.work import ADAPTERS, NotConvertible, Work
from frameworks.pt.quiet import ADVICE
from frameworks.row_errors import RowErrors
from store import Signature

try:
    import torch
except ModuleNotFoundError as error:
    raise base.missing("torch", "torch") from error

_Result = TypeVar("_Result")

_MOST_WARNINGS: Final = 5
_LINES: Final = 4


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Collect what an exporter warns of, each once, the first line of it, and only the first few."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    for one in caught:
        text = first_lines(one.message, 1)
        if not issubclass(one.category, ADVICE) and text not in said and len(said) < _MOST_WARNINGS:
            said.append(text)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Offer a path beside the target, which takes its place when all went well: never half a file."""
    temporary = target.with_name(f".{target.stem}.partial{target.suffix}")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def attempt(tool: str, action: Callable[[], _Result]) -> _Result:
    """Return what an exporter returns.

    Raises:
        NotConvertible: it raised; the message has the start of its own.
    """
    try:
        return action()
    except MemoryError:
        raise  # not the model's fault
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the machine's; others are torch's, for source code that it cannot find
        raise NotConvertible(f"{tool} cannot convert the model: {first_lines(error, _LINES)}") from error


def first_lines(error: Any, count: int) -> str:
    """Return the start of an error's text; torch's own go on for pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:count]) or type(error).__name__


def try_artifact(work: Work, method: str, signature: Signature, path: Path) -> None:
    """Open what was written as a worker would, and run it once.

    Raises:
        InvalidModel: it cannot be opened.
        NotConvertible: it does not answer with the outputs of the signature.
    """
    adapter = cast(FileAdapter, registry.adapter(ADAPTERS[work.variant.format]))
    # The budget that is in force: trying must not change this process.
    options = LoadOptions(device=work.settings.device, threads=torch.get_num_threads())
    opened = adapter.open_artifact(path, {method: signature}, options)[method]
    answer = opened(example(work, signature))
    found = (answer.outputs or {}) if isinstance(answer, RowErrors) else answer
    missing = [spec.name for spec in signature.outputs or () if spec.name not in found]
    if missing:
        raise NotConvertible(
            f"the converted model answers {', '.join(found)} and lacks {', '.join(missing)}", field=missing[0]
        )
