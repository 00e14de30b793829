from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from frameworks import NAMES, MissingFramework, UnknownModule, adapter
from frameworks.base import missing

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", NAMES)
def test_each_name_gives_an_adapter_with_the_whole_interface(name: str) -> None:
    found: Any = adapter(name)
    module = found.MODULE
    assert module == name
    for function in ("save_model", "load_model", "get", "open_methods"):
        assert callable(getattr(found, function))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownModule, match="python, sklearn, pytorch, torchscript, torch_export, onnx"):
        adapter("caffe")


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingFramework, match=r"runtime-serving\[onnx\]"):
        adapter("onnx")


def test_a_missing_library_is_an_import_error_too() -> None:
    error = missing("torch", "torch")
    assert isinstance(error, ImportError)
    assert (error.field, error.reason) == ("torch", "missing_framework")


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("sklearn", "sklearn"),
        ("pytorch", "torch"),
        ("onnx", "onnxruntime"),
        ("torchscript", "torch"),
        ("torch_export", "torch"),
        ("tensorflow", "tensorflow"),
        ("xgboost", "xgboost"),
        ("lightgbm", "lightgbm"),
        ("transformers", "transformers"),
        ("jax", "jax"),
    ],
)
def test_importing_an_adapter_without_its_library_says_what_to_install(name: str, library: str) -> None:
    script = f"""
import sys
sys.modules[{library!r}] = None
from frameworks import MissingFramework
try:
    import frameworks.{name}
except MissingFramework as error:
    assert "pip install" in str(error)
else:
    raise AssertionError("imported")
"""
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True, timeout=60)


def test_neither_package_imports_a_framework_and_the_store_not_even_numpy() -> None:
    script = """
import sys
import store
assert not {"numpy", "cloudpickle"} & set(sys.modules)
import frameworks
import frameworks.convert.run
heavy = {"torch", "sklearn", "onnxruntime", "onnx", "tensorflow", "transformers", "grpc", "google.protobuf"}
assert not heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True, timeout=60)
