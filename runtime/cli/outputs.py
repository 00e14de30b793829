"""Shows and stores the outputs of ``runtime infer``."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.client import InferResult
    from runtime.tensors.layout import Array


def text(result: InferResult) -> str:
    """Return a result for people; long arrays are summarised as numpy does."""
    import numpy as np

    from store.datatypes import from_numpy

    lines = [f"model {result.model}, version {result.version}" if result.version else f"model {result.model}"]
    for name, array in result.items():
        shown = _readable(array) if array.dtype.kind == "O" else array
        values = np.array2string(shown, separator=", ", max_line_width=100)
        lines.append(f"{name} {from_numpy(array.dtype)} {list(array.shape)}\n{values}")
    return "\n".join(lines)


def document(result: InferResult) -> dict[str, Any]:
    """Return a result as plain values, for JSON."""
    from store.datatypes import from_numpy

    outputs = {
        name: {
            "datatype": from_numpy(array.dtype),
            "shape": list(array.shape),
            "data": (_readable(array) if array.dtype.kind == "O" else array).tolist(),
        }
        for name, array in result.items()
    }
    return {"model": result.model, "version": result.version, "outputs": outputs}


def save(arrays: Mapping[str, Array], path: Path) -> None:
    """Write arrays as ``.npz``, without pickles.

    numpy's files have neither BYTES nor BF16: the first become text of fixed width, the second FP32, which
    holds each of its values.
    """
    import numpy as np

    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            if array.dtype.kind == "O":
                array = np.array(_readable(array).tolist(), dtype=np.str_).reshape(array.shape)
            elif array.dtype.name == "bfloat16":
                array = array.astype(np.float32)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _readable(array: Array) -> Array:
    """Return byte strings as text; bytes that are not UTF-8 as escapes."""
    import numpy as np

    flat = np.empty(array.size, dtype=object)
    flat[:] = [item.decode("utf-8", "backslashreplace") for item in array.ravel().tolist()]
    return flat.reshape(array.shape)
