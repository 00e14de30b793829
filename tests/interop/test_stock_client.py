"""A stock client, unchanged and in its own environment, gets what the models return when called directly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store import datatypes
from tests.interop import environment
from tests.support.dtypes import edge_array
from tests.support.models import Scaled
from tests.support.server import Server

CALLS = Path(__file__).with_name("stock_calls.py").read_text()
ROWS = np.random.default_rng(7).normal(size=(5, 4)).astype(np.float32)


def shown(array: Any) -> list[Any]:
    """An array in the form that the client's program writes."""
    if array.dtype == object:
        items = [item if isinstance(item, bytes) else item.encode() for item in array.ravel()]
        return ["BYTES", list(array.shape), [item.hex() for item in items]]
    return [array.dtype.name, list(array.shape), array.tobytes().hex()]


def ask(server: Server, part: str, *arguments: str) -> dict[str, Any]:
    answer = json.loads(environment.run(CALLS, server.target, part, *arguments))
    assert isinstance(answer, dict)
    return answer


def test_every_question_about_server_and_models_is_answered(server: Server) -> None:
    found = ask(server, "inspection")
    assert (found["live"], found["ready"]) == (True, True)
    assert found["models"] == [True, True, False]
    assert found["server"]["name"] == "runtime"
    assert found["server"]["version"]
    metadata = found["metadata"]
    assert metadata["name"] == "scaled"
    assert [(x["name"], x["datatype"], x["shape"]) for x in metadata["inputs"]] == [
        ("x", "FP32", ["-1", "4"])
    ]
    assert [(y["datatype"], y["shape"]) for y in metadata["outputs"]] == [("FP32", ["-1", "4"])]
    config = found["config"]["config"]
    assert (config["name"], config["max_batch_size"]) == ("scaled", 64)
    assert [(x["name"], x["data_type"], x["dims"]) for x in config["input"]] == [("x", "TYPE_FP32", ["4"])]
    index = {model["name"]: model["state"] for model in found["index"]["models"]}
    assert index["scaled"] == index["echo"] == "READY"


def test_every_datatype_and_shape_comes_back_bit_for_bit(server: Server) -> None:
    found = ask(server, "datatypes", *datatypes.NAMES)
    for name in datatypes.NAMES:
        assert found[f"{name} plain"] == found[f"{name} echo"] == shown(edge_array(name)), name
    assert found["[]"] == np.float32(1.5).tobytes().hex()
    assert found["[0]"] == found["[0, 3]"] == found["[2, 0, 3]"] == ""
    assert found["several"] == {
        "a": shown(np.arange(3)), "b": shown(np.array([b"x", b""], object)), "c": shown(np.eye(2)),
    }  # fmt: skip


def test_options_of_a_request_do_what_they_say(server: Server) -> None:
    found = ask(server, "options")
    direct = Scaled()
    assert found["id"] == "a request"
    assert found["by version"] == found["in time"] == {"output_0": shown(direct.predict(ROWS))}
    total = {name: shown(array) for name, array in direct.total(ROWS).items()}
    assert found["total"] == total
    assert found["chosen"] == {"sum": total["sum"]}
    assert found["order"] == ["sum", "label"]
    assert found["compressed"] == [{"output_0": shown(np.ones((64, 4), np.float32))}] * 2
    assert found["late"][0] == "StatusCode.DEADLINE_EXCEEDED"


@pytest.mark.parametrize(
    ("what", "status", "word"),
    [
        ("model", "NOT_FOUND", "nobody"),
        ("version", "NOT_FOUND", "'9'"),
        ("shape", "INVALID_ARGUMENT", "inputs['x']"),
        ("datatype", "INVALID_ARGUMENT", "FP64"),
        ("name", "INVALID_ARGUMENT", "'y'"),
        ("output", "INVALID_ARGUMENT", "nothing"),
        ("raises", "INTERNAL", "error id"),
        ("metadata", "NOT_FOUND", "nobody"),
        ("load", "UNIMPLEMENTED", "RepositoryModelLoad"),
    ],
)
def test_errors_have_their_status_and_say_what_is_wrong(
    failures: Any, what: str, status: str, word: str
) -> None:
    found, message = failures[what]
    assert found == f"StatusCode.{status}"
    assert word in message


def test_calls_after_errors_are_answered(failures: Any) -> None:
    assert failures["after"] == {"output_0": shown(Scaled().predict(ROWS))}


@pytest.fixture(scope="module")
def failures(server: Server) -> dict[str, Any]:
    return ask(server, "errors")


def test_threads_callbacks_and_streams_get_their_own_rows(server: Server) -> None:
    found = ask(server, "concurrent")
    assert found["threads"]
    assert found["callbacks"]
    stream = found["stream"]
    assert stream["right"]
    assert stream["order"] == [n for n in range(200) if n != 100]
    assert len(stream["errors"]) == 1
    assert "nobody" in stream["errors"][0]


def test_the_asyncio_client_gets_its_own_rows(server: Server) -> None:
    assert ask(server, "awaited") == {
        "live": True,
        "metadata": "scaled",
        "gathered": True,
        "streamed": True,
        "status": "StatusCode.NOT_FOUND",
    }
