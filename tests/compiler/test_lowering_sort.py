"""Sorting on a GPU: counted, in one tile, and in runs that are merged, always with equals in order."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Maker, random_array
from test_lowering_pointwise import check

from tessera.compiler import lower_sort
from tessera.compiler.plan import plan_graph
from tessera.program.dtype import as_dtype
from tessera.program.program import Choice

CUDA = ("cuda",)


def argsort(g, x, *, axis, kept=None, descending=False):
    shape = [kept if a == axis and kept is not None else s for a, s in enumerate(g.shape(x))]
    return g.node("argsort", (x,), shape, "i64", axis=axis, descending=descending)


def values_of(rng, shape, dtype):
    values = random_array(rng, shape, dtype)
    if np.dtype(values.dtype).kind == "f":
        values = np.round(values, 1)  # with equals among them
        values[0, :2] = np.nan
        values[0, 2:4] = [np.inf, -np.inf]
    return values


def launches(graph):
    (step,) = plan_graph(graph, kind="cuda", targets=("sm_80",))[0].steps
    return [len(option.steps) for option in step.options] if isinstance(step, Choice) else 1


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of 16, so that lines of some dozens take every way."""
    monkeypatch.setattr(lower_sort, "TILE", 16)
    monkeypatch.setattr(lower_sort, "COUNTED", 8)


@pytest.mark.parametrize(("length", "count"), [(5, 1), (9, 1), (16, 1), (17, [2]), (33, [3]), (100, [4])])
@pytest.mark.parametrize("descending", [False, True])
def test_a_line_takes_as_many_merges_as_its_tiles_need(length, count, descending, rng, small_tiles):
    g = Maker()
    x = g.input("x", (3, length))
    graph = g.graph(argsort(g, x, axis=1, descending=descending))
    assert launches(graph) == count
    check(graph, {"x": values_of(rng, (3, length), "f32")}, kinds=CUDA)


@pytest.mark.parametrize("length", [1, 8, 9, 16, 20, 60, 130])
def test_a_line_of_unknown_length_goes_the_way_of_its_size(length, rng, small_tiles):
    g = Maker()
    x = g.input("x", ("n", "m", 2))
    graph = g.graph(argsort(g, x, axis=1))
    assert launches(graph) == [1, 1, 3, 5, 7, 10, 13, 21]
    check(graph, {"x": np.round(random_array(rng, (2, length, 2)), 1)}, kinds=CUDA)


@pytest.mark.parametrize("dtype", ["f64", "bf16", "i64", "u8", "bool"])
def test_every_dtype_is_sorted_and_the_first_ones_are_kept(dtype, rng, small_tiles):
    g = Maker()
    x = g.input("x", (2, 70), dtype)
    graph = g.graph(argsort(g, x, axis=1, kept=10, descending=True), argsort(g, x, axis=0, kept=1))
    check(graph, {"x": values_of(rng, (2, 70), dtype)}, kinds=CUDA)


def test_a_full_tile_is_sorted_in_shared_memory(rng):
    g = Maker()
    x = g.input("x", (1, 300), "i32")
    graph = g.graph(argsort(g, x, axis=1))
    (kernel,) = plan_graph(graph, kind="cuda", targets=("sm_80",))[1]
    assert kernel.shared_bytes == 512 * (8 + 4)
    check(graph, {"x": random_array(rng, (1, 300), "i32")}, kinds=CUDA)


@pytest.mark.parametrize("dtype", ["f32", "tf32", "f16", "f8e5m2", "i32", "i16", "i8", "u8", "bool"])
@pytest.mark.parametrize("descending", [False, True])
def test_a_cpu_sorts_by_digits(dtype, descending, rng):
    g = Maker()
    x, y = g.input("x", (3, 200, 2), dtype), g.input("y", (2, 150), dtype)
    graph = g.graph(argsort(g, x, axis=1, descending=descending), argsort(g, y, axis=1, kept=60))
    _, kernels = plan_graph(graph, kind="cpu", targets=("cpu-x86_64-v3",))
    assert all("digits" in kernel.name for kernel in kernels)
    values = {"x": values_of(rng, (3, 200, 2), dtype), "y": values_of(rng, (2, 150), dtype)}
    if as_dtype(dtype).is_float:
        values["x"][1, 3:9, 0] = [0.0, -0.0, 0.0, -0.0, 1e-3, -1e-3]
    check(graph, values, kinds=("cpu",))


@pytest.mark.parametrize("length", [5, 127, 128, 300])
def test_a_cpu_takes_a_heap_for_short_lines_and_long_keys(length, rng):
    g = Maker()
    x, y = g.input("x", (3, "m")), g.input("y", (3, "m"), "i64")
    graph = g.graph(argsort(g, x, axis=1), argsort(g, y, axis=1, descending=True))
    plan, _ = plan_graph(graph, kind="cpu", targets=("cpu-x86_64-v3",))
    assert [isinstance(step, Choice) for step in plan.steps] == [True, False]
    values = {"x": np.round(random_array(rng, (3, length)), 1)}
    check(graph, {**values, "y": rng.integers(-(2**60), 2**60, (3, length))}, kinds=("cpu",))


def test_merges_share_their_kernels(rng):
    g = Maker()
    graph = g.graph(argsort(g, g.input("x", (1_000_000,)), axis=0))
    plan, kernels = plan_graph(graph, kind="cuda", targets=("sm_80",))
    assert launches(graph) == [10]
    assert len(kernels) == 3
    assert plan.arena_bytes == 2 * 4_000_000
