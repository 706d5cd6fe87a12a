"""Elementwise groups: every operator and dtype, broadcasting, casts and views, on both kinds of target."""

from __future__ import annotations

import math

import numpy as np
import pytest
from graphs import BINARY, COMPARISONS, MORE_BINARY, MORE_UNARY, TESTS, UNARY, Maker, random_array
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_interpreter import run

from tessera.program.dtype import as_dtype
from tessera.reference import run_graph

KINDS = ("cpu", "cuda")
TOLERANCE = {
    "f64": 1e-13,
    "f32": 2e-6,
    "tf32": 2e-6,
    "f16": 2e-3,
    "bf16": 1.6e-2,
    "f8e4m3": 0.13,
    "f8e5m2": 0.26,
}
"""Largest error, relative to 1 plus the result: some units in the last place of the dtype."""


def check(graph, inputs, constants=None, *, kinds=KINDS, tolerance=None, **options):
    """Every kind of target gives what the float64 reference gives."""
    constants = constants or {}
    expected = run_graph(graph, inputs, constants, precision="f64")
    for kind in kinds:
        results = run(graph, inputs, constants, kind=kind, **options)
        for name, index in zip(graph.output_names, graph.outputs, strict=True):
            dtype = graph.nodes[index].dtype
            assert results[name].dtype == dtype.numpy
            if not dtype.is_float:
                np.testing.assert_array_equal(results[name], expected[name], err_msg=f"{kind} {name}")
                continue
            bound = tolerance or TOLERANCE[dtype.name]
            np.testing.assert_allclose(
                results[name].astype(np.float64), expected[name], rtol=bound, atol=bound,
                err_msg=f"{kind} {name}",
            )  # fmt: skip


@pytest.mark.parametrize("dtype", ["f64", "f32", "tf32", "f16", "bf16", "f8e4m3", "f8e5m2"])
def test_every_float_operator_gives_the_reference(dtype, rng):
    g = Maker()
    x, y = g.input("x", ("n",), dtype), g.input("y", ("n",), dtype)
    outputs = [g.unary(op, x) for op in UNARY] + [g.unary("gelu", x, approximate="tanh")]
    outputs += [g.binary(op, x, y) for op in BINARY]
    outputs += [g.unary(op, x) for op in MORE_UNARY] + [g.binary(op, x, y) for op in MORE_BINARY]
    inputs = {k: random_array(rng, (77,), dtype, 0.25, 2.0) for k in "xy"}
    check(g.graph(*outputs), inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_special_numbers_follow_the_reference(kind):
    g = Maker()
    x, y = g.input("x", ("n",)), g.input("y", ("n",))
    ops = ["neg", "abs", "exp", "log", "sqrt", "rsqrt", "tanh", "sigmoid", "erf", "relu", *MORE_UNARY]
    results = [g.unary(op, x) for op in ops] + [g.binary(op, x, y) for op in (*BINARY, *MORE_BINARY)]
    results += [g.compare(op, x, y) for op in COMPARISONS] + [g.test(op, x) for op in TESTS]
    graph = g.graph(*results, g.where(results[-1], x, y))
    special = np.array([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-40, 3e38], np.float32)
    x, y = (a.reshape(-1) for a in np.meshgrid(special, special))
    expected = run_graph(graph, {"x": x, "y": y}, {})
    results = run(graph, {"x": x, "y": y}, {}, kind=kind)
    for (name, value), index in zip(expected.items(), graph.outputs, strict=True):
        what = str(graph.nodes[index])
        # libm's sine of huge numbers is exact, NumPy's is off by an ulp of the argument.
        keep = np.abs(x) < 1e30 if graph.nodes[index].op in ("sin", "cos") else np.isfinite(x) | True
        np.testing.assert_allclose(results[name][keep], value[keep], rtol=3e-6, err_msg=what)


@pytest.mark.parametrize("dtype", ["i64", "i32", "i16", "i8", "u8"])
def test_integer_operators_wrap_around(dtype, rng):
    limits = np.iinfo(as_dtype(dtype).numpy)
    g = Maker()
    x, y = g.input("x", ("n",), dtype), g.input("y", ("n",), dtype)
    ops = [op for op in (*BINARY, "mod", "floordiv") if op != "div"]
    outputs = [g.unary(op, x) for op in ("neg", "abs", "relu", "sign")] + [g.binary(op, x, y) for op in ops]
    outputs += [g.compare(op, x, y) for op in COMPARISONS]
    values = {k: rng.integers(limits.min, limits.max, 60, limits.dtype, endpoint=True) for k in "xy"}
    if dtype == "i64":  # the lockstep interpreter's integers do not wrap at 64 bits
        values = {k: v >> 34 for k, v in values.items()}
    values["y"][:3] = 0, 1, 0 if limits.min == 0 else -1
    values["x"][:2] = limits.min if dtype != "i64" else 0, limits.max if dtype != "i64" else 1
    check(g.graph(*outputs), values)


def test_integer_powers_wrap_around_and_cut_off():
    bases, exponents = np.meshgrid(np.arange(-3, 4), np.arange(-3, 9))
    g = Maker()
    x, y = g.input("x", ("n",), "i32"), g.input("y", ("n",), "i32")
    values = {"x": bases.ravel().astype(np.int32), "y": exponents.ravel().astype(np.int32)}
    check(g.graph(g.binary("pow", x, y)), values)
    found = run_graph(g.graph(2), values, {})["output"]
    exact = [0 if b == 0 and e < 0 else int(float(b) ** e) for b, e in zip(*values.values(), strict=True)]
    assert found.tolist() == exact


def test_bool_operators_are_logical(rng):
    g = Maker()
    x, y = g.input("x", ("n",), "bool"), g.input("y", ("n",), "bool")
    outputs = [g.binary(op, x, y) for op in ("add", "mul", "maximum", "minimum")]
    check(g.graph(*outputs), {k: random_array(rng, (64,), "bool") for k in "xy"})


DTYPES = ["f64", "f32", "f16", "bf16", "f8e4m3", "f8e5m2", "i64", "i32", "i16", "i8", "u8", "bool"]


@pytest.mark.parametrize("source", DTYPES)
def test_casts_between_all_dtypes_are_exact(source, rng):
    g = Maker()
    x = g.input("x", ("n",), source)
    # A sum in between keeps the casts from being the roots of their kernels.
    casts = [g.cast(x, target) for target in DTYPES if target != source]
    graph = g.graph(*casts, *(g.cast(c, "f32") for c in casts))
    values = {"x": random_array(rng, (90,), source, 0.0, 20.0)}
    expected = run_graph(graph, values, {})
    for kind in KINDS:
        for name, result in run(graph, values, {}, kind=kind).items():
            np.testing.assert_array_equal(result, expected[name], err_msg=f"{kind} {name}")


@pytest.mark.parametrize("target", ["f8e4m3", "f8e5m2"])
def test_casts_to_eight_bit_floats_saturate_as_the_reference_does(target):
    limits = [448.0, 464.0, 465.0, 57344.0, 61440.0, 1e30, np.inf]
    values = {"x": np.array([*limits, *(-v for v in limits), np.nan, 0.5], np.float32)}
    g = Maker()
    x = g.input("x", ("n",))
    small = g.cast(x, target)
    graph = g.graph(small, g.cast(small, "f32"))
    expected = run_graph(graph, values, {})
    for kind in KINDS:
        for name, result in run(graph, values, {}, kind=kind).items():
            # ml_dtypes' NaN equals nothing, also where assert_array_equal looks for NaN.
            wide = [values.astype(np.float64) for values in (result, expected[name])]
            np.testing.assert_array_equal(*wide, err_msg=f"{kind} {name}")


@st.composite
def broadcasts(draw):
    rank = draw(st.integers(1, 4))
    whole = tuple(draw(st.sampled_from(["a", "b", 1, 2, 3, 5])) for _ in range(rank))
    keep = draw(st.integers(0, rank))
    part = tuple(size if draw(st.booleans()) else 1 for size in whole[rank - keep :])
    return whole, part, {"a": draw(st.integers(0, 6)), "b": draw(st.integers(1, 7))}


@settings(max_examples=25, deadline=None)
@given(broadcasts(), st.integers(0, 2**32 - 1))
def test_broadcasting_reads_the_right_element(case, seed):
    whole, part, sizes = case
    rng = np.random.default_rng(seed)
    g = Maker()
    x, y, z = g.input("x", whole), g.input("y", part), g.input("z", whole[-1:])
    graph = g.graph(g.binary("add", g.binary("mul", x, y), z))
    actual = [tuple(sizes.get(s, s) for s in shape) for shape in (whole, part, whole[-1:])]
    inputs = {k: random_array(rng, shape) for k, shape in zip("xyz", actual, strict=True)}
    check(graph, inputs)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=4),
    st.data(),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_views_are_read_in_place(shape, data, fuse, seed):
    rng = np.random.default_rng(seed)
    g = Maker()
    x = first = g.input("x", tuple(shape))
    for _ in range(data.draw(st.integers(1, 4))):
        now = g.shape(x)
        if data.draw(st.booleans()):
            x = g.transpose(x, data.draw(st.permutations(range(len(now)))))
        else:
            total = math.prod(now)
            divisor = data.draw(st.sampled_from([d for d in range(1, total + 1) if total % d == 0]))
            x = g.reshape(
                x, data.draw(st.sampled_from([(divisor, total // divisor), (total,), (1, total, 1)]))
            )
        if data.draw(st.booleans()):
            x = g.unary("neg", x)
    graph = g.graph(x, g.binary("add", first, g.unary("abs", first)))
    check(graph, {"x": random_array(rng, tuple(shape))}, enable_kernel_fusion=fuse)


def test_symbolic_reshape_splits_an_axis(rng):
    g = Maker()
    x = g.input("x", ("n", 12))
    n = g.shape(x)[0]
    y = g.transpose(g.reshape(x, (n, 3, 4)), (1, 0, 2))
    graph = g.graph(g.unary("exp", g.reshape(y, (3, n * 4))))
    for n in (0, 1, 7):
        check(graph, {"x": random_array(rng, (n, 12))})


def test_a_tensor_of_rank_0_is_one_element(rng):
    g = Maker()
    x, y = g.input("x", ()), g.input("y", ("n",))
    graph = g.graph(g.unary("exp", x), g.binary("add", y, x), g.binary("mul", y, g.scalar(2.5)))
    check(graph, {"x": np.float32(0.5).reshape(()), "y": random_array(rng, (9,))})


def test_many_chunks_and_blocks_cover_every_element(rng):
    g = Maker()
    x, b = g.input("x", ("n", 300)), g.input("b", (300,))
    graph = g.graph(g.binary("add", x, b), g.unary("neg", x))
    inputs = {"x": random_array(rng, (60, 300)), "b": random_array(rng, (300,))}
    check(graph, inputs, kinds=("cpu",))
    inputs["x"] = inputs["x"][:5]
    check(graph, inputs, kinds=("cuda",))


def test_numbers_that_no_float_literal_spells(rng):
    g = Maker()
    x = g.input("x", ("n",))
    small = g.input("i", ("n",), "i64")
    outputs = [g.binary("minimum", x, g.scalar(v)) for v in (math.inf, -math.inf, math.nan, 1e-45, 0.1)]
    outputs.append(g.binary("maximum", small, g.scalar(-(2**63), "i64")))
    inputs = {"x": random_array(rng, (5,)), "i": np.array([-(2**63), -1, 0, 1, 2**63 - 1])}
    check(g.graph(*outputs), inputs)


def test_outputs_that_are_inputs_or_each_other_are_copied(rng):
    g = Maker()
    x, w = g.input("x", ("n", 3)), g.constant("w", rng.normal(size=(2, 3)))
    y = g.unary("relu", x)
    flat = g.reshape(x, (g.shape(x)[0] * 3,))
    graph = g.graph(x, y, y, w, flat, g.scalar(3.0), g.reshape(y, (g.shape(x)[0] * 3,)))
    for options in ({}, {"enable_kernel_fusion": False}, {"enable_graph_optimization": False}):
        check(graph, {"x": random_array(rng, (4, 3))}, g.constants, **options)
