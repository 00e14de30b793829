"""Load settings are checked when a model is saved, and its sample is tried with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from frameworks import InvalidModel, LoadOptions, SampleFailed, onnx, pytorch, registry, tensorflow
from frameworks.registry import NAMES
from store import ModelStore
from tests.support import every_adapter
from tests.support.every_adapter import X


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("with_sample", [True, False])
def test_an_unknown_setting_is_refused_before_anything_is_written(
    models: ModelStore, name: str, with_sample: bool
) -> None:
    arguments: dict[str, Any] = {} if with_sample or name == "jax" else {"sample": None}
    with pytest.raises(InvalidModel, match="there is no load option 'colour'; ") as caught:
        every_adapter.save(name, models, options={"load": {"colour": "red"}}, **arguments)
    assert caught.value.field == "load.colour"
    assert not models.root.exists()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"load": ["fast"]}, "load"),
        ({"load": "fast"}, "load"),
        ({"load": {5: True}}, "load.5"),
        ([1], "options"),
    ],
)
def test_settings_that_are_no_table_of_texts_are_refused(
    models: ModelStore, name: str, options: Any, field: str
) -> None:
    with pytest.raises(InvalidModel) as caught:
        every_adapter.save(name, models, options=options)
    assert caught.value.field == field
    assert not models.root.exists()


@pytest.mark.parametrize("name", NAMES)
def test_empty_settings_are_none(models: ModelStore, name: str) -> None:
    model = every_adapter.save(name, models, options={"load": {}})
    assert registry.adapter(name).open_methods(model, LoadOptions())


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("pytorch", "dtype", "int4"),
        ("pytorch", "dtype", "float32"),
        ("pytorch", "compile", 1),
        ("torchscript", "optimize", "yes"),
        ("tensorflow", "xla", "yes"),
        ("transformers", "dtype", "float8"),
        ("transformers", "top_k", 2.5),
        ("onnx", "provider", "abacus"),
        ("onnx", "fp16", True),
        ("tensorrt", "on_mismatch", "explode"),
    ],
)
def test_a_value_that_an_adapter_does_not_have_is_refused_when_saved_without_a_sample(
    models: ModelStore, name: str, setting: str, value: object
) -> None:
    with pytest.raises(InvalidModel) as caught:
        every_adapter.save(name, models, sample=None, options={"load": {setting: value}})
    assert caught.value.field == f"load.{setting}"
    assert repr(setting) in caught.value.message
    assert not models.root.exists()


class InHalves(torch.nn.Module):
    """Fails where it is computed in half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layer(x)
        return result + torch.linalg.det(self.layer.weight[:3, :3])


def test_a_sample_that_fails_with_the_settings_keeps_a_model_from_being_published(models: ModelStore) -> None:
    pytorch.save_model("plain", InHalves(), sample=X, store=models)
    with pytest.raises(SampleFailed, match="fails on the sample"):
        pytorch.save_model("half", InHalves(), sample=X, options={"load": {"dtype": "float16"}}, store=models)
    assert [model.tag.name for model in models.list()] == ["plain"]


def test_specs_are_those_of_the_answer_with_the_settings(models: ModelStore) -> None:
    model = every_adapter.save("pytorch", models, options={"load": {"dtype": "bfloat16"}})
    signature = model.info.signatures["__call__"]
    assert [spec.datatype for spec in (*(signature.inputs or ()), *(signature.outputs or ()))] == ["FP32"] * 2


def test_what_cannot_be_compiled_is_not_published(models: ModelStore) -> None:
    from frameworks.tf.library import tf

    class Texts(tf.Module):  # type: ignore[misc]  # the library has no types
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="x")])
        def __call__(self, x: Any) -> Any:
            return tf.strings.length(x)

    texts = np.array([b"one", b"three"], dtype=object)
    tensorflow.save_model("plain", Texts(), sample=texts, store=models)
    with pytest.raises(SampleFailed, match="fails on the sample"):
        tensorflow.save_model("xla", Texts(), sample=texts, options={"load": {"xla": True}}, store=models)
    assert [model.tag.name for model in models.list()] == ["plain"]


def test_a_sample_is_tried_on_the_cpu_whatever_the_provider_is_to_be(models: ModelStore) -> None:
    load = {"provider": "tensorrt", "fp16": True, "graph_optimization": "disabled"}
    model = every_adapter.save("onnx", models, options={"load": load})
    assert model.info.options["load"] == load
    with pytest.raises(InvalidModel, match="needs a device 'cuda:N', not 'cpu'"):
        onnx.open_methods(model, LoadOptions())
