"""Whoever has chosen TorchScript is not told, each time, to choose something else."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from frameworks import torchscript
from frameworks.convert.formats import Format
from runtime.convert import native
from runtime.convert.converters import TorchScriptConverter
from store import ModelStore

ADVISING = ("load", "save", "script")


@pytest.mark.parametrize("category", [DeprecationWarning, FutureWarning])
def test_the_advice_of_every_release_of_torch_is_kept_back(
    category: type[Warning], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    for name in ADVISING:
        monkeypatch.setattr(torch.jit, name, advising(getattr(torch.jit, name), category))
    net, path = torch.nn.Linear(2, 1), tmp_path / "net.zip"
    assert TorchScriptConverter.from_torch_module(net, path)
    saved = torchscript.save_model("net", path, store=ModelStore(tmp_path / "models"))
    torchscript.load_model(saved)
    native.load(Format.TORCHSCRIPT, path)
    assert [str(one.message) for one in recwarn if "take another format" in str(one.message)] == []


def advising(function: Any, category: type[Warning]) -> Any:
    """The function, with torch's advice."""

    def advised(*arguments: Any, **options: Any) -> Any:
        warnings.warn("take another format", category, stacklevel=2)
        return function(*arguments, **options)

    return advised
