"""Rows that are read once, 16 bytes at a time, and elements of 16 bits that are taken eight at a time."""

from __future__ import annotations

import re

import numpy as np
import pytest
from graphs import Maker, random_array
from test_lowering_pointwise import check

import tessera as ts
from tessera.compiler.lanes import Lanes, is_multiple
from tessera.compiler.plan import plan_graph
from tessera.compiler.writer import Name, Writer
from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget, open_artifact

CUDA = ("cuda",)
TOLERANCE = {"f64": 1e-12, "f32": 2e-5, "f16": 2e-3, "bf16": 1.6e-2}


def sources(graph) -> list[str]:
    return [kernel.source for kernel in plan_graph(graph, kind="cuda", targets=("sm_80",))[1]]


@pytest.mark.parametrize("dtype", ["f64", "f32", "f16", "bf16", "i32", "i8"])
@pytest.mark.parametrize("length", [4, 96, 1000, 2048])
def test_rows_whose_vectors_fit_are_read_once(dtype, length, rng):
    g = Maker()
    x = g.input("x", ("n", length), dtype)
    graph = g.graph(g.reduce("max", x, [1]))
    (source,) = sources(graph)
    lanes = 16 // np.dtype(random_array(rng, (1,), dtype).dtype).itemsize
    if length % lanes:
        assert "_lanes_" not in source
    else:
        strides = len(re.findall(rf"read_lanes_{lanes}\(in0", source))
        assert 1 <= strides <= 8
        assert not re.search(r"in0\[", source), "an element is read by itself"
    check(graph, {"x": random_array(rng, (3, length), dtype)}, kinds=CUDA)


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "f64"])
@pytest.mark.parametrize("length", [40, 1000, 1544])
def test_rows_are_rewritten_as_the_reference_has_them(dtype, length, rng):
    """Also where some threads have no last vector, with what is fused before and behind."""
    g = Maker()
    x, y = g.input("x", ("n", length), dtype), g.input("y", ("n", length), dtype)
    w, b = g.input("w", (length,), dtype), g.input("b", (length,), dtype)
    scaled = g.binary("add", g.softmax(g.binary("mul", x, y), 1), b)
    graph = g.graph(
        scaled, g.layernorm(x, w, b), g.rmsnorm(y, w), g.log_softmax(x, 1),
        g.reduce("argmin", y, [1], dtype="i64"),
    )  # fmt: skip
    assert any("write_lanes" in source for source in sources(graph))
    shapes = {"x": (3, length), "y": (3, length), "w": (length,), "b": (length,)}
    values = {name: random_array(rng, shape, dtype) for name, shape in shapes.items()}
    check(graph, values, kinds=CUDA, tolerance=TOLERANCE[dtype])


def test_infinities_and_nan_come_out_as_they_would(rng):
    x = random_array(rng, (5, 64))
    x[0, 3], x[1, 7], x[2], x[3, 0] = np.inf, np.nan, -np.inf, -np.inf
    g = Maker()
    v = g.input("x", (5, 64))
    check(g.graph(g.softmax(v, 1), g.reduce("max", v, [1]), g.reduce("sum", v, [1])), {"x": x}, kinds=CUDA)


def test_rows_of_a_slice_do_not_begin_at_multiples_of_16_bytes(rng):
    g = Maker()
    x = g.input("x", (6, 70))
    inner = g.node("slice", (x,), (6, 64), "f32", starts=(0, 3), steps=(1, 1))
    graph = g.graph(g.softmax(inner, 1))
    (source,) = sources(graph)
    assert "read_lanes" not in source
    assert "write_lanes_4" in source
    check(graph, {"x": random_array(rng, (6, 70))}, kinds=CUDA)


@pytest.mark.parametrize("dtype", ["f16", "bf16", "i8"])
@pytest.mark.parametrize("n", [1, 7, 8, 9, 31, 300])
def test_small_elements_are_taken_eight_at_a_time_up_to_the_last(dtype, n, rng):
    g = Maker()
    x, y = g.input("x", ("n",), dtype), g.input("y", ("n",), dtype)
    graph = g.graph(g.unary("relu", g.binary("add", x, y)))
    (source,) = sources(graph)
    assert source.count("read_lanes_8") >= 2
    check(graph, {"x": random_array(rng, (n,), dtype), "y": random_array(rng, (n,), dtype)}, kinds=CUDA)


@pytest.mark.parametrize("columns", [24, 30])
def test_broadcast_operands_of_small_elements_are_right(columns, rng):
    g = Maker()
    x, b = g.input("x", ("n", 3, columns), "f16"), g.input("b", (columns,), "f16")
    row = g.input("r", (3, 1), "f16")
    graph = g.graph(g.binary("mul", g.binary("add", x, b), row))
    (source,) = sources(graph)
    wide = source.count("read_lanes_8(")
    assert wide == (2 if columns == 24 else 1), "x, and the bias where eight columns are of one row"
    shapes = {"x": (2, 3, columns), "b": (columns,), "r": (3, 1)}
    check(graph, {k: random_array(rng, s, "f16") for k, s in shapes.items()}, kinds=CUDA)


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "i8"])
def test_machine_code_moves_16_bytes_at_once_and_is_right_in_the_emulator(dtype, rng):
    function = ts.jit(
        (lambda x: ts.max(x, axis=-1) * 2) if dtype == "i8" else (lambda x: ts.softmax(x, axis=-1)),
        name="rows",
    )
    spec = ts.TensorSpec(("n", 512), dtype)
    config = AOTConfig(targets=[CompilationTarget("sm_90")], generate_ptx=True)
    artifact = AOTCompiler(config).compile(function, [spec]).artifact
    (text,) = {b.data.decode() for b in artifact.binaries if b.format == "ptx"}
    assert re.search(r"ld\.global(\.nc)?\.v4", text)
    assert not re.search(r"ld\.global(\.nc)?\.[usbf](8|16|32)\b", text)
    x = random_array(rng, (9, 512), dtype)
    with open_artifact(artifact, device="emulator") as runtime:
        found = np.asarray(runtime.execute("rows", {"x": x})).astype(np.float64)
    wide = x.astype(np.float64)
    power = np.exp(wide - wide.max(-1, keepdims=True))
    exact = wide.max(-1) * 2 if dtype == "i8" else power / power.sum(-1, keepdims=True)
    if dtype == "i8":
        exact = exact.astype(np.int64).astype(np.int8).astype(np.float64)
    np.testing.assert_allclose(found, exact, rtol=0, atol=TOLERANCE.get(dtype, 0) * np.abs(exact).max())


@pytest.mark.parametrize(
    ("text", "number", "answer"),
    [
        ("item * 4096", 8, True), ("(a * 3 + b) * 64", 16, True), ("row * n0", 4, False), ("3", 2, False),
        ("item * 4096 + 12", 8, False), ("item * 4096 + 16", 8, True), ("a", 2, False),
        ("a * 2 * 2", 4, False),
    ],
)  # fmt: skip
def test_only_what_is_surely_a_multiple_counts(text, number, answer):
    assert is_multiple(text, number) is answer


def test_positions_that_are_not_in_step_are_no_neighbours():
    lanes = Lanes((Name("r0"), Name("r1")))
    assert lanes.group(Name("r1")) == (1, "r0")
    assert lanes.group(Name("item * 8 + r1")) == (1, "item * 8 + r0")
    for text in ("item * 7 + r1", "r1 * 2", "r1 * 8 + r1", "item * 8 + r10", "m0"):
        assert lanes.group(Name(text)) is None, text


def test_results_out_of_step_are_written_one_by_one():
    writer, lanes = Writer(), Lanes((Name("r0"), Name("r1")))
    for name in lanes.names:
        lanes.write(writer, Name(f"{name} * 3"), "y", str)
    assert [text for text, _ in writer.finish()] == ["out[r0 * 3] = y", "out[r1 * 3] = y"]
