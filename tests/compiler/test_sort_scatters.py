"""Scatters of many updates on a GPU: sorted first, and the same as applying them one by one."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Maker, random_array
from test_lowering_pointwise import check

from tessera.compiler.passes.sort_scatters import sort_scatters

CUDA = ("cuda",)


def scattered(op, shape, places, axis, dtype):
    g = Maker()
    x, index, new = g.input("x", shape, dtype), g.input("i", places, "i64"), g.input("u", places, dtype)
    return g.graph(g.node(op, (x, index, new), g.shape(x), dtype, axis=axis))


@pytest.mark.parametrize("op", ["scatter", "scatter_add"])
@pytest.mark.parametrize("dtype", ["f32", "bf16", "i8"])
@pytest.mark.parametrize("symbolic", [True, False])
def test_sorted_updates_give_what_the_order_gives(op, dtype, symbolic, rng):
    shape, places = (9, 3), (100, 3)
    named = (("n", 3), ("k", 3)) if symbolic else (shape, places)
    graph = scattered(op, *named, 0, dtype)
    assert "fold_segments" in [node.op for node in sort_scatters(graph, "cuda").nodes]
    values = {"x": random_array(rng, shape, dtype), "u": random_array(rng, places, dtype)}
    values["i"] = rng.integers(-9, 9, places)
    check(graph, values, kinds=CUDA, tolerance=0.1 if dtype == "bf16" else None)


def test_positions_outside_are_brought_back_inside(rng):
    graph = scattered("scatter_add", (2, 5), (2, 70), 1, "f64")
    values = {"x": random_array(rng, (2, 5), "f64"), "u": random_array(rng, (2, 70), "f64")}
    values["i"] = rng.integers(-50, 50, (2, 70))
    check(graph, values, kinds=CUDA)


def test_a_tensor_without_elements_and_no_updates_are_fine(rng):
    graph = scattered("scatter", ("n", 2), ("k", 2), 0, "f32")
    for n, k in ((0, 3), (4, 0)):
        values = {"x": random_array(rng, (n, 2)), "u": random_array(rng, (k, 2))}
        values["i"] = np.zeros((k, 2), np.int64)
        check(graph, values, kinds=CUDA)


def test_few_updates_are_asked_by_every_element():
    graph = scattered("scatter", (9,), (64,), 0, "f32")
    assert sort_scatters(graph, "cuda") == graph
    assert sort_scatters(scattered("scatter", (9,), (900,), 0, "f32"), "cpu").nodes[3].op == "scatter"
