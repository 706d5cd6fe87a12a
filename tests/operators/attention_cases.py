"""Attention, einsum and recurrent cells against their formulas."""

from __future__ import annotations

from typing import Any

import numpy as np

import tessera as ts
from tests.operators.cases import FLOATS, Array, Case


def attend(
    q: Array,
    k: Array,
    v: Array,
    *,
    causal: bool = False,
    mask: Array | None = None,
    scale: float | None = None,
) -> Array:
    """By the definition: scores, their softmax, and what it weighs."""
    each = q.shape[-3] // k.shape[-3]
    k, v = np.repeat(k, each, -3), np.repeat(v, each, -3)
    scores = q @ np.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if causal:
        rows, keys = scores.shape[-2:]
        scores = np.where(np.arange(keys) <= np.arange(rows)[:, None] + keys - rows, scores, -np.inf)
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    power = np.exp(scores - np.where(np.isinf(top), 0, top))
    total = power.sum(-1, keepdims=True)
    return np.asarray(power @ v / np.where(total == 0, 1, total))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _lstm(x: Array, h: Array, c: Array, wx: Array, wh: Array, b: Array) -> tuple[Array, Array]:
    i, f, g, o = np.split(x @ wx.T + h @ wh.T + b, 4, -1)
    state = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(state), state


def _gru(x: Array, h: Array, wx: Array, wh: Array) -> Array:
    (r, z, n), (hr, hz, hn) = np.split(x @ wx.T, 3, -1), np.split(h @ wh.T, 3, -1)
    update = _sigmoid(z + hz)
    return (1 - update) * np.tanh(n + _sigmoid(r + hr) * hn) + update * h


def _einsum(name: str, equation: str, *shapes: Any, **more: Any) -> Case:
    return Case(
        f"einsum_{name}",
        lambda *xs: ts.einsum(equation, *xs),
        lambda *xs: np.einsum(equation, *xs),
        shapes,
        slack=3,
        **{"dtypes": ("f32", "bf16"), **more},
    )


CASES = [
    Case(
        "attention",
        ts.attention,
        attend,
        (("b", 2, "n", 16), ("b", 2, 5, 16), ("b", 2, 5, 16)),
        dtypes=FLOATS,
        slack=2,
    ),
    Case(
        "attention_causal",
        lambda q, k, v: ts.attention(q, k, v, causal=True),
        lambda q, k, v: attend(q, k, v, causal=True),
        ((1, 2, "n", 8),) * 3,
        dtypes=("f32", "bf16"),
        slack=2,
    ),
    Case(
        "attention_long",
        lambda q, k, v: ts.attention(q, k, v, causal=True, scale=0.3) * 2,
        lambda q, k, v: attend(q, k, v, causal=True, scale=0.3) * 2,
        ((2, 40, 70), (2, 75, 70), (2, 75, 33)),
        dtypes=("f32",),
        slack=3,
    ),
    Case(
        "attention_shared",
        ts.attention,
        attend,
        (("b", 6, 3, 8), ("b", 2, "t", 8), ("b", 2, "t", 12)),
        dtypes=("f32", "f16"),
        slack=2,
    ),
    Case(
        "attention_mask",
        lambda q, k, v, m: ts.attention(q, k, v, mask=m > 0.75, causal=True),
        lambda q, k, v, m: attend(q, k, v, mask=m > 0.75, causal=True),
        (("b", 2, 9, 4), ("b", 2, "t", 4), ("b", 2, "t", 4), ("b", 1, 9, "t")),
        dtypes=("f32", "bf16"),
        slack=2,
    ),
    Case(
        "attention_bias",
        lambda q, k, v, m: ts.attention(q, k, v, mask=m),
        lambda q, k, v, m: attend(q, k, v, mask=m),
        ((2, "n", 8), (2, 6, 8), (2, 6, 8), ("n", 6)),
        dtypes=("f32", "f64"),
        slack=2,
    ),
    Case(
        "attention_wide",
        ts.attention,
        attend,
        ((1, 2, 9, 200), (1, 2, 11, 200), (1, 2, 11, 130)),
        dtypes=("f32",),
        slack=3,
    ),
    Case(
        "attention_widest",
        lambda q, k, v: ts.attention(q, k, v, causal=True),
        lambda q, k, v: attend(q, k, v, causal=True),
        ((1, 9, 250), (1, 35, 250), (1, 35, 250)),
        dtypes=("f32",),
        slack=4,
    ),
    Case(
        "attention_from_rows",
        lambda x: ts.transpose(
            ts.attention(
                *(
                    ts.transpose(part.reshape(x.shape[0], x.shape[1], 2, 4), (0, 2, 1, 3))
                    for part in ts.split(x, 3, -1)
                ),
                causal=True,
            ),
            (0, 2, 1, 3),
        ).reshape(x.shape[0], x.shape[1], 8),
        lambda x: np.transpose(
            attend(
                *(np.transpose(p.reshape(*x.shape[:2], 2, 4), (0, 2, 1, 3)) for p in np.split(x, 3, -1)),
                causal=True,
            ),
            (0, 2, 1, 3),
        ).reshape(*x.shape[:2], 8),
        (("b", "s", 24),),
        dtypes=("f32",),
        slack=3,
    ),
    _einsum("product", "ij,jk->ik", ("n", 4), (4, 3)),
    _einsum("batch", "bhqd,bhkd->bhqk", (2, "h", 3, 4), (2, "h", 5, 4)),
    _einsum("outer", "i,j->ij", ("n",), ("m",)),
    _einsum("inner", "i,i", ("n",), ("n",)),
    _einsum("rows", "bi,bi->b", ("n", 4), ("n", 4), dtypes=("f32", "i64")),
    _einsum("elements", "ij,ji->ji", ("n", 4), (4, "n")),
    _einsum("summed", "ijk->kj", ("n", 2, 3)),
    _einsum("three", "ij,jk,kl->il", ("n", 4), (4, 3), (3, 5)),
    _einsum("implied", "ij,kj", ("n", 4), (3, 4)),
    Case(
        "lstm_cell",
        ts.lstm_cell,
        _lstm,
        (("n", 3), ("n", 4), ("n", 4), (16, 3), (16, 4), (16,)),
        dtypes=("f32", "f64"),
        slack=3,
    ),
    Case(
        "gru_cell", ts.gru_cell, _gru, (("n", 3), ("n", 4), (12, 3), (12, 4)), dtypes=("f32", "bf16"), slack=2
    ),
]
