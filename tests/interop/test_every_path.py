"""Six kinds of models through every path that needs no GPU: converted, packed, served, looked at.

Each is saved by its adapter, converted by the command, and then asked in three ways, which have to answer as
the framework itself does: as a package in a process that has nothing of the source, and as models of a server
that a stock client calls.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from store import ModelStore
from tests.interop import environment
from tests.interop.every_path_sources import SOURCES, Source
from tests.support.server import ROOT, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HERE: Final = Path(__file__).parent
CALLS: Final = (HERE / "every_path_calls.py").read_text()
SIZES: Final = {"1", "4"}
QUICK: Final = ("--verify", "--profile", "--window-ms", "20", "--batch-sizes", "1,4", "--max-batch", "8")
NO_GPU: Final = (
    "TensorrtExecutionProvider needs an NVIDIA GPU: its driver's library libcuda.so.1 is not on this "
    "machine, or it finds no card"
)


@dataclass(frozen=True)
class Family:
    """A source that was saved and converted.

    Args:
        name: of the source.
        folder: holds the store, the package, and a home for the processes.
        document: what the command printed.
    """

    name: str
    folder: Path
    document: dict[str, Any]

    @property
    def source(self) -> Source:
        return SOURCES[self.name]

    @property
    def store(self) -> ModelStore:
        return ModelStore(self.folder / "models")

    @property
    def questions(self) -> Path:
        """Inputs by ``question|name``."""
        path = self.folder / "questions.npz"
        if not path.exists():
            asked = enumerate(self.source.questions)
            np.savez(path, **{f"{index}|{name}": rows for index, one in asked for name, rows in one.items()})
        return path

    def assert_right(self, answers: Path, who: set[str]) -> None:
        """Everybody has answered each question as the framework does, by each method."""
        found = dict(np.load(answers))
        for method, expected in self.source.answers().items():
            for index, wanted in enumerate(expected):
                for one in who:
                    answer = found.pop(f"{one}|{method}|{index}")
                    assert (answer.dtype, answer.shape) == (wanted.dtype, wanted.shape), (one, method)
                    np.testing.assert_allclose(
                        answer, wanted, rtol=1e-3, atol=1e-5, err_msg=f"{one} {method}"
                    )
        assert found == {}


def run(folder: Path, *words: str, path: str = str(ROOT)) -> str:
    """What a process printed that ended well, in a home of its own and without a GPU."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNTIME_")}
    own = dict.fromkeys(("HOME", "RUNTIME_HOME", "TMPDIR"), str(home))
    done = subprocess.run(
        [sys.executable, *words], check=False, capture_output=True, text=True, cwd=home,
        env={**kept, **own, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module", params=list(SOURCES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    source = SOURCES[name]
    source.keep(f"{name}:v1", ModelStore(folder / "models"))
    options = (*QUICK, *source.options, "--package", str(folder / "x.nav"), "--store", str(folder / "models"))
    printed = run(folder, "-m", "runtime.cli.main", "convert", name, *options, "--json")
    return Family(name, folder, json.loads(printed))


def test_every_variant_that_needs_no_gpu_is_right_and_the_rest_says_what_it_lacks(family: Family) -> None:
    source, conversions = family.source, family.document["report"]["conversions"]
    assert set(conversions) == {*source.good, *source.plans, *source.skipped}
    for variant in (*source.good, *source.plans):
        assert conversions[variant]["outcome"]["status"] == "ok", variant
        assert conversions[variant]["methods"] == list(source.answer), variant
    for variant in source.good:
        (execution,) = conversions[variant]["executions"].values()
        assert_verified(execution, methods=list(source.answer))
        assert [one["batch_size"] for one in execution["performance"]] == [1, 4]
        assert all(one["median_ms"] > 0 and one["rows_per_second"] > 0 for one in execution["performance"])
    for variant in source.plans:
        (execution,) = conversions[variant]["executions"].values()
        assert (execution["outcome"]["status"], execution["outcome"]["message"]) == ("skipped", NO_GPU)
    for variant, message in source.skipped.items():
        outcome = conversions[variant]["outcome"]
        assert outcome["status"] == "skipped", variant
        assert outcome["message"] == message.format(version=metadata.version("tensorflow-cpu")), variant


def assert_verified(execution: dict[str, Any], methods: list[str]) -> None:
    """It answered rightly, by each method, and by how much is told."""
    assert execution["outcome"]["status"] == "ok"
    assert {name.partition("/")[0] for name in execution["outputs"]} == set(methods)
    for figures in execution["outputs"].values():
        assert figures["within"]
        assert math.isfinite(figures["max_abs"])
        assert math.isfinite(figures["max_rel"])
    assert set(execution["invariance"]) == set(methods)
    for figures in execution["invariance"].values():
        assert figures["invariant"]
        assert figures["sizes"] == [1, 2, 3, 4, 5, 8]


def test_the_good_variants_are_stored_with_their_parent_and_figures(family: Family) -> None:
    tags = [f"{family.name}-{variant}:v1" for variant in family.source.good]
    assert [(one["tag"], one["status"]) for one in family.document["stored"]] == [
        (tag, "stored") for tag in tags
    ]
    words = ("-m", "runtime.cli.main", "models", "get", f"{family.name}:v1", "--json")
    shown = json.loads(run(family.folder, *words, "--store", str(family.store.root)))
    children = {child["tag"]: child for child in shown["family"]["children"]}
    assert sorted(children) == sorted(tags)
    for child in children.values():
        (figures,) = child["runtimes"].values()
        assert math.isfinite(figures["max_abs"])
        assert set(figures["median_ms"]) == set(figures["speed_up"]) == SIZES
        assert all(value > 0 for name in ("median_ms", "speed_up") for value in figures[name].values())


def test_a_package_answers_as_its_source_where_nothing_of_the_source_is(
    family: Family, tmp_path: Path
) -> None:
    source, answers = family.source, tmp_path / "answers.npz"
    script = ("-I", str(HERE / "every_path_package.py"))
    paths = [str(path) for path in (family.folder / "x.nav", family.questions, answers)]
    refused = json.loads(run(tmp_path, *script, *paths, *source.blocked))
    family.assert_right(answers, set(source.good))
    assert set(refused) == {*source.plans, *source.skipped}
    for variant, message in refused.items():
        expected = "no runtime can run" if variant in source.plans else "is not available"
        assert expected in message
        assert "needs an NVIDIA GPU" in message or variant not in source.plans


def test_a_server_of_all_variants_gives_a_stock_client_the_answers_of_the_source(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What torch, Keras and onnxruntime would write into the server's own folders.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    models = [family.name, *(f"{family.name}-{variant}" for variant in family.source.good)]
    answers = tmp_path / "answers.npz"
    sections = {"server": {"log_level": "INFO"}, "model": {"instances": 1}}
    with serving(family.store, ready_s=200, **sections) as server:  # a framework in each worker takes long
        words = (server.target, str(family.questions), str(answers), *models, "--", *family.source.answer)
        environment.run(CALLS, *words)
        lines = [json.loads(line) for line in server.log.splitlines() if '"profile_used"' in line]
    family.assert_right(answers, set(models))
    assert {line["tag"] for line in lines} == {f"{model}:v1" for model in models}
