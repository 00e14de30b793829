"""What the parts of a run share: the task, the report that grows, and the way to run one isolated step."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from frameworks import gpu
from frameworks.convert import environment, providers
from frameworks.convert.formats import RuntimeProvider, Status, Variant
from frameworks.convert.isolate import isolated
from frameworks.convert.orders import Event, Order, Progress
from frameworks.convert.place import Place
from frameworks.convert.plainform import to_plain
from frameworks.convert.records import Outcome, Report
from frameworks.convert.samples import EXTENTS
from frameworks.convert.workspace import Workspace
from frameworks.cores import usable_cores
from store import Model, Signature
from store.digests import digest_tree
from store.plain import Plain

_logger = logging.getLogger(__name__)

_STAGES: Final = "frameworks.convert.stages"

Judge = Callable[[Outcome], None]


class Context:
    """One run.

    Args:
        workspace: where it works; it holds the samples.
        order: what is asked for.
        model: the source; None where only a package is at hand.
        signatures: the methods to convert; samples are inputs of the first.
        report: what is known so far; changed and written as the run goes on.
        targets: what is to be made.
        progress: told at the beginning and the end of each step.
    """

    def __init__(
        self,
        workspace: Workspace,
        order: Order,
        *,
        model: Model | None,
        signatures: Mapping[str, Signature],
        report: Report,
        targets: tuple[Variant, ...],
        progress: Progress,
    ) -> None:
        self.workspace: Final = workspace
        self.order: Final = order
        self.model: Final = model
        self.signatures: Final = dict(signatures)
        self.report: Final = report
        self.targets: Final = targets
        self.total = 0
        self.has_gpu: Final = gpu.find_gpu() is not None
        self.source_key: Final = (
            report.source.key
            if model is None
            else digest(dict(model.info.digests), to_plain(self.signatures), model.info.module)
        )
        self.base: Final = digest(self.source_key, environment.versions(), _given(workspace.inputs))
        self._progress = progress
        self._done = 0
        self._threads = usable_cores()

    def save(self) -> None:
        """Write the report."""
        self.workspace.save_report(self.report)

    def step(
        self,
        stage: str,
        subject: str,
        function: str,
        arguments: Mapping[str, Plain],
        judge: Judge = lambda _: None,
    ) -> Outcome:
        """Run one function of ``stages`` in a process of its own, and tell of it.

        Args:
            stage: for the progress.
            subject: likewise.
            function: in ``stages``.
            arguments: of the function.
            judge: changes the outcome of a process that ended well into that of its task.
        """
        self._tell(Event(stage=stage, subject=subject, done=self._done, total=self.total))
        with self.workspace.log.open("a", encoding="utf-8") as log:
            log.write(f"== {stage} {subject}\n")
        limits = self.order.limits
        outcome = isolated(f"{_STAGES}:{function}", arguments, limits, self.workspace.log)
        if outcome.status is Status.OK:
            judge(outcome)
        self.told(stage, subject, outcome)
        return outcome

    def told(self, stage: str, subject: str, outcome: Outcome) -> None:
        """Tell how a step ended, also one that no process was started for."""
        self._done += 1
        with self.workspace.log.open("a", encoding="utf-8") as log:
            log.write(f"-- {outcome.status} {outcome.message}\n")
        self._tell(
            Event(
                stage=stage,
                subject=subject,
                status=outcome.status,
                message=outcome.message,
                seconds=outcome.seconds,
                done=self._done,
                total=self.total,
            )
        )

    def passed_over(self, steps: int = 1) -> None:
        """Take steps off the count that need not or cannot be done."""
        self.total -= steps

    def runtimes(self, variant: Variant) -> tuple[RuntimeProvider, ...]:
        """Return what is to execute a variant."""
        return providers.of_variant(variant, self.order.providers, self.has_gpu)

    def executions(self, variant: Variant) -> int:
        """Return how many steps execute a variant, if it can be made."""
        return len(self.runtimes(variant)) * (self.order.verify + bool(self.order.measure))

    def common(self, place: Place, methods: Iterable[str] = ()) -> dict[str, Plain]:
        """Return the arguments that all stages take which execute something."""
        chosen = {name: self.signatures[name] for name in methods or self.signatures}
        return {
            "signatures": to_plain(chosen),
            "place": to_plain(place),
            "inputs": str(self.workspace.inputs),
        }

    def source_subject(self) -> dict[str, Plain]:
        """Return the source model as a subject of the stages."""
        if self.model is None:
            raise ValueError("the run has no source model")
        return {"store": str(self.model.path.parent.parent), "tag": str(self.model.tag)}

    def variant_subject(self, variant: Variant) -> dict[str, Plain]:
        """Return a variant as a subject of the stages."""
        return {"variant": str(variant), "path": str(self.workspace.artifact(variant))}

    def source_place(self) -> Place:
        """Return where the source is executed."""
        provider = providers.of_source(self.report.module)
        return providers.place(provider, self.order.settings.device, self._threads, on_gpu=False)

    def place(self, variant: Variant, provider: RuntimeProvider) -> Place:
        """Return where a variant is executed."""
        on_gpu = providers.needs_gpu(variant, provider)
        return providers.place(provider, self.order.settings.device, self._threads, on_gpu)

    def _tell(self, event: Event) -> None:
        level = logging.WARNING if event.status is Status.FAIL else logging.INFO
        _logger.log(
            level,
            "conversion_step stage=%s subject=%r status=%s seconds=%.1f message=%s",
            event.stage,
            event.subject,
            event.status or "begun",
            event.seconds,
            event.message,
        )
        self._progress(event)


def _given(inputs: Path) -> dict[str, str]:
    """Return the digests of the samples, without those that a run adds to them."""
    return {name: one for name, one in digest_tree(inputs).items() if not name.startswith(f"{EXTENTS}/")}


def digest(*parts: object) -> str:
    """Return a digest of plain values, to tell whether something depends on other things than before."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
