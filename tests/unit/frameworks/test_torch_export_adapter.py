from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frameworks import InvalidModel, LoadOptions, UnsupportedInput, torch_export
from frameworks.errors import WrongModule
from frameworks.pt.archive import CPU_FLAGS, Archive, cpu_flags
from store import InvalidSignature, ModelStore, Signature, TensorSpec
from tests.support.dtypes import edge_array

REPOSITORY = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")
X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4)
BATCHABLE = {"__call__": {"batchable": True}}


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(x)
        return result


class Weighted(torch.nn.Module):
    def forward(
        self, a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None, *, scale: float = 1.0
    ) -> dict[str, torch.Tensor]:
        return {"difference": (a - b) * scale, "total": (a + b).sum(1)}


class Same(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clone()


class Nested(torch.nn.Module):
    def forward(self, pair: list[torch.Tensor]) -> torch.Tensor:
        return pair[0] + pair[1]


def batch(most: int | None = 16) -> Any:
    return torch.export.Dim("batch", min=1, max=most)


def export(module: torch.nn.Module, *example: Any, shapes: Any = None, **keywords: Any) -> Any:
    return torch.export.export(module.eval(), example, keywords, dynamic_shapes=shapes, strict=False)


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def program(net: Net) -> Any:
    return export(net, torch.ones(2, 4), shapes=({0: batch()},))


@pytest.fixture(scope="module")
def weighted() -> Any:
    """Two positional tensors, a constant between them and the keywords, results by name."""
    rows = {0: batch(), 1: torch.export.Dim.DYNAMIC}
    return export(
        Weighted(),
        torch.ones(2, 4),
        torch.ones(2, 4),
        None,
        shapes={"a": rows, "b": rows, "bias": None, "scale": None},
        scale=2.0,
    )


def direct(net: Net, x: Any = X) -> Any:
    with torch.inference_mode():
        return net(torch.from_numpy(x)).numpy()


def method(model: Any) -> Any:
    return torch_export.open_methods(model, LoadOptions())["__call__"]


def test_a_program_answers_as_the_module(models: ModelStore, net: Net, program: Any) -> None:
    model = torch_export.save_model("net", program, signatures=BATCHABLE, sample=X, store=models)
    assert not model.info.pickled
    assert model.info.signatures["__call__"] == Signature(
        batchable=True,
        inputs=(TensorSpec("x", "FP32", (-1, 4)),),
        outputs=(TensorSpec("output_0", "FP32", (-1, 3)),),
    )
    for rows in (1, 2, 5):
        result = method(model)({"x": X[:rows].copy()})["output_0"]
        np.testing.assert_allclose(result, direct(net, X[:rows]), atol=1e-6)


def test_a_program_from_a_file_is_saved_as_it_is(models: ModelStore, program: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    torch.export.save(program, path)
    model = torch_export.save_model("net", str(path), store=models)
    assert (model.path / torch_export.ARTIFACT).read_bytes() == path.read_bytes()
    loaded = torch_export.load_model("net", store=models)
    assert isinstance(loaded, torch.export.ExportedProgram)
    assert torch_export.get("net", store=models) == model


def test_inputs_go_by_name_or_position_and_constants_stay(models: ModelStore, weighted: Any) -> None:
    model = torch_export.save_model("weighted", weighted, store=models)
    signature = model.info.signatures["__call__"]
    assert signature.inputs is not None
    assert [spec.name for spec in signature.inputs] == ["a", "b"]
    assert signature.outputs is not None
    assert [spec.name for spec in signature.outputs] == ["difference", "total"]
    one, three = np.ones((3, 1), np.float32), np.full((3, 1), 3, np.float32)
    call = method(model)
    assert call({"b": one.copy(), "a": three.copy()})["difference"].tolist() == [[4]] * 3
    assert call({"left": one.copy(), "right": three.copy()})["difference"].tolist() == [[-4]] * 3


def test_a_missing_input_is_told(models: ModelStore, weighted: Any) -> None:
    model = torch_export.save_model("weighted", weighted, store=models)
    with pytest.raises(UnsupportedInput, match=r"takes 2 inputs \(a, b\), not 1 \(a\)"):
        method(model)({"a": X.copy()})


def test_an_extent_out_of_range_is_told(models: ModelStore, program: Any) -> None:
    model = torch_export.save_model("net", program, store=models)
    with pytest.raises(UnsupportedInput, match=r"takes only inputs with x\.size\(\)\[0\] <= 16"):
        method(model)({"x": np.ones((17, 4), np.float32)})
    with pytest.raises(UnsupportedInput, match=r"x\.size\(\)\[1\] == 4"):
        method(model)({"x": np.ones((2, 5), np.float32)})


def test_a_server_is_kept_from_larger_batches(models: ModelStore, program: Any, net: Net) -> None:
    model = torch_export.save_model("net", program, signatures=BATCHABLE, store=models)
    assert model.info.options == {"max_batch_size": 16}
    smaller = torch_export.save_model(
        "net", program, signatures=BATCHABLE, options={"max_batch_size": 8}, store=models
    )
    assert smaller.info.options == {"max_batch_size": 8}
    with pytest.raises(InvalidModel, match="max_batch_size is 17, but the program was exported for 16"):
        torch_export.save_model(
            "net", program, signatures=BATCHABLE, options={"max_batch_size": 17}, store=models
        )
    endless = export(net, torch.ones(2, 4), shapes=({0: batch(None)},))
    assert torch_export.save_model("net", endless, signatures=BATCHABLE, store=models).info.options == {}


def test_a_fixed_batch_axis_is_refused(models: ModelStore, net: Net) -> None:
    fixed = export(net, torch.ones(2, 4))
    with pytest.raises(InvalidModel, match="fixes axis 0 of 'x'"):
        torch_export.save_model("net", fixed, signatures=BATCHABLE, store=models)
    assert torch_export.save_model("net", fixed, store=models).info.signatures["__call__"].inputs == (
        TensorSpec("x", "FP32", (2, 4)),
    )


def test_a_method_may_have_another_name_but_only_one(models: ModelStore, program: Any) -> None:
    model = torch_export.save_model("net", program, signatures={"embed": {"batchable": True}}, store=models)
    assert list(torch_export.open_methods(model, LoadOptions())) == ["embed"]
    with pytest.raises(InvalidModel, match="exactly one method, not a, b"):
        torch_export.save_model("net", program, signatures={"a": {}, "b": {}}, store=models)


@pytest.mark.parametrize("name", ["BOOL", "INT64", "FP16", "BF16", "FP64"])
def test_datatypes_survive_bit_for_bit(models: ModelStore, name: str) -> None:
    from frameworks.pt.tensors import to_tensor

    array = edge_array(name)
    model = torch_export.save_model("same", export(Same(), to_tensor(array, CPU)), store=models)
    result = method(model)({"x": array.copy()})["output_0"]
    assert result.dtype == array.dtype
    assert result.tobytes() == array.tobytes()


def test_what_is_no_program_is_refused(models: ModelStore, net: Net, tmp_path: Path) -> None:
    (tmp_path / "text.pt2").write_text("nothing")
    with zipfile.ZipFile(tmp_path / "empty.pt2", "w") as file:
        file.writestr("a/other", "")
    with pytest.raises(InvalidModel, match="neither an ExportedProgram nor a path"):
        torch_export.save_model("net", net, store=models)  # type: ignore[arg-type]
    for name, message in (
        ("text", r"is no \.pt2 file"),
        ("absent", r"is no \.pt2 file"),
        ("empty", "holds no exported program"),
    ):
        with pytest.raises(InvalidModel, match=message):
            torch_export.save_model("net", tmp_path / f"{name}.pt2", store=models)


def test_lists_of_tensors_are_refused(models: ModelStore) -> None:
    nested = export(Nested(), [torch.ones(2), torch.ones(2)])
    with pytest.raises(InvalidModel, match="takes each tensor by itself"):
        torch_export.save_model("nested", nested, store=models)


def test_options_and_devices_that_are_not_there_are_refused(models: ModelStore, program: Any) -> None:
    model = torch_export.save_model("net", program, store=models)
    with pytest.raises(InvalidModel, match="no load option 'fast'"):
        torch_export.open_methods(model, LoadOptions(settings={"fast": True}))
    with pytest.raises(InvalidModel) as caught:
        torch_export.open_methods(model, LoadOptions(device="cuda:99"))
    assert caught.value.field == "device"


def test_other_adapters_models_are_refused(models: ModelStore, net: Net) -> None:
    from frameworks import pytorch

    pytorch.save_model("net", net, store=models)
    with pytest.raises(WrongModule):
        torch_export.get("net", store=models)


def rewritten(source: Path, target: Path, change: Any) -> Path:
    """Copy an archive with its JSON members changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, change(name, data))
    return target


def test_a_file_with_pickled_objects_is_marked(program: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    torch.export.save(program, path)
    assert not Archive.of(path).runs_code

    def pickled(name: str, data: bytes) -> bytes:
        if not name.endswith("weights_config.json"):
            return data
        document = json.loads(data)
        next(iter(document["config"].values()))["use_pickle"] = True
        return json.dumps(document).encode()

    assert Archive.of(rewritten(path, tmp_path / "weights.pt2", pickled)).runs_code
    odd = rewritten(path, tmp_path / "odd.pt2", lambda n, d: b"odd" if "sample_inputs" in n else d)
    assert Archive.of(odd).runs_code


def package(path: Path, build: dict[str, str], *models: str) -> Path:
    """Write an archive that looks like a compiled package, as far as it is looked at before it is loaded."""
    with zipfile.ZipFile(path, "w") as file:
        for name in models or ("model",):
            file.writestr(f"a/data/aotinductor/{name}/x.wrapper_metadata.json", json.dumps(build))
    return path


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ({"AOTI_DEVICE_KEY": "cuda"}, "compiled for device 'cuda', not for 'cpu'"),
        ({"AOTI_MACHINE": "vax"}, "compiled for vax, and this is"),
        ({CPU_FLAGS: "avx2 avx9000"}, "for a CPU with avx9000, which this one lacks"),
    ],
)
def test_a_package_for_another_machine_is_refused(tmp_path: Path, build: Any, message: str) -> None:
    if CPU_FLAGS in build and "avx2" not in cpu_flags():
        pytest.skip("this CPU has no AVX2")
    path = package(tmp_path / "other.pt2", build)
    signatures = {"__call__": Signature(inputs=(TensorSpec("x", "FP32", (-1, 4)),))}
    with pytest.raises(InvalidModel, match=message):
        torch_export.open_artifact(path, signatures, LoadOptions())


def test_a_package_of_somebody_else_tells_its_instructions_in_torchs_words(tmp_path: Path) -> None:
    archive = Archive.of(package(tmp_path / "other.pt2", {"AOTI_CPU_ISA": "AVX512 AVX512_VNNI"}))
    assert archive.compiled
    assert archive.runs_code
    if {"avx512f", "avx512_vnni"} <= cpu_flags():
        archive.check_machine(CPU)
    else:
        with pytest.raises(InvalidModel, match="avx512"):
            archive.check_machine(CPU)


def test_cpu_flags_are_those_of_instructions(tmp_path: Path) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_text("processor\t: 0\nflags\t\t: fpu avx2 fma syscall abm sse4_1\n")
    assert cpu_flags(listed) == {"avx2", "fma", "abm", "sse4_1"}
    listed.write_text("processor : 0\nFeatures : fp asimd sve\n")
    assert cpu_flags(listed) == {"fp", "asimd", "sve"}
    assert cpu_flags(tmp_path / "absent") == frozenset()


def test_a_file_of_several_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="2 models; save each in a file of its own"):
        Archive.of(package(tmp_path / "two.pt2", {}, "one", "two"))


def test_a_package_needs_the_specs_of_its_inputs(models: ModelStore, tmp_path: Path) -> None:
    path = package(tmp_path / "model.pt2", {})
    with pytest.raises(InvalidModel, match="give their specs in the signature"):
        torch_export.save_model("net", path, signatures=BATCHABLE, store=models)


@pytest.fixture(scope="module")
def compiled(weighted: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compiled") / "model.pt2"
    compile_package: Any = torch._inductor.aoti_compile_and_package
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compile_package(weighted, package_path=str(path))
    return path


SPECS = {
    "__call__": Signature(
        batchable=True,
        inputs=(TensorSpec("a", "FP32", (-1, -1)), TensorSpec("b", "FP32", (-1, -1))),
    )
}


@pytest.mark.slow
def test_a_compiled_package_answers_as_the_module(models: ModelStore, compiled: Path) -> None:
    model = torch_export.save_model("net", compiled, signatures=SPECS, sample=(X, X), store=models)
    assert model.info.pickled
    assert model.info.signatures["__call__"].outputs == (
        TensorSpec("difference", "FP32", (-1, -1)),
        TensorSpec("total", "FP32", (-1,)),
    )
    for rows in (1, 5):
        result = method(model)({"a": X[:rows].copy(), "b": X[:rows] * 3})
        np.testing.assert_allclose(result["difference"], X[:rows] * -4, atol=1e-6)
    loaded = torch_export.load_model("net", store=models)
    assert loaded(torch.ones(2, 4), torch.ones(2, 4))["total"].tolist() == [8, 8]


@pytest.mark.slow
def test_a_compiled_package_is_given_nothing_else_than_its_specs(models: ModelStore, compiled: Path) -> None:
    model = torch_export.save_model("net", compiled, signatures=SPECS, store=models)
    call = method(model)
    for wrong in (X.astype(np.float64), X[0]):
        with pytest.raises(UnsupportedInput, match=r"input 'b' must be FP32 \[-1, -1\], not"):
            call({"a": X.copy(), "b": wrong})
    with pytest.raises(UnsupportedInput, match="takes 2 inputs"):
        call({"a": X.copy()})


SERVE = textwrap.dedent(
    """
    import sys
    import numpy as np
    from frameworks import LoadOptions, torch_export
    from store import ModelStore

    method = torch_export.open_methods(ModelStore(sys.argv[1]).get("net"), LoadOptions())["__call__"]
    assert method({"x": np.ones((3, 4), np.float32)})["output_0"].shape == (3, 3)
    """
)


def test_a_process_without_the_class_loads_a_program(tmp_path: Path, program: Any) -> None:
    torch_export.save_model("net", program, store=ModelStore(tmp_path))
    run = subprocess.run(
        [sys.executable, "-c", SERVE, str(tmp_path)],
        cwd=REPOSITORY, check=True, timeout=100, capture_output=True,
    )  # fmt: skip
    assert run.stderr == b""


def test_a_signature_that_contradicts_the_program_is_refused(models: ModelStore, net: Net) -> None:
    scalar = export(Same(), torch.tensor(1.0))
    with pytest.raises((InvalidModel, InvalidSignature)):
        torch_export.save_model("same", scalar, signatures=BATCHABLE, store=models)
