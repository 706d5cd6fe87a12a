"""Reductions, softmax and layernorm over any axes, with what is fused before and behind them."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Maker, random_array
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lowering_pointwise import KINDS, check

from tessera.compiler.plan import plan_graph
from tessera.program.dtype import as_dtype
from tessera.reference import run_graph

SIZES = st.sampled_from([1, 2, 3, 5, 9, 33])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(SIZES, min_size=1, max_size=3),
    st.data(),
    st.sampled_from(["sum", "mean", "max", "min"]),
    st.booleans(),
    st.sampled_from(["f32", "bf16", "f64"]),
    st.integers(0, 2**32 - 1),
)
def test_reductions_over_any_axes_give_the_reference(shape, data, op, keepdims, dtype, seed):
    rng = np.random.default_rng(seed)
    axes = data.draw(st.lists(st.sampled_from(range(len(shape))), unique=True, min_size=0, max_size=3))
    symbols = tuple(f"d{axis}" if data.draw(st.booleans()) else size for axis, size in enumerate(shape))
    g = Maker()
    x = g.input("x", symbols, dtype)
    total = g.reduce(op, g.unary("relu", x), sorted(axes), keepdims=keepdims)
    graph = g.graph(g.unary("neg", total))
    check(graph, {"x": random_array(rng, tuple(shape), dtype)})


@pytest.mark.parametrize("length", [1, 31, 32, 33, 255, 257, 600, 1025])
@pytest.mark.parametrize("symbolic", [True, False])
def test_rows_of_every_length_are_folded_whole(length, symbolic, rng):
    g = Maker()
    x = g.input("x", ("n", "m" if symbolic else length))
    graph = g.graph(
        g.reduce("sum", x, [1]), g.reduce("max", x, [1]), g.softmax(x, 1), g.layernorm(x), g.rmsnorm(x),
        g.log_softmax(x, 1), g.reduce("argmax", x, [1], dtype="i64"), g.reduce("argmin", x, [0], dtype="i64"),
    )  # fmt: skip
    check(graph, {"x": random_array(rng, (3, length))}, tolerance=2e-5)


@pytest.mark.parametrize("dtype", ["i64", "i32", "i8", "u8", "bool"])
def test_integer_reductions_are_exact(dtype, rng):
    g = Maker()
    x = g.input("x", ("n", 37), dtype)
    outputs = [g.reduce("max", x, [0]), g.reduce("min", x, [1])]
    outputs += [g.reduce("sum", g.cast(x, "i64"), [1]), g.reduce("mean", g.cast(x, "f64"), [0, 1])]
    if dtype not in ("i64", "bool"):
        outputs.append(g.reduce("sum", x, [1]))  # wraps around in its own dtype
    check(g.graph(*outputs), {"x": random_array(rng, (11, 37), dtype)})


@settings(max_examples=12, deadline=None)
@given(
    st.lists(SIZES, min_size=1, max_size=3),
    st.data(),
    st.sampled_from(["f32", "f16", "f64"]),
    st.integers(0, 2**32 - 1),
)
def test_softmax_over_any_axis_gives_the_reference(shape, data, dtype, seed):
    rng = np.random.default_rng(seed)
    axis = data.draw(st.sampled_from(range(len(shape))))
    symbols = tuple(f"d{axis}" if data.draw(st.booleans()) else size for axis, size in enumerate(shape))
    g = Maker()
    x = g.input("x", symbols, dtype)
    y = g.softmax(g.binary("mul", x, g.scalar(3.0, dtype)), axis)
    graph = g.graph(g.binary("add", y, x))
    check(graph, {"x": random_array(rng, tuple(shape), dtype)})


@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16"])
@pytest.mark.parametrize("weights", [0, 1, 2])
def test_layernorm_with_weights_gives_the_reference(dtype, weights, rng):
    g = Maker()
    x = g.input("x", ("b", "n", 48), dtype)
    scales = [g.constant(f"w{i}", rng.normal(size=48), dtype) for i in range(weights)]
    y = g.layernorm(g.binary("add", x, g.scalar(0.5, dtype)), *scales, eps=1e-3)
    graph = g.graph(g.unary("gelu", y), y)
    values = random_array(rng, (2, 5, 48), dtype)
    tolerance = {"f32": 1e-5, "f64": 1e-12, "bf16": 0.03}[dtype]
    check(graph, {"x": values}, g.constants, tolerance=tolerance)


def test_softmax_of_large_numbers_does_not_overflow(rng):
    g = Maker()
    x = g.input("x", ("n", 8))
    values = random_array(rng, (4, 8)) * 1e4
    values[0, 3] = -np.inf
    check(g.graph(g.softmax(x, 1)), {"x": values})


@pytest.mark.parametrize("length", [70, "m"])
def test_nan_passes_through_every_reduction(length: int | str):
    g = Maker()
    x = g.input("x", ("n", length))
    graph = g.graph(
        *(g.reduce(op, x, [1]) for op in ("sum", "prod", "mean", "max", "min")),
        *(g.reduce(op, x, [1], dtype="i64") for op in ("argmax", "argmin")),
        g.softmax(x, 1), g.log_softmax(x, 1), g.rmsnorm(x),
    )  # fmt: skip
    values = np.ones((2, 70), np.float32)
    values[1, 66] = np.nan
    check(graph, {"x": values})


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_empty_tensors_fold_to_what_folding_begins_with():
    g = Maker()
    x = g.input("x", ("n", "m"))
    graph = g.graph(
        g.reduce("sum", x, [1]), g.reduce("mean", x, [1]), g.reduce("prod", x, [1]), g.softmax(x, 1),
        g.layernorm(x), g.rmsnorm(x), g.log_softmax(x, 0), g.reduce("argmax", x, [1], dtype="i64"),
    )  # fmt: skip
    for shape in ((0, 4), (3, 0), (0, 0)):
        check(graph, {"x": np.zeros(shape, np.float32)})


@pytest.mark.parametrize("dtype", ["i64", "i32", "i16", "i8", "u8", "bool"])
def test_largest_and_smallest_of_no_integers_are_the_ends_of_their_range(dtype):
    g = Maker()
    x = g.input("x", ("n", "m"), dtype)
    graph = g.graph(*(g.reduce(op, x, [axis]) for op in ("max", "min") for axis in (0, 1)))
    for shape in ((0, 20), (20, 0)):
        check(graph, {"x": np.zeros(shape, as_dtype(dtype).numpy)})


def test_sums_of_many_numbers_stay_accurate(rng):
    g = Maker()
    x = g.input("x", ("n",))
    graph = g.graph(g.reduce("sum", x, [0]))
    values = (1.0 + rng.random(200_000)).astype(np.float32)
    check(graph, {"x": values}, kinds=("cpu",), tolerance=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_normalization_written_out_by_hand_needs_few_kernels(kind, rng):
    g = Maker()
    x = g.input("x", ("n", 40))
    mean = g.reduce("mean", x, [1], keepdims=True)
    centred = g.binary("sub", x, mean)
    spread = g.reduce("mean", g.binary("mul", centred, centred), [1], keepdims=True)
    scale = g.unary("rsqrt", g.binary("add", spread, g.scalar(1e-5)))
    graph = g.graph(g.binary("mul", centred, scale))
    _, kernels = plan_graph(graph, kind=kind, targets=("sm_80",))
    assert len(kernels) <= 4
    check(graph, {"x": random_array(rng, (6, 40))}, kinds=(kind,), tolerance=1e-5)


def test_results_round_once_where_a_group_is_fused(rng):
    g = Maker()
    x = g.input("x", ("n", 256), "bf16")
    graph = g.graph(g.reduce("sum", g.binary("mul", x, x), [1]))
    values = {"x": random_array(rng, (4, 256), "bf16")}
    exact = run_graph(graph, values, {}, precision="f64")["output"]
    check(graph, values, tolerance=2.0**-8)
    assert np.all(exact > 0)
