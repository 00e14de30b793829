from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frameworks import InvalidModel, LoadOptions, pytorch, torchscript
from store import ModelStore

BATCHABLE = {"__call__": {"batchable": True}}


class Images(torch.nn.Module):
    """Tells how its input lay in memory and in which datatype it was."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[bool, torch.dtype]] = []
        self.layer = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append((x.is_contiguous(memory_format=torch.channels_last), x.dtype))
        result: torch.Tensor = self.norm(self.layer(x))
        return result


class Plain(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(x)
        return result

    @torch.jit.export
    def doubled(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(x) * 2
        return result


X = np.linspace(-1, 1, 2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)


@pytest.fixture(scope="module")
def images() -> Images:
    torch.manual_seed(0)
    return Images()


def saved(models: ModelStore, module: torch.nn.Module, **settings: Any) -> Any:
    return pytorch.save_model(
        "images", module, signatures=BATCHABLE, options={"load": settings}, store=models
    )


def answer(models: ModelStore, module: torch.nn.Module, **settings: Any) -> Any:
    method = pytorch.open_methods(saved(models, module, **settings), LoadOptions())["__call__"]
    result = method({"x": X.copy()})
    assert isinstance(result, dict)
    return result["output_0"]


def seen(models: ModelStore, module: torch.nn.Module, **settings: Any) -> Any:
    """Return what the module saw of its input when it was called through its method."""
    method: Any = pytorch.open_methods(saved(models, module, **settings), LoadOptions())["__call__"]
    method({"x": X.copy()})
    return method._function._function.seen[-1]


def test_channels_last_changes_the_memory_and_not_the_answer(models: ModelStore, images: Images) -> None:
    plain = answer(models, images)
    result = answer(models, images, channels_last=True)
    np.testing.assert_allclose(result, plain, atol=1e-5)
    assert result.flags.c_contiguous
    assert seen(models, images) == (False, torch.float32)
    assert seen(models, images, channels_last=True) == (True, torch.float32)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_half_precision_stays_inside(models: ModelStore, images: Images, name: str) -> None:
    result = answer(models, images, dtype=name)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, answer(models, images), atol=0.05)
    assert seen(models, images, dtype=name) == (False, getattr(torch, name))


def test_precision_settings_that_mean_nothing_are_refused(models: ModelStore, images: Images) -> None:
    with pytest.raises(InvalidModel, match="'dtype' must be bfloat16 or float16, not 'int4'"):
        answer(models, images, dtype="int4")
    with pytest.raises(InvalidModel, match=r"for models of float32; this one has torch\.float64"):
        answer(models, torch.nn.Linear(8, 2).double(), dtype="float16")
    with pytest.raises(InvalidModel, match="did you mean 'channels_last'"):
        answer(models, images, channel_last=True)


def test_compiling_needs_a_compiler(
    models: ModelStore, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InvalidModel, match=r"'compile' needs a C\+\+ compiler; install g\+\+"):
        answer(models, images, compile=True)


@pytest.mark.slow
def test_a_compiled_module_answers_as_it_did(models: ModelStore) -> None:
    torch.manual_seed(0)
    module = Plain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        compiled = answer(models, module, compile=True)
    np.testing.assert_allclose(compiled, answer(models, module), atol=1e-5)


def test_an_optimized_script_answers_as_it_did(models: ModelStore) -> None:
    torch.manual_seed(0)
    signatures = {**BATCHABLE, "doubled": {"batchable": True}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        compile_code: Any = torch.jit.script
        script = compile_code(Plain().eval())
    results = []
    for optimize in (False, True):
        model = torchscript.save_model(
            "images", script, signatures=signatures, options={"load": {"optimize": optimize}}, store=models
        )
        methods = torchscript.open_methods(model, LoadOptions())
        results.append([methods[name]({"x": X.copy()}) for name in signatures])
    for plain, fast in zip(*results, strict=True):
        assert isinstance(plain, dict)
        assert isinstance(fast, dict)
        np.testing.assert_allclose(fast["output_0"], plain["output_0"], atol=1e-5)


def test_an_unknown_script_setting_is_refused(models: ModelStore) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        compile_code: Any = torch.jit.script
        script = compile_code(torch.nn.ReLU())
    model = torchscript.save_model("relu", script, store=models)
    with pytest.raises(InvalidModel, match="did you mean 'optimize'"):
        torchscript.open_methods(model, LoadOptions(settings={"optimise": True}))
    with pytest.raises(InvalidModel, match="no load option 'threads'"):
        torchscript.open_artifact(
            model.path / torchscript.ARTIFACT, model.info.signatures, LoadOptions(settings={"threads": 2})
        )


def test_a_script_whose_module_has_another_name_for_itself_is_called_by_keyword(models: ModelStore) -> None:
    class Odd(torch.nn.Module):
        def forward(this, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a - b

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        compile_code: Any = torch.jit.script
        model = torchscript.save_model("odd", compile_code(Odd()), store=models)
    method = torchscript.open_methods(model, LoadOptions())["__call__"]
    given = {"b": np.ones(1, np.float32), "a": np.full(1, 3, np.float32)}
    result = method(given)
    assert isinstance(result, dict)
    assert result["output_0"].tolist() == [2.0]
