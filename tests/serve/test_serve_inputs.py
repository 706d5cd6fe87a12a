"""What callers send, as arrays: every flaw is named, nothing is changed in silence."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small_models import linear_program, two_port_program

from tessera.program.dtype import DTYPES, DType, bf16, bool_, f8e4m3, f16, f32, f64, i8, i32, i64, u8
from tessera.program.errors import InputError
from tessera.program.program import Port
from tessera.serve.inputs import as_array, prepare


def port(dtype: DType, kind: Any = "tensor") -> Port:
    return Port(name="x", dtype=dtype, kind=kind)


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3), elements=st.floats(width=32, allow_nan=False)))
def test_as_array_lists_give_the_same_floats(array: np.ndarray[Any, Any]) -> None:
    result = as_array(array.tolist(), port(f32))
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, array)


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.is_float])
def test_as_array_rounds_numbers_to_every_float(dtype: DType) -> None:
    result = as_array([[0.5, -1, 2]], port(dtype))
    assert result.dtype == dtype.numpy
    np.testing.assert_array_equal(result.astype(np.float64), [[0.5, -1, 2]])


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.kind in ("int", "uint")])
def test_as_array_takes_the_limits_of_every_integer(dtype: DType) -> None:
    limits = np.iinfo(dtype.numpy)
    result = as_array([limits.min, limits.max], port(dtype))
    assert result.tolist() == [limits.min, limits.max]


@pytest.mark.parametrize(
    ("value", "dtype", "part"),
    [
        ([[1, "a"]], f32, r"a string at \[0\]\[1\]"),
        ([[1, None]], f32, r"null at \[0\]\[1\]"),
        ([[1, 2], [3]], f32, r"ragged: 1 values at \[1\], 2"),
        ([[1, 2], 3], f32, "ragged"),
        ([1, [2]], f32, "ragged"),
        ([{"a": 1}], f32, r"an object at \[0\]"),
        ("text", f32, "a string"),
        (None, f32, "null"),
        ({}, f32, "an object"),
        ([1.5], i32, "float64"),
        ([True], f32, "bool"),
        ([True], i64, "bool"),
        ([1], bool_, "int64"),
        ([128], i8, "holds 128; i8 holds -128 to 127"),
        ([-1], u8, "holds -1"),
        ([2**70], i64, "64 bits"),
        ([1e6], f16, r"1000000.0 at \[0\], which f16 cannot hold"),
        ([[1, 2], [3, 1e39]], f32, r"at \[1\]\[1\]"),
        ([1e4], f8e4m3, "cannot hold"),
        ([1 + 2j], f64, "complex"),
        (np.array(["2020-01-01"], "datetime64[D]"), f32, "datetime"),
    ],
)
def test_as_array_flaw_is_named_with_its_place(value: Any, dtype: DType, part: str) -> None:
    with pytest.raises(InputError, match=part) as caught:
        as_array(value, port(dtype))
    assert "'x'" in caught.value.message
    assert caught.value.fields["input"] == "x"


def test_as_array_keeps_nan_and_infinity_of_arrays() -> None:
    values = np.array([np.nan, np.inf, -np.inf])
    np.testing.assert_array_equal(as_array(values, port(bf16)).astype(float), values)


def test_as_array_bfloat16_array_is_taken_for_a_float_and_not_an_integer() -> None:
    values = np.array([1.5], ml_dtypes.bfloat16)
    assert as_array(values, port(f32)).tolist() == [1.5]
    with pytest.raises(InputError, match="bfloat16"):
        as_array(values, port(i32))


def test_as_array_strided_array_becomes_contiguous(rng: np.random.Generator) -> None:
    array = rng.standard_normal((4, 6)).astype(np.float32)[:, ::2]
    result = as_array(array, port(f32))
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, array)


def test_as_array_empty_list_fits_every_dtype() -> None:
    assert as_array([[]], port(i32)).shape == (1, 0)


def test_as_array_scalar_port_takes_a_number_and_no_list() -> None:
    assert as_array(3, port(i64, "scalar")).shape == ()
    with pytest.raises(InputError, match="is a scalar"):
        as_array([3], port(i64, "scalar"))


def test_prepare_single_value_goes_to_the_only_input() -> None:
    prepared = prepare(linear_program(), [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert prepared.arrays["x"].shape == (2, 4)
    assert prepared.symbols == {"rows": 2}


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ([[1, 2]], "takes 2 inputs"),
        ({"a": [[1, 2]]}, "'b' is missing"),
        ({"a": [[1, 2]], "b": [[1, 2]], "c": 1}, "no input 'c'"),
        ({"a": [[1, 2]], "b": [[1, 2], [3, 4]]}, "'b'.*rows is 1"),
        ({"a": [[1, 2]], "b": [[1, 2, 3]]}, "'b'.*axis 1 is 3, expected 2"),
        ({"a": [[1, 2]], "b": [1, 2]}, "'b'.*has 1 axes, expected 2"),
    ],
)
def test_prepare_misfit_names_the_input(data: Any, part: str) -> None:
    with pytest.raises(InputError, match=part):
        prepare(two_port_program(), data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=3), children, max_size=3)
    ),
    max_leaves=20,
)


@given(json_values, st.sampled_from(sorted(DTYPES)))
def test_as_array_any_json_gives_an_array_or_an_input_error(value: Any, name: str) -> None:
    try:
        dtype = as_array(value, port(DTYPES[name])).dtype
    except InputError:
        return
    assert dtype == DTYPES[name].numpy
