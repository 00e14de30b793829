"""Each peer's request holds the rows, and its answer is read back."""

from __future__ import annotations

from collections.abc import Callable

import click
import numpy as np
import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from benchmarks.peers import wire
from benchmarks.peers.__main__ import PEERS, chosen
from benchmarks.peers.foreign import BentoML, RayServe, TorchServe
from benchmarks.peers.open_inference import MLServer, MLServerWorker, Runtime
from benchmarks.peers.served.compute import MODELS, WIDTHS, Array, draw
from benchmarks.peers.server import row
from protos import open_inference_pb2 as pb

ANSWER = np.arange(10, dtype="f4").reshape(1, 10)


def test_open_inference_requests_carry_raw_rows() -> None:
    x = row("mlp")
    request = pb.ModelInferRequest.FromString(Runtime().encode("mlp", x))
    assert (request.model_name, list(request.inputs[0].shape)) == ("mlp", [1, 784])
    assert np.frombuffer(request.raw_input_contents[0], "f4").tolist() == x[0].tolist()


@pytest.mark.parametrize("raw", [True, False])
def test_open_inference_answers_are_read_in_both_forms(raw: bool) -> None:
    response = pb.ModelInferResponse()
    output = response.outputs.add(name="y", datatype="FP32", shape=[1, 10])
    if raw:
        response.raw_output_contents.append(ANSWER.tobytes())
    else:
        output.contents.fp32_contents.extend(ANSWER[0].tolist())
    assert np.array_equal(Runtime().decode("mlp", response.SerializeToString()), ANSWER)


def test_an_open_inference_answer_without_output_is_an_error() -> None:
    with pytest.raises(ValueError, match="no output"):
        Runtime().decode("mlp", b"")


def test_ray_takes_bytes_values() -> None:
    x = row("mlp")
    assert BytesValue.FromString(RayServe().encode("mlp", x)).value == x.tobytes()


def test_bentoml_takes_floats_with_their_shape() -> None:
    x = row("linear64")
    array = wire.field(BentoML().encode("linear64", x), 3)
    assert dict(wire.fields(array)) == {1: 1, 2: bytes([1, 64]), 3: x.tobytes()}


def test_torchserve_takes_a_map_from_name_to_bytes() -> None:
    x = row("mlp")
    request = TorchServe().encode("mlp", x)
    assert wire.field(request, 1) == b"mlp"
    assert (wire.field(request, 3, 1), wire.field(request, 3, 2)) == (b"x", x.tobytes())


@pytest.mark.parametrize(
    ("decode", "answer"),
    [
        (BentoML().decode, wire.message((1, wire.message((1, 1), (3, ANSWER.tobytes()))))),
        (RayServe().decode, BytesValue(value=ANSWER.tobytes()).SerializeToString()),
        (TorchServe().decode, wire.message((1, ANSWER.tobytes()))),
    ],
)
def test_foreign_answers_are_read(decode: Callable[[str, bytes], Array], answer: bytes) -> None:
    assert np.array_equal(decode("mlp", answer), ANSWER)
    with pytest.raises(ValueError, match="no field"):
        decode("mlp", b"")


def test_every_requirement_is_pinned_or_bounded() -> None:
    assert [r for peer in PEERS for r in peer.requirements if "==" not in r and "<" not in r] == ["pyyaml"]


def test_names_are_unique_and_all_are_chosen_by_default() -> None:
    assert [peer.name for peer in chosen("")] == [peer.name for peer in PEERS]
    assert len({peer.name for peer in PEERS}) == len(PEERS)


def test_peers_are_chosen_by_name_in_the_given_order() -> None:
    assert [type(peer) for peer in chosen("ray, mlserver")] == [RayServe, MLServer]


def test_an_unknown_peer_is_refused_with_the_known_ones() -> None:
    with pytest.raises(click.BadParameter, match=r"unknown: tensorflow; known: triton, mlserver"):
        chosen("tensorflow,ray")


def test_both_forms_of_mlserver_share_an_environment() -> None:
    assert MLServerWorker().installed_as == MLServer().installed_as
    assert MLServerWorker().requirements == MLServer().requirements


@pytest.mark.parametrize("model", list(WIDTHS))
def test_models_give_rows_of_their_width_and_rows_do_not_mix(model: str) -> None:
    width, out = WIDTHS[model]
    compute = MODELS[model](draw())
    x = np.random.default_rng(3).random((3, width), "f4")
    assert compute(x).shape == (3, out)
    assert compute(x).dtype == np.float32
    np.testing.assert_allclose(compute(x)[1:2], compute(x[1:2]), rtol=1e-4, atol=1e-4)
