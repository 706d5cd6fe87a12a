"""The oracle against formulas written independently of it, and against itself in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tessera as ts
from tessera.program.dim import Dim, symbol
from tessera.program.dtype import DTYPES, DType
from tessera.program.errors import InputError, ProgramError
from tessera.program.graph import Graph, Node
from tessera.reference import run_graph

Array = np.ndarray[Any, np.dtype[Any]]
FLOATS = (ts.f64, ts.f32, ts.tf32, ts.f16, ts.bf16, ts.f8e4m3, ts.f8e5m2)

# Half a unit in the last place of the result's dtype, plus a few roundings of f32.
EPS = {
    ts.f64: 2e-15,
    ts.f32: 1e-6,
    ts.tf32: 1e-6,
    ts.f16: 5e-4,
    ts.bf16: 4e-3,
    ts.f8e4m3: 0.0625,
    ts.f8e5m2: 0.125,
}
# Half of the smallest subnormal: what a tiny number may be off by.
TINY = {
    ts.f64: 0,
    ts.f32: 1e-40,
    ts.tf32: 1e-40,
    ts.f16: 3e-8,
    ts.bf16: 1e-40,
    ts.f8e4m3: 1e-3,
    ts.f8e5m2: 8e-6,
}


def one_node(op: str, arrays: list[Array], dtype: DType, shape: tuple[Dim, ...], **attrs: Any) -> Graph:
    """A graph of one operator on inputs of one dtype."""
    names = "abc"
    leaves = tuple(
        Node(op="input", attrs={"name": names[i]}, shape=array.shape, dtype=dtype)
        for i, array in enumerate(arrays)
    )
    node = Node(op=op, inputs=tuple(range(len(arrays))), attrs=attrs, shape=shape, dtype=dtype)
    return Graph(name=op, nodes=(*leaves, node), outputs=(len(arrays),))


def run(
    op: str, arrays: list[Array], dtype: DType, shape: tuple[Dim, ...], **attrs: Any
) -> tuple[Array, Array]:
    """The result in native precision and in float64, of the same rounded inputs."""
    rounded = [np.asarray(a).astype(dtype.numpy) for a in arrays]
    graph = one_node(op, rounded, dtype, shape, **attrs)
    inputs = dict(zip("abc", rounded, strict=False))
    native = run_graph(graph, inputs, {})["output"]
    double = run_graph(graph, inputs, {}, precision="f64")["output"]
    assert native.dtype == dtype.numpy
    assert double.dtype == np.float64
    return native, double


def close(dtype: DType, native: Array, exact: Array, *, slack: float = 1, scale: Any = 0) -> None:
    """Native within the rounding of `dtype`; `scale` is the size of what was added up."""
    allowed = slack * EPS[dtype] * np.maximum(np.abs(exact), scale) + TINY[dtype]
    assert np.all(np.abs(native.astype(np.float64) - exact) <= allowed)


UNARY: dict[str, Callable[[float], float]] = {
    "neg": lambda x: -x,
    "abs": abs,
    "exp": math.exp,
    "log": lambda x: math.log(abs(x)),
    "sqrt": lambda x: math.sqrt(abs(x)),
    "rsqrt": lambda x: abs(x) ** -0.5,
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "erf": lambda x: 1 - math.erfc(x),
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x / (1 + math.exp(-x)),
}
POSITIVE = ("log", "sqrt", "rsqrt")

shapes = st.lists(st.integers(1, 4), max_size=3).map(tuple)
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("op", UNARY)
@given(shapes, seeds, st.sampled_from(FLOATS))
def test_unary_agrees_with_python_math(op: str, shape: tuple[int, ...], seed: int, dtype: DType) -> None:
    x = np.random.default_rng(seed).uniform(0.25, 3, size=shape) * (1 if op in POSITIVE else -1) ** (seed % 2)
    x = np.abs(x) if op in POSITIVE else x
    native, double = run(op, [x], dtype, shape)
    rounded = x.astype(dtype.numpy).astype(np.float64)
    exact = np.vectorize(UNARY[op], otypes=[float])(rounded) if x.size else rounded
    np.testing.assert_allclose(double, exact, rtol=1e-12)
    close(dtype, native, double, scale=1e-1 if op == "log" else 0, slack=4)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@given(shapes, seeds, st.sampled_from(FLOATS))
def test_gelu_agrees_with_the_normal_distribution(
    approximate: str, shape: tuple[int, ...], seed: int, dtype: DType
) -> None:
    x = np.random.default_rng(seed).normal(size=shape) * 2
    native, double = run("gelu", [x], dtype, shape, approximate=approximate)
    rounded = x.astype(dtype.numpy).astype(np.float64)

    def exact(v: float) -> float:
        if approximate == "none":
            return v * 0.5 * math.erfc(-v / math.sqrt(2))
        return v / (1 + math.exp(-2 * math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))

    expected = np.vectorize(exact, otypes=[float])(rounded)
    np.testing.assert_allclose(double, expected, rtol=1e-9, atol=1e-12)
    close(dtype, native, double, slack=2, scale=np.abs(rounded) * 1e-1)


@pytest.mark.parametrize("op", ["add", "sub", "mul", "div", "maximum", "minimum"])
@given(
    seeds,
    st.sampled_from(FLOATS),
    st.sampled_from([((3, 4), (4,)), ((1, 4), (3, 1)), ((), (2,)), ((2,), (2,))]),
)
def test_binary_broadcasts_and_rounds_once(op: str, seed: int, dtype: DType, shapes: Any) -> None:
    rng = np.random.default_rng(seed)
    arrays = [rng.uniform(0.25, 3, size=shape) for shape in shapes]
    shape = np.broadcast_shapes(*shapes)
    native, double = run(op, arrays, dtype, shape)
    a, b = (x.astype(dtype.numpy).astype(np.float64) for x in arrays)
    python: dict[str, Any] = {
        "add": lambda: a + b, "sub": lambda: a - b, "mul": lambda: a * b, "div": lambda: a / b,
        "maximum": lambda: np.where(a > b, a, b), "minimum": lambda: np.where(a > b, b, a),
    }  # fmt: skip
    np.testing.assert_array_equal(double, python[op]())
    close(dtype, native, double)


@given(seeds, st.sampled_from(FLOATS), st.sampled_from(["sum", "mean", "max", "min"]), st.booleans(),
       st.sampled_from([(0,), (1,), (0, 2), (0, 1, 2), ()]))  # fmt: skip
def test_reductions_over_axes(
    seed: int, dtype: DType, op: str, keepdims: bool, axes: tuple[int, ...]
) -> None:
    x = np.random.default_rng(seed).uniform(-1, 1, size=(3, 4, 5))
    exact = getattr(np, op)(x.astype(dtype.numpy).astype(np.float64), axis=axes, keepdims=keepdims)
    native, double = run(op, [x], dtype, exact.shape, axes=list(axes), keepdims=keepdims)
    np.testing.assert_allclose(double, exact, rtol=1e-12, atol=1e-14)
    close(dtype, native, double, scale=1 if op in ("sum", "mean") else 0)


@given(seeds, st.sampled_from(FLOATS), st.integers(1, 6), st.integers(1, 8), st.integers(1, 6))
def test_matmul_is_a_sum_of_products(seed: int, dtype: DType, m: int, k: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(-1, 1, size=(2, m, k)), rng.uniform(-1, 1, size=(k, n))
    native, double = run("matmul", [a, b], dtype, (2, m, n))
    x, y = (v.astype(dtype.numpy).astype(np.float64) for v in (a, b))
    exact = (x[:, :, :, None] * y[None, None, :, :]).sum(2)
    np.testing.assert_allclose(double, exact, rtol=1e-12, atol=1e-13)
    # Products are added up in f32, so the result is off by its own rounding and by that of the sum.
    close(dtype, native, double, scale=k * 1e-6 / EPS[dtype] if dtype != ts.f64 else k)


@given(seeds, st.sampled_from(FLOATS), st.sampled_from([0, 1, 2]))
def test_softmax_is_a_distribution(seed: int, dtype: DType, axis: int) -> None:
    x = np.random.default_rng(seed).normal(size=(3, 4, 5)) * 10
    native, double = run("softmax", [x], dtype, x.shape, axis=axis)
    power = np.exp(x.astype(dtype.numpy).astype(np.float64))
    np.testing.assert_allclose(double, power / power.sum(axis, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(double.sum(axis), 1, rtol=1e-12)
    close(dtype, native, double, slack=4)


@given(seeds, st.sampled_from(FLOATS), st.integers(0, 2))
def test_layernorm_has_mean_zero_and_variance_one(seed: int, dtype: DType, affine: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = [rng.uniform(-2, 2, size=(4, 16)), rng.uniform(0.5, 2, size=16), rng.normal(size=16)][
        : 1 + affine
    ]
    native, double = run("layernorm", arrays, dtype, (4, 16), eps=1e-5)
    x, *rest = (a.astype(dtype.numpy).astype(np.float64) for a in arrays)
    exact = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    exact = exact * rest[0] if affine else exact
    exact = exact + rest[1] if affine == 2 else exact
    np.testing.assert_allclose(double, exact, rtol=1e-11, atol=1e-11)
    close(dtype, native, double, slack=4, scale=1 if dtype in (ts.f32, ts.tf32, ts.f64) else 0.1)


def test_hard_arguments_do_not_overflow() -> None:
    x = np.array([-1e4, -100, 0, 100, 1e4], np.float32)
    big = np.array([[1e30, -1e30, 1e30]], np.float32)
    sigmoid = run("sigmoid", [x], ts.f32, (5,))[0]
    np.testing.assert_allclose(sigmoid, [0, math.exp(-100), 0.5, 1, 1], rtol=1e-6, atol=1e-44)
    np.testing.assert_array_equal(run("softmax", [big], ts.f32, (1, 3), axis=1)[0], [[0.5, 0, 0.5]])
    np.testing.assert_allclose(run("silu", [x], ts.f32, (5,))[0], [0, 0, 0, 100, 1e4], atol=1e-40)
    np.testing.assert_array_equal(run("gelu", [x], ts.f32, (5,), approximate="tanh")[0], [0, 0, 0, 100, 1e4])
    assert np.isfinite(run("layernorm", [np.full((1, 4), 3e4)], ts.f16, (1, 4), eps=1e-5)[0]).all()


@pytest.mark.parametrize("op", ["maximum", "minimum", "relu", "max", "min"])
def test_nan_is_never_lost(op: str) -> None:
    x = np.array([1.0, np.nan], np.float32)
    if op in ("max", "min"):
        assert np.isnan(run(op, [x], ts.f32, (), axes=[0], keepdims=False)[0])
    elif op == "relu":
        assert np.isnan(run(op, [x], ts.f32, (2,))[0][1])
    else:
        assert np.isnan(run(op, [x, x[::-1]], ts.f32, (2,))[0]).all()


@pytest.mark.parametrize(("op", "value"), [("max", -np.inf), ("min", np.inf), ("sum", 0)])
def test_reduction_of_nothing_is_the_neutral_element(op: str, value: float) -> None:
    empty = np.zeros((0, 2), np.float32)
    assert run(op, [empty], ts.f32, (2,), axes=[0], keepdims=False)[0].tolist() == [value] * 2


INTEGERS = [d for d in DTYPES.values() if d.kind in ("int", "uint")]


@given(seeds, st.sampled_from(INTEGERS), st.sampled_from(["add", "sub", "mul", "maximum", "minimum"]))
def test_integers_wrap_as_in_c(seed: int, dtype: DType, op: str) -> None:
    limits = np.iinfo(dtype.numpy)
    rng = np.random.default_rng(seed)
    a, b = rng.integers(limits.min, limits.max, size=(2, 20), dtype=dtype.numpy, endpoint=True)
    graph = one_node(op, [a, b], dtype, (20,))
    ours = run_graph(graph, {"a": a, "b": b}, {})["output"]
    function: Any = {
        "add": int.__add__,
        "sub": int.__sub__,
        "mul": int.__mul__,
        "maximum": max,
        "minimum": min,
    }[op]
    span = 2**dtype.bits
    exact = [(function(int(x), int(y)) - limits.min) % span + limits.min for x, y in zip(a, b, strict=True)]
    assert ours.tolist() == exact


def cast(x: Array, source: DType, target: DType, precision: Any = "native") -> Array:
    nodes = (
        Node(op="input", attrs={"name": "x"}, shape=x.shape, dtype=source),
        Node(op="cast", inputs=(0,), shape=x.shape, dtype=target),
    )
    graph = Graph(name="cast", nodes=nodes, outputs=(1,))
    return run_graph(graph, {"x": x.astype(source.numpy)}, {}, precision=precision)["output"]


@pytest.mark.parametrize("source", DTYPES.values(), ids=str)
@pytest.mark.parametrize("target", DTYPES.values(), ids=str)
def test_cast_keeps_numbers_that_both_hold(source: DType, target: DType) -> None:
    numbers = np.array([0, 1, 1, 0] if ts.bool in (source, target) else [0, 1, 2, 3, 6, 100][:5])
    result = cast(numbers, source, target)
    assert result.dtype == target.numpy
    assert result.astype(np.float64).tolist() == numbers.tolist()


def test_cast_rounds_to_nearest_even_and_saturates_fp8() -> None:
    x = np.array([1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, -1e39, np.nan])
    assert cast(x, ts.f64, ts.bf16).astype(float).tolist()[:2] == [1, 1 + 2**-6]
    assert cast(np.array([500.0, -1e9, np.inf]), ts.f32, ts.f8e4m3).astype(float).tolist() == [448, -448, 448]
    assert cast(np.array([6e4, -np.inf]), ts.f32, ts.f8e5m2).astype(float).tolist() == [57344, -57344]
    assert np.isnan(cast(np.array([np.nan]), ts.f32, ts.f8e4m3).astype(float))
    assert cast(np.array([1e6]), ts.f32, ts.f16).astype(float) == np.inf
    assert cast(np.array([-2.7, 2.7]), ts.f32, ts.i32).tolist() == [-2, 2]
    assert cast(np.array([300, -1]), ts.i64, ts.u8).tolist() == [44, 255]
    assert cast(np.array([0, 0.25, np.nan]), ts.f32, ts.bool).tolist() == [False, True, True]


def test_f64_precision_never_rounds() -> None:
    x = np.array([1 + 2**-20])
    nodes = (
        Node(op="input", attrs={"name": "x"}, shape=(1,), dtype=ts.f32),
        Node(op="cast", inputs=(0,), shape=(1,), dtype=ts.f8e4m3),
        Node(op="scalar", attrs={"value": 0.1}, shape=(), dtype=ts.bf16),
        Node(op="cast", inputs=(2,), shape=(), dtype=ts.f8e4m3),
        Node(op="mul", inputs=(1, 3), shape=(1,), dtype=ts.f8e4m3),
    )
    graph = Graph(name="f", nodes=nodes, outputs=(4,))
    assert run_graph(graph, {"x": x}, {}, precision="f64")["output"][0] == (1 + 2**-20) * 0.1
    assert run_graph(graph, {"x": x.astype(np.float32)}, {})["output"].astype(float)[0] == 0.1015625


def mlp() -> Graph:
    """`relu(x @ w)` over a symbolic batch, reshaped flat."""
    n = symbol("n")
    nodes = (
        Node(op="input", attrs={"name": "x"}, shape=(n, 4), dtype=ts.f32),
        Node(op="constant", attrs={"name": "w"}, shape=(4, 3), dtype=ts.f32),
        Node(op="matmul", inputs=(0, 1), shape=(n, 3), dtype=ts.f32),
        Node(op="relu", inputs=(2,), shape=(n, 3), dtype=ts.f32),
        Node(op="reshape", inputs=(3,), shape=(n * 3,), dtype=ts.f32),
        Node(op="transpose", inputs=(3,), attrs={"perm": [1, 0]}, shape=(3, n), dtype=ts.f32),
    )
    return Graph(name="mlp", nodes=nodes, outputs=(4, 5, 0), output_names=("flat", "turned", "same"))


@given(st.integers(0, 9), seeds)
def test_symbols_take_the_size_of_the_inputs(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(rows, 4)).astype("f"), rng.normal(size=(4, 3)).astype("f")
    results = run_graph(mlp(), {"x": x}, {"w": w})
    np.testing.assert_allclose(results["flat"], np.maximum(x @ w, 0).ravel(), rtol=1e-6)
    np.testing.assert_array_equal(results["turned"], results["flat"].reshape(rows, 3).T)
    np.testing.assert_array_equal(results["same"], x)


X, W = np.ones((2, 4), np.float32), np.ones((4, 3), np.float32)


@pytest.mark.parametrize(
    ("inputs", "constants", "text", "name"),
    [
        ({}, {"w": W}, "input 'x' is missing", "x"),
        ({"x": X}, {}, "constant 'w' of mlp is missing", "w"),
        ({"x": X, "y": X}, {"w": W}, "mlp has no input called 'y'", "y"),
        ({"x": X[:, :3]}, {"w": W}, "axis 1 is 3, expected 4", "x"),
        ({"x": X[0]}, {"w": W}, "has 1 axes, expected 2", "x"),
        ({"x": X.astype(np.float64)}, {"w": W}, "input 'x' is float64, expected f32", "x"),
        ({"x": X}, {"w": W.T}, r"constant 'w' has shape \(3, 4\), expected \(4, 3\)", "w"),
        ({"x": X}, {"w": W.astype(np.int32)}, "constant 'w' is int32, expected f32", "w"),
    ],
)
def test_wrong_inputs_are_named(inputs: Any, constants: Any, text: str, name: str) -> None:
    with pytest.raises(InputError, match=text) as raised:
        run_graph(mlp(), inputs, constants)
    assert raised.value.fields["input"] == name


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match="precision 'f32' is unknown"):
        run_graph(mlp(), {"x": X}, {"w": W}, precision="f32")  # type: ignore[arg-type]


def test_malformed_graphs_name_the_node() -> None:
    leaf = Node(op="input", attrs={"name": "x"}, shape=(2,), dtype=ts.f32)
    for node, path in (
        (Node(op="warp", inputs=(0,), shape=(2,), dtype=ts.f32), "graph.nodes[1].op"),
        (Node(op="exp", inputs=(0,), shape=(3,), dtype=ts.f32), "graph.nodes[1].shape"),
        (Node(op="reshape", inputs=(0,), shape=(3,), dtype=ts.f32), "graph.nodes[1]"),
        (Node(op="sum", inputs=(0,), shape=(), dtype=ts.f32), "graph.nodes[1].attrs"),
        (
            Node(op="sum", inputs=(0,), attrs={"axes": [4], "keepdims": False}, shape=(), dtype=ts.f32),
            "graph.nodes[1]",
        ),
        (Node(op="add", inputs=(0,), shape=(2,), dtype=ts.f32), "graph.nodes[1]"),
    ):
        with pytest.raises(ProgramError) as raised:
            run_graph(Graph(name="f", nodes=(leaf, node), outputs=(1,)), {"x": np.ones(2, "f")}, {})
        assert raised.value.fields["path"] == path
