"""Operators on tensors that have values, outside of any trace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tessera as ts
from tessera.language.numpy_calls import UFUNCS
from tessera.language.tensor import UnknownAttributeError
from tessera.program.errors import ShapeError, SpecError, TraceError


def test_tensor_of_python_numbers_has_the_default_dtypes() -> None:
    assert ts.tensor([1.5, 2]).dtype is ts.f32
    assert ts.tensor([1, 2]).dtype is ts.i64
    assert ts.tensor([True]).dtype is ts.bool
    assert ts.tensor(np.zeros(2)).dtype is ts.f64
    assert ts.tensor([1.5], ts.bf16).numpy().dtype == ts.bf16.numpy
    assert ts.tensor(ts.tensor([1.0], "tf32")).dtype is ts.tf32


def test_eight_bit_floats_saturate_wherever_they_are_made() -> None:
    wide = np.array([1000.0, -np.inf, np.nan, 3.0], np.float32)
    for made in (ts.tensor(wide, ts.f8e4m3), ts.tensor(ts.tensor(wide), ts.f8e4m3), ts.cast(wide, ts.f8e4m3)):
        np.testing.assert_array_equal(made.numpy().astype(np.float32), [448, -448, np.nan, 3])


def test_numbers_and_shapes_that_do_not_fit_are_errors() -> None:
    with pytest.raises(SpecError, match=f"{2**70} does not fit i64"):
        ts.tensor([True]) * 2**70
    with pytest.raises(ShapeError, match="lt: "):
        _ = ts.tensor([1.0, 2.0]) < ts.tensor([1.0, 2.0, 3.0])
    with pytest.raises(SpecError, match=r"sizes are integers, not 5\.5"):
        ts.cdiv(5.5, 2)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="tensor: "):
        ts.tensor("text", ts.f32)


@pytest.mark.parametrize("data", [[[1], [2, 3]], "text", object(), [1j]])
def test_tensor_of_what_is_no_array_is_an_error(data: Any) -> None:
    with pytest.raises(SpecError, match="tensor: "):
        ts.tensor(data)


def test_randn_is_normal_and_repeats_with_its_seed() -> None:
    x = ts.randn(200, 500, seed=7)
    assert x.shape == (200, 500)
    assert x.dtype is ts.f32
    # 100 000 draws: five standard errors.
    assert abs(float(x.mean())) < 0.016
    assert abs(float(x.numpy().std()) - 1) < 0.012
    assert np.array_equal(x.numpy(), ts.randn((200, 500), seed=7).numpy())
    assert not np.array_equal(x.numpy(), ts.randn(200, 500).numpy())
    assert ts.randn(3, dtype=ts.bf16).dtype is ts.bf16


@pytest.mark.parametrize(
    "call", [lambda: ts.randn(-1), lambda: ts.randn(2.5), lambda: ts.randn(2, dtype=ts.i8)]
)
def test_randn_refuses_what_is_no_size_or_no_float(call: Any) -> None:
    with pytest.raises(SpecError, match="randn"):
        call()


def test_python_operators_are_the_functions(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(2, 3, 3))
    x, y = ts.tensor(a), ts.tensor(b)
    pairs: list[tuple[Any, Any]] = [
        (x + y, a + b), (x - y, a - b), (x * y, a * b), (x / y, a / b), (x @ y, a @ b), (-x, -a),
        (abs(x), abs(a)), (2 - x, 2 - a), (2 / x, 2 / a), (1 + x, 1 + a), (3 * x, 3 * a), (x**2, a**2),
        (x**3, a**3), (x**-1, 1 / a), (abs(x) ** 0.5, abs(a) ** 0.5), (+x, a), (x.T, a.T), (x**4, a**4),
        (x**1, a),
    ]  # fmt: skip
    for ours, numpys in pairs:
        np.testing.assert_allclose(ours.numpy(), numpys, rtol=1e-14)
        assert ours.dtype is ts.f64


def test_arrays_on_the_left_give_tensors(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(2, 4, 4))
    for result in (a + ts.tensor(b), a @ ts.tensor(b), np.exp(ts.tensor(a)), np.float64(2) * ts.tensor(a)):
        assert isinstance(result, ts.Tensor)
    np.testing.assert_allclose((a @ ts.tensor(b)).numpy(), a @ b, rtol=1e-12)


@pytest.mark.parametrize("name", UFUNCS)
def test_numpy_ufuncs_that_are_operators_agree_with_numpy(name: str, rng: np.random.Generator) -> None:
    ufunc = getattr(np, name)
    arrays = [rng.uniform(0.5, 2, size=(3, 3)) for _ in range(ufunc.nin)]
    ours = ufunc(*map(ts.tensor, arrays))
    assert isinstance(ours, ts.Tensor)
    np.testing.assert_allclose(ours.numpy(), ufunc(*arrays), rtol=1e-14)


def test_other_numpy_functions_work_on_values() -> None:
    x = ts.tensor([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(np.sin(x), np.sin(x.numpy()))
    np.testing.assert_allclose(np.add.reduce(x), [4, 6])
    np.testing.assert_allclose(np.concatenate([x, x]), np.concatenate([x.numpy()] * 2))
    assert np.linalg.norm(x) == pytest.approx(30**0.5)
    assert np.asarray(x).dtype == np.float32
    assert np.array(x, dtype=np.float64).dtype == np.float64


def test_values_come_out_as_python_and_numpy() -> None:
    x = ts.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert (len(x), x.ndim, x.size, x.shape) == (2, 2, 4, (2, 2))
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]]
    assert x[1, 0].item() == 3
    assert float(x.sum()) == 10
    assert int(ts.tensor([7])[0]) == 7
    assert bool((x > 0)[0, 0])
    assert (x == x).numpy().all()
    assert (x != 1).tolist() == [[False, True], [True, True]]
    assert [10, 20, 30][ts.tensor(2)] == 30
    assert 3.0 in x
    assert "f32(2, 2)" in repr(x)


def test_numpy_shares_memory_and_assign_replaces() -> None:
    data = np.zeros(3, np.float32)
    x = ts.tensor(data)
    assert np.shares_memory(x.numpy(), data)
    x.assign([1, 2, 3])
    assert x.tolist() == [1, 2, 3]
    with pytest.raises(ShapeError):
        x.assign([1, 2])


def test_promotion_inserts_casts(rng: np.random.Generator) -> None:
    x = ts.tensor(rng.normal(size=4), ts.bf16)
    assert (x * 2).dtype is ts.bf16
    assert (x * 2.5).dtype is ts.bf16
    assert (x + ts.tensor([1.0])).dtype is ts.f32
    assert (x + ts.tensor([1.0], ts.f16)).dtype is ts.f32
    assert (ts.tensor([1, 2]) / 2).tolist() == [0.5, 1]
    assert (ts.tensor([1, 2], ts.i8) + 1).dtype is ts.i8
    assert ts.mean(ts.tensor([1, 2])).item() == 1.5
    assert ts.sum(ts.tensor([100, 100], ts.i8)).item() == 200
    assert ts.sum(ts.tensor([True, True])).item() == 2
    assert (x * np.float32(2)).dtype is ts.f32
    assert (x * np.int8(2)).dtype is ts.bf16


def test_integer_that_does_not_fit_is_an_error_at_the_line() -> None:
    with pytest.raises(SpecError, match="300 does not fit u8") as raised:
        ts.tensor([1], ts.u8) + 300
    assert raised.value.location is not None
    assert raised.value.location.file == __file__


def test_sums_of_axes_match_numpy(rng: np.random.Generator) -> None:
    a = rng.normal(size=(2, 3, 4))
    x = ts.tensor(a)
    for axis in (None, 0, -1, (0, 2), [1, -1], ()):
        numpys = tuple(axis) if isinstance(axis, list) else axis
        for keepdims in (False, True):
            for name in ("sum", "mean", "max", "min"):
                ours = getattr(x, name)(axis, keepdims=keepdims)
                np.testing.assert_allclose(
                    ours.numpy(), getattr(np, name)(a, axis=numpys, keepdims=keepdims), rtol=1e-13
                )


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: x.sum(3), "has no axis 3"),
        (lambda x: x.sum((0, -2)), "named twice"),
        (lambda x: x.sum(1.5), "not an integer"),
        (lambda x: x.reshape(5), "does not hold"),
        (lambda x: x.reshape(-1, -1), "is not a shape"),
        (lambda x: x.reshape(-1, 4), "does not hold"),
        (lambda x: x.transpose(0, 0), "do not name every axis"),
        (lambda x: x.transpose(1), "do not name every axis"),
        (lambda x: x @ x, "transpose the right operand"),
        (lambda x: x @ 3, "is a number, not a matrix"),
        (lambda x: x + ts.tensor([1.0, 2.0]), "do not broadcast"),
        (lambda x: ts.layernorm(x, ts.tensor([1.0])), "must have one axis"),
        (lambda x: ts.softmax(x, 2), "has no axis 2"),
        (lambda x: ts.layernorm(ts.tensor(1.0)), "no axis to normalize"),
        (lambda x: ts.max(ts.tensor(np.zeros((0, 2))), 0), "no element along"),
    ],
)
def test_shapes_that_do_not_fit_are_named_with_the_remedy(call: Any, text: str) -> None:
    with pytest.raises(ShapeError, match=text) as raised:
        call(ts.tensor(np.ones((2, 3), np.float32)))
    error = raised.value
    assert error.hint
    assert error.location is not None
    assert error.location.file == __file__


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: ts.add(x, [1, 2, 3]), "a list is not a tensor"),
        (lambda x: ts.add(x, None), "a NoneType is not a tensor"),
        (lambda x: ts.add(x, "a"), "a str is not a tensor"),
        (lambda x: ts.relu(...), "a ellipsis is not a tensor"),
        (lambda x: x + 1j, "a complex is not a tensor"),
        (lambda x: x ** "2", "pow: a str is not a tensor"),
        (lambda x: ts.tensor([2]) ** -1, "pow: an integer to the power -1 is no integer"),
        (lambda x: x << 2, "no operator <<"),
        (lambda x: x & x, "& is for bool tensors; one operand is f32"),
        (lambda x: ~x, "~ is for bool tensors"),
        (lambda x: ts.clip(x), "clip: there is no bound"),
        (lambda x: ts.elu(x, alpha="a"), "elu: alpha='a' is not a number"),
        (lambda x: ts.var(x, correction=-1), "var: correction=-1 is less than 0"),
        (lambda x: ts.argmax(np.zeros(0)), "argmax: .* has no element"),
        (lambda x: ts.linear(x, x), "linear: the weight"),
        (lambda x: ts.groupnorm(x.reshape(1, -1), 5), "channels of .* do not divide into 5 groups"),
        (lambda x: ts.batchnorm(x, x, x), "batchnorm: .* has no channels"),
        (lambda x: ts.mod(ts.tensor([True]), ts.tensor([True])), "mod has no meaning for bool"),
        (lambda x: ts.gelu(x, "fast"), "approximate='fast' is unknown"),
        (lambda x: ts.layernorm(x, bias=x), "a bias needs a weight"),
        (lambda x: ts.layernorm(x, eps="a"), "eps='a'"),
        (lambda x: ts.reshape(x, 1.5), "a size is an integer"),
        (lambda x: ts.tensor([True]) + ts.tensor([True]), "add has no meaning for bool"),
    ],
)
def test_what_is_no_operand_is_a_clear_error(call: Any, text: str) -> None:
    with pytest.raises((TraceError, ShapeError), match=text) as raised:
        call(ts.tensor([1.0, 2.0, 3.0]))
    assert raised.value.hint
    assert raised.value.location is not None
    assert raised.value.location.file == __file__


def test_unknown_attribute_is_an_attribute_error_with_a_suggestion() -> None:
    x = ts.tensor([1.0])
    assert not hasattr(x, "device")
    with pytest.raises(UnknownAttributeError, match="did you mean reshape") as raised:
        x.reshap(1)
    assert isinstance(raised.value, AttributeError)
    with pytest.raises(TraceError, match=r"write ts\.softmax\(x\)"):
        x.softmax()


def test_cast_keeps_value_where_it_fits() -> None:
    x = ts.tensor([1.5, -2.7, 300.0])
    assert ts.cast(x, ts.i32).tolist() == [1, -2, 300]
    assert x.cast("bool").tolist() == [True, True, True]
    assert ts.cast(x, ts.f8e4m3).numpy().astype(float).tolist() == [1.5, -2.75, 288.0]
    with pytest.raises(SpecError, match="cast: unknown dtype"):
        ts.cast(x, "f31")


def test_scalars_of_rank_zero_and_non_finite_literals() -> None:
    x = ts.tensor([1.0, -1.0])
    assert ts.maximum(x, float("-inf")).tolist() == [1, -1]
    assert np.isnan((x + float("nan")).numpy()).all()
    assert ts.add(1, 2).item() == 3
    assert ts.exp(0.0).item() == 1
    assert (x * -0.0).tolist() == [0, 0]
    assert np.signbit((x * -0.0).numpy()).tolist() == [True, False]
