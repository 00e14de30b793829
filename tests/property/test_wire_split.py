"""Cutting a request says the same as parsing it with protobuf."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from protos import open_inference_pb2 as pb
from runtime.errors import InvalidInput
from runtime.tensors import wire

TEXT = st.text(max_size=10)
PARAMETER = st.one_of(
    st.builds(pb.InferParameter, string_param=TEXT),
    st.builds(pb.InferParameter, bool_param=st.booleans()),
    st.builds(pb.InferParameter, int64_param=st.integers(-(1 << 63), (1 << 63) - 1)),
)
PARAMETERS = st.dictionaries(TEXT, PARAMETER, max_size=2)
TENSOR = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=TEXT,
    datatype=TEXT,
    shape=st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=4),
    parameters=PARAMETERS,
)
REQUEST = st.builds(
    pb.ModelInferRequest,
    model_name=TEXT,
    model_version=TEXT,
    id=TEXT,
    parameters=PARAMETERS,
    inputs=st.lists(TENSOR, max_size=3),
    outputs=st.lists(st.builds(pb.ModelInferRequest.InferRequestedOutputTensor, name=TEXT), max_size=2),
    raw_input_contents=st.lists(
        st.one_of(
            st.binary(max_size=300),
            st.binary(max_size=9).map(lambda raw: raw.ljust(wire.COPY_BELOW + 7, b"-")),
        ),
        max_size=3,
    ),
)
UNKNOWN = st.sampled_from(
    [
        b"\x7a\x02zz", b"\x42\x00", b"\x80\x01\x05", b"\x08\x07", b"\x9a\x06\x01x", b"\x41" + b"\xff" * 8,
        b"\x45" + b"\xff" * 4, b"\x40" + b"\xff" * 9 + b"\x01", b"\x9a\xff\xff\x7f\x01x", b"\x43\x44",
    ]
)  # fmt: skip


def parsed(cut: wire.Cut) -> pb.ModelInferRequest:
    """What the three pieces say together."""
    head, identity, raws = cut
    message = pb.ModelInferRequest.FromString(head)
    assert not message.id
    assert not message.raw_input_contents
    message.id = identity.decode()
    message.raw_input_contents.extend(bytes(raw) for raw in raws)
    return message


def check(data: bytes) -> None:
    """The cut is refused, left to protobuf, or says what protobuf says."""
    try:
        cut = wire.split(data)
    except InvalidInput:
        try:
            pb.ModelInferRequest.FromString(data)
        except DecodeError:
            return
        raise AssertionError("refused what protobuf accepts") from None
    if cut is None:
        return
    try:
        message = parsed(cut)
    except (DecodeError, UnicodeDecodeError):
        try:
            pb.ModelInferRequest.FromString(data)
        except DecodeError:
            return
        raise
    assert message == pb.ModelInferRequest.FromString(data)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.one_of(REQUEST.map(lambda message: message.SerializeToString()), UNKNOWN), max_size=3))
def test_messages_one_after_the_other_are_cut_like_their_merge(pieces: list[bytes]) -> None:
    check(b"".join(pieces))


@settings(deadline=None, max_examples=25)
@given(REQUEST.filter(lambda message: message.ByteSize() < 1500))
def test_a_request_cut_off_at_any_byte_is_refused_or_read_like_protobuf(
    message: pb.ModelInferRequest,
) -> None:
    data = message.SerializeToString()
    for end in range(len(data)):
        check(data[:end])


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=40))
def test_noise_is_refused_or_read_like_protobuf(data: bytes) -> None:
    check(data)


@settings(deadline=None, max_examples=100)
@given(REQUEST, st.data())
def test_a_flipped_byte_is_refused_or_read_like_protobuf(
    message: pb.ModelInferRequest, data: st.DataObject
) -> None:
    changed = bytearray(message.SerializeToString()[:2000])
    if changed:
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    check(bytes(changed))
