"""What the clients return: plain Python values and numpy arrays, never protobuf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


class InferResult(Mapping[str, "NDArray[Any]"]):
    """Outputs of one inference by name, in the server's order.

    The arrays are read-only and may share memory with the response they came in; copy one to change it
    or to keep it long after the others.

    Attributes:
        model: name of the model that answered.
        version: its version.
        id: the request's id.
        timings: seconds by stage, as far as the server reported them.
    """

    __slots__ = ("_outputs", "id", "model", "timings", "version")

    def __init__(
        self,
        outputs: Mapping[str, NDArray[Any]],
        *,
        model: str,
        version: str,
        id: str,
        timings: Mapping[str, float],
    ) -> None:
        self._outputs = dict(outputs)
        self.model = model
        self.version = version
        self.id = id
        self.timings = timings

    def __getitem__(self, name: str) -> NDArray[Any]:
        try:
            return self._outputs[name]
        except KeyError:
            raise KeyError(f"no output {name!r}; there are: {', '.join(self._outputs) or 'none'}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def __repr__(self) -> str:
        outputs = ", ".join(f"{name}: {array.dtype}{list(array.shape)}" for name, array in self.items())
        return f"InferResult(model={self.model!r}, version={self.version!r}, outputs={{{outputs}}})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMetadata:
    """Who the server is, and which extensions of the protocol it serves."""

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorMetadata:
    """One tensor of a model; an extent of -1 may vary."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetadata:
    """What a model takes and gives, and the versions that are served."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]
