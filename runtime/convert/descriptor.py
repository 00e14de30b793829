"""What an export returns and a package becomes: the formats of a model, how they do, and how to use them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from frameworks import registry
from frameworks.base import LoadOptions
from frameworks.calling import Opened
from frameworks.convert import package, providers
from frameworks.convert.formats import (
    Exporter,
    Format,
    RuntimeProvider,
    Status,
    Variant,
)
from frameworks.convert.opening import open_variant
from frameworks.convert.orders import Progress
from frameworks.convert.records import Report
from frameworks.convert.workspace import Workspace
from frameworks.errors import FrameworkError
from runtime.convert import choosing, native, repeating
from runtime.convert.arguments import FormatLike, JitTypeLike, PrecisionLike, ProviderLike
from runtime.convert.choosing import Question, VariantUnavailable
from runtime.convert.profiler_config import ProfilerConfig
from runtime.convert.reading import enum
from runtime.convert.runner import Runner, threads
from store import default_method


class PackageDescriptor:
    """The results of one export, which lie in a workspace.

    Formats, runtimes and the rest may be given by name, in any case. Where several variants fit a question,
    the first in report order is taken that was made and answers rightly.

    Args:
        workspace: it has a report.

    Raises:
        InvalidRecord: the report is damaged.
        FrameworkError: there is none.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._report = self._load()

    @property
    def workspace(self) -> Workspace:
        """Where everything lies."""
        return self._workspace

    @property
    def report(self) -> Report:
        """Everything that is known of the conversions."""
        return self._report

    @property
    def model_name(self) -> str:
        """Name of the source."""
        return self._report.model_name

    def get_formats_status(self) -> dict[Format, bool]:
        """Return each format that was tried, and whether a variant of it was made and answers rightly."""
        return {
            form: any(map(choosing.is_good, self._report.of(form)))
            for form in Format
            if self._report.of(form)
        }

    def get_formats_status_detailed(self) -> dict[str, dict[str, Status]]:
        """Return, by variant, the status of the conversion (``conversion``) and of each runtime."""
        return {
            str(variant): {
                "conversion": conversion.outcome.status,
                **{
                    provider.value: execution.outcome.status
                    for provider, execution in conversion.executions.items()
                },
            }
            for variant, conversion in self._report.conversions.items()
        }

    def get_formats_performance(self) -> dict[Format, float]:
        """Return the median latency of each format in ms: its best variant, the smallest batch measured."""
        found = {form: choosing.latency_ms(self._report.of(form)) for form in Format}
        return {form: latency for form, latency in found.items() if latency is not None}

    def get_status(
        self,
        format: FormatLike,
        runtime_provider: ProviderLike | None = None,
        jit_type: JitTypeLike | None = None,
        precision: PrecisionLike | None = None,
        *,
        exporter: Exporter | str | None = None,
    ) -> bool:
        """Return whether a variant was made and answers rightly: on a runtime, or on any.

        Raises:
            InvalidArguments: a name is unknown; the nearest is proposed.
        """
        question = Question.read(format, jit_type, precision, exporter)
        provider = None if runtime_provider is None else enum(RuntimeProvider, runtime_provider)
        return any(choosing.is_good(one, provider) for one in question.find(self._report))

    def get_model(
        self,
        format: FormatLike,
        jit_type: JitTypeLike | None = None,
        precision: PrecisionLike | None = None,
        *,
        exporter: Exporter | str | None = None,
    ) -> Any:
        """Load a variant as its framework's own object; see ``runtime.convert.native.load``.

        Raises:
            InvalidArguments: a name is unknown; the nearest is proposed.
            VariantUnavailable: it was not made; the message says why.
            InvalidModel: its framework cannot load it here.
        """
        conversion = choosing.made(Question.read(format, jit_type, precision, exporter), self._report)
        return native.load(conversion.variant.format, self._artifact(conversion.variant))

    def get_runner(
        self,
        format: FormatLike,
        jit_type: JitTypeLike | None = None,
        precision: PrecisionLike | None = None,
        runtime: ProviderLike | None = None,
        *,
        exporter: Exporter | str | None = None,
    ) -> Runner:
        """Return what runs a variant in this process; its framework is loaded when the runner is activated.

        Args:
            format: of the variant.
            jit_type: for TorchScript.
            precision: for TensorRT.
            runtime: what executes it; None for the first that answers rightly.
            exporter: for ONNX.

        Raises:
            InvalidArguments: a name is unknown; the nearest is proposed.
            VariantUnavailable: it was not made or cannot run there; the message says why.
        """
        conversion = choosing.made(Question.read(format, jit_type, precision, exporter), self._report)
        asked = None if runtime is None else enum(RuntimeProvider, runtime)
        provider = choosing.executed(conversion, asked).provider
        variant = conversion.variant
        known = self._report.signatures
        signatures = {name: known[name] for name in conversion.methods if name in known} or known
        on_gpu = providers.needs_gpu(variant, provider)
        place = providers.place(provider, self._device, threads(), on_gpu)
        load = partial(open_variant, variant, self._artifact(variant), signatures, place)
        return Runner(f"{variant} on {provider}", signatures, self._default(signatures), load)

    def get_source_runner(self) -> Runner:
        """Return what runs the source model in this process.

        Raises:
            VariantUnavailable: the source is not here; packages come without it.
        """
        model = repeating.source_of(self._workspace)
        if model is None:
            raise VariantUnavailable(
                f"the workspace {self._workspace.path} has no source model; packages come without it",
                field="workspace",
            )

        def load() -> Mapping[str, Opened]:
            options = LoadOptions(threads=threads())
            return registry.adapter(model.info.module).open_methods(model, options)  # type: ignore[return-value]

        signatures = model.info.signatures
        return Runner(f"source of {self.model_name}", signatures, self._default(signatures), load)

    def set_verified(
        self,
        format: FormatLike,
        runtime: ProviderLike,
        jit_type: JitTypeLike | None = None,
        precision: PrecisionLike | None = None,
        *,
        exporter: Exporter | str | None = None,
    ) -> None:
        """Remember that a variant passed its owner's own tests on a runtime.

        Raises:
            InvalidArguments: a name is unknown; the nearest is proposed.
            VariantUnavailable: it was not made or cannot run there; the message says why.
        """
        conversion = choosing.made(Question.read(format, jit_type, precision, exporter), self._report)
        execution = choosing.executed(conversion, enum(RuntimeProvider, runtime))
        execution.verified = True
        self._workspace.save_report(self._report)

    def get_verified_status(
        self,
        format: FormatLike,
        runtime: ProviderLike,
        jit_type: JitTypeLike | None = None,
        precision: PrecisionLike | None = None,
        *,
        exporter: Exporter | str | None = None,
    ) -> bool:
        """Return whether ``set_verified`` was called for the variant on the runtime."""
        question = Question.read(format, jit_type, precision, exporter)
        provider = enum(RuntimeProvider, runtime)
        return any(
            provider in one.executions and one.executions[provider].verified
            for one in question.find(self._report)
        )

    def save(
        self, path: str | Path, keep_workdir: bool = True, override: bool = False, save_data: bool = True
    ) -> None:
        """Write everything but the source and the log into a ``.nav`` package.

        Args:
            path: of the package.
            keep_workdir: False removes the workspace afterwards; the descriptor then knows results only.
            override: replace a file that exists.
            save_data: keep samples and the source's answers, without which nothing can be verified later.

        Raises:
            PathTaken: the file exists and is not to be replaced.
        """
        package.write(
            self._workspace.path,
            Path(path).expanduser(),
            model_name=self.model_name,
            override=override,
            save_data=save_data,
        )
        if not keep_workdir:
            shutil.rmtree(self._workspace.path)

    def profile(
        self, profiler_config: ProfilerConfig | None = None, *, progress: Progress | None = None
    ) -> None:
        """Measure every variant that answers rightly, and the source where it is here.

        Args:
            profiler_config: what to measure.
            progress: told of each step.
        """
        self._artifact(None)
        self._report = repeating.measure(self._workspace, self._report, profiler_config, progress)

    @property
    def _device(self) -> str:
        settings = self._report.settings.get("conversion")
        return str(settings.get("device", "cpu")) if isinstance(settings, dict) else "cpu"

    def _artifact(self, variant: Variant | None) -> Path:
        path = self._workspace.path if variant is None else self._workspace.artifact(variant)
        if not path.exists():
            raise VariantUnavailable(f"{path} is gone; was the workspace removed?", field="workspace")
        return path

    @staticmethod
    def _default(signatures: Mapping[str, object]) -> str:
        return default_method(signatures) or next(iter(signatures))  # type: ignore[arg-type]

    def _load(self) -> Report:
        report = self._workspace.load_report()
        if report is None:
            raise FrameworkError(f"{self._workspace.path} holds no conversion", field="workspace")
        return report

    def __repr__(self) -> str:
        good = [form.value for form, is_good in self.get_formats_status().items() if is_good]
        return f"PackageDescriptor({self.model_name!r}, formats: {', '.join(good) or 'none'})"
