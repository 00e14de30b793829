from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import numpy as np
import pytest

from frameworks import FrameworkError, InvalidModel, LoadOptions, SampleFailed, WrongModule, python
from frameworks.pickling import by_value
from store import (
    CorruptArtifact,
    InvalidManifest,
    InvalidSignature,
    ModelMissing,
    ModelStore,
    TagExists,
    datatypes,
)
from tests.support.dtypes import edge_array

REPOSITORY = Path(__file__).resolve().parents[3]
X = np.arange(6, dtype=np.float32).reshape(3, 2)


def double(x: Any) -> Any:
    return x * 2


class Scaler:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def scale(self, x: Any) -> Any:
        return x * self.factor

    def shift(self, x: Any) -> Any:
        return {"up": x + self.factor, "down": x - self.factor}


def test_a_function_answers_as_before(models: ModelStore) -> None:
    model = python.save_model("double", double, store=models)
    method = python.open_methods(model, LoadOptions())["__call__"]
    np.testing.assert_array_equal(method({"x": X})["output_0"], double(X))
    assert python.load_model("double", store=models)(21) == 42
    assert python.get("double:latest", store=models) == model
    assert model.info.signatures["__call__"].batchable is False
    assert model.info.pickled


def test_each_method_of_an_object_is_served(models: ModelStore) -> None:
    model = python.save_model(
        "scaler", Scaler(3), signatures={"scale": {"batchable": True}, "shift": {}}, store=models
    )
    methods = python.open_methods(model, LoadOptions())
    np.testing.assert_array_equal(methods["scale"]({"x": X})["output_0"], X * 3)
    assert set(methods["shift"]({"x": X})) == {"up", "down"}


def test_an_object_that_is_not_callable_needs_signatures(models: ModelStore) -> None:
    with pytest.raises(InvalidModel, match="not callable"):
        python.save_model("scaler", Scaler(3), store=models)


def test_a_missing_method_is_refused_at_save(models: ModelStore) -> None:
    with pytest.raises(InvalidModel, match="no method 'predict'"):
        python.save_model("scaler", Scaler(3), signatures={"predict": {}}, store=models)
    assert models.list() == []


def test_everything_said_about_a_model_is_kept(models: ModelStore) -> None:
    model = python.save_model(
        "double:v1",
        double,
        labels={"stage": "dev"},
        metadata={"acc": 0.5},
        options={"max_batch_size": 8},
        custom_objects={"helper": lambda text: text.upper(), "limits": {1, 2}},
        store=models,
    )
    assert str(model.tag) == "double:v1"
    found = models.get("double")
    assert (found.info.labels, found.info.metadata) == ({"stage": "dev"}, {"acc": 0.5})
    assert found.info.options == {"max_batch_size": 8}
    assert found.custom_objects["limits"] == {1, 2}
    assert found.custom_objects["helper"]("a") == "A"  # type: ignore[operator]
    assert found.info.context.framework_versions == {"cloudpickle": cloudpickle.__version__}
    assert found.info.context.python_version.startswith("3.")


def test_wrong_descriptions_publish_nothing(models: ModelStore) -> None:
    with pytest.raises(InvalidManifest, match=r"metadata\.fit"):
        python.save_model("double", double, metadata={"fit": object()}, store=models)
    with pytest.raises(InvalidSignature, match="did you mean"):
        python.save_model("double", double, signatures={"__call__": {"batchabel": True}}, store=models)
    with pytest.raises(FrameworkError, match="did you mean 'sample'"):
        python.save_model("double", double, sampel=X, store=models)  # type: ignore[call-arg]
    with pytest.raises(InvalidModel, match="cannot be saved"):
        python.save_model("lock", {"lock": threading.Lock()}.get, store=models)
    python.save_model("double:v1", double, store=models)
    with pytest.raises(TagExists):
        python.save_model("double:v1", double, store=models)
    assert len(models.list()) == 1


def test_the_default_store_is_used_without_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RUNTIME_HOME", str(tmp_path))
    model = python.save_model("double", double)
    assert model.path.is_relative_to(tmp_path / "models")
    assert python.get("double") == model


@pytest.mark.parametrize("name", datatypes.NAMES)
def test_every_datatype_survives_bit_for_bit(models: ModelStore, name: str) -> None:
    array = edge_array(name)
    model = python.save_model(
        "identity", lambda x: x, signatures={"__call__": {"batchable": True}}, sample=array, store=models
    )
    signature = models.get("identity").info.signatures["__call__"]
    assert signature.inputs is not None
    assert (signature.inputs[0].datatype, signature.inputs[0].shape) == (name, (-1, 2))
    assert signature.outputs is not None
    assert signature.outputs[0].datatype == name
    result = python.open_methods(model, LoadOptions())["__call__"]({"x": array.copy()})["output_0"]
    assert result.dtype == array.dtype
    assert result.tolist() == array.tolist() if name == "BYTES" else result.tobytes() == array.tobytes()


def test_a_damaged_artifact_is_not_unpickled(models: ModelStore) -> None:
    model = python.save_model("double", double, store=models)
    artifact = model.path / "model.pkl"
    artifact.write_bytes(artifact.read_bytes()[:-1] + b"!")
    with pytest.raises(CorruptArtifact, match=r"model\.pkl"):
        python.open_methods(model, LoadOptions())
    with pytest.raises(CorruptArtifact):
        python.load_model(model)


def test_a_model_deleted_meanwhile_is_missing(models: ModelStore) -> None:
    model = python.save_model("double", double, store=models)
    models.delete(model.tag)
    with pytest.raises(ModelMissing):
        python.open_methods(model, LoadOptions())


def test_an_artifact_that_is_no_pickle_is_refused(models: ModelStore) -> None:
    from store import ModelInfo

    with models.create(ModelInfo(name="m", version="v1", module="python")) as draft:
        (draft.path / "model.pkl").write_bytes(b"nothing")
    with pytest.raises(InvalidModel, match="cannot be loaded"):
        python.load_model("m", store=models)


def test_another_adapters_model_is_refused(models: ModelStore) -> None:
    from store import ModelInfo

    with models.create(ModelInfo(name="m", version="v1", module="onnx")) as draft:
        pass
    for reading in (python.get, python.load_model):
        with pytest.raises(WrongModule, match="'onnx'"):
            reading("m", store=models)
    with pytest.raises(WrongModule):
        python.open_methods(draft.model, LoadOptions())


def test_another_minor_version_is_logged_with_both(
    models: ModelStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = python.save_model("double", double, store=models)
    here = f"{cloudpickle.__version__.split('.')[0]}.99.1"
    monkeypatch.setattr(python, "_VERSIONS", {"cloudpickle": here})
    with caplog.at_level(logging.WARNING):
        python.open_methods(model, LoadOptions())
    assert f"cloudpickle {cloudpickle.__version__} (here {here})" in caplog.text


def test_a_pickle_of_another_major_version_is_refused_with_what_to_install(
    models: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = python.save_model("double", double, store=models)
    monkeypatch.setattr(python, "_VERSIONS", {"cloudpickle": "99.0.0"})
    with pytest.raises(InvalidModel, match=rf"Install cloudpickle=={cloudpickle.__version__} for the server"):
        python.open_methods(model, LoadOptions())


def test_the_same_versions_are_not_logged(models: ModelStore, caplog: pytest.LogCaptureFixture) -> None:
    python.open_methods(python.save_model("double", double, store=models), LoadOptions())
    assert caplog.text == ""


def test_a_sample_that_fails_publishes_nothing(models: ModelStore) -> None:
    with pytest.raises(SampleFailed, match="ZeroDivisionError"):
        python.save_model("broken", lambda x: 1 // 0, sample=X, store=models)
    assert models.list() == []


def test_threads_must_be_positive() -> None:
    with pytest.raises(FrameworkError, match="threads"):
        LoadOptions(threads=0)


SAVE = textwrap.dedent(
    """
    import sys
    sys.path.insert(0, sys.argv[2])
    import project_code
    from frameworks import python
    from store import ModelStore

    OFFSET = 1

    class Local:
        def __init__(self, helper):
            self.helper = helper

        def __call__(self, x):
            return self.helper(x) + OFFSET

    models = ModelStore(sys.argv[1])
    python.save_model("local", Local(project_code.triple), external_modules=[project_code], store=models)
    python.save_model("by_name", Local(project_code.triple), store=models)
    """
)
LOAD = textwrap.dedent(
    """
    import sys
    import numpy as np
    from frameworks import InvalidModel, LoadOptions, python
    from store import ModelStore

    models = ModelStore(sys.argv[1])
    method = python.open_methods(models.get("local"), LoadOptions())["__call__"]
    assert method({"x": np.array([1, 2])})["output_0"].tolist() == [4, 7]
    try:
        python.open_methods(models.get("by_name"), LoadOptions())
    except InvalidModel as error:
        assert "external_modules=[project_code]" in str(error), error
    else:
        raise AssertionError("code of a module that is not importable was found")
    """
)


def test_a_process_without_the_users_code_loads_what_was_stored_by_value(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "project_code.py").write_text("FACTOR = 3\n\n\ndef triple(x):\n    return x * FACTOR\n")
    for script, arguments in ((SAVE, [str(project)]), (LOAD, [])):
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "models"), *arguments],
            cwd=REPOSITORY,
            check=True,
            timeout=60,
        )


def test_storing_by_value_leaves_the_registry_as_it_was() -> None:
    first, second = ModuleType("first_module"), ModuleType("second_module")
    sys.modules["first_module"], sys.modules["second_module"] = first, second
    cloudpickle.register_pickle_by_value(first)
    try:
        with by_value([first, second]):
            assert cloudpickle.list_registry_pickle_by_value() == {"first_module", "second_module"}
        assert cloudpickle.list_registry_pickle_by_value() == {"first_module"}
    finally:
        cloudpickle.unregister_pickle_by_value(first)
        del sys.modules["first_module"], sys.modules["second_module"]
