"""Strips of columns, chunks of rows, loops between edges, updates in order: what a CPU does its own way."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Maker, random_array
from test_lowering_pointwise import check

CPU = ("cpu",)


@pytest.mark.parametrize("columns", [1, 63, 64, 65, 130])
@pytest.mark.parametrize("symbolic", [True, False])
def test_columns_are_folded_in_strips_of_every_width(columns, symbolic, rng):
    g = Maker()
    x = g.input("x", ("n", 7, "m" if symbolic else columns))
    positions = [g.reduce(op, x, [1], dtype="i64") for op in ("argmax", "argmin")]
    graph = g.graph(
        *positions, g.unary("neg", g.softmax(x, 1)), g.log_softmax(x, 1), g.reduce("sum", x, [1]),
        g.reduce("max", x, [0]), g.softmax(x, 0),
    )  # fmt: skip
    values = np.round(random_array(rng, (3, 7, columns)), 1)  # with equals among them
    values[1, 2, 0] = values[1, 5, 0] = np.nan
    check(graph, {"x": values}, kinds=CPU, tolerance=2e-6)


@pytest.mark.parametrize("axes", [(0, 2), (1, 3), (0, 2, 3), (0, 1, 3)])
@pytest.mark.parametrize("dtype", ["f32", "f64", "i32"])
def test_axes_apart_are_folded_without_taking_positions_apart(axes, dtype, rng):
    g = Maker()
    x = g.input("x", ("a", 5, 3, "b"), dtype)
    wide = x if dtype != "i32" else g.cast(x, "i64")
    graph = g.graph(g.reduce("sum", wide, axes), g.reduce("max", x, axes), g.reduce("min", x, axes))
    check(graph, {"x": random_array(rng, (4, 5, 3, 600), dtype)}, kinds=CPU, tolerance=4e-5)


@pytest.mark.parametrize("length", [255, 256, 257, 1500])
def test_the_first_of_equal_extremes_is_found_in_whichever_chunk_it_is(length, rng):
    g = Maker()
    x = g.input("x", ("n", "m"))
    graph = g.graph(*(g.reduce(op, x, [1], dtype="i64") for op in ("argmax", "argmin")))
    values = np.round(random_array(rng, (6, length)), 2)
    values[1, -1] = values[1, length // 2] = 9.0
    values[2, -1] = np.nan
    values[3] = -np.inf
    values[4, 1:] = np.nan
    check(graph, {"x": values}, kinds=CPU)


def test_sums_of_many_numbers_of_both_signs_stay_accurate(rng):
    g = Maker()
    x = g.input("x", ("n", "m"))
    graph = g.graph(g.reduce("sum", x, [1]), g.reduce("sum", x, [0, 1]), g.reduce("mean", x, [0]))
    check(graph, {"x": rng.normal(size=(40, 5000)).astype(np.float32)}, kinds=CPU, tolerance=1e-4)


@pytest.mark.parametrize("symbolic", [True, False])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_parts_put_together_are_copied_between_their_edges(axis, symbolic, rng):
    g = Maker()
    shapes = [tuple(s if a == axis else size for a, size in enumerate((3, 4, 5))) for s in (2, 6, 1)]
    names = [tuple("abc"[i] if a == axis and symbolic else s for a, s in enumerate(shape))
             for i, shape in enumerate(shapes)]  # fmt: skip
    parts = [g.input(f"x{i}", shape) for i, shape in enumerate(names)]
    sizes = [g.shape(p)[axis] for p in parts]
    whole = tuple(sizes[0] + sizes[1] + sizes[2] if a == axis else s for a, s in enumerate((3, 4, 5)))
    joined = g.node("concat", parts, whole, "f32", axis=axis)
    grown = tuple(s + 3 for s in whole)
    padded = g.node("pad", (joined, g.scalar(7.0)), grown, "f32", before=[1, 2, 0], mode="constant")
    values = {f"x{i}": random_array(rng, shape) for i, shape in enumerate(shapes)}
    check(g.graph(g.unary("neg", joined), padded), values, kinds=CPU)


@pytest.mark.parametrize("op", ["scatter", "scatter_add"])
@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16", "i32", "i8", "bool"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_updates_are_applied_in_order_where_they_go(op, dtype, axis, rng):
    if (op, dtype) == ("scatter_add", "bool"):
        return
    g = Maker()
    shape = (3, 4, 70)
    places = tuple(90 if a == axis else s for a, s in enumerate(shape))
    names = ("a", 4, "b")
    updated = ["k" if a == axis else s for a, s in enumerate(names)]
    x, index, new = g.input("x", names, dtype), g.input("i", updated, "i64"), g.input("u", updated, dtype)
    graph = g.graph(g.node(op, (x, index, new), g.shape(x), dtype, axis=axis))
    values = {"x": random_array(rng, shape, dtype), "u": random_array(rng, places, dtype)}
    values["i"] = rng.integers(-shape[axis], shape[axis], places)
    check(graph, values, kinds=CPU, tolerance=0.1 if dtype == "bf16" else None)


def test_updates_of_an_axis_without_elements_go_nowhere(rng):
    g = Maker()
    x, index, new = g.input("x", ("n", 3)), g.input("i", ("k", 3), "i64"), g.input("u", ("k", 3))
    graph = g.graph(g.node("scatter_add", (x, index, new), g.shape(x), "f32", axis=0), g.unary("neg", new))
    values = {
        "x": np.zeros((0, 3), np.float32),
        "i": np.zeros((5, 3), np.int64),
        "u": random_array(rng, (5, 3)),
    }
    check(graph, values, kinds=CPU)
