"""Does a converted model answer as its source does, alone and in batches?

Each sample is run alone. Then, if rows may be merged, batches of many sizes are run, made of different
samples, and each of their rows is compared with the source's answer to *that* row: a result that is wrong
from some size on shows, and so do rows that influence each other. Pure, given callables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from frameworks import sample
from frameworks.arrays import Array, Arrays
from frameworks.calling import Opened
from frameworks.convert.formats import TensorRTPrecision
from frameworks.convert.items import InvalidSamples
from frameworks.convert.records import Difference, Invariance
from frameworks.convert.samples import EXTENTS, Samples, extents_of, join
from frameworks.convert.tolerance import Comparison, Rule
from frameworks.errors import SampleFailed
from frameworks.row_errors import complete
from store import Signature

KINDS: Final = ("conversion", "correctness", EXTENTS)
"""The samples that are compared."""

_SMALL_SIZES: Final = (1, 2, 3, 5)
"""As when a model is saved: 1 again shows answers that differ from run to run; odd ones, vector tails."""


@dataclass(slots=True, kw_only=True)
class Verified:
    """What verification has found.

    Args:
        outputs: ``method/output`` to its difference, over all samples and batch sizes.
        invariance: method to what the rows beside a row do to it; batchable methods only.
        passed: at least one method was compared, none failed, and every output is within tolerance.
        message: what is wrong, for people; empty if it passed.
        skipped: method to the reason why it was not compared.
    """

    outputs: dict[str, Difference] = field(default_factory=dict)
    invariance: dict[str, Invariance] = field(default_factory=dict)
    passed: bool = False
    message: str = ""
    skipped: dict[str, str] = field(default_factory=dict)


def sizes_up_to(most: int) -> tuple[int, ...]:
    """Return the batch sizes to try: 1, 2, 3, 5, the powers of two, and the largest."""
    powers = (1 << power for power in range(most.bit_length()))
    return tuple(sorted({size for size in (*_SMALL_SIZES, *powers, most) if 1 <= size <= most}))


def arrange(samples: Sequence[Arrays], signature: Signature) -> list[Arrays] | None:
    """Return samples as a method takes them: by name, or, if the names are others, by position.

    Returns:
        None if number, datatypes or shapes are not those of the method: the samples are for another one.
    """
    if signature.inputs is None:
        return list(samples)
    names = [spec.name for spec in signature.inputs]
    arranged = []
    for arrays in samples:
        same = arrays.keys() == set(names)
        fitting = sample.fit(
            [arrays[name] for name in names] if same else [*arrays.values()], signature.inputs
        )
        if fitting is None:
            return None
        arranged.append(fitting)
    return arranged


def outputs_of(method: Opened, signature: Signature, samples: Sequence[Arrays]) -> list[Arrays]:
    """Run a method on each sample and return its outputs, named and ordered as in the signature.

    Raises:
        SampleFailed: the samples are for another method, or a run raises or lacks an output; the sample is
            named by its index.
    """
    arranged = arrange(samples, signature)
    if arranged is None:
        raise SampleFailed("the samples do not fit the input specs of the method", field="samples")
    return [_run(method, signature, arrays, f"sample {index}") for index, arrays in enumerate(arranged)]


def verify(
    methods: Mapping[str, Opened],
    signatures: Mapping[str, Signature],
    samples: Samples,
    reference: Mapping[str, Mapping[str, Sequence[Arrays]]],
    *,
    precision: TensorRTPrecision | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    max_batch_size: int = 8,
) -> Verified:
    """Compare methods with what their source answered.

    Args:
        methods: of the converted model; signatures without one are skipped.
        signatures: of the methods, with input and output specs.
        samples: inputs of the first method, and of any other that takes the same.
        reference: method to kind (``conversion``, ``correctness``, ``extents``) to one answer per sample.
        precision: of the converted model's arithmetic; None is that of the source.
        atol: see ``tolerance.Rule``.
        rtol: likewise.
        max_batch_size: the largest batch to try, from 1 up.

    Raises:
        InvalidSamples: there are not as many answers as samples, or one lacks an output.
    """
    rule = Rule(precision=precision, atol=atol, rtol=rtol)
    found = Verified()
    messages: list[str] = []
    for name, signature in signatures.items():
        pairs = _pairs(name, signature, samples, reference.get(name, {}))
        inputs = arrange([one for one, _ in pairs], signature)
        if name not in methods:
            found.skipped[name] = "the converted model does not have it"
        elif not pairs:
            found.skipped[name] = "there are no answers of the source to compare with"
        elif inputs is None:
            found.skipped[name] = "the samples do not fit its input specs"
        else:
            given, answers = len(pairs) - len(reference[name].get(EXTENTS, ())), [one for _, one in pairs]
            trial = _Trial(name, methods[name], signature, inputs, answers, rule, given)
            messages += filter(None, [trial.run(max_batch_size)])
            found.outputs.update(trial.outputs)
            if trial.invariance is not None:
                found.invariance[name] = trial.invariance
    if not messages and not found.outputs:
        skipped = "; ".join(f"{name!r}: {reason}" for name, reason in found.skipped.items())
        messages.append(f"nothing was compared: {skipped or 'there are no methods'}")
    found.passed, found.message = not messages, "; ".join(messages)
    return found


class _Trial:
    """One method's comparison; the first samples are ``given``, the others are at further extents."""

    def __init__(
        self,
        name: str,
        method: Opened,
        signature: Signature,
        inputs: list[Arrays],
        answers: list[Arrays],
        rule: Rule,
        given: int,
    ) -> None:
        self._name, self._method, self._signature = name, method, signature
        self._inputs, self._answers = inputs, answers
        tolerances = rule.over(answers)
        self._correct, self._alike = Comparison(tolerances), Comparison(tolerances)
        self._given = given
        self._is_of_given_extents = False
        self._sizes: list[int] = []
        self._wrong_from: int | None = None

    def run(self, max_batch_size: int) -> str:
        """Run all samples and batches; return what is wrong, empty if nothing is."""
        failure = ""
        try:
            alone = self._run_alone()
            if self._signature.batchable:
                self._run_batches(alone, max_batch_size)
        except SampleFailed as error:
            failure = f"method {self._name!r} fails on {error.message}"
        difference = "" if self._correct.within else self._describe()
        return "; ".join(filter(None, [difference, failure]))

    @property
    def outputs(self) -> dict[str, Difference]:
        """Figures by ``method/output``."""
        return {f"{self._name}/{output}": found for output, found in self._correct.differences().items()}

    @property
    def invariance(self) -> Invariance | None:
        """What the rows beside a row do to it; None if no batch was run."""
        if not self._sizes:
            return None
        figures = self._alike.differences().values()
        return Invariance(
            sizes=tuple(self._sizes),
            max_abs=max((each.max_abs for each in figures), default=0.0),
            max_rel=max((each.max_rel for each in figures), default=0.0),
            invariant=self._alike.within,
        )

    def _run_alone(self) -> list[Arrays]:
        axis = self._signature.batch_dim[1] if self._signature.batchable else None
        alone = []
        for index, (arrays, answer) in enumerate(zip(self._inputs, self._answers, strict=True)):
            is_right = self._correct.within
            actual = _run(self._method, self._signature, arrays, f"sample {index}")
            self._correct.add_all(actual, answer, axis=axis)
            alone.append(actual)
            if index >= self._given and is_right and not self._correct.within:
                self._is_of_given_extents = True
        return alone

    def _run_batches(self, alone: list[Arrays], max_batch_size: int) -> None:
        right_alone = self._correct.within
        into, out = self._signature.batch_dim
        groups = self._groups(into)
        start = 0
        for size in sizes_up_to(max_batch_size):
            for group in groups:
                rows = [group[(start + row) % len(group)] for row in range(size)]
                batch = join([self._inputs[row] for row in rows], into)
                together = _run(self._method, self._signature, batch, f"a batch of {size}")
                _check_rows(together, out, size)
                _compare(self._correct, together, [self._answers[row] for row in rows], out)
                _compare(self._alike, together, [alone[row] for row in rows], out)
            start += size  # other rows in other places next time
            self._sizes.append(size)
            if right_alone and self._wrong_from is None and not self._correct.within:
                self._wrong_from = size

    def _groups(self, axis: int) -> list[list[int]]:
        """Return rows that can stand in one batch.

        Those of the largest group, and of the groups at the ends of the extents. With many extents all groups
        would take too long, and most would have a single row.
        """
        groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for index, arrays in enumerate(self._inputs):
            groups.setdefault(extents_of(arrays, axis), []).append(index)
        by_elements = sorted(groups, key=lambda extents: sum(map(math.prod, extents)))
        largest = max(groups, key=lambda extents: len(groups[extents]))
        return [groups[key] for key in dict.fromkeys((largest, by_elements[0], by_elements[-1]))]

    def _describe(self) -> str:
        outside = {name: each for name, each in self._correct.differences().items() if not each.within}
        worst = max(outside, key=lambda name: (outside[name].outside, outside[name].max_abs))
        text = f"output {worst!r} of method {self._name!r} {self._words(worst, outside[worst])}"
        if self._is_of_given_extents:
            text += (
                "; samples as they were given agree, the same at other extents of the dynamic axes do not: "
                "it was made for these extents only"
            )
        if self._wrong_from is not None:
            text += f"; single rows agree, rows of batches from {self._wrong_from} on do not"
        if len(outside) > 1:
            text += f" (and {len(outside) - 1} more of its outputs)"
        return text

    def _words(self, name: str, found: Difference) -> str:
        problem = self._correct.problems.get(name)
        if problem:
            return f"cannot be compared: {problem}"
        allowed = (
            f"{found.atol:.3g} + {found.rtol:.3g}·|reference| is allowed"
            if found.atol or found.rtol
            else "it has to be equal"
        )
        return (
            f"differs by up to {found.max_abs:.3g} (relative {found.max_rel:.3g}) where {allowed}, "
            f"in {100 * found.outside:.3g} % of its elements"
        )


def _run(method: Opened, signature: Signature, inputs: Arrays, what: str) -> Arrays:
    """Run a method on copies of the inputs, and keep its results apart from them."""
    try:
        outputs = complete(method({name: array.copy() for name, array in inputs.items()}))
        names = outputs if signature.outputs is None else [spec.name for spec in signature.outputs]
        missing = [name for name in names if name not in outputs]
        if not missing:
            return {name: outputs[name].copy() for name in names}
    except Exception as error:
        shapes = {name: list(array.shape) for name, array in inputs.items()}
        raise SampleFailed(f"{what}, with shapes {shapes}: {error!r}", field="samples") from error
    raise SampleFailed(f"{what}: output {missing[0]!r} is missing", field=missing[0])


def _compare(comparison: Comparison, together: Arrays, rows: list[Arrays], axis: int) -> None:
    """Compare a batch's outputs with those of its rows, one by one where these cannot be joined."""
    has_rows = all(array.ndim > axis for row in rows for array in row.values())
    if has_rows and len({extents_of(row, axis) for row in rows}) == 1:
        comparison.add_all(together, join(rows, axis), axis=axis)
        return
    for index, row in enumerate(rows):
        comparison.add_all(
            {name: _row(array, index, axis) for name, array in together.items()}, row, axis=axis
        )


def _row(array: Array, index: int, axis: int) -> Array:
    taken: Array = array.take([index], axis=axis)
    return taken


def _pairs(
    name: str, signature: Signature, samples: Samples, reference: Mapping[str, Sequence[Arrays]]
) -> list[tuple[Arrays, Arrays]]:
    """Return each sample with the source's answer."""
    pairs: list[tuple[Arrays, Arrays]] = []
    for kind in KINDS:
        given, answers = getattr(samples, kind), reference.get(kind)
        if answers is None:
            continue
        if len(answers) != len(given):
            raise InvalidSamples(
                f"method {name!r} has {len(answers)} answers to {len(given)} {kind} samples", field=kind
            )
        for spec in signature.outputs or ():
            if any(spec.name not in answer for answer in answers):
                raise InvalidSamples(
                    f"an answer of method {name!r} to the {kind} samples lacks output {spec.name!r}",
                    field=kind,
                )
        pairs += zip(given, answers, strict=True)
    return pairs


def _check_rows(outputs: Arrays, axis: int, rows: int) -> None:
    for name, array in outputs.items():
        if array.ndim <= axis or array.shape[axis] != rows:
            raise SampleFailed(
                f"a batch of {rows}: output {name!r} has shape {list(array.shape)}; "
                f"it needs {rows} rows along axis {axis}",
                field=name,
            )
