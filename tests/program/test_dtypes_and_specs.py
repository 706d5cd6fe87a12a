"""Dtypes and TensorSpecs: what they accept, say and refuse."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.program import dtype as dtypes
from tessera.program.dim import symbol
from tessera.program.dtype import DTYPES, DType, as_dtype
from tessera.program.errors import SpecError
from tessera.program.spec import TensorSpec

every_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)


@every_dtype
def test_dtype_has_the_size_of_its_numpy_type(dtype: DType) -> None:
    assert dtype.numpy.itemsize == dtype.itemsize
    assert np.zeros(3, dtype.numpy).nbytes == 3 * dtype.itemsize


@every_dtype
def test_as_dtype_takes_every_way_to_say_it(dtype: DType) -> None:
    for way in (dtype, dtype.name, str(dtype)):
        assert as_dtype(way) is dtype
    if dtype is not dtypes.tf32:  # in memory it is float32, so NumPy cannot tell
        for way in (dtype.numpy, dtype.numpy.type, dtype.numpy_name):
            assert as_dtype(way) is dtype


@pytest.mark.parametrize(("kind", "dtype"), [(float, dtypes.f32), (int, dtypes.i64), (bool, dtypes.bool_)])
def test_as_dtype_of_python_types(kind: type, dtype: DType) -> None:
    assert as_dtype(kind) is dtype


@pytest.mark.parametrize(
    "value", ["float31", "", None, 3, np.dtype("complex64"), np.dtype("datetime64"), object()]
)
def test_as_dtype_unknown_names_the_setting_and_the_choices(value: Any) -> None:
    with pytest.raises(SpecError, match="weights: unknown dtype") as raised:
        as_dtype(value, what="weights")
    assert "ts.bf16" in str(raised.value.hint)


@every_dtype
def test_dtype_survives_pickling_and_hashing(dtype: DType) -> None:
    back = pickle.loads(pickle.dumps(dtype))
    assert back == dtype
    assert {dtype: 1}[back] == 1


sizes = st.lists(
    st.one_of(st.none(), st.integers(0, 2**40), st.sampled_from(["n", "batch", "_x1"])), max_size=5
)


@given(sizes, st.sampled_from(list(DTYPES.values())))
def test_spec_keeps_sizes_and_names_the_open_ones(shape: list[Any], dtype: DType) -> None:
    spec = TensorSpec(shape, dtype)
    assert (spec.shape, spec.dtype, spec.ndim) == (tuple(shape), dtype, len(shape))
    for axis, (size, named) in enumerate(zip(shape, spec.dims("x"), strict=True)):
        assert named == (
            symbol(f"x_{axis}") if size is None else symbol(size) if isinstance(size, str) else size
        )
    assert spec == pickle.loads(pickle.dumps(spec))
    assert hash(spec) == hash(TensorSpec(tuple(shape), dtype.name))


def test_spec_takes_numpy_integers_and_says_itself() -> None:
    spec = TensorSpec((np.int64(3), None, "n", symbol("n") * 2), "bf16")
    assert spec.shape[0] == 3
    assert type(spec.shape[0]) is int
    assert str(spec) == "bf16[3, ?, n, 2*n]"


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((-1,), "negative"),
        ((1.5,), "neither an int, a name nor None"),
        ((True,), "neither"),
        (("2n",), "is no size"),
        ((...,), "neither"),
        (5, "must be a tuple"),
        ("n", "must be a tuple"),
        (None, "must be a tuple"),
    ],
)
def test_spec_refuses_what_is_no_shape(shape: Any, text: str) -> None:
    with pytest.raises(SpecError, match=text):
        TensorSpec(shape)


def test_spec_does_not_change() -> None:
    with pytest.raises(AttributeError):
        TensorSpec((3,)).dtype = dtypes.f16  # type: ignore[misc]
