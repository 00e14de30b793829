"""Rows that are left out, that fail by themselves, and that only pad."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pytest

from frameworks import RowErrors
from runtime.errors import Cancelled, ModelError, OutputMismatch
from runtime.runner.executor import Execution
from store import Signature, TensorSpec
from tests.support.execution import Inputs, Method, Outcome, executor, group_of, head_of, outcomes_of

AXES = (0, 0)


def tasks_of(*rows: int, start: int = 0) -> list[Inputs]:
    """Tasks of so many rows, counted through."""
    tasks: list[Inputs] = []
    for count in rows:
        tasks.append({"x": np.arange(start, start + count, dtype=np.int64)})
        start += count
    return tasks


class Echo:
    """Returns what it is given, and errors for rows with certain values."""

    def __init__(self, *bad: int) -> None:
        self.seen: list[list[int]] = []
        self._bad = bad

    def __call__(self, inputs: Inputs) -> Inputs | RowErrors:
        values = inputs["x"].tolist()
        self.seen.append(values)
        errors = {row: f"{value} is bad" for row, value in enumerate(values) if value in self._bad}
        return RowErrors({"y": inputs["x"]}, errors) if errors else {"y": inputs["x"]}


def run(
    method: Method, groups: Sequence[tuple[list[Inputs], Collection[int]]], *, sizes: Sequence[int] = ()
) -> tuple[Execution, list[list[Outcome]]]:
    framed = [group_of(tasks, AXES, skip) for tasks, skip in groups]
    done = executor(method, allowed_batch_sizes=sizes).execute(head_of(groups[0][0][0], AXES), framed)
    return done, [outcomes_of(share, group) for share, group in zip(done.shares, framed, strict=True)]


def told(outcomes: Sequence[Outcome]) -> list[object]:
    return [outcome["y"].tolist() if isinstance(outcome, dict) else str(outcome) for outcome in outcomes]


# -- tasks that are left out ------------------------------------------------------------------------


def test_the_model_never_sees_what_nobody_waits_for() -> None:
    model = Echo()
    done, (first, second) = run(model, [(tasks_of(1, 2, 1), {1}), (tasks_of(2, 1, start=10), {0})])
    assert model.seen == [[0, 3, 12]]
    assert (done.rows, done.padded) == (3, 3)
    assert (told(first)[0], told(first)[2], told(second)[1]) == ([0], [3], [12])
    assert isinstance(first[1], Cancelled)
    assert isinstance(second[0], Cancelled)


def test_texts_are_left_out_with_their_sizes() -> None:
    texts = [np.array([b"a", b"bc"], object), np.array([b"def"], object), np.array([b""], object)]
    tasks: list[Inputs] = [{"n": np.array([7] * len(text)), "t": text} for text in texts]
    framed = group_of(tasks, AXES, {0})
    done = executor(lambda inputs: inputs).execute(head_of(tasks[0], AXES), [framed])
    _, second, third = outcomes_of(done.shares[0], framed)
    assert isinstance(second, dict)
    assert isinstance(third, dict)
    assert (second["t"].tolist(), third["t"].tolist()) == ([b"def"], [b""])


def test_a_model_may_write_into_what_is_left() -> None:
    def double(inputs: Inputs) -> Inputs:
        inputs["x"] *= 2  # type: ignore[operator]
        return {"y": inputs["x"]}

    _, (outcomes,) = run(double, [(tasks_of(1, 1, 1), {1})])
    assert (told(outcomes)[0], told(outcomes)[2]) == ([0], [4])


# -- rows that fail by themselves -------------------------------------------------------------------


def test_one_bad_row_fails_its_own_task_and_no_other() -> None:
    done, (first, second) = run(Echo(2), [(tasks_of(1, 3), ()), (tasks_of(1, start=9), ())])
    assert told(first) == [[0], "2 is bad"]
    assert told(second) == [[9]]
    assert type(first[1]) is ModelError
    assert done.rows == 5


def test_a_task_is_told_of_its_first_bad_row() -> None:
    _, (outcomes,) = run(Echo(1, 3), [(tasks_of(1, 3), ())])
    assert told(outcomes) == [[0], "1 is bad"]


def test_places_count_in_the_batch_as_it_was_sent() -> None:
    _, (outcomes,) = run(Echo(3), [(tasks_of(1, 2, 1, 1), {1})])
    assert told(outcomes)[0::3] == [[0], [4]]
    assert isinstance(outcomes[1], Cancelled)
    assert told(outcomes)[2] == "3 is bad"


def test_a_batch_without_a_good_row_needs_no_outputs() -> None:
    done, (outcomes,) = run(lambda _: RowErrors(None, {0: "a", 1: "b"}), [(tasks_of(1, 1), ())])
    assert told(outcomes) == ["a", "b"]
    assert done.shares[0].parts == []


def test_good_rows_need_outputs() -> None:
    with pytest.raises(OutputMismatch, match="given 2 rows and returned no outputs, but errors for 1 rows"):
        run(lambda _: RowErrors(None, {1: "b"}), [(tasks_of(1, 1), ())])


def test_outputs_beside_errors_have_all_rows() -> None:
    with pytest.raises(OutputMismatch, match="given 2 rows and returned 1 rows"):
        run(lambda inputs: RowErrors({"y": inputs["x"][1:]}, {0: "bad"}), [(tasks_of(1, 1), ())])


@pytest.mark.parametrize("row", [-1, 2])
def test_an_error_for_a_row_that_does_not_exist_is_a_mismatch(row: int) -> None:
    with pytest.raises(OutputMismatch, match=f"given 2 rows and returned an error for row {row}"):
        run(lambda inputs: RowErrors({"y": inputs["x"]}, {row: "?"}), [(tasks_of(1, 1), ())])


def test_without_a_batch_axis_every_row_is_the_callers() -> None:
    task: Inputs = {"x": np.zeros(5)}
    framed = group_of([task], None)
    model = executor(lambda inputs: RowErrors(inputs, {3: "three"}), Signature())
    (outcome,) = outcomes_of(model.execute(head_of(task, None), [framed]).shares[0], framed)
    assert str(outcome) == "three"


def test_no_errors_at_all_are_an_answer_like_any_other() -> None:
    _, (outcomes,) = run(lambda inputs: RowErrors({"y": inputs["x"]}, {}), [(tasks_of(1, 2), ())])
    assert told(outcomes) == [[0], [1, 2]]


# -- padding ----------------------------------------------------------------------------------------


def test_a_batch_is_padded_to_the_next_size_with_its_last_row() -> None:
    model = Echo()
    done, (first, second) = run(model, [(tasks_of(1, 1), ()), (tasks_of(1, start=7), ())], sizes=(1, 2, 4, 8))
    assert model.seen == [[0, 1, 7, 7]]
    assert (done.rows, done.padded) == (3, 4)
    assert (told(first), told(second)) == ([[0], [1]], [[7]])


@pytest.mark.parametrize(("rows", "seen"), [(1, 2), (2, 2), (5, 6), (6, 6), (7, 7), (0, 0)])
def test_sizes_that_are_allowed_or_too_large_run_as_they_are(rows: int, seen: int) -> None:
    model = Echo()
    done, (outcomes,) = run(model, [(tasks_of(rows), ())], sizes=(2, 6))
    assert len(model.seen[0]) == done.padded == seen
    assert told(outcomes) == [list(range(rows))]


def test_what_cannot_be_merged_is_not_padded() -> None:
    task: Inputs = {"x": np.zeros(3)}
    framed = group_of([task], None)
    model = executor(lambda inputs: inputs, Signature(), allowed_batch_sizes=(4,))
    assert model.execute(head_of(task, None), [framed]).padded == 1


def test_rows_are_checked_against_what_the_model_was_given() -> None:
    with pytest.raises(OutputMismatch, match="given 4 rows and returned 3 rows"):
        run(lambda inputs: {"y": inputs["x"][:3]}, [(tasks_of(3), ())], sizes=(4,))
    fixed = Signature(batchable=True, outputs=(TensorSpec("y", "INT64", (-1,)),))
    framed = group_of(tasks_of(3), AXES)
    done = executor(lambda i: {"y": i["x"]}, fixed, allowed_batch_sizes=(4,)).execute(
        head_of(tasks_of(3)[0], AXES), [framed]
    )
    assert done.padded == 4


def test_errors_of_padding_rows_are_nobodys() -> None:
    _, (outcomes,) = run(
        lambda inputs: RowErrors({"y": inputs["x"]}, {3: "padding"}), [(tasks_of(3), ())], sizes=(4,)
    )
    assert told(outcomes) == [[0, 1, 2]]


def test_a_bad_last_row_fails_only_its_task_though_it_is_repeated() -> None:
    _, (outcomes,) = run(Echo(2), [(tasks_of(1, 1, 1), ())], sizes=(8,))
    assert told(outcomes) == [[0], [1], "2 is bad"]
