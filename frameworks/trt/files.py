"""The files of a TensorRT model: the plan, its record, and the ONNX graph that is its source.

A conversion writes ``model.plan``, ``plan.json`` and ``model.onnx`` into one folder; a saved model keeps the
graph in ``onnx/`` below it, as the ONNX adapter does. A plan alone, or a graph whose plan is not built yet,
are models too.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from frameworks.errors import InvalidModel
from frameworks.ort.files import GRAPH, Files
from frameworks.trt.plan import INFO, PLAN, BuildSettings, PlanInfo, digest
from store.digests import digest_file

BESIDE: Final = "model.onnx"
SUFFIXES: Final = (".plan", ".engine", ".trt")
"""Of files that hold plans."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An ONNX graph and how its plan is to be built; what ``save_model`` takes.

    Args:
        graph: path of an ``.onnx`` file, its bytes, or a ``ModelProto``.
        settings: see ``BuildSettings``. Dynamic axes that the profile leaves out are taken from the
            signature's batch axis and from the sample.
    """

    graph: Any
    settings: BuildSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What lies in a folder; the plan and the graph are checked against the record when they are read.

    Args:
        folder: where it lies.
        plan_name: what the plan's file is, or would be, called.
        info: the record.
        plan_path: file of the plan; None when it is not built yet.
        graph_path: file of the graph; None for a plan alone.
    """

    folder: Path
    plan_name: str
    info: PlanInfo
    plan_path: Path | None
    graph_path: Path | None

    @classmethod
    def read(cls, folder: Path, plan_name: str = PLAN) -> Contents:
        """Look at a folder.

        Raises:
            InvalidModel: it has no readable record, or neither plan nor graph.
        """
        if not (folder / INFO).is_file():
            raise InvalidModel(
                f"{folder / plan_name} has no {INFO} beside it, which says what it was built for; convert or "
                "save the ONNX model again",
                field=INFO,
            )
        info = PlanInfo.read(folder / INFO)
        plan = folder / plan_name if info.platform is not None else None
        if plan is not None and not plan.is_file():
            raise InvalidModel(f"{plan} is not there", field=plan_name)
        graph = next((folder / name for name in (GRAPH, BESIDE) if (folder / name).is_file()), None)
        if not info.graph_digest:
            graph = None
        elif graph is None and plan is None:
            raise InvalidModel(f"{folder} has neither a plan nor a graph", field=INFO)
        return cls(folder=folder, plan_name=plan_name, info=info, plan_path=plan, graph_path=graph)

    def plan(self) -> bytes:
        """Return the plan.

        Raises:
            InvalidModel: there is none, or it is not the one of the record.
        """
        if self.plan_path is None:
            raise InvalidModel("no plan has been built yet", field=PLAN)
        content = self.plan_path.read_bytes()
        if digest(content) != self.info.plan_digest:
            raise InvalidModel(
                f"{self.plan_path} is not the plan that {INFO} describes: it is damaged or was replaced",
                field=PLAN,
            )
        return content

    def graph(self) -> Path:
        """Return the file of the graph.

        Raises:
            InvalidModel: there is none, or it is not the one that the plan was built from.
        """
        if self.graph_path is None:
            raise InvalidModel("there is no ONNX graph beside the plan", field=BESIDE)
        if graph_digest(self.graph_path) != self.info.graph_digest:
            raise InvalidModel(
                f"{self.graph_path} is not the graph that {INFO} describes: it is damaged or was replaced",
                field=BESIDE,
            )
        return self.graph_path


def graph_digest(path: Path) -> str:
    """Return one digest for a graph and the files beside it in which it keeps tensors.

    Raises:
        InvalidModel: such a file is not there.
    """
    beside = Files.of(path).beside
    digests = [digest_file(path), *(f"{name} {digest_file(path.parent / name)}" for name in sorted(beside))]
    return f"sha256:{hashlib.sha256(chr(10).join(digests).encode()).hexdigest()}"


def copy_graph(path: Path, folder: Path) -> Path:
    """Put a graph beside a plan, with the files in which it keeps tensors; return its new path.

    Raises:
        InvalidModel: such a file is not there, or has the name of another file of ours.
    """
    for name in Files.of(path).beside:
        if name in (PLAN, INFO, BESIDE):
            raise InvalidModel(f"the graph keeps tensors in {name!r}, which is another file here", field=name)
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not (copy.exists() and copy.samefile(path.parent / name)):
            replace(copy, path.parent / name)
    target = folder / BESIDE
    if not (target.exists() and target.samefile(path)):
        replace(target, path)
    return target


def replace(target: Path, content: bytes | Path) -> None:
    """Write a file, or copy one, so that readers see the old file or the new one and never half of one."""
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}.unfinished")
    try:
        if isinstance(content, Path):
            shutil.copyfile(content, unfinished)
        else:
            unfinished.write_bytes(content)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
