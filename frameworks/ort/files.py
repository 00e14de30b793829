"""The files of an ONNX model: the graph, and the tensors that it keeps in files beside it.

Serving needs onnxruntime only, so the graph's references to other files are found in its bytes without the
onnx package.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from frameworks.errors import InvalidModel

GRAPH: Final = "onnx/model.onnx"
"""In a folder of its own, since the names of the files beside it are the graph's choice."""

_LOCATION: Final = re.compile(rb"\x0a\x08location\x12([\x01-\x7f]|[\x80-\xff][\x01-\x7f])", re.DOTALL)
"""Start of a key-value message as serialised: field 1 is ``location``, field 2 a text of 1 or 2 length bytes.

Source: onnx.proto, ``TensorProto.external_data``; protobuf's wire format.
"""


@dataclass(frozen=True, slots=True)
class Files:
    """A model's graph, and where the files beside it are.

    Args:
        graph: the serialised model.
        folder: where a model from a file lies; None for one from memory.
        beside: relative paths of the files that the graph names.
    """

    graph: bytes
    folder: Path | None
    beside: tuple[str, ...]

    @classmethod
    def of(cls, model: Any) -> Files:
        """Read a ``ModelProto``, a serialised one, or the path of one.

        Raises:
            InvalidModel: something else, or the files that the graph names are not there.
        """
        folder = None
        if isinstance(model, str | Path):
            folder = Path(model).parent
            graph = _read(Path(model))
        elif isinstance(model, bytes):
            graph = model
        elif hasattr(model, "SerializeToString"):
            graph = _serialised(model)
        else:
            raise InvalidModel(
                f"a {type(model).__name__} is neither a ModelProto, nor bytes, nor a path", field="model"
            )
        beside = tuple(dict.fromkeys(_locations(graph)))
        for name in beside:
            _check(name, folder)
        return cls(graph, folder, beside)

    def write(self, target: Path) -> None:
        """Copy the graph and the files beside it below ``target``."""
        graph = target / GRAPH
        graph.parent.mkdir()
        graph.write_bytes(self.graph)
        for name in self.beside:
            assert self.folder is not None
            copy = graph.parent / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / name, copy)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidModel(f"the ONNX file cannot be read: {error}", field="model") from error


def _serialised(model: Any) -> bytes:
    try:
        graph: bytes = model.SerializeToString()
    except ValueError as error:  # protobuf's limit of 2 GiB
        raise InvalidModel(
            f"save the model to a file with external data first: {error}", field="model"
        ) from error
    return graph


def _locations(graph: bytes) -> list[str]:
    found = []
    for match in _LOCATION.finditer(graph):
        length = match.group(1)
        size = length[0] if len(length) == 1 else (length[0] & 0x7F) | length[1] << 7
        found.append(graph[match.end() : match.end() + size].decode(errors="replace"))
    return found


def _check(name: str, folder: Path | None) -> None:
    path = PurePosixPath(name)
    if folder is None:
        raise InvalidModel(
            f"the graph keeps tensors in the file {name!r}; give the path of the model", field="model"
        )
    if path.is_absolute() or ".." in path.parts or str(path) == Path(GRAPH).name:
        raise InvalidModel(f"the graph keeps tensors in {name!r}, which cannot lie beside it", field="model")
    if not (folder / path).is_file():
        raise InvalidModel(f"the graph keeps tensors in {folder / path}, which is not there", field="model")
