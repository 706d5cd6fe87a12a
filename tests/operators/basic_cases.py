"""The operators that every other is made of: arithmetic, folds, products and plain moves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import tessera as ts
from tests.operators.cases import FLOATS, INTEGERS, Array, Case

NUMBERS = (*FLOATS, *INTEGERS)


def _unary(name: str, oracle: Any, low: float = -2.0, high: float = 2.0, **more: Any) -> Case:
    return Case(name, getattr(ts, name), oracle, (("n", 5),), low=low, high=high, **more)


def _binary(name: str, oracle: Any, **more: Any) -> Case:
    return Case(name, getattr(ts, name), oracle, (("n", 1, 5), (3, 5)), **more)


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[float])(x)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _gelu_tanh(x: Array) -> Array:
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _softmax(x: Array, axis: int) -> Array:
    power = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(power / power.sum(axis, keepdims=True))


def _layernorm(x: Array, weight: Array, bias: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


def _fold(name: str, axis: Any, **more: Any) -> Case:
    ours, numpys = getattr(ts, name), getattr(np, name)
    label = "all" if axis is None else "_".join(map(str, axis)) if isinstance(axis, tuple) else axis
    return Case(
        f"{name}_{label}",
        lambda x: ours(x, axis=axis),
        lambda x: numpys(x, axis=axis),
        (("n", 7, 3),),
        **more,
    )


CASES = [
    _unary("neg", np.negative, dtypes=NUMBERS),
    _unary("abs", np.abs, dtypes=(*NUMBERS, "bool")),
    _unary("exp", np.exp),
    _unary("log", np.log, 0.25, 9.0),
    _unary("sqrt", np.sqrt, 0.0, 9.0),
    _unary("rsqrt", lambda x: 1 / np.sqrt(x), 0.25, 9.0, slack=2),
    _unary("tanh", np.tanh),
    _unary("sigmoid", _sigmoid, -9.0, 9.0),
    _unary("erf", _erf),
    _unary("relu", lambda x: np.maximum(x, 0), dtypes=NUMBERS),
    _unary("silu", lambda x: x * _sigmoid(x), -9.0, 9.0),
    _unary("gelu", lambda x: x / 2 * (1 + _erf(x / math.sqrt(2)))),
    Case("gelu_tanh", lambda x: ts.gelu(x, "tanh"), _gelu_tanh, (("n", 5),)),
    Case("cast_down", lambda x: ts.cast(x, ts.i16), lambda x: x.astype(np.int16), (("n", 5),), dtypes=FLOATS,
         low=-90, high=90),
    Case("cast_up", lambda x: ts.cast(x, ts.f64), lambda x: x.astype(np.float64), (("n", 5),),
         dtypes=(*NUMBERS, "bool")),
    _binary("add", np.add, dtypes=NUMBERS),
    _binary("sub", np.subtract, dtypes=NUMBERS),
    _binary("mul", np.multiply, dtypes=NUMBERS),
    Case("div", ts.div, np.divide, (("n", 1, 5), (3, 5)), low=0.5, high=9.0, slack=2),
    _binary("maximum", np.maximum, dtypes=(*NUMBERS, "bool")),
    _binary("minimum", np.minimum, dtypes=(*NUMBERS, "bool")),
    *[_fold("sum", axis, dtypes=NUMBERS, slack=2) for axis in (None, -2, (0, 2))],
    *[_fold("mean", axis, dtypes=NUMBERS, slack=2) for axis in (None, 0, (-1, 1))],
    *[_fold(name, axis, dtypes=(*NUMBERS, "bool")) for name in ("max", "min") for axis in (None, 0, (1, -1))],
    Case("softmax", ts.softmax, lambda x: _softmax(x, -1), (("n", 33),), slack=2),
    Case("softmax_0", lambda x: ts.softmax(x, axis=0), lambda x: _softmax(x, 0), (("n", 4),), slack=2),
    Case("layernorm", ts.layernorm, _layernorm, (("n", 33), (33,), (33,)), slack=4),
    Case("matmul", ts.matmul, np.matmul, (("n", 9), (9, 6)), dtypes=NUMBERS, slack=2),
    Case("matmul_batches", ts.matmul, np.matmul, ((2, 1, "n", 5), (3, 5, 4)), slack=2),
    Case("matmul_vector", ts.matmul, np.matmul, (("n", 9), (9,)), slack=2),
    Case("reshape", lambda x: ts.reshape(x, (-1, 2, 3)), lambda x: x.reshape(-1, 2, 3), (("n", 6),),
         dtypes=(*NUMBERS, "bool")),
    Case("transpose", lambda x: ts.transpose(x, (2, 0, 1)), lambda x: x.transpose(2, 0, 1), (("n", 3, "m"),),
         dtypes=(*NUMBERS, "bool")),
    Case("unsqueeze", lambda x: ts.unsqueeze(x, -2), lambda x: x[:, None, :], (("n", 4),),
         dtypes=(*NUMBERS, "bool")),
]  # fmt: skip
