"""Slices, pads, gathers, order and what else moves elements, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

import tessera as ts
from tests.operators.cases import Array, Case

ANY = ("f32", "bf16", "f64", "i32", "u8", "bool", "f8e4m3")
NUMBERS = ("f32", "bf16", "i64", "i8")
KEYS: dict[str, Any] = {
    "rows": slice(1, None),
    "every_other": (slice(None), slice(None, None, 2)),
    "from_the_end": (slice(-3, None), slice(1, -1)),
    "up_to": (slice(None, 2), slice(None, 4, 3)),
    "between": (slice(1, 3), slice(-4, 4)),
    "not_the_last": slice(None, -2),
    "back": (slice(None, None, -1), slice(4, 0, -2)),
    "back_from": (slice(-2, None, -1), slice(None, -4, -1)),
    "back_between": slice(3, 0, -1),
    "last": -1,
    "first_of_last": (..., 0),
    "new_axes": (None, slice(1, None), None, 2),
    "both": (-2, -1),
    "negative_between": slice(-5, -1),
    "late": (slice(2, 100), slice(-100, 3)),
}
INDEX = np.array([[2, -1, 0], [1, 1, -2]])


def _getitem(name: str, key: Any) -> Case:
    return Case(f"getitem_{name}", lambda x: x[key], lambda x: x[key], (("n", 5),), dtypes=ANY, least=2)


def _positions(rng: np.random.Generator, shapes: Any) -> list[Any]:
    """Any positions, also from the end, for an operand whose first axis has 6."""
    return [None, rng.integers(-6, 6, shapes[1])]


def _distinct(rng: np.random.Generator, shapes: Any) -> list[Any]:
    """Positions on axis 0, several the same."""
    return [None, rng.integers(-6, 6, shapes[1]), None]


def _scatter(x: Array, index: Array, updates: Array, add: bool) -> Array:
    x = x.copy()
    for r in range(index.shape[0]):
        for c in range(index.shape[1]):
            x[index[r, c], c] = x[index[r, c], c] + updates[r, c] if add else updates[r, c]
    return x


def _topk(x: Array) -> tuple[Array, Array]:
    order = np.argsort(-x.astype(np.float64), axis=-1, kind="stable")[..., :3]
    return np.take_along_axis(x, order, -1), order


def _few(rng: np.random.Generator, shapes: Any) -> list[Any]:
    """Small whole numbers, so that many are equal."""
    return [rng.integers(-3, 4, shape) for shape in shapes]


CASES = [
    *[_getitem(name, key) for name, key in KEYS.items()],
    Case("getitem_positions", lambda x, i: x[:, i, None], lambda x, i: x[:, i, None], (("n", 5), (2, 3)),
         fixed={1: "i32"}, dtypes=ANY, make=lambda rng, s: [None, rng.integers(-5, 5, s[1])]),
    Case("squeeze", lambda x: ts.squeeze(ts.unsqueeze(x, (0, -1)), 0), lambda x: x[..., None], (("n", 5),)),
    Case("broadcast_to", lambda x: ts.broadcast_to(x, 3, x.shape[0], 4) + x,
         lambda x: np.broadcast_to(x, (3, len(x), 4)) + x, (("n", 1),), dtypes=("f32",)),
    Case("tile", lambda x: ts.tile(x, (2, 1, 3)), lambda x: np.tile(x, (2, 1, 3)), (("n", 4),), dtypes=ANY),
    Case("repeat", lambda x: ts.repeat(x, 3, 0), lambda x: np.repeat(x, 3, 0), (("n", 4),), dtypes=ANY),
    Case("flip", lambda x: ts.flip(x, 0), lambda x: np.flip(x, 0), (("n", 4),), dtypes=ANY),
    Case("roll", lambda x: ts.roll(x, (2, -1), (0, 1)), lambda x: np.roll(x, (2, -1), (0, 1)), (("n", 4),),
         dtypes=ANY),
    Case("roll_all", lambda x: ts.roll(x, 3), lambda x: np.roll(x, 3), (("n", 4),), dtypes=ANY),
    Case("concat", lambda a, b: ts.concat([a, b, a * 2], axis=0), lambda a, b: np.concatenate([a, b, a * 2]),
         (("n", 4), ("m", 4)), dtypes=NUMBERS),
    Case("concat_columns", lambda a, b: ts.exp(ts.concat([a, b], axis=-1)),
         lambda a, b: np.exp(np.concatenate([a, b], axis=-1)), (("n", 4), ("n", 3)), dtypes=("f32",)),
    Case("stack", lambda a, b: ts.stack([a, b, b], axis=1), lambda a, b: np.stack([a, b, b], axis=1),
         (("n", 4), ("n", 4)), dtypes=ANY),
    Case("split", lambda x: ts.split(ts.concat([x, x + x]), 2) + ts.split(x, [1, 3], axis=1),
         lambda x: (x, x + x, *np.split(x, [1], axis=1)), (("n", 4),), dtypes=("f32", "i32")),
    Case("chunk", lambda x: ts.chunk(x, 2, axis=-1), lambda x: (x[:, :3], x[:, 3:]), (("n", 5),), dtypes=ANY),
    Case("pad", lambda x: ts.pad(x, [(1, 2), (0, 3)], value=2), lambda x: np.pad(
        x, [(1, 2), (0, 3)], constant_values=2), (("n", 4),), dtypes=NUMBERS),
    Case("pad_infinite", lambda x: ts.pad(x, 1, value=float("-inf")),
         lambda x: np.pad(x, 1, constant_values=-np.inf), (("n", 4),), dtypes=("f32", "bf16")),
    Case("pad_edge", lambda x: ts.pad(x, [(2, 1), (0, 3)], "edge"),
         lambda x: np.pad(x, [(2, 1), (0, 3)], "edge"), (("n", 4),), dtypes=ANY),
    Case("pad_reflect", lambda x: ts.pad(x, [(4, 5), (7, 1)], "reflect"),
         lambda x: np.pad(x, [(4, 5), (7, 1)], "reflect"), (("n", 4),), dtypes=ANY),
    Case("take", lambda x, i: ts.take(x, i, axis=0), lambda x, i: np.take(x, i, axis=0), ((6, "n"), (3, 2)),
         fixed={1: "i64"}, dtypes=ANY, make=_positions),
    Case("take_symbolic", lambda x, i: ts.take(x * 2, i, axis=1), lambda x, i: np.take(x * 2, i, axis=1),
         ((3, "n", 2), ("m",)), fixed={1: "i8"}, dtypes=("f32",),
         make=lambda rng, s: [None, rng.integers(-s[0][1], s[0][1], s[1])]),
    Case("take_along_axis", lambda x, i: ts.take_along_axis(x, i, axis=0),
         lambda x, i: np.take_along_axis(x, i, axis=0), ((6, "n"), (2, "n")), fixed={1: "i64"}, dtypes=ANY,
         make=_positions),
    Case("gather", lambda x, i: ts.gather(x, i, axis=0), lambda x, i: np.take_along_axis(x, i, axis=0),
         ((6, "n"), (9, "n")), fixed={1: "i32"}, dtypes=("f32",), make=_positions),
    Case("embedding", ts.embedding, lambda i, t: t[i], (("n", 3), (6, 5)), fixed={0: "i32"},
         dtypes=("f32", "bf16"), make=lambda rng, s: [rng.integers(0, 6, s[0]), None]),
    Case("scatter", lambda x, i, u: ts.scatter(x, i, u, axis=0), lambda x, i, u: _scatter(x, i, u, add=False),
         ((6, "n"), (4, "n"), (4, "n")), fixed={1: "i64"}, dtypes=ANY, make=_distinct),
    Case("scatter_add", lambda x, i, u: ts.scatter_add(x, i, u, axis=0),
         lambda x, i, u: _scatter(x, i, u, add=True), ((6, "n"), (4, "n"), (4, "n")), fixed={1: "i64"},
         dtypes=("f32", "bf16", "i64"), make=_distinct, slack=2),
    Case("scatter_number", lambda x, i: ts.scatter(x, i, 7, axis=0) * 2,
         lambda x, i: _scatter(x, i, np.full(i.shape, 7), add=False) * 2, ((6, "n"), (2, "n")),
         fixed={1: "i64"}, dtypes=("f32",), make=_positions),
    Case("one_hot", lambda i: ts.one_hot(i, 4, ts.f32), lambda i: (i[..., None] == np.arange(4)) * 1.0,
         (("n", 2),), dtypes=("i64", "u8"), low=-1.0),
    Case("triu", lambda x: ts.triu(x, 1), lambda x: np.triu(x, 1), (("n", "m", 5),), dtypes=ANY),
    Case("tril", lambda x: ts.tril(x), np.tril, ((2, "n", "n"),), dtypes=ANY),
    Case("arange", lambda x: ts.arange(x.shape[0]) + ts.arange(1, 6, 2)[:, None],
         lambda x: np.arange(len(x)) + np.arange(1, 6, 2)[:, None], (("n",),), dtypes=("f32",)),
    Case("arange_floats", lambda x: x + ts.arange(0.5, 3, 0.5), lambda x: x + np.arange(0.5, 3, 0.5),
         (("n", 5),)),
    Case("full", lambda x: (ts.full((x.shape[0], 2), 2.5), ts.zeros(3, ts.i32), ts.ones(x.shape[:1])),
         lambda x: (np.full((len(x), 2), 2.5), np.zeros(3, np.int32), np.ones(len(x))), (("n", 1),),
         dtypes=("f32",)),
    Case("cumsum", lambda x: ts.cumsum(x, -1), lambda x: np.cumsum(x, -1), (("n", 300),), slack=4),
    Case("cumsum_columns", lambda x: ts.exp(ts.cumsum(x * 0.1, 0)), lambda x: np.exp(np.cumsum(x * 0.1, 0)),
         (("n", 3, 2),), slack=4, dtypes=("f64", "f32")),
    Case("cumsum_integers", lambda x: ts.cumsum(x, 1), lambda x: np.cumsum(x, 1), (("n", 9),),
         dtypes=("i64", "u8", "bool")),
    Case("argsort", lambda x: ts.argsort(x), lambda x: np.argsort(x, kind="stable"), (("n", 9),),
         dtypes=("f32", "i8", "bf16"), make=_few),
    Case("sort", lambda x: ts.sort(x, axis=0), lambda x: np.sort(x, axis=0), (("n", 3),), dtypes=NUMBERS,
         make=_few),
    Case("sort_descending", lambda x: ts.sort(x, axis=1, descending=True), lambda x: -np.sort(-x, axis=1),
         ((2, "n", 3),), dtypes=("f32", "i64"), make=_few),
    Case("topk", lambda x: ts.topk(x, 3), _topk, (("n", 40),), dtypes=("f32", "i32", "bf16"), make=_few),
    Case("topk_smallest", lambda x: ts.topk(x, 2, axis=0, largest=False),
         lambda x: (np.sort(x, 0)[:2], np.argsort(x, 0, kind="stable")[:2]), ((7, "n"),), dtypes=("f32",),
         make=_few),
]  # fmt: skip
