"""Tasks, batches, and taking a batch's answer apart."""

from __future__ import annotations

import struct

from runtime.batching.task import Batch, BatchKey, Result, State
from runtime.tensors import strings
from runtime.tensors.layout import Layout, TensorLayout
from tests.support.tasks import KEY, RecordingTask, key


def result(layout: Layout, payload: bytes, sizes: list[int], rows: list[int]) -> Result:
    return Result(layout, payload, sizes, tasks=len(rows), rows=sum(rows))


def test_a_new_task_knows_its_size_and_nothing_else() -> None:
    one, two = RecordingTask(rows=2, size=12), RecordingTask(parts=[b"abc", memoryview(b"de")], deadline_ns=9)
    assert (one.size_bytes, two.size_bytes) == (12, 5)
    assert (one.state, one.attempts, one.deadline_ns, two.deadline_ns) == (State.NEW, 0, 0, 9)
    assert (one.priority, one.order_ns, one.enqueued_ns, list(one.pieces)) == (0, 0, 0, [])


def test_any_thread_will_do_for_a_task_that_says_nothing_else() -> None:
    ran: list[int] = []
    assert RecordingTask().post(lambda: ran.append(1)) is False
    assert ran == []


def test_a_batch_adds_its_tasks_up() -> None:
    tasks = [RecordingTask(rows=2, size=8), RecordingTask(rows=3, size=12)]
    batch = Batch(KEY, list(tasks), 5)
    assert (batch.rows, batch.size_bytes, batch.closed_ns, batch.tasks) == (5, 20, 5, tasks)


def test_a_batch_says_why_it_left_and_what_is_expected_of_it() -> None:
    plain = Batch(KEY, [RecordingTask()], 5)
    assert (plain.reason, plain.predicted_ns, plain.held_ns, plain.alone, plain.depth) == ("", 0, 0, False, 0)
    told = Batch(KEY, [RecordingTask()], 5, reason="held", predicted_ns=7.5, held_ns=3, alone=True, depth=2)
    assert (told.reason, told.predicted_ns, told.held_ns, told.alone, told.depth) == ("held", 7.5, 3, True, 2)


def test_a_key_knows_nothing_and_bounds_nothing_at_first() -> None:
    assert (key().curve, key().limit) == (None, 0)


def test_keys_are_compared_by_identity() -> None:
    assert BatchKey(b"h", batchable=True, variable=()) != BatchKey(b"h", batchable=True, variable=())
    assert "b'h'" in repr(BatchKey(b"h", batchable=True, variable=()))


def test_each_task_takes_its_own_rows_of_each_output() -> None:
    layout = Layout(
        "", (0, 0), (TensorLayout.of("y", "UINT8", (-1, 2)), TensorLayout.of("z", "INT16", (-1,)))
    )
    rows = [1, 0, 2]
    answer = result(layout, b"aabbcc" + struct.pack("<3h", 1, 2, 3), [], rows)
    assert [list(answer.take(count)) for count in rows] == [
        [b"aa", struct.pack("<h", 1)],
        [b"", b""],
        [b"bbcc", struct.pack("<2h", 2, 3)],
    ]


def test_texts_are_cut_by_their_sizes_and_what_follows_is_found() -> None:
    layout = Layout(
        "",
        (0, 0),
        (
            TensorLayout.of("s", "BYTES", (-1,)),
            TensorLayout.of("y", "UINT8", (-1,)),
            TensorLayout.of("t", "BYTES", (-1,)),
        ),
    )
    first = [strings.encode_all([b"one"]), strings.encode_all([b"", b"three"])]
    last = [strings.encode_all(["x"]), strings.encode_all(["y", "zz"])]
    payload = b"".join([*first, b"123", *last])
    answer = result(layout, payload, [len(part) for part in first + last], [1, 2])
    assert list(answer.take(1)) == [first[0], b"1", last[0]]
    assert list(answer.take(2)) == [first[1], b"23", last[1]]


def test_one_output_of_fixed_size_is_cut_like_several() -> None:
    layout = Layout("", (0, 0), (TensorLayout.of("y", "INT16", (-1, 2)),))
    rows = [2, 0, 1]
    answer = result(layout, b"aaaabbbbcccc", [], rows)
    assert [list(answer.take(count)) for count in rows] == [[b"aaaabbbb"], [b""], [b"cccc"]]


def test_outputs_without_elements_are_empty() -> None:
    layout = Layout("", (0, 0), (TensorLayout.of("y", "INT16", (-1, 0)),))
    answer = result(layout, b"", [], [1, 1])
    assert [list(answer.take(1)), list(answer.take(1))] == [[b""], [b""]]


def test_a_view_of_the_payload_is_sliced_and_not_copied() -> None:
    layout = Layout("", (0, 0), (TensorLayout.of("y", "UINT8", (-1,)),))
    payload = memoryview(b"abc")
    answer = Result(layout, payload, (), tasks=1, rows=3)
    (part,) = answer.take(3)
    assert isinstance(part, memoryview)
    assert bytes(part) == b"abc"


def test_without_a_batch_axis_the_whole_output_is_the_tasks() -> None:
    layout = Layout("", None, (TensorLayout.of("y", "UINT8", (3,)), TensorLayout.of("s", "BYTES", (1,))))
    text = strings.encode_all([b"t"])
    answer = result(layout, b"abc" + text, [len(text)], [1])
    assert list(answer.take(1)) == [b"abc", text]


def test_a_task_keeps_no_dictionary() -> None:
    assert not hasattr(RecordingTask(key("k")), "__dict__")
