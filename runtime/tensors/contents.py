"""Which field of ``InferTensorContents`` holds the values of a datatype in the protocol's typed form.

Source: Open Inference Protocol v2. FP16 and BF16 are missing: they exist in raw form only.
"""

from __future__ import annotations

from typing import Final

FIELDS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
