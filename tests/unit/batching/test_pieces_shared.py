"""Pieces that are answered by several threads at once, and what is left of them afterwards: nothing."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pytest

from runtime.batching.pieces import cut
from runtime.batching.task import Buffer, Result, Task
from runtime.errors import ModelError
from tests.support.pieces import OUTPUT, Forgotten, Whole, answer, ignore, refuse


class Memory(bytearray):
    """A buffer that can be referred to weakly."""


# -- several threads --------------------------------------------------------------------------------


def in_threads(work: Sequence[Callable[[], None]]) -> None:
    """Run all at once, each on a thread of its own."""
    start = threading.Barrier(len(work))

    def run(function: Callable[[], None]) -> None:
        start.wait()
        function()

    threads = [threading.Thread(target=run, args=(function,)) for function in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def eager() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-9)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("round_", range(20))
def test_pieces_that_are_answered_at_once_by_several_threads_answer_the_whole_once(round_: int) -> None:
    whole = Whole(8)
    pieces = cut(whole, 1, ignore)
    in_threads([partial(answer, piece) for piece in pieces])
    assert whole.outputs == [bytes(range(0, 16, 2))]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("round_", range(20))
def test_pieces_that_fail_at_once_on_several_threads_fail_the_whole_once(round_: int) -> None:
    whole = Whole(8)
    pieces = cut(whole, 1, Forgotten())
    errors = [ModelError(str(index)) for index in range(4)]
    failing = [partial(refuse, piece, error) for piece, error in zip(pieces, errors, strict=False)]
    in_threads([*failing, *[partial(answer, piece) for piece in pieces[4:]]])
    assert whole.error in errors


# -- letting go -------------------------------------------------------------------------------------


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Memory that is freed is freed at once, or is in a cycle."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def held(rows: int) -> tuple[Whole, list[weakref.ref[object]]]:
    """A task, and references to it and to the memory of its inputs."""
    memory = np.arange(2 * rows, dtype=np.uint8)
    whole = Whole(rows)
    parts: list[Buffer] = [memory.data]
    whole.parts = parts
    return whole, [weakref.ref(whole), weakref.ref(memory)]


@pytest.mark.usefixtures("no_collector")
def test_nothing_is_kept_once_the_whole_has_succeeded() -> None:
    whole, references = held(4)
    pieces = cut(whole, 2, ignore)
    halves = cut(pieces[1], 1, ignore)
    for piece in (pieces[0], *halves):
        answer(piece)
    del whole
    assert [reference() for reference in references] == [None, None]


@pytest.mark.usefixtures("no_collector")
def test_nothing_is_kept_of_a_failed_whole_but_the_inputs_of_a_piece_that_runs() -> None:
    whole, references = held(6)
    pieces = cut(whole, 2, Forgotten())
    answer(pieces[0])
    refuse(pieces[2], ModelError("no"))
    running = pieces[1]
    del whole, pieces
    assert references[0]() is None
    answer(running)
    assert references[1]() is None


@pytest.mark.usefixtures("no_collector")
def test_nothing_is_kept_of_a_task_that_was_cancelled_with_its_pieces() -> None:
    whole, references = held(4)
    cut(whole, 2, ignore)
    whole.pieces = ()  # as the scheduler leaves a task that it has cancelled
    del whole
    assert [reference() for reference in references] == [None, None]


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("ending", [answer, partial(refuse, error=ModelError("no"))])
def test_pieces_keep_no_outputs_once_the_whole_is_answered(ending: Callable[[Task], None]) -> None:
    class Kept(Result):
        """Outputs that are not copied, for they are no views."""

        def take(self, rows: int) -> Sequence[Buffer]:
            return [memory.pop()]

    first, second, third = cut(Whole(3), 1, Forgotten())
    memory = [Memory(b"b"), Memory(b"a")]
    references = [weakref.ref(buffer) for buffer in memory]
    result = Kept(OUTPUT, b"", (), tasks=1, rows=1)
    first.succeed(result)
    if ending is answer:
        second.succeed(result)
        ending(third)
    else:
        ending(third)
        second.succeed(result)  # too late
    assert [reference() for reference in references] == [None, None]


def test_a_piece_lets_go_of_its_inputs_when_it_is_answered() -> None:
    first, second, _ = cut(Whole(3), 1, Forgotten())
    answer(first)
    refuse(second, ModelError("no"))
    assert (first.parts, second.parts) == ((), ())
