"""The frame codec: what is encoded comes back, however the bytes are cut."""

from __future__ import annotations

import pytest

from runtime.tensors import frame
from runtime.tensors.frame import Decoder, Frame, FrameError, Kind, Timing, encode

FULL = Frame(
    kind=Kind.RESULT,
    batch=7,
    head=b"head",
    rows=(1, 2, 3),
    sizes=(9, 8),
    payload=b"payload",
    offset=-1,
    length=7,
    ack=5,
    deadline=1 << 62,
    flags=frame.KEPT,
    timing=Timing(1, 2, 3, 4, 5),
)


def feed(decoder: Decoder, data: bytes) -> list[Frame]:
    """Give bytes to a decoder as a socket would."""
    frames: list[Frame] = []
    while data:
        room = decoder.buffer()
        count = min(len(room), len(data))
        room[:count] = data[:count]
        room.release()
        frames += decoder.received(count)
        data = data[count:]
    return frames


def test_every_field_survives() -> None:
    assert feed(Decoder(), encode(FULL)) == [FULL]


def test_a_frame_of_one_task_survives() -> None:
    one = Frame(Kind.EXECUTE, 1, b"h", (5,), (), b"p", length=1)
    assert feed(Decoder(), encode(one)) == [one]


def test_a_frame_without_rows_survives() -> None:
    none = Frame(Kind.FAILURE, 1, b"{}")
    assert feed(Decoder(), encode(none)) == [none]


def test_a_refusal_and_a_cancellation_name_tasks_by_their_place() -> None:
    refusal = Frame(Kind.REFUSED, 3, b"[{},{}]", (0, 7))
    cancellation = Frame(Kind.CANCEL, 3, b"", (0,), ack=9)
    assert feed(Decoder(), encode(refusal) + encode(cancellation)) == [refusal, cancellation]


def test_the_place_in_the_arena_survives_zero_included() -> None:
    for offset in (0, 64, 1 << 40):
        placed = Frame(Kind.EXECUTE, 1, b"h", (1,), (), b"", offset, 1 << 41)
        assert feed(Decoder(), encode(placed)) == [placed]


def test_parts_follow_the_payload() -> None:
    (got,) = feed(
        Decoder(), encode(FULL._replace(length=0), [b"-one", memoryview(b"-two"), bytearray(b"-three")])
    )
    assert got.payload == b"payload-one-two-three"
    assert got.length == len(got.payload)


def test_the_payload_is_writable_and_belongs_to_its_frame() -> None:
    decoder = Decoder()
    first, second = feed(decoder, encode(FULL) * 2)
    assert isinstance(first.payload, bytearray)
    first.payload[:] = bytes(len(first.payload))
    feed(decoder, encode(FULL))
    assert second.payload == b"payload"


def test_a_frame_larger_than_the_buffer_makes_room_for_itself() -> None:
    decoder = Decoder(capacity=16)
    large = Frame(Kind.EXECUTE, 1, b"h", (1,), (), bytes(100_000), length=100_000)
    assert feed(decoder, encode(large) + encode(FULL)) == [large, FULL]


def test_half_a_frame_is_no_frame() -> None:
    decoder = Decoder()
    data = encode(FULL)
    assert feed(decoder, data[:-1]) == []
    assert feed(decoder, data[-1:]) == [FULL]


def test_an_impossible_size_is_refused_as_soon_as_it_is_read() -> None:
    size = (frame.MAX_FRAME_BYTES + 1).to_bytes(4, "little")
    with pytest.raises(FrameError, match="announced"):
        feed(Decoder(), size)
    with pytest.raises(FrameError, match="announced"):
        feed(Decoder(), size + bytes(frame.HEADER_BYTES))


def test_tables_that_do_not_fit_are_refused() -> None:
    data = bytearray(encode(Frame(Kind.EXECUTE, 1, b"", (1,))))
    data[8:12] = (1000).to_bytes(4, "little")  # the size of the head
    with pytest.raises(FrameError, match="tables"):
        feed(Decoder(), bytes(data))
