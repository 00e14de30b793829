"""Tasks that are cut into pieces, which answer them together."""

from __future__ import annotations

import gc

import pytest

from runtime.batching.pieces import cut
from runtime.batching.statistics import Stages
from runtime.batching.task import Batch, BatchKey, Result, State
from runtime.errors import DeadlineExceeded, ModelError, OutputMismatch, WorkerLost
from runtime.tensors.layout import Layout, TensorLayout
from tests.support.pieces import INPUT, KEY, OUTPUT, Forgotten, Whole, answer, ignore, refuse, result_of
from tests.support.tasks import RecordingTask

# -- cutting ----------------------------------------------------------------------------------------


def test_pieces_are_full_and_in_order_and_the_rest_is_last() -> None:
    whole = Whole(7)
    pieces = cut(whole, 3, ignore)
    assert [piece.rows for piece in pieces] == [3, 3, 1]
    assert [bytes(piece.parts[0]) for piece in pieces] == [bytes(range(6)), bytes(range(6, 12)), b"\x0c\x0d"]
    assert [piece.size_bytes for piece in pieces] == [6, 6, 2]
    assert list(whole.pieces) == pieces


def test_a_multiple_of_the_limit_leaves_no_empty_piece() -> None:
    assert [piece.rows for piece in cut(Whole(6), 3, ignore)] == [3, 3]


def test_pieces_inherit_what_the_queue_goes_by() -> None:
    whole = Whole(4, deadline_ns=99)
    whole.priority, whole.enqueued_ns, whole.order_ns, whole.attempts = 3, 5, 7, 1
    for piece in cut(whole, 2, ignore):
        assert piece.key is KEY
        assert (piece.deadline_ns, piece.priority, piece.enqueued_ns) == (99, 3, 5)
        assert (piece.order_ns, piece.attempts, piece.state) == (7, 1, State.NEW)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_task_that_fits_is_left_as_it_is(rows: int) -> None:
    whole = Whole(rows)
    assert cut(whole, 3, ignore) == []
    assert not whole.pieces


def test_a_task_that_is_not_batchable_is_never_cut() -> None:
    assert cut(Whole(9, of=BatchKey(INPUT.encode(), batchable=False, variable=(False,))), 3, ignore) == []


def test_every_input_is_cut() -> None:
    head = Layout(
        "f", (1, 0), (TensorLayout.of("x", "INT8", (2, -1)), TensorLayout.of("t", "BYTES", (1, -1)))
    )
    key = BatchKey(head.encode(), batchable=True, variable=(False, True))
    whole = RecordingTask(key, 3, parts=[b"abcdef", b"\x01\0\0\0u\0\0\0\0\x01\0\0\0w"])
    first, last = cut(whole, 2, ignore)
    assert [bytes(part) for part in first.parts] == [b"abde", b"\x01\0\0\0u\0\0\0\0"]
    assert [bytes(part) for part in last.parts] == [b"cf", b"\x01\0\0\0w"]


def test_pieces_post_where_the_whole_is_answered() -> None:
    whole = Whole(4)
    first, second = cut(whole, 2, ignore)
    (inner, _) = cut(second, 1, ignore)
    assert [piece.post(gc.isenabled) for piece in (first, inner)] == [True, True]
    assert whole.posted == [gc.isenabled, gc.isenabled]


def test_once_the_whole_is_answered_any_thread_will_do() -> None:
    first, second = cut(Whole(2), 1, Forgotten())
    refuse(first, ModelError("no"))
    assert second.post(gc.isenabled) is False


# -- succeeding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_whole_is_answered_once_with_all_rows_in_order_whatever_came_first(
    order: tuple[int, ...],
) -> None:
    whole = Whole(5)
    pieces = cut(whole, 2, ignore)
    for count, index in enumerate(order):
        assert not whole.outcomes, count
        answer(pieces[index])
    assert whole.outputs == [bytes(range(0, 10, 2))]
    assert whole.state is State.DONE


def test_pieces_in_one_batch_with_strangers_each_take_their_own_rows() -> None:
    whole, stranger = Whole(4), RecordingTask(KEY, 1, parts=[b"\xaa\xbb"])
    first, second = cut(whole, 2, ignore)
    result = result_of([first, stranger, second])
    for task in (first, stranger, second):
        task.succeed(result)
    assert (whole.outputs, stranger.outputs) == ([b"\0\2\4\6"], [b"\xaa"])


def test_outputs_are_copied_since_their_memory_is_used_again() -> None:
    whole = Whole(2)
    first, second = cut(whole, 1, ignore)
    memory = bytearray(b"\x07")
    result = Result(OUTPUT, memoryview(memory), (), tasks=1, rows=1)
    first.succeed(result)
    memory[0] = 99
    answer(second)
    assert whole.outputs == [b"\x07\x02"]


def test_several_outputs_are_joined_each_along_its_axis() -> None:
    layout = Layout(
        "", (0, 1), (TensorLayout.of("a", "INT8", (2, -1)), TensorLayout.of("t", "BYTES", (1, -1)))
    )
    whole = Whole(3)
    first, last = cut(whole, 2, ignore)
    texts = b"\x01\0\0\0u\0\0\0\0", b"\x02\0\0\0vw"
    last.succeed(result_of([last], layout, payload=b"36" + texts[1], sizes=[len(texts[1])]))
    first.succeed(result_of([first], layout, payload=b"1245" + texts[0], sizes=[len(texts[0])]))
    assert whole.outputs == [b"123456", b"".join(texts)]


def test_equal_layouts_need_not_be_the_same_object() -> None:
    whole = Whole(2)
    first, second = cut(whole, 1, ignore)
    answer(first)
    second.succeed(result_of([second], Layout.decode(OUTPUT.encode())))
    assert whole.outputs == [b"\0\2"]


def test_a_model_without_outputs_answers_without_outputs() -> None:
    whole = Whole(2)
    for piece in cut(whole, 1, ignore):
        piece.succeed(result_of([piece], Layout("", (0, 0), ())))
    assert whole.outputs == []


def test_the_time_is_told_as_of_the_piece_that_was_answered_last() -> None:
    whole = Whole(3)
    first, last = cut(whole, 2, ignore)
    early, late = (Stages.bare(closed, 10, closed + 20, 2) for closed in (100, 200))
    batch = Batch(KEY, [first], 200)
    last.succeed(result_of([last], stages=early, batch=Batch(KEY, [last], 100)))
    first.succeed(result_of([first], stages=late, batch=batch))
    (result,) = whole.results
    assert (result.stages, result.batch) == (late, batch)


def test_a_piece_can_be_cut_again() -> None:
    whole = Whole(7)
    first, second, third = cut(whole, 3, ignore)
    halves = cut(first, 2, ignore)
    quarters = cut(halves[0], 1, ignore)
    for piece in (third, *quarters, second, halves[1]):
        answer(piece)
    assert whole.outputs == [bytes(range(0, 14, 2))]
    assert (first.state, halves[0].state) == (State.DONE, State.DONE)


# -- failing ----------------------------------------------------------------------------------------


def test_one_failing_piece_fails_the_whole_at_once_with_its_error() -> None:
    whole, forgotten = Whole(8), Forgotten()
    pieces = cut(whole, 2, forgotten)
    answer(pieces[3])
    error = ModelError("no")
    refuse(pieces[1], error)
    assert whole.outcomes == [error]
    assert whole.state is State.DONE
    assert forgotten == [pieces[0], pieces[2]]


def test_what_is_answered_after_a_failure_is_dropped() -> None:
    whole = Whole(4)
    first, second, third, fourth = cut(whole, 1, Forgotten())
    refuse(first, DeadlineExceeded("late"))
    refuse(second, WorkerLost("died"))
    answer(third)
    answer(fourth)
    assert isinstance(whole.error, DeadlineExceeded)


def test_a_dropped_piece_still_leaves_its_neighbours_their_own_rows() -> None:
    whole, neighbour = Whole(2), RecordingTask(KEY, 1, parts=[b"\xaa\xbb"])
    first, second = cut(whole, 1, Forgotten())
    refuse(first, ModelError("no"))
    result = result_of([second, neighbour])
    second.succeed(result)
    neighbour.succeed(result)
    assert neighbour.outputs == [b"\xaa"]


def test_a_failure_in_a_piece_of_a_piece_fails_the_whole_and_forgets_all_others() -> None:
    whole, forgotten = Whole(4), Forgotten()
    first, second = cut(whole, 2, forgotten)
    halves = cut(first, 1, forgotten)
    refuse(halves[1], ModelError("no"))
    assert isinstance(whole.error, ModelError)
    assert forgotten == [halves[0], second]


def test_outputs_that_do_not_fit_together_fail_the_whole() -> None:
    whole = Whole(3)
    first, second, third = cut(whole, 1, ignore)
    answer(first)
    answer(second)
    third.state = State.DONE
    padded = Layout("", (0, 0), (TensorLayout.of("y", "UINT8", (-1, 1)),))
    third.succeed(result_of([third], padded))
    assert isinstance(whole.error, OutputMismatch)
    assert "3 pieces" in whole.error.message


def test_a_whole_that_cannot_be_answered_fails_when_its_last_piece_is_failed() -> None:
    class Broken(Whole):
        def succeed(self, result: Result) -> None:
            raise RuntimeError("cannot be encoded")

    whole = Broken(4)
    first, second = cut(whole, 2, ignore)
    for piece in cut(first, 1, ignore):
        answer(piece)
    with pytest.raises(RuntimeError, match="encoded"):
        answer(second)
    error = ModelError("the answer could not be encoded")
    second.fail(error)
    assert whole.outcomes == [error]
