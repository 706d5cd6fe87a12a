"""Promotion: NumPy's rules wherever NumPy has one, sensible ones for the rest."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tessera as ts
from tessera.language.promotion import average_of, float_of, promote, promote_weak, total_of
from tessera.program.dtype import DTYPES, KERNEL_DTYPES, DType, as_dtype
from tessera.program.errors import SpecError

TENSORS = [d for d in DTYPES.values() if d not in KERNEL_DTYPES]
dtypes = st.sampled_from(TENSORS)
NUMPY = [d for d in TENSORS if d.numpy.isbuiltin == 1 and d is not ts.tf32]


@pytest.mark.parametrize("a", NUMPY, ids=str)
@pytest.mark.parametrize("b", NUMPY, ids=str)
def test_numpy_dtypes_promote_as_in_numpy(a: DType, b: DType) -> None:
    assert promote(a, b) is as_dtype(np.result_type(a.numpy, b.numpy))


@given(dtypes, dtypes)
def test_order_does_not_matter(a: DType, b: DType) -> None:
    assert promote(a, b) is promote(b, a)
    assert promote(a, a) is a


@given(dtypes, dtypes)
def test_result_holds_every_float_of_both(a: DType, b: DType) -> None:
    result = promote(a, b)
    for dtype in (a, b):
        if dtype.is_float and result.is_float:
            for number in (_limits(dtype).max, _limits(dtype).smallest_normal, 1 + _limits(dtype).eps):
                exact = np.asarray(number, dtype.numpy)
                assert exact.astype(result.numpy).astype(np.float64) == exact.astype(np.float64)


def _limits(dtype: DType) -> Any:
    return ml_dtypes.finfo(dtype.numpy)


@pytest.mark.parametrize(
    ("a", "b", "result"),
    [
        (ts.bf16, ts.f16, ts.f32),
        (ts.bf16, ts.f32, ts.f32),
        (ts.bf16, ts.i8, ts.bf16),
        (ts.bf16, ts.bool, ts.bf16),
        (ts.bf16, ts.i16, ts.f32),
        (ts.bf16, ts.i64, ts.f64),
        (ts.bf16, ts.tf32, ts.tf32),
        (ts.f32, ts.tf32, ts.f32),
        (ts.f8e4m3, ts.f8e5m2, ts.f16),
        (ts.f8e4m3, ts.bf16, ts.bf16),
        (ts.f8e4m3, ts.u8, ts.f16),
        (ts.tf32, ts.i8, ts.tf32),
    ],
)
def test_dtypes_that_numpy_lacks(a: DType, b: DType, result: DType) -> None:
    assert promote(a, b) is result


@pytest.mark.parametrize("dtype", NUMPY, ids=str)
@pytest.mark.parametrize("number", [3, 2.5, True])
def test_python_numbers_are_weak_as_in_numpy(dtype: DType, number: Any) -> None:
    expected = np.maximum(np.zeros(1, dtype.numpy), number).dtype
    assert promote_weak(dtype, number) is as_dtype(expected)


@pytest.mark.parametrize(("dtype", "number"), [(ts.u8, -1), (ts.i8, 128), (ts.u8, 256), (ts.i64, 2**63)])
def test_python_integer_that_does_not_fit_is_an_error(dtype: DType, number: int) -> None:
    with pytest.raises(SpecError, match="does not fit"):
        promote_weak(dtype, number)


@pytest.mark.parametrize("dtype", NUMPY, ids=str)
def test_float_functions_of_each_dtype_as_in_numpy(dtype: DType) -> None:
    ones = np.ones(2, dtype.numpy)
    assert float_of(dtype) is as_dtype(np.exp(ones).dtype)
    assert average_of(dtype) is as_dtype(np.mean(ones).dtype)
    if dtype.kind != "uint":  # NumPy adds them up in uint64, which Tessera lacks
        assert total_of(dtype) is as_dtype(np.sum(ones).dtype)
