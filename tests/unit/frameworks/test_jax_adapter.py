from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax as jax_library
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from frameworks import InvalidModel, LoadOptions, gpu, jax
from frameworks.errors import SampleFailed, WrongModule
from store import InvalidSignature, ModelStore, TensorSpec, datatypes

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
BATCHABLE = {"__call__": {"batchable": True}}


def scores(x: Any, scale: Any) -> dict[str, Any]:
    return {"total": (x * scale).sum(axis=1), "rows": x + scale}


def tanh(x: Any) -> Any:
    return jnp.tanh(x)


def run(models: ModelStore, name: str, **inputs: Any) -> dict[str, Any]:
    answer = jax.open_methods(models.get(name), LoadOptions())["__call__"](inputs)
    assert isinstance(answer, dict)
    return answer


def test_a_function_answers_for_every_batch_size(models: ModelStore) -> None:
    scale = np.full((4, 1), 2, np.float32)
    model = jax.save_model("scores", scores, signatures=BATCHABLE, sample=(X, scale), store=models)
    signature = model.info.signatures["__call__"]
    assert signature.inputs == (TensorSpec("x", "FP32", (-1, 3)), TensorSpec("scale", "FP32", (-1, 1)))
    assert signature.outputs == (TensorSpec("rows", "FP32", (-1, 3)), TensorSpec("total", "FP32", (-1,)))
    assert not model.info.pickled
    checks: Any = model.info.checks
    assert checks["batch_invariance"]["__call__"]["invariant"]
    for rows in (1, 2, 7):
        x, s = np.ones((rows, 3), np.float32), np.full((rows, 1), 3, np.float32)
        np.testing.assert_array_equal(run(models, "scores", x=x, scale=s)["total"], np.full(rows, 9.0))
        np.testing.assert_array_equal(run(models, "scores", scale=s, x=x)["rows"], np.full((rows, 3), 4.0))


def test_it_loads_without_the_code_that_made_it(models: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "secret_code.py").write_text("import jax.numpy as n\ndef f(x):\n    return n.tanh(x) * 3\n")
    save = (
        "import sys, numpy; sys.path.insert(0, sys.argv[2]); import secret_code\n"
        "from frameworks import jax; from store import ModelStore\n"
        "jax.save_model('f', secret_code.f, sample=numpy.ones((2, 2), 'f4'), store=ModelStore(sys.argv[1]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", save, str(models.root), str(tmp_path)], capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr.decode()
    answer = run(models, "f", x=np.ones((2, 2), np.float32))["output_0"]
    np.testing.assert_allclose(answer, np.full((2, 2), np.tanh(1) * 3), 1e-6)


@pytest.mark.parametrize("name", ["BOOL", "UINT8", "INT8", "INT32", "UINT32", "FP16", "BF16", "FP32"])
def test_datatypes_survive_bit_for_bit(models: ModelStore, name: str) -> None:
    array = np.arange(4).reshape(2, 2).astype(datatypes.numpy_dtype(name))
    model = jax.save_model("same", lambda x: x, signatures=BATCHABLE, sample=array, store=models)
    assert model.info.signatures["__call__"].outputs == (TensorSpec("output_0", name, (-1, 2)),)
    answer = run(models, "same", x=array)["output_0"]
    assert (answer.dtype, answer.tobytes()) == (array.dtype, array.tobytes())


@pytest.mark.parametrize("name", ["FP64", "INT64", "UINT64"])
def test_64_bits_are_kept_or_refused_and_never_cut(models: ModelStore, name: str) -> None:
    array = np.array([[2**53 - 1, 3]]).astype(datatypes.numpy_dtype(name))
    with pytest.raises(InvalidModel, match=f"input 'x' is {name}, and JAX computes with 32 bits"):
        jax.save_model("wide", lambda x: x, sample=array, store=models)
    with jax_library.enable_x64(True):
        jax.save_model("wide", lambda x: x, sample=array, store=models)
    answer = run(models, "wide", x=array)["output_0"]
    assert (answer.dtype, answer.tobytes()) == (array.dtype, array.tobytes())


def test_axes_that_are_open_in_the_specs_stay_open(models: ModelStore) -> None:
    specs = [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}]
    jax.save_model("sum", lambda x: x.sum(), signatures={"__call__": {"inputs": specs}}, store=models)
    for shape in ((1, 5), (3, 2)):
        assert run(models, "sum", x=np.ones(shape, np.float32))["output_0"] == np.prod(shape)


@pytest.mark.parametrize("by_keyword", [True, False])
def test_an_exported_program_is_stored_as_it_is(models: ModelStore, by_keyword: bool) -> None:
    scope = export.SymbolicScope()
    z = jax_library.ShapeDtypeStruct(export.symbolic_shape("n, 3", scope=scope), jnp.float32)
    a = jax_library.ShapeDtypeStruct(export.symbolic_shape("n", scope=scope), jnp.int32)
    make: Callable[..., Any] = export.export(jax_library.jit(lambda z, a: (z * 2, a + 1)))
    program = make(z=z, a=a) if by_keyword else make(z, a)
    model = jax.save_model("program", program, signatures=BATCHABLE, store=models)
    expected = ("a", "z") if by_keyword else ("input_0", "input_1")
    assert tuple(spec.name for spec in model.info.signatures["__call__"].inputs or ()) == expected
    named = dict(zip(("z", "a") if by_keyword else expected, (X, np.arange(4, dtype=np.int32)), strict=True))
    answer = run(models, "program", **named)
    np.testing.assert_array_equal(answer["output_0"], X * 2)
    np.testing.assert_array_equal(answer["output_1"], [1, 2, 3, 4])
    assert jax.load_model(model).mlir_module_serialized == program.mlir_module_serialized


def test_what_cannot_be_exported_is_refused(models: ModelStore) -> None:
    with pytest.raises(InvalidModel, match="neither a function nor"):
        jax.save_model("m", 3, sample=X, store=models)
    with pytest.raises(InvalidModel, match="needs a sample or input specs"):
        jax.save_model("m", jnp.tanh, store=models)
    with pytest.raises(InvalidModel, match="exactly one method"):
        jax.save_model("m", jnp.tanh, signatures={"predict": {}}, sample=X, store=models)
    with pytest.raises(InvalidModel, match="cannot export"):
        jax.save_model("m", lambda x: x if x.sum() > 0 else -x, sample=X, store=models)
    with pytest.raises(InvalidModel, match="has no strings"):
        jax.save_model("m", lambda x: x, sample=np.array([b"a"], dtype=object), store=models)
    fixed = export.export(jax_library.jit(lambda x: x))(X)
    with pytest.raises(InvalidSignature, match="fixes its batch axis 0 at 4"):
        jax.save_model("m", fixed, signatures=BATCHABLE, store=models)
    nested = export.export(jax_library.jit(lambda x: x["a"]))({"a": X})
    with pytest.raises(InvalidModel, match="nested arguments"):
        jax.save_model("m", nested, store=models)
    specs = [{"name": name, "datatype": "FP32", "shape": [4, 3]} for name in "ab"]
    with pytest.raises(InvalidModel, match="takes 1 inputs; the specs are a, b"):
        jax.save_model("m", fixed, signatures={"__call__": {"inputs": specs}}, store=models)
    wrong = [{"name": "a", "datatype": "INT32", "shape": [4, 3]}]
    with pytest.raises(InvalidModel, match="input 'a' of the program is FP32, not INT32"):
        jax.save_model("m", fixed, signatures={"__call__": {"inputs": wrong}}, store=models)


def test_a_wrong_shape_fails_by_itself(models: ModelStore) -> None:
    jax.save_model("tanh", tanh, sample=X, store=models)
    with pytest.raises(ValueError, match="Shape mismatch"):
        run(models, "tanh", x=X[:2])
    with pytest.raises(SampleFailed):
        jax.save_model("tanh", tanh, sample={"x": "text", "y": object()}, store=models)


@pytest.mark.parametrize("device", ["nonsense", "cpu:1", "cuda:x"])
def test_an_unknown_device_is_refused(models: ModelStore, device: str) -> None:
    model = jax.save_model("tanh", tanh, sample=X, store=models)
    with pytest.raises(InvalidModel, match="knows no device"):
        jax.open_methods(model, LoadOptions(device=device))


@pytest.mark.skipif(gpu.find_gpu() is not None, reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_refused(models: ModelStore) -> None:
    model = jax.save_model("tanh", tanh, sample=X, store=models)
    with pytest.raises(InvalidModel, match="no NVIDIA GPU") as caught:
        jax.open_methods(model, LoadOptions(device="cuda:0"))
    assert caught.value.field == "device"


def test_a_program_for_another_platform_is_refused(models: ModelStore) -> None:
    program = export.export(jax_library.jit(lambda x: x), platforms=("tpu",))(X)
    model = jax.save_model("elsewhere", program, store=models)
    with pytest.raises(InvalidModel, match="exported for tpu and not for cpu"):
        jax.load_model(model)
    models.delete(model.tag)


def test_models_of_other_adapters_are_refused(models: ModelStore) -> None:
    from frameworks import python

    python.save_model("function", len, store=models)
    with pytest.raises(WrongModule):
        jax.get("function", store=models)
