from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from store import UnknownDatatype, datatypes

NUMERIC = [name for name in datatypes.NAMES if name != "BYTES"]


@pytest.mark.parametrize("name", NUMERIC)
def test_each_datatype_and_its_numpy_dtype_name_each_other(name: str) -> None:
    dtype = datatypes.numpy_dtype(name)
    assert datatypes.from_numpy(dtype) == name
    assert dtype.itemsize == datatypes.itemsize(name)


def test_bf16_is_the_brain_float() -> None:
    assert datatypes.numpy_dtype("BF16") == np.dtype(ml_dtypes.bfloat16)


def test_byte_order_is_not_looked_at() -> None:
    assert datatypes.from_numpy(np.dtype(">f4")) == "FP32"


@pytest.mark.parametrize("dtype", [np.dtype("S3"), np.dtype("U5"), np.dtype(object), np.dtypes.StringDType()])
def test_text_and_objects_are_bytes_of_variable_size(dtype: np.dtype[np.generic]) -> None:
    assert datatypes.from_numpy(dtype) == "BYTES"
    assert datatypes.itemsize("BYTES") == 0
    assert datatypes.numpy_dtype("BYTES") == np.dtype(object)


@pytest.mark.parametrize(
    "dtype", ["complex64", "complex128", "datetime64[s]", "timedelta64[s]", "longdouble", "V4", "i4,f4"]
)
def test_what_has_no_datatype_is_refused_with_the_list(dtype: str) -> None:
    with pytest.raises(UnknownDatatype, match="BF16"):
        datatypes.from_numpy(np.dtype(dtype))


def test_other_small_floats_are_refused() -> None:
    with pytest.raises(UnknownDatatype, match="float8"):
        datatypes.from_numpy(np.dtype(ml_dtypes.float8_e4m3fn))


@pytest.mark.parametrize("name", ["", "FLOAT", "fp32", "INT128"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(UnknownDatatype):
        datatypes.itemsize(name)
    with pytest.raises(UnknownDatatype):
        datatypes.numpy_dtype(name)
