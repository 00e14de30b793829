"""Reads ``--input`` of ``runtime infer``: ``NAME[:DATATYPE]=VALUE`` to an array.

VALUE is one of ``@FILE.npy``, ``@FILE.npz:KEY``, ``@FILE.json``, or JSON itself. Arrays from numpy's files
have a datatype of their own. JSON has none: it takes the one behind the name, else that of the model's spec.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from runtime.tensors.layout import Array


class Input(NamedTuple):
    """One input as it was written.

    Attributes:
        name: of the tensor.
        datatype: behind the name; empty without one.
        value: not read yet.
    """

    name: str
    datatype: str
    value: str

    @property
    def needs_spec(self) -> bool:
        """Whether only the model's spec tells the datatype."""
        return not self.datatype and (self.value.endswith(".json") or not self.value.startswith("@"))


def split(text: str) -> Input:
    """Take ``NAME[:DATATYPE]=VALUE`` apart.

    Raises:
        BadParameter: no name, no value, or a datatype that does not exist.
    """
    from store import datatypes

    left, assigned, value = text.partition("=")
    name, colon, datatype = left.rpartition(":")
    if not colon or datatype.upper() not in datatypes.NAMES:
        name, datatype = left, ""  # names of tensors may have colons
    if not assigned or not name or not value:
        raise _bad(f"{text!r} is not NAME=VALUE; for example x=@x.npy or x:FP32=[[1,2]]")
    return Input(name, datatype.upper(), value)


def read(given: Input, specs: Mapping[str, str]) -> Array:
    """Return the array of an input.

    Args:
        given: the input.
        specs: datatypes of the model's inputs by name, as far as they are known.

    Raises:
        BadParameter: the file or text cannot be read, or does not fit the datatype.
    """
    from runtime.errors import InvalidInput
    from runtime.runner.arguments import cast, to_array

    try:
        if given.value.startswith("@") and not given.value.endswith(".json"):
            array, datatype = _from_numpy(given.value[1:]), given.datatype
        else:
            array = to_array(_from_json(given), given.name)
            datatype = given.datatype or specs.get(given.name, "")
        return cast(array, datatype, given.name) if datatype else array
    except InvalidInput as error:
        raise _bad(error.message) from error


def _from_json(given: Input) -> Any:
    try:
        if not given.value.startswith("@"):
            return json.loads(given.value)
        return json.loads(Path(given.value[1:]).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise _bad(f"{given.value[1:]}: {error.strerror or error}") from error
    except ValueError as error:
        raise _bad(f"the value of {given.name!r} is not JSON: {error}; a file begins with @") from error


def _from_numpy(source: str) -> Array:
    """Load an array from ``FILE.npy`` or ``FILE.npz[:KEY]``; nothing is unpickled."""
    import numpy as np

    file, _, key = source.rpartition(":") if ".npz:" in source else (source, "", "")
    try:
        loaded = np.load(Path(file).expanduser(), allow_pickle=False)
    except OSError as error:
        raise _bad(f"{file}: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise _bad(f"{file} is no file of numpy's, or has pickled objects: {error}") from error
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded as members:
        names = list(members)
        if not key and len(names) == 1:
            key = names[0]
        if key not in names:
            raise _bad(f"{file} has the arrays {', '.join(names) or 'none'}; choose one with @{file}:KEY")
        array: Array = members[key]
        return array


def _bad(message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint="--input")
