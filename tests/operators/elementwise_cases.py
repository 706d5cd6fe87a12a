"""Elementwise operators, reductions and normalizations against NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import tessera as ts
from tests.operators.cases import FLOATS, INTEGERS, Array, Case

NARROW = ("f32", "bf16")


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[float])(x)


def _unary(name: str, oracle: Any, low: float = -2.0, high: float = 2.0, **more: Any) -> Case:
    call = getattr(ts, name)
    return Case(name, call, oracle, (("n", 5),), low=low, high=high, **more)


def _binary(name: str, oracle: Any, **more: Any) -> Case:
    return Case(name, getattr(ts, name), oracle, (("n", 5), (5,)), **more)


UNARY = [
    _unary("exp2", np.exp2),
    _unary("expm1", np.expm1),
    _unary("log2", np.log2, 0.25, 9.0, slack=2),
    _unary("log1p", np.log1p, -0.5, 3.0),
    _unary("sin", np.sin, -9.0, 9.0),
    _unary("cos", np.cos, -9.0, 9.0),
    _unary("sign", np.sign, dtypes=(*FLOATS, "i64", "i8")),
    _unary("floor", np.floor, -9.0, 9.0),
    _unary("ceil", np.ceil, -9.0, 9.0),
    _unary("round", np.round, -9.0, 9.0),
    _unary("trunc", np.trunc, -9.0, 9.0),
    _unary("square", np.square, dtypes=(*FLOATS, "i32")),
    _unary("reciprocal", np.reciprocal, 0.25, 4.0, slack=2),
    _unary("isnan", np.isnan),
    _unary("isinf", np.isinf),
    _unary("logical_not", np.logical_not, dtypes=("f32", "i32", "bool")),
    _unary("hardsigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1), -9.0, 9.0),
    _unary("hardswish", lambda x: x * np.clip(x / 6 + 0.5, 0, 1), -9.0, 9.0),
    _unary("elu", lambda x: np.where(x > 0, x, np.expm1(x))),
    _unary("softplus", lambda x: np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0), -9.0, 9.0),
    Case("elu_alpha", lambda x: ts.elu(x, 0.5), lambda x: np.where(x > 0, x, 0.5 * np.expm1(x)), (("n", 5),)),
    Case("leaky_relu", lambda x: ts.leaky_relu(x, 0.2), lambda x: np.where(x >= 0, x, 0.2 * x), (("n", 5),)),
    Case(
        "softplus_beta",
        lambda x: ts.softplus(x, 3),
        lambda x: np.log1p(np.exp(3 * x)) / 3,
        (("n", 5),),
    ),
]

BINARY = [
    *[
        _binary(name, oracle, dtypes=(*FLOATS, *INTEGERS, "bool"), low=-2.0)
        for name, oracle in (
            ("eq", np.equal), ("ne", np.not_equal), ("lt", np.less), ("le", np.less_equal),
            ("gt", np.greater), ("ge", np.greater_equal), ("logical_and", np.logical_and),
            ("logical_or", np.logical_or), ("logical_xor", np.logical_xor),
        )
    ],
    _binary("mod", np.mod, dtypes=("f64", "f32", "i64", "i8", "u8"), slack=2),
    _binary("floordiv", np.floor_divide, dtypes=("f64", "f32", "i64", "i8", "u8")),
    Case("pow", ts.pow, np.power, (("n", 5), (5,)), low=0.25, slack=2),
    Case("pow_integers", lambda x, y: ts.pow(x, abs(y)), lambda x, y: x ** np.abs(y), (("n", 5), (5,)),
         dtypes=("i64",)),
    Case("pow_number", lambda x: x**2.5 + 2**x, lambda x: x**2.5 + 2**x, (("n", 5),), low=0.25, slack=2),
    Case("pow_negative", lambda x: x**-3.0, lambda x: x**-3.0, (("n", 5),), low=0.5, slack=4),
    Case("mod_python", lambda x: (x % 3) + 7 // x, lambda x: (x % 3) + np.floor_divide(7, x), (("n", 5),),
         dtypes=("i64", "f64"), low=1.0, high=9.0),
    Case("where", lambda c, a, b: ts.where(c, a, b), np.where, ((5,), ("n", 1), ("n", 5)), fixed={0: "bool"},
         dtypes=(*FLOATS, "i32", "bool")),
    Case("where_numbers", lambda x: ts.where(x > 0, x, -1), lambda x: np.where(x > 0, x, -1), (("n", 5),)),
    Case("clip", lambda x, m: ts.clip(x, -1, m), lambda x, m: np.clip(x, -1, m), (("n", 5), (5,)),
         dtypes=(*FLOATS, "i32")),
    Case("clip_below", lambda x: ts.clip(x, min=0.5), lambda x: np.maximum(x, 0.5), (("n", 5),)),
    Case("python_logic", lambda x, y: (x > 0) & ~(y > 0) | (x > y), lambda x, y: (x > 0) & ~(y > 0) | (x > y),
         (("n", 5), (5,))),
]  # fmt: skip


def _position(name: str, axis: int | None) -> Case:
    ours, numpys = getattr(ts, name), getattr(np, name)
    return Case(
        f"{name}_{axis}",
        lambda x: ours(x, axis=axis),
        lambda x: numpys(x, axis=axis),
        (("n", 7, 3),),
        dtypes=("f32", "bf16", "i64", "u8", "bool"),
    )


REDUCTIONS = [
    Case("prod", lambda x: ts.prod(x, axis=1), lambda x: np.prod(x, axis=1), (("n", 6),), slack=3),
    Case("prod_all", ts.prod, lambda x: np.prod(x), (("n", 3),), dtypes=("f64", "i64", "u8"), low=0.75,
         high=1.25, slack=3),
    Case("prod_columns", lambda x: ts.prod(x, axis=0), lambda x: np.prod(x, axis=0), (("n", 20),), low=0.75,
         high=1.25, slack=3),
    *[_position(name, axis) for name in ("argmax", "argmin") for axis in (None, 0, 1, -1)],
    Case("argmax_rows", lambda x: ts.argmax(x, axis=-1, keepdims=True),
         lambda x: np.argmax(x, axis=-1, keepdims=True), (("n", 300),), dtypes=("f32", "i32")),
    Case("argmax_all_keepdims", lambda x: ts.argmax(x, keepdims=True),
         lambda x: np.argmax(x, keepdims=True), (("n", 3),), dtypes=("f32",)),
    Case("any", lambda x: ts.any(x > 1.5, axis=1), lambda x: np.any(x > 1.5, axis=1), (("n", 4),)),
    Case("all", lambda x: ts.all(x, axis=(0, 1), keepdims=True),
         lambda x: np.all(x, axis=(0, 1), keepdims=True), (("n", 2),), dtypes=("i32", "bool", "f32")),
    Case("var", lambda x: ts.var(x, axis=1), lambda x: np.var(x, axis=1), (("n", 6, 4),), slack=3),
    Case("std", lambda x: ts.std(x, axis=(1, 2), correction=1), lambda x: np.std(x, axis=(1, 2), ddof=1),
         (("n", 6, 4),), slack=3),
    Case("var_symbolic", lambda x: ts.var(x, axis=0, correction=1), lambda x: np.var(x, axis=0, ddof=1),
         (("n", 4),), least=2, slack=3),
    Case("var_integers", lambda x: ts.var(x, axis=1), lambda x: np.var(x, axis=1), (("n", 4),),
         dtypes=("i32",)),
]  # fmt: skip


def _log_softmax(x: Array, axis: int) -> Array:
    low = x - x.max(axis, keepdims=True)
    return np.asarray(low - np.log(np.exp(low).sum(axis, keepdims=True)))


def _normal(x: Array, axes: tuple[int, ...], eps: float) -> Array:
    return np.asarray((x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps))


def _groupnorm(x: Array, weight: Array, bias: Array) -> Array:
    rows = x.reshape(x.shape[0], 2, -1)
    tail = (-1, *(1,) * (x.ndim - 2))
    return np.asarray(_normal(rows, (2,), 1e-3).reshape(x.shape) * weight.reshape(tail) + bias.reshape(tail))


def _batchnorm(x: Array, mean: Array, var: Array, weight: Array, bias: Array) -> Array:
    mean, var, weight, bias = (v.reshape(-1, 1, 1) for v in (mean, var, weight, bias))
    return (x - mean) / np.sqrt(var + 1e-5) * weight + bias


NORMALIZATIONS = [
    Case("log_softmax", ts.log_softmax, lambda x: _log_softmax(x, -1), (("n", 33),), slack=2),
    Case("log_softmax_0", lambda x: ts.log_softmax(x, axis=0), lambda x: _log_softmax(x, 0), (("n", 4),),
         slack=2),
    Case("rmsnorm", ts.rmsnorm,
         lambda x, w: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * w, (("n", 33), (33,)), slack=3),
    Case("rmsnorm_plain", ts.rmsnorm, lambda x: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6),
         (("n", 2, 9),), slack=3),
    Case("groupnorm", lambda x, w, b: ts.groupnorm(x, 2, w, b, eps=1e-3), _groupnorm,
         (("n", 4, 5, "m"), (4,), (4,)), slack=6),
    Case("groupnorm_rows", lambda x: ts.groupnorm(x, 3), lambda x: _normal(
        x.reshape(-1, 3, 2), (2,), 1e-5).reshape(x.shape), (("n", 6),), dtypes=("f64", "f32"), slack=300),
    Case("batchnorm", ts.batchnorm, _batchnorm, (("n", 3, 4, 5), (3,), (3,), (3,), (3,)), low=0.5, slack=4),
    Case("linear", ts.linear, lambda x, w, b: x @ w.T + b, (("n", 2, 7), (5, 7), (5,)), slack=2),
    Case("linear_vector", ts.linear, lambda x, w: w @ x, ((7,), ("n", 7)), dtypes=NARROW, slack=2),
]  # fmt: skip

CASES = [*UNARY, *BINARY, *REDUCTIONS, *NORMALIZATIONS]
