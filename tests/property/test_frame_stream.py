"""Frames under arbitrary chunking, truncation and noise."""

from __future__ import annotations

import itertools
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.tensors import frame as frame_module
from runtime.tensors.frame import HEADER_BYTES, Decoder, Frame, FrameError, Kind, Timing, encode

U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, (1 << 64) - 1)

FRAMES = st.builds(
    Frame,
    kind=st.sampled_from(Kind),
    batch=U64,
    head=st.binary(max_size=40),
    rows=st.lists(U32, max_size=5).map(tuple),
    sizes=st.lists(U32, max_size=5).map(tuple),
    payload=st.binary(max_size=200),
    offset=st.just(-1),
    length=st.just(0),
    ack=U64,
    deadline=U64,
    flags=st.integers(0, 255),
    timing=st.builds(Timing, U64, U64, U64, U64, U64),
)


def decode(data: bytes, cuts: list[int], capacity: int) -> list[Frame]:
    decoder = Decoder(capacity)
    frames: list[Frame] = []
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(bounds):
        while start < end:
            room = decoder.buffer()
            count = min(len(room), end - start)
            assert count
            room[:count] = data[start : start + count]
            room.release()
            frames += decoder.received(count)
            start += count
    return frames


@settings(deadline=None, max_examples=150)
@given(st.lists(FRAMES, max_size=4), st.lists(st.integers(0, 5000), max_size=20), st.integers(1, 300))
def test_frames_survive_any_chunking(frames: list[Frame], cuts: list[int], capacity: int) -> None:
    sent = [frame._replace(length=len(frame.payload)) for frame in frames]
    data = b"".join(map(encode, sent))
    assert decode(data, cuts, capacity) == sent


@settings(deadline=None, max_examples=50)
@given(FRAMES, st.integers(0, (1 << 63) - 1), U64)
def test_a_place_in_the_arena_survives(frame: Frame, offset: int, length: int) -> None:
    placed = frame._replace(payload=b"", offset=offset, length=length)
    assert decode(encode(placed), [], 1 << 12) == [placed]


@settings(deadline=None, max_examples=30)
@given(FRAMES, FRAMES)
def test_a_truncated_stream_gives_the_whole_frames_and_nothing_else(first: Frame, second: Frame) -> None:
    first = first._replace(length=len(first.payload))
    whole = encode(first)
    data = whole + encode(second)
    for end in range(len(data)):
        assert decode(data[:end], [], 1 << 12) == ([first] if end >= len(whole) else [])


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=3 * HEADER_BYTES), st.lists(st.integers(0, 300), max_size=5))
def test_noise_is_refused_or_waited_for_and_never_worse(noise: bytes, cuts: list[int]) -> None:
    with mock.patch.object(
        frame_module, "MAX_FRAME_BYTES", 1 << 16
    ):  # noise should not make it take a gigabyte
        try:
            frames = decode(noise, cuts, 1 << 12)
        except FrameError:
            return
    assert all(isinstance(frame, Frame) for frame in frames)
