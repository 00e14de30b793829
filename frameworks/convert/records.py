"""What is known of a conversion: the content of ``status.yaml``, and of the report that people read.

Written after every step, so that a run that was interrupted can be taken up. Plain values only; the reader
checks each field, since a package may come from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from frameworks.convert.formats import Format, RuntimeProvider, Status, Variant
from store import Signature
from store.plain import Plain

FORMAT_VERSION: Final = "1"


@dataclass(slots=True, kw_only=True)
class Difference:
    """One output of one variant beside the source's, over all samples and batch sizes.

    Args:
        max_abs: largest ``|a - b|``; infinite where only one of them is NaN, or shapes or datatypes differ.
        max_rel: largest ``|a - b| / |b|`` over the elements whose reference ``b`` is not zero.
        atol, rtol: the tolerances that were applied: ``|a - b| <= atol + rtol * |b|``; zero for integers.
        within: every element is within tolerance.
        outside: share of the elements that are not.
        cosine: least cosine similarity of a row; None where it has no meaning.
        top1, top5: share of the rows with the same largest element, or the same five largest; None likewise.
    """

    max_abs: float
    max_rel: float
    atol: float
    rtol: float
    within: bool
    outside: float = 0.0
    cosine: float | None = None
    top1: float | None = None
    top5: float | None = None


@dataclass(slots=True, kw_only=True)
class Invariance:
    """Whether a row's answer depends on the rows beside it, over batch sizes 1 … max.

    Args:
        sizes: batch sizes tried.
        max_abs, max_rel: largest difference to the same row alone.
        invariant: all within the same tolerance as correctness.
    """

    sizes: tuple[int, ...]
    max_abs: float
    max_rel: float
    invariant: bool


@dataclass(slots=True, kw_only=True)
class Performance:
    """One batch size of one variant on one runtime.

    Args:
        batch_size: rows of an execution.
        median_ms, mean_ms, p90_ms, p95_ms, p99_ms: of one execution.
        rows_per_second: throughput of one caller.
        requests: executions measured.
        stable: the windows agreed; see ``ProfilerConfig``.
    """

    batch_size: int
    median_ms: float
    mean_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    rows_per_second: float
    requests: int
    stable: bool


@dataclass(slots=True, kw_only=True)
class Outcome:
    """How one process ended.

    Args:
        status: ``fail`` where it raised, crashed, or went over its time or memory.
        reason: stable word, as in the errors: ``crashed``, ``timed_out``, ``out_of_memory`` …
        message: for people; empty when all went well.
        seconds: how long it took.
        facts: what it had to tell.
    """

    status: Status = Status.NOOP
    reason: str = ""
    message: str = ""
    seconds: float = 0.0
    facts: Mapping[str, Plain] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Execution:
    """One variant on one runtime: correctness, batch invariance, speed.

    Args:
        provider: what executed it.
        outcome: of verification; ``fail`` with reason ``differs`` when it ran and was wrong.
        outputs: ``method/output`` to its difference.
        invariance: method to figures; batchable methods only.
        performance: by ascending batch size; empty when not measured.
        performance_outcome: of measuring.
        verified: somebody has said so after tests of his own.
        key: digest of what verification depends on, as in ``Conversion``.
    """

    provider: RuntimeProvider
    key: str = ""
    outcome: Outcome = field(default_factory=Outcome)
    outputs: dict[str, Difference] = field(default_factory=dict)
    invariance: dict[str, Invariance] = field(default_factory=dict)
    performance: list[Performance] = field(default_factory=list)
    performance_outcome: Outcome = field(default_factory=Outcome)
    verified: bool = False


@dataclass(slots=True, kw_only=True)
class Conversion:
    """One variant: how it was made and how it does.

    Args:
        variant: what it is.
        start: what it was made of; None for the source model.
        key: digest of everything that it depends on; another run with the same key need not repeat it.
        digest: of the artifact; empty when there is none.
        outcome: of the conversion.
        methods: those that the artifact has.
        executions: by runtime.
    """

    variant: Variant
    start: Variant | None = None
    key: str = ""
    digest: str = ""
    outcome: Outcome = field(default_factory=Outcome)
    methods: tuple[str, ...] = ()
    executions: dict[RuntimeProvider, Execution] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Report:
    """Everything about one conversion run; ``status.yaml``.

    Args:
        model_name: of the source.
        uuid: of the run.
        module: adapter of the source.
        signatures: the methods that were converted.
        source: runtime and speed of the source itself.
        conversions: by variant, in report order.
        environment: machine, versions.
        git_info: of the caller's checkout; empty when not wanted or not in one.
        settings: what was asked for.
    """

    model_name: str
    uuid: str
    module: str
    signatures: Mapping[str, Signature]
    source: Execution
    conversions: dict[Variant, Conversion] = field(default_factory=dict)
    environment: dict[str, Plain] = field(default_factory=dict)
    git_info: dict[str, Plain] = field(default_factory=dict)
    settings: dict[str, Plain] = field(default_factory=dict)
    format_version: str = FORMAT_VERSION

    def of(self, form: Format) -> list[Conversion]:
        """Return the conversions to a format."""
        return [found for variant, found in self.conversions.items() if variant.format is form]
