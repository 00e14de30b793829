from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from frameworks import InvalidModel, LoadOptions, gpu, onnx
from frameworks.gpu import Gpu
from frameworks.ort import providers as onnx_providers
from store import ModelStore

X = np.ones((2, 2), np.float32)
GPU_BUILD = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]

without_gpu = pytest.mark.skipif(gpu.find_gpu() is not None, reason="this machine has a GPU")


def negation() -> Any:
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def on_a_gpu_machine(monkeypatch: pytest.MonkeyPatch, cards: int = 1) -> None:
    """Let driver and build say what they say on a machine with cards."""
    monkeypatch.setattr(
        gpu, "find_gpu", lambda index=0: Gpu("Card", "9.0", "13.0", index) if index < cards else None
    )
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: GPU_BUILD)


@pytest.mark.parametrize("provider", ["cpu", "CPU", "CPUExecutionProvider"])
def test_a_provider_goes_by_short_or_full_name(models: ModelStore, provider: str) -> None:
    load: dict[str, object] = {
        "provider": provider, "graph_optimization": "basic", "spinning": True, "inter_op_threads": 2,
    }  # fmt: skip
    model = onnx.save_model("negation", negation(), options={"load": load}, store=models)
    methods: Any = onnx.open_methods(model, LoadOptions(threads=2))
    np.testing.assert_array_equal(methods["__call__"]({"x": X})["y"], -X)
    assert onnx.load_model(model).get_session_options().graph_optimization_level.name == "ORT_ENABLE_BASIC"


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ({"provider": "cudaa"}, "'provider' cannot be 'cudaa'; did you mean 'cuda'"),
        ({"provider": "abacus-9000"}, "there are cpu, cuda, tensorrt"),
        ({"graph_optimization": "al"}, "did you mean 'all'"),
        ({"inter_op_threads": 0}, "at least 1"),
        ({"fp16": "yes"}, "must be bool"),
        ({"spining": True}, "did you mean 'spinning'"),
    ],
)
def test_a_setting_that_means_nothing_is_refused_when_saved(
    models: ModelStore, load: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidModel, match=message) as caught:
        onnx.save_model("negation", negation(), options={"load": load}, store=models)
    assert str(caught.value.field).startswith("load.")


def test_a_gpu_setting_can_be_saved_where_there_is_no_gpu(models: ModelStore) -> None:
    load = {"provider": "tensorrt", "fp16": True}
    model = onnx.save_model("negation", negation(), options={"load": load}, sample=X, store=models)
    with pytest.raises(InvalidModel, match="needs a device 'cuda:N', not 'cpu'"):
        onnx.open_methods(model, LoadOptions())
    cpu = onnx.open_methods(model, LoadOptions(settings={"provider": "cpu", "fp16": False}))
    assert cpu["__call__"]({"x": X})


def test_half_precision_is_for_tensorrt_only() -> None:
    with pytest.raises(InvalidModel, match="'fp16' is for the provider 'tensorrt', not for CPU"):
        onnx_providers.choose(LoadOptions(settings={"fp16": True}))


@without_gpu
def test_without_a_gpu_there_is_the_cpu_and_the_refusal_says_so() -> None:
    assert onnx_providers.available_providers("cpu") == ("CPUExecutionProvider",)
    assert onnx_providers.available_providers("cuda:0") == ("CPUExecutionProvider",)
    with pytest.raises(InvalidModel, match="needs TensorrtExecutionProvider, and this machine has no NVIDIA"):
        onnx_providers.choose(LoadOptions(device="cuda:0", settings={"provider": "tensorrt"}))


@without_gpu
def test_a_build_with_cuda_does_not_stand_for_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: GPU_BUILD)
    assert onnx_providers.available_providers("cuda:0") == ("CPUExecutionProvider",)
    with pytest.raises(InvalidModel, match=r"no NVIDIA GPU 0 with a working driver$"):
        onnx_providers.choose(LoadOptions(device="cuda:0"))


def test_on_a_card_the_fastest_provider_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on_a_gpu_machine(monkeypatch, cards=2)
    monkeypatch.setenv("RUNTIME_HOME", str(tmp_path))
    assert onnx_providers.available_providers("cuda:1") == tuple(GPU_BUILD)
    assert onnx_providers.available_providers("cuda:2") == ("CPUExecutionProvider",)
    assert onnx_providers.choose(LoadOptions(device="cuda:1")) == [
        ("CUDAExecutionProvider", {"device_id": "1"})
    ]
    (first, options), second = onnx_providers.choose(
        LoadOptions(device="cuda", settings={"provider": "tensorrt", "fp16": True})
    )
    assert (first, second) == ("TensorrtExecutionProvider", ("CUDAExecutionProvider", {"device_id": "0"}))
    cache = tmp_path / "cache" / "onnxruntime-tensorrt"
    assert cache.is_dir()
    assert options == {
        "device_id": "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache),
        "trt_fp16_enable": "1",
    }


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_silent_fall_back_to_the_cpu_is_an_error(
    models: ModelStore, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    model = onnx.save_model("negation", negation(), store=models)
    on_a_gpu_machine(monkeypatch)
    with pytest.raises(InvalidModel, match=r"could not use CUDAExecutionProvider.*fell back to CPU"):
        onnx.open_methods(model, LoadOptions(device="cuda:0"))
    capfd.readouterr()
