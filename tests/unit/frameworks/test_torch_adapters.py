from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frameworks import InvalidModel, InvalidOutput, LoadOptions, pytorch, torchscript
from frameworks.pt.tensors import InferenceCall, device_of, to_array, to_tensor
from frameworks.sample import NotBatchInvariant
from store import ModelStore, TensorSpec, datatypes
from tests.support.dtypes import edge_array

REPOSITORY = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")
X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4)
BATCHABLE = {"__call__": {"batchable": True}}
NUMERIC = [name for name in datatypes.NAMES if name != "BYTES"]


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(x)
        return result

    def scores(self, x: torch.Tensor, scale: float = 1.0) -> dict[str, torch.Tensor]:
        return {"scores": torch.softmax(self.layers(x) * scale, dim=1), "best": self.layers(x).argmax(dim=1)}


class Identity(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class BatchStatistics(torch.nn.Module):
    """Normalises by the statistics of whatever is in the batch, as training mode does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.batch_norm(x, None, None, training=True) if len(x) > 1 else x


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def direct(net: Net, x: Any = X) -> Any:
    mode = net.training
    net.eval()
    with torch.inference_mode():
        result = net(torch.from_numpy(x)).numpy()
    net.train(mode)
    return result


def scripted(module: torch.nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script: Any = torch.jit.script
        result: torch.jit.ScriptModule = script(module)
        return result


def test_a_module_answers_as_in_evaluation_mode(models: ModelStore, net: Net) -> None:
    net.train()
    model = pytorch.save_model("net", net, store=models)
    assert net.training
    result = pytorch.open_methods(model, LoadOptions())["__call__"]({"x": X.copy()})["output_0"]
    np.testing.assert_array_equal(result, direct(net))


def test_each_method_is_served(models: ModelStore, net: Net) -> None:
    model = pytorch.save_model("net", net, signatures={**BATCHABLE, "scores": {}}, sample=(X,), store=models)
    result = pytorch.open_methods(model, LoadOptions())["scores"]({"x": X.copy()})
    assert list(result) == ["scores", "best"]
    np.testing.assert_array_equal(result["best"], direct(net).argmax(axis=1))
    signature = model.info.signatures["__call__"]
    assert signature.inputs == (TensorSpec("x", "FP32", (-1, 4)),)
    assert signature.outputs == (TensorSpec("output_0", "FP32", (-1, 3)),)
    checks: Any = model.info.checks
    assert checks["batch_invariance"]["__call__"]["invariant"]


def test_a_sample_may_be_a_tensor_of_any_type(models: ModelStore) -> None:
    model = pytorch.save_model("same", Identity(), sample=torch.ones(2, dtype=torch.bfloat16), store=models)
    assert model.info.signatures["__call__"].inputs == (TensorSpec("x", "BF16", (2,)),)


def test_batch_statistics_are_seen_and_warned_of(models: ModelStore) -> None:
    signatures = {"__call__": {"batchable": True}}
    with pytest.warns(NotBatchInvariant):
        model = pytorch.save_model("norm", BatchStatistics(), signatures=signatures, sample=X, store=models)
    checks: Any = model.info.checks
    figures = checks["batch_invariance"]["__call__"]
    assert not figures["invariant"]
    assert figures["max_abs"] > 0.1


def test_load_model_returns_the_module_in_evaluation_mode(models: ModelStore, net: Net) -> None:
    pytorch.save_model("net", net.train(), store=models)
    assert pytorch.get("net", store=models).info.pickled
    loaded = pytorch.load_model("net", store=models)
    assert not loaded.training
    with torch.inference_mode():
        np.testing.assert_array_equal(loaded(torch.from_numpy(X)).numpy(), direct(net))


@pytest.mark.parametrize("name", NUMERIC)
@pytest.mark.parametrize("adapter", [pytorch, torchscript])
def test_every_datatype_survives_bit_for_bit(models: ModelStore, adapter: Any, name: str) -> None:
    module = Identity() if adapter is pytorch else scripted(Identity())
    array = edge_array(name)
    model = adapter.save_model("same", module, signatures=BATCHABLE, sample=array, store=models)
    assert model.info.signatures["__call__"].outputs[0].datatype == name
    result = adapter.open_methods(model, LoadOptions())["__call__"]({"x": array.copy()})["output_0"]
    assert result.dtype == array.dtype
    assert result.tobytes() == array.tobytes()


@pytest.mark.parametrize("name", datatypes.NAMES)
def test_scalars_and_empty_arrays_cross_the_border(name: str) -> None:
    for array in (edge_array(name)[0, :1].reshape(()), edge_array(name)[:0]):
        result = to_array(to_tensor(array, CPU))
        assert (result.dtype, result.shape) == (array.dtype, array.shape)


def test_nothing_is_copied_on_the_cpu() -> None:
    array = X.copy()
    assert np.shares_memory(to_array(to_tensor(array, CPU)), array)


def test_read_only_arrays_are_copied_without_a_warning() -> None:
    array = X.copy()
    array.flags.writeable = False
    assert not np.shares_memory(to_array(to_tensor(array, CPU)), array)


def test_tensors_of_every_layout_become_arrays() -> None:
    dense = torch.tensor([[0.0, 1.0], [2.0, 0.0]], requires_grad=True)
    for tensor in (dense, dense.detach().to_sparse(), dense.detach().T.T, dense.detach().neg().neg()):
        assert to_array(tensor).tolist() == [[0.0, 1.0], [2.0, 0.0]]
    turned = to_array(torch.ones(2, 3, dtype=torch.bfloat16).T)
    assert turned.shape == (3, 2)
    assert to_array([1, 2]).tolist() == [1, 2]


def test_tensors_without_a_datatype_are_refused() -> None:
    for dtype in (torch.complex64, torch.float8_e4m3fn):
        with pytest.raises(InvalidOutput):
            to_array(torch.zeros(1, dtype=dtype))


def test_bytes_reach_the_module_as_they_are(models: ModelStore) -> None:
    class Lengths(torch.nn.Module):
        def forward(self, x: Any) -> torch.Tensor:
            return torch.tensor([len(item) for item in x.tolist()])

    model = pytorch.save_model("lengths", Lengths(), store=models)
    given = np.array([b"a", b"bcd"], dtype=object)
    assert pytorch.open_methods(model, LoadOptions())["__call__"]({"x": given})["output_0"].tolist() == [1, 3]


def test_the_thread_budget_and_inference_mode_hold_in_the_executing_thread() -> None:
    before, seen = torch.get_num_threads(), []
    call = InferenceCall(lambda: seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled())), 1)
    try:
        torch.set_num_threads(2)
        thread = threading.Thread(target=lambda: (call(), call()))
        thread.start()
        thread.join(timeout=30)
        assert seen == [(1, True), (1, True)]
    finally:
        torch.set_num_threads(before)


class Force(torch.nn.Module):
    """Answers with the gradient of an energy, as models of molecules do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            x = x.requires_grad_()
            energy = (x**2).sum()
            return -torch.autograd.grad(energy, x)[0]


def test_a_module_may_leave_inference_mode_to_compute_gradients(models: ModelStore) -> None:
    model = pytorch.save_model("force", Force(), signatures=BATCHABLE, sample=X, store=models)
    answer: Any = pytorch.open_methods(model, LoadOptions())["__call__"]({"x": X.copy()})
    np.testing.assert_array_equal(answer["output_0"], -2 * X)


def test_trying_a_sample_leaves_the_callers_threads(models: ModelStore, net: Net) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        pytorch.save_model("net", net, sample=X, store=models)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(models: ModelStore, net: Net, device: str) -> None:
    model = pytorch.save_model("net", net, store=models)
    with pytest.raises(InvalidModel) as caught:
        pytorch.open_methods(model, LoadOptions(device=device))
    assert caught.value.field == "device"
    assert device_of("cpu") == CPU


def test_what_is_no_module_is_refused(models: ModelStore, net: Net) -> None:
    with pytest.raises(InvalidModel, match=r"no torch\.nn\.Module"):
        pytorch.save_model("net", len, store=models)  # type: ignore[arg-type]
    with pytest.raises(InvalidModel, match="torchscript adapter"):
        pytorch.save_model("net", scripted(net), store=models)
    with pytest.raises(InvalidModel, match="no method 'embed'"):
        pytorch.save_model("net", net, signatures={"embed": {}}, store=models)
    with pytest.raises(InvalidModel, match="neither"):
        torchscript.save_model("net", net, store=models)  # type: ignore[arg-type]
    with pytest.raises(InvalidModel, match="no method 'embed'"):
        torchscript.save_model("net", scripted(net), signatures={"embed": {}}, store=models)


def test_a_script_module_answers_as_the_module(models: ModelStore, net: Net) -> None:
    model = torchscript.save_model("net", scripted(net), signatures=BATCHABLE, sample=X, store=models)
    assert not model.info.pickled
    assert model.info.signatures["__call__"].inputs == (TensorSpec("x", "FP32", (-1, 4)),)
    result = torchscript.open_methods(model, LoadOptions())["__call__"]({"x": X.copy()})["output_0"]
    np.testing.assert_allclose(result, direct(net), rtol=1e-6, atol=1e-6)


def test_a_script_file_is_saved_as_it_is(models: ModelStore, tmp_path: Path) -> None:
    path = tmp_path / "module.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted(Identity()).save(str(path))
    model = torchscript.save_model("same", str(path), store=models)
    assert (model.path / torchscript.ARTIFACT).read_bytes() == path.read_bytes()
    loaded = torchscript.load_model("same", store=models)
    assert loaded(torch.ones(2)).tolist() == [1, 1]
    assert torchscript.get("same", store=models) == model


def test_a_file_that_is_no_script_is_refused(models: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "module.pt").write_bytes(b"nothing")
    for path in (tmp_path / "module.pt", tmp_path / "absent.pt"):
        with pytest.raises(InvalidModel, match="no TorchScript file"):
            torchscript.save_model("same", path, store=models)


def test_script_inputs_go_by_name_when_the_names_fit(models: ModelStore) -> None:
    class Difference(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
            return (a - b) * scale

    one, three = np.ones(1, np.float32), np.full(1, 3, np.float32)
    model = torchscript.save_model("difference", scripted(Difference()), store=models)
    method = torchscript.open_methods(model, LoadOptions())["__call__"]
    assert method({"b": one.copy(), "a": three.copy()})["output_0"].tolist() == [4.0]
    assert method({"x": one.copy(), "y": three.copy()})["output_0"].tolist() == [-4.0]


SAVE = textwrap.dedent(
    """
    import sys
    import torch
    from frameworks import pytorch
    from store import ModelStore

    class Local(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([2.0, 3.0]))

        def forward(self, x):
            return x * self.weight

    pytorch.save_model("local", Local(), store=ModelStore(sys.argv[1]))
    """
)
LOAD = textwrap.dedent(
    """
    import sys
    import numpy as np
    from frameworks import LoadOptions, pytorch
    from store import ModelStore

    method = pytorch.open_methods(ModelStore(sys.argv[1]).get("local"), LoadOptions())["__call__"]
    assert method({"x": np.ones(2, np.float32)})["output_0"].tolist() == [2.0, 3.0]
    """
)


def test_a_process_without_the_class_loads_the_module(tmp_path: Path) -> None:
    for script in (SAVE, LOAD):
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=REPOSITORY, check=True, timeout=100)
