"""``runtime convert``: other formats of a saved model, compared with it, measured beside it, and stored."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runtime.cli.common import cleaning_up_on_terminate, echo_json, open_store
from runtime.cli.convert_options import with_options

if TYPE_CHECKING:
    from frameworks.convert.records import Report
    from frameworks.convert.workspace import Workspace
    from runtime.cli.convert_output import Steps
    from runtime.cli.convert_plan import Targets
    from runtime.convert.results import Stored
    from store import Model, ModelStore

MEASURE: Final = "runtime.convert.performance:measure"


@click.command(short_help="Convert MODEL to other formats; find the best.")
@click.argument("model")
@with_options
def convert(model: str, store: str | None, as_json: bool, **options: Any) -> int:
    """Convert the saved model MODEL to other formats, and find the best.

    Each variant is made, compared with the model's own answers, alone and in batches, and measured, each in a
    process of its own: one that crashes or hangs is a line in the table. Good ones are saved as models
    NAME-VARIANT, of the same version, with MODEL as their parent; one that is stored already is kept.

    Exit code 0: some variant is good and, with --to, each word of it has given a good one; a format that
    this machine cannot make, for lack of a GPU for example, is a failure only if --to names it. 1: otherwise.
    2: wrong usage.

    Without --workdir the work lies in a temporary folder, which is kept only when something has failed, for
    its log.
    """
    from runtime.cli import convert_plan
    from runtime.cli.convert_output import Steps

    opened = open_store(store)
    source = opened.get(model)
    package = options["package"]
    if package is not None and package.exists() and not options["overwrite"]:
        raise click.BadParameter(f"{package} exists; --overwrite replaces it", param_hint="--package")
    targets = convert_plan.targets(source.info.module, options)
    steps = Steps()
    with cleaning_up_on_terminate(), _workspace(source, options["workdir"], steps) as work:
        done = _Done(source=source, targets=targets, report=_run(source, targets, work, options, steps))
        if not options["no_store"]:
            done.stored = _stored(done, work.workspace, opened, options)
        done.is_good = _is_good(done, unverified=not options["verify"])
        if package is not None and done.report.conversions:
            _pack(done, work.workspace, package, options["overwrite"], steps)
        work.is_kept = work.is_kept or bool(done.failed)
        _show(done, work.workspace if work.is_kept else None, options, as_json=as_json)
    return 0 if done.is_good else 1


@dataclass(slots=True)
class _Work:
    """The folder of a run; gone at the end unless it is kept."""

    workspace: Workspace
    is_kept: bool


@dataclass(slots=True, kw_only=True)
class _Done:
    """What a run has come to."""

    source: Model
    targets: Targets
    report: Report
    stored: list[Stored] | None = None
    is_good: bool = False

    @property
    def failed(self) -> bool:
        """Whether anything went wrong, as opposed to what could not be tried here."""
        from frameworks.convert.formats import Status

        made = [one for variant, one in self.report.conversions.items() if variant in self.targets.variants]
        runs = [self.report.source, *(run for one in made for run in one.executions.values())]
        outcomes = [one.outcome for one in made] + [one.outcome for one in runs]
        outcomes += [one.performance_outcome for one in runs]
        return any(outcome.status is Status.FAIL for outcome in outcomes)


@contextmanager
def _workspace(source: Model, workdir: Path | None, steps: Steps) -> Iterator[_Work]:
    from frameworks.convert.workspace import SUFFIX, Workspace

    if workdir is not None:
        work = _Work(Workspace(workdir / f"{source.info.name}{SUFFIX}"), is_kept=True)
        try:
            yield work
        except KeyboardInterrupt:
            steps.note(f"interrupted; the same command goes on in {work.workspace.path}")
            raise
        return
    folder = Path(tempfile.mkdtemp(prefix="runtime-convert-"))
    work = _Work(Workspace(folder / f"{source.info.name}{SUFFIX}"), is_kept=False)
    try:
        yield work
    except BaseException:
        work.is_kept = False
        raise
    finally:
        if not work.is_kept:
            shutil.rmtree(folder, ignore_errors=True)


def _run(source: Model, targets: Targets, work: _Work, options: Mapping[str, Any], steps: Steps) -> Report:
    """Collect the samples and do the work."""
    from frameworks.convert.run import Order, run
    from runtime.cli import convert_plan, convert_samples
    from runtime.profiling import environment

    signatures = convert_plan.signatures(source, options["method"])
    settings = convert_plan.settings(source, options)
    order = Order(
        targets=targets.variants,
        providers=convert_plan.providers(options["providers"]),
        settings=settings,
        limits=convert_plan.limits(options),
        verify=options["verify"],
        measure=MEASURE if options["profile"] else "",
        measure_settings=convert_plan.measurement(settings.max_batch_size, options),
    )
    samples, made_up = convert_samples.find(source, signatures, options["samples"])
    if made_up:
        steps.note(
            f"note: {source.tag} was saved without a sample; answers are compared on random numbers "
            "(--samples takes real ones)"
        )
    if options["profile"]:
        for line in environment.warnings(environment.fingerprint()):
            steps.note(f"note: {line}; figures of such a machine mislead")
    samples.save(work.workspace.inputs)
    with _said_once():
        return run(work.workspace, order, model=source, signatures=signatures, progress=steps)


@contextmanager
def _said_once() -> Iterator[None]:
    """Keep what the steps tell us anyway from being printed as log lines too."""
    logger, handler = logging.getLogger("frameworks.convert"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _stored(done: _Done, workspace: Workspace, store: ModelStore, options: Mapping[str, Any]) -> list[Stored]:
    from runtime.cli import convert_plan
    from runtime.convert.results import store_results

    return store_results(
        done.report,
        workspace,
        done.source,
        store,
        targets=done.targets.variants,
        overwrite=options["overwrite"],
        unverified=not options["verify"],
        limits=convert_plan.limits(options),
    )


def _is_good(done: _Done, *, unverified: bool) -> bool:
    """Whether some variant is good, each word of ``--to`` has given one, and what was to be stored is."""
    from frameworks.convert.formats import Status
    from runtime.convert.results import Fate, is_good

    if done.report.source.outcome.status is not Status.OK:
        return False  # nothing was done; the report may hold what an earlier run did
    known = done.report.conversions
    good = {
        variant
        for variant in done.targets.variants
        if variant in known and is_good(known[variant], unverified=unverified)
    }
    answered = all(good.intersection(group) for group in done.targets.asked.values())
    return bool(good) and answered and all(one.fate is not Fate.FAILED for one in done.stored or ())


def _pack(done: _Done, workspace: Workspace, path: Path, overwrite: bool, steps: Steps) -> None:
    from frameworks.convert import package

    package.write(workspace.path, path, model_name=done.report.model_name, override=overwrite)
    steps.note(f"packed into {path}")


def _show(done: _Done, kept: Workspace | None, options: Mapping[str, Any], *, as_json: bool) -> None:
    from frameworks.convert.best import best
    from runtime.cli import convert_output

    choice = best(done.report, latency_ms=options["slo_ms"], unverified=not options["verify"])
    stored = done.stored or []
    if as_json:
        echo_json(
            convert_output.document(
                done.report,
                choice,
                stored,
                model=str(done.source.tag),
                good=done.is_good,
                targets=[str(variant) for variant in done.targets.variants],
                workspace=str(kept.path) if kept else None,
                package=str(options["package"]) if options["package"] else None,
            )
        )
        return
    click.echo(convert_output.text(done.report, done.targets.variants, choice, stored))
    if kept is not None:
        click.echo(f"log: {kept.log}")
