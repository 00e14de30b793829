"""The folder of one conversion run: samples, reference answers, one folder per variant, status and log.

::

    <name>.nav.workspace/
        status.yaml  navigator.log
        model_input/{conversion,correctness,profiling}/N.npz
        model_input/extents/N.npz  where a run has added some
        model_output/…             the source's answers; of further methods below model_output/<method>/
        onnx/{model.onnx,config.yaml}  trt-fp16/…  torchscript-trace/…
        .source/                   the source model, when it is in no store

Source of the layout: the export documentation of NVIDIA's Model Navigator 0.3. One run at a time works in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml

from frameworks.convert.formats import Variant
from frameworks.convert.plainform import InvalidRecord, from_plain, to_plain
from frameworks.convert.records import FORMAT_VERSION, Report
from frameworks.convert.work import ARTIFACTS
from frameworks.errors import FrameworkError
from store import ModelStore
from store.digests import digest_file, digest_tree

SUFFIX: Final = ".nav.workspace"
STATUS: Final = "status.yaml"
LOG: Final = "navigator.log"
INPUTS: Final = "model_input"
OUTPUTS: Final = "model_output"
SOURCE: Final = ".source"

_LOCK: Final = ".lock"
_MAX_STATUS: Final = 16 << 20
"""Bytes of a status file that are read at most."""

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class WorkspaceBusy(FrameworkError):
    """Another run works in the folder (FAILED_PRECONDITION)."""

    reason = "workspace_busy"


class Workspace:
    """One run's folder, made when it is first written to.

    Args:
        path: of the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path: Final = Path(path).expanduser().absolute()

    @property
    def log(self) -> Path:
        """What the steps have printed."""
        return self.path / LOG

    @property
    def inputs(self) -> Path:
        """Folder of the samples, by kind."""
        return self.path / INPUTS

    @property
    def outputs(self) -> Path:
        """Folder of the source's answers to them."""
        return self.path / OUTPUTS

    def folder(self, variant: Variant) -> Path:
        """Return the folder of a variant."""
        return self.path / str(variant)

    def artifact(self, variant: Variant) -> Path:
        """Return the file or folder that a variant is."""
        return self.folder(variant) / ARTIFACTS[variant.format]

    def aside(self, variant: Variant) -> Path:
        """Return the folder in which a variant is made, before it takes the place of its own."""
        return self.path / f".{variant}.making"

    def source_store(self) -> ModelStore:
        """Return the store for a source that is in no other."""
        return ModelStore(self.path / SOURCE)

    def digest(self, variant: Variant) -> str:
        """Return one digest over a variant's artifact; empty when there is none."""
        artifact = self.artifact(variant)
        if artifact.is_file():
            return digest_file(artifact)
        if not artifact.is_dir():
            return ""
        lines = "\n".join(f"{name} {digest}" for name, digest in digest_tree(artifact).items())
        return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"

    def load_report(self) -> Report | None:
        """Return what is known of the run; None before its first step.

        Raises:
            InvalidRecord: the file is damaged, or of another version; path and field are named.
        """
        try:
            with (self.path / STATUS).open("rb") as file:
                text = file.read(_MAX_STATUS)
        except FileNotFoundError:
            return None
        try:
            document = yaml.load(text, Loader=_Loader)  # noqa: S506 -- one of the two safe loaders
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise InvalidRecord(f"{self.path / STATUS} is not YAML: {error}") from None
        try:
            report = from_plain(Report, document)
        except InvalidRecord as error:
            raise InvalidRecord(f"{self.path / STATUS}: {error.message}", field=error.field) from None
        if report.format_version != FORMAT_VERSION:
            raise InvalidRecord(
                f"{self.path / STATUS} has format_version {report.format_version!r}; "
                f"this release reads {FORMAT_VERSION!r}",
                field="format_version",
            )
        return report

    def save_report(self, report: Report) -> None:
        """Write what is known of the run, whole or not at all."""
        self.path.mkdir(parents=True, exist_ok=True)
        unfinished = self.path / f".{STATUS}.unfinished"
        with unfinished.open("w", encoding="utf-8") as file:
            yaml.dump(to_plain(report), file, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(self.path / STATUS)

    @contextlib.contextmanager
    def occupied(self) -> Iterator[None]:
        """Keep other runs out for the time of the block; a run that died keeps nobody out.

        Raises:
            WorkspaceBusy: another run is at work.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WorkspaceBusy(f"another run works in {self.path}", field="workdir") from None
            yield

    def __repr__(self) -> str:
        return f"Workspace({str(self.path)!r})"
