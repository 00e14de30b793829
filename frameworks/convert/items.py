"""Reading a dataloader: its items as named arrays, each checked against the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

from frameworks.arrays import Array, Arrays
from frameworks.errors import FrameworkError, InvalidOutput
from store import datatypes


class InvalidSamples(FrameworkError):
    """A dataloader, or the samples taken from it, cannot be used (FAILED_PRECONDITION)."""

    reason = "invalid_samples"


@dataclass(frozen=True, slots=True)
class Layout:
    """What all samples have in common.

    Args:
        tensors: name to (datatype, rank), in the order of the inputs.
        batch_dim: axis of the rows; None if there is none.
        where: the item that set it, for messages.
    """

    tensors: Mapping[str, tuple[str, int]]
    batch_dim: int | None
    where: str

    @classmethod
    def of(cls, where: str, arrays: Arrays, batch_dim: int | None) -> Self:
        """Return the layout of the first item.

        Raises:
            InvalidSamples: it has no tensors.
        """
        if not arrays:
            raise InvalidSamples(f"{where} has no tensors", field="dataloader")
        kinds = {name: (datatypes.from_numpy(array.dtype), array.ndim) for name, array in arrays.items()}
        return cls(kinds, batch_dim, where)

    def order(self, arrays: Arrays) -> Arrays:
        """Return the tensors in the order of the first item."""
        return {name: arrays[name] for name in self.tensors}

    def rows(self, where: str, arrays: Arrays) -> int:
        """Check an item and return its rows; 1 where there is no batch axis.

        Raises:
            InvalidSamples: names, datatypes or ranks differ from the first item's, or rows between inputs.
        """
        if arrays.keys() != self.tensors.keys():
            raise InvalidSamples(
                f"{where} has the inputs {_listed(arrays)}, {self.where} has {_listed(self.tensors)}",
                field="dataloader",
            )
        for name, array in arrays.items():
            datatype, rank = self.tensors[name]
            found = datatypes.from_numpy(array.dtype)
            if (found, array.ndim) != (datatype, rank):
                raise InvalidSamples(
                    f"{where}: input {name!r} is {found} with {array.ndim} axes; "
                    f"in {self.where} it is {datatype} with {rank}",
                    field=name,
                )
        return 1 if self.batch_dim is None else self._rows(where, arrays, self.batch_dim)

    def _rows(self, where: str, arrays: Arrays, axis: int) -> int:
        extents: dict[str, int] = {}
        for name, array in arrays.items():
            if array.ndim <= axis:
                raise InvalidSamples(
                    f"{where}: input {name!r} has shape {list(array.shape)}, so there is no batch "
                    f"axis {axis}; add it, or set batch_dim to None for items that are whole inputs",
                    field=name,
                )
            extents[name] = array.shape[axis]
        rows = next(iter(extents.values()))
        for name, extent in extents.items():
            if extent != rows:
                raise InvalidSamples(
                    f"{where}: inputs must have equal rows along axis {axis}; they have {extents}", field=name
                )
        if rows == 0:
            raise InvalidSamples(f"{where} has no rows along axis {axis}", field="dataloader")
        return rows


def read_items(
    dataloader: Any, names: Sequence[str] | None, convert: Callable[[object], Array]
) -> Iterator[Arrays]:
    """Yield the items of a dataloader as named arrays, at most as many as it says it has.

    Raises:
        InvalidSamples: it is no dataloader, or an item has no tensors of these names.
    """
    items, length = _open(dataloader)
    if names is not None and (isinstance(names, str) or not names or len(set(names)) != len(names)):
        raise InvalidSamples(f"names must be different texts, at least one, not {names!r}", field="names")
    for index, item in enumerate(islice(items, length)):
        arrays: Arrays = {}
        for name, value in _named(index, item, names).items():
            try:
                arrays[name] = convert(value)
            except InvalidOutput as error:
                raise InvalidSamples(
                    f"item {index} of the dataloader: input {name!r} cannot be used: {error.message}",
                    field=name,
                ) from error
        yield arrays


def _open(dataloader: Any) -> tuple[Iterator[Any], int]:
    kind = type(dataloader).__name__
    if isinstance(dataloader, str | bytes | Mapping) or _is_tensor(dataloader):
        raise InvalidSamples(
            f"a {kind} is no dataloader; put it into a list, as the only item", field="dataloader"
        )
    try:
        length, items = len(dataloader), iter(dataloader)
    except TypeError as error:
        raise InvalidSamples(
            f"a dataloader needs len() and iter(), which a {kind} lacks: {error}", field="dataloader"
        ) from error
    if length < 1:
        raise InvalidSamples("the dataloader has no items", field="dataloader")
    return items, length


def _named(index: int, item: Any, names: Sequence[str] | None) -> dict[str, Any]:
    """Return an item's tensors by name: a mapping names its own; several go by position; else it is one."""
    where = f"item {index} of the dataloader"
    if isinstance(item, Mapping):
        own = {str(name): value for name, value in item.items()}
        for name in names or ():
            if name not in own:
                raise InvalidSamples(f"{where} has no input {name!r}; it has {_listed(own)}", field=name)
        return {name: own[name] for name in names or own}
    several = isinstance(item, tuple) or (
        isinstance(item, list) and bool(item) and all(_is_tensor(value) for value in item)
    )
    values: Sequence[Any] = item if several else [item]
    if names is None:
        return {f"input_{position}": value for position, value in enumerate(values)}
    if len(names) != len(values):
        raise InvalidSamples(
            f"{where} has {len(values)} tensors, but there are {len(names)} names: {', '.join(names)}. "
            "Items must hold the model's inputs only, labels left out",
            field="names",
        )
    return dict(zip(names, values, strict=True))


def _is_tensor(value: object) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(map(repr, names)) or "none"
