"""What requests are made of: models, rows, data and files."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frameworks import python, sample
from protos import open_inference_pb2 as pb
from runtime.client.results import TensorMetadata
from runtime.errors import InvalidInput
from runtime.profiling import data, recording
from runtime.profiling.inputs import ModelRequests, RequestSource, parse_mix
from runtime.profiling.recording import Payload
from runtime.tensors import strings
from store import ModelStore

X = TensorMetadata(name="x", datatype="FP32", shape=(-1, 3))


def described(*tensors: TensorMetadata) -> Any:
    return lambda model, version: tensors


def decoded(payload: Payload) -> dict[str, tuple[str, list[int], bytes]]:
    request = pb.ModelInferRequest.FromString(payload.data)
    pairs = zip(request.inputs, request.raw_input_contents, strict=True)
    return {tensor.name: (tensor.datatype, list(tensor.shape), raw) for tensor, raw in pairs}


def floats(payload: Payload, name: str = "x") -> list[list[float]]:
    _, shape, raw = decoded(payload)[name]
    return np.frombuffer(raw, np.float32).reshape(shape).tolist()


def slots(*tensors: TensorMetadata, **shapes: Sequence[int]) -> tuple[data.Slot, ...]:
    return data.slots(tensors, shapes)


def test_requests_fit_the_model() -> None:
    text = TensorMetadata(name="t", datatype="BYTES", shape=(-1, 1))
    model = ModelRequests(model="m", version="2", method="predict", rows=((4, 1.0),))
    deck = RequestSource(models=(model,), distinct=5).encode(described(X, text))
    assert len(deck.payloads) == len(set(deck.payloads)) == 5
    request = pb.ModelInferRequest.FromString(deck.payloads[0].data)
    assert (request.model_name, request.model_version) == ("m", "2")
    assert request.parameters["method"].string_param == "predict"
    tensors = decoded(deck.payloads[0])
    assert tensors["x"][:2] == ("FP32", [4, 3])
    assert len(tensors["x"][2]) == 4 * 3 * 4
    assert strings.count(tensors["t"][2], field="t") == 4
    assert {(p.rows, p.label) for p in deck.payloads} == {(4, "m")}


def test_the_same_seed_gives_the_same_requests() -> None:
    first, again, other = (
        RequestSource(models=(ModelRequests(model="m"),), seed=seed).encode(described(X))
        for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("datatype", ["BOOL", "INT8", "UINT64", "FP16", "BF16", "FP64", "BYTES"])
@pytest.mark.parametrize("kind", ["random", "zeros"])
def test_every_datatype_can_be_made_up(kind: str, datatype: str) -> None:
    drawn = data.generated(
        kind, slots(TensorMetadata(name="x", datatype=datatype, shape=(-1, 2))), 8, 1
    ).draw(3)
    assert drawn["x"].shape == (3, 2)
    assert kind != "zeros" or not drawn["x"].astype(bool).any()


def test_mixes_come_out_by_weight() -> None:
    models = (
        ModelRequests(model="a", weight=3, rows=((1, 0.8), (4, 0.2))),
        ModelRequests(model="b", weight=1),
    )
    deck = RequestSource(models=models).encode(described(X))
    sent = Counter((deck.payloads[index].label, deck.payloads[index].rows) for index in deck.order)
    total = sum(sent.values())
    assert sent["a", 1] / total == pytest.approx(0.6, abs=0.001)
    assert sent["a", 4] / total == pytest.approx(0.15, abs=0.001)
    assert sent["b", 1] / total == pytest.approx(0.25, abs=0.001)
    assert set(deck.order) == set(range(len(deck.payloads)))


@pytest.mark.parametrize(("text", "mix"), [("4", ((4, 1.0),)), ("1:0.8,4:0.2", ((1, 0.8), (4, 0.2)))])
def test_row_mix_is_read(text: str, mix: object) -> None:
    assert parse_mix(text) == mix


@pytest.mark.parametrize("text", ["", "x", "0", "1:0", "1:-1", "1:x", "1,,2", "1:nan"])
def test_bad_row_mix_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="rows"):
        parse_mix(text)


def test_open_shapes_must_be_given() -> None:
    image = TensorMetadata(name="image", datatype="UINT8", shape=(-1, -1, 3))
    with pytest.raises(InvalidInput, match=r"'image' has the shape \[-1, 3\]: give"):
        data.generated("random", slots(image), 1, 1)
    assert data.generated("zeros", slots(image, image=(8, 3)), 1, 1).draw(2)["image"].shape == (2, 8, 3)
    with pytest.raises(InvalidInput, match="no input 'pixels'; there are image"):
        slots(image, pixels=(8, 3))


def test_model_without_batch_axis_takes_one_row() -> None:
    pool = data.generated("zeros", slots(TensorMetadata(name="x", datatype="FP32", shape=(2, 2))), 4, 1)
    assert pool.draw(1)["x"].shape == (2, 2)
    with pytest.raises(InvalidInput, match="no batch axis"):
        pool.draw(2)


def test_rows_of_an_npz_are_drawn_in_turn(tmp_path: Path) -> None:
    file = tmp_path / "rows.npz"
    np.savez(file, x=np.arange(9, dtype=np.float64).reshape(3, 3))
    model = ModelRequests(model="m", data=str(file), rows=((2, 1.0),))
    deck = RequestSource(models=(model,), distinct=2).encode(described(X))
    assert [floats(p) for p in deck.payloads] == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [0, 1, 2]]]


def test_json_forms_are_read(tmp_path: Path) -> None:
    raw = base64.b64encode(np.array([7, 8, 9], np.float32).tobytes()).decode()
    steps = [{"x": [1, 2, 3]}, {"x": {"content": [4, 5, 6], "shape": [3]}}, {"x": {"b64": raw}}]
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"data": [steps[:2], steps[2]]}))
    drawn = data.from_file(str(file), slots(X)).draw(3)["x"]
    assert drawn.dtype == np.float32
    assert drawn.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_json_text_and_open_shapes_are_read() -> None:
    text = TensorMetadata(name="t", datatype="BYTES", shape=(-1, -1))
    raw = base64.b64encode(strings.encode_all(["é", "f"])).decode()
    document = {
        "data": [{"t": {"content": ["a", "b"], "shape": [2]}}, {"t": ["c", "d"]}, {"t": {"b64": raw}}]
    }
    drawn = data.from_json(document, slots(text)).draw(3)["t"]
    assert drawn.tolist() == [[b"a", b"b"], [b"c", b"d"], ["é".encode(), b"f"]]
    matrix = TensorMetadata(name="m", datatype="INT32", shape=(-1, -1, -1))
    assert data.from_json({"data": [{"m": [[1, 2], [3, 4]]}]}, slots(matrix)).draw(1)["m"].shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "has the form"),
        ({"data": []}, "has the form"),
        ({"data": [{"y": [1]}]}, "lacks the input 'x'"),
        ({"data": [3]}, "lacks the input 'x'"),
        ({"data": [{"x": [1, 2]}]}, "2 elements do not fill"),
        ({"data": [{"x": ["a", "b", "c"]}]}, "'x'"),
        ({"data": [{"x": {"b64": "???"}}]}, "b64"),
        ({"data": [{"x": {"b64": "AAA="}}]}, "2 bytes are no FP32"),
    ],
)
def test_unfit_json_is_refused(document: object, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        data.from_json(document, slots(X))


def test_unfit_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "short.npz", x=np.zeros((4, 2), np.float32))
    np.savez(tmp_path / "other.npz", y=np.zeros((4, 3), np.float32))
    (tmp_path / "broken.json").write_text("{")
    for name, reason in (
        ("short.npz", r"shape \[4, 2\]; wanted is \[rows, …\] \[3\]"),
        ("other.npz", "lacks the input 'x'"),
        ("broken.json", "cannot be read as data"),
        ("missing.json", "No such file"),
    ):
        with pytest.raises(InvalidInput, match=reason):
            data.from_file(str(tmp_path / name), slots(X))


def test_large_requests_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.profiling.inputs._MAX_BYTES", 20_000)
    wide = TensorMetadata(name="x", datatype="FP32", shape=(-1, 1000))
    deck = RequestSource(models=(ModelRequests(model="m"),)).encode(described(wide))
    assert len(deck.payloads) == 4


def test_recording_comes_back_in_order(tmp_path: Path) -> None:
    payloads = [Payload(data=bytes([n]) * n, rows=n, label=f"m{n}", at_ns=n * n) for n in range(1, 5)]
    file = tmp_path / "traffic"
    with file.open("wb") as out:
        recording.write_all(out, payloads)
    deck = RequestSource(replay=str(file))._recorded()
    assert list(deck.payloads) == payloads
    assert deck.trace == (1, 4, 9, 16)


def test_broken_recording_is_refused() -> None:
    whole = io.BytesIO()
    recording.write_all(whole, [Payload(data=b"abc", label="m")])
    for cut in range(len(recording.MAGIC) + 1, len(whole.getvalue())):
        with pytest.raises(InvalidInput, match="ends inside"):
            list(recording.read(io.BytesIO(whole.getvalue()[:cut])))
    with pytest.raises(InvalidInput, match="no recording"):
        list(recording.read(io.BytesIO(b"PK" * 20)))


def test_recorded_time_never_falls() -> None:
    writer = recording.Writer(io.BytesIO())
    writer.write(Payload(data=b"", at_ns=2))
    with pytest.raises(ValueError, match="before the last"):
        writer.write(Payload(data=b"", at_ns=1))


def test_source_without_anything_to_send_is_refused() -> None:
    with pytest.raises(InvalidInput, match="name a model"):
        RequestSource()
    with pytest.raises(InvalidInput, match="weight above 0"):
        RequestSource(models=(ModelRequests(model="m", weight=0),))
    with pytest.raises(InvalidInput, match="tells of no inputs"):
        RequestSource(models=(ModelRequests(model="m"),)).encode(described())


def test_sample_of_the_model_is_sent(tmp_path: Path) -> None:
    saved = np.arange(6, dtype=np.float32).reshape(2, 3)
    store = ModelStore(tmp_path)
    python.save_model(
        "m",
        np.negative,
        signatures={"__call__": {"batchable": True, "batch_dim": 0}},
        sample=(saved,),
        store=store,
    )
    (name,) = sample.load(store.get("m:latest")) or {}
    tensor = TensorMetadata(name=name, datatype="FP32", shape=(-1, 3))
    model = ModelRequests(model="m", data="sample", store=str(tmp_path))
    deck = RequestSource(models=(model,), distinct=3).encode(described(tensor))
    assert [floats(payload, name) for payload in deck.payloads] == [[[0, 1, 2]], [[3, 4, 5]], [[0, 1, 2]]]


def test_sample_needs_a_store_that_has_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="name the folder"):
        RequestSource(models=(ModelRequests(model="m", data="sample"),)).encode(described(X))
    python.save_model("m", np.negative, store=ModelStore(tmp_path))
    model = ModelRequests(model="m", data="sample", store=str(tmp_path))
    with pytest.raises(InvalidInput, match="without a sample"):
        RequestSource(models=(model,)).encode(described(X))
