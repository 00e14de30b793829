"""A model and what it was converted to, served together, give a stock client the same answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from frameworks import pytorch, sklearn
from runtime.cli.main import main
from store import ModelStore
from tests.interop import environment
from tests.support.server import Server, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CALLS = Path(__file__).with_name("converted_calls.py").read_text()
ROWS = {"batchable": True, "batch_dim": 0}
QUICK = ("--window-ms", "20", "--batch-sizes", "1,8", "--max-batch", "16")
TORCH = ("onnx", "torchscript-trace", "torch-export")
FLOWERS = load_iris().data.astype(np.float32)
NOISE = np.random.default_rng(3).normal(size=(40, 6)).astype(np.float32)


def forest() -> RandomForestClassifier:
    return RandomForestClassifier(n_estimators=7, random_state=1, n_jobs=1).fit(FLOWERS, load_iris().target)


def network() -> torch.nn.Module:
    torch.manual_seed(5)
    layers = [torch.nn.Linear(6, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3)]
    return torch.nn.Sequential(*layers).eval()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """With both families."""
    store = ModelStore(tmp_path_factory.mktemp("family") / "models")
    both = {"predict": ROWS, "predict_proba": ROWS}
    sklearn.save_model("forest:v1", forest(), signatures=both, sample=FLOWERS[::10], store=store)
    pytorch.save_model("network:v1", network(), signatures={"__call__": ROWS}, sample=NOISE[:12], store=store)
    folder = ("--store", str(store.root))
    assert main(["convert", "forest", "--to", "onnx", *QUICK, *folder]) == 0
    assert main(["convert", "network", "--to", ",".join(TORCH), *QUICK, *folder]) == 0
    return store


@pytest.fixture(scope="module")
def server(store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        # What torch and onnxruntime would write into the server's own folders.
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        patch.setenv("ORT_DISABLE_TELEMETRY", "1")
        with serving(store, server={"log_level": "INFO"}, model={"instances": 1}) as server:
            yield server


def ask(server: Server, model: str, method: str, rows: Any) -> dict[str, Any]:
    """What the stock client got, by output."""
    given = json.dumps([model, method, rows.dtype.name, rows.shape, rows.tobytes().hex()])
    answer = json.loads(environment.run(CALLS, server.target, given))
    return {
        name: np.frombuffer(bytes.fromhex(data), dtype).reshape(shape)
        for name, (dtype, shape, data) in answer.items()
    }


def test_every_good_variant_is_stored_with_its_parent(store: ModelStore) -> None:
    found = {model.info.name: model.info.parent for model in store.list()}
    assert found == {
        "forest": "",
        "network": "",
        "forest-onnx": "forest:v1",
        **{f"network-{variant}": "network:v1" for variant in TORCH},
    }


def test_a_network_answers_as_its_source_in_every_format(server: Server) -> None:
    expected = network()(torch.from_numpy(NOISE)).detach().numpy()
    (name,) = ask(server, "network", "", NOISE)
    for model in ("network", *(f"network-{variant}" for variant in TORCH)):
        answer = ask(server, model, "", NOISE)
        assert list(answer) == [name], model
        assert answer[name].dtype == np.float32
        np.testing.assert_allclose(answer[name], expected, rtol=1e-3, atol=1e-5, err_msg=model)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_a_forest_answers_as_its_source_by_each_method(method: str, server: Server) -> None:
    expected = getattr(forest(), method)(FLOWERS)
    for model in ("forest", "forest-onnx"):
        (answer,) = ask(server, model, method, FLOWERS).values()
        assert answer.dtype == expected.dtype
        np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-5, err_msg=model)


def test_each_model_starts_with_the_times_that_were_measured(server: Server) -> None:
    used = {json.loads(line)["tag"] for line in server.log.splitlines() if '"profile_used"' in line}
    assert {"network:v1", "network-onnx:v1", "forest:v1", "forest-onnx:v1"} <= used
