"""Every pass of the table once: what its example holds before and after, and that it computes the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from graphs import Maker, random_array

import tessera as ts
from tessera.compiler.matrix_units import MatrixUnits
from tessera.compiler.operators import LEAVES
from tessera.compiler.passes import Kind, PassStep, optimize_graph
from tessera.compiler.passes.dead_code import remove_dead_code
from tessera.program.bind import bind_symbols
from tessera.program.dim import evaluate
from tessera.program.graph import Graph
from tessera.program.interface import program_of
from tessera.reference import run_graph

TENSOR_CORES = MatrixUnits((8, 0))
OWN = ("copy", "fold_segments")
"""Operators of the compiler alone, which the reference does not compute."""


def unused() -> Graph:
    g = Maker()
    x = g.input("x", (3,))
    g.unary("exp", x)
    return g.graph(g.unary("neg", x))


def products_around_a_softmax() -> Graph:
    g = Maker()
    q, k, v = (g.input(name, (1, 2, 8, 16)) for name in "qkv")
    scores = g.binary("mul", g.matmul(q, g.transpose(k, (0, 1, 3, 2))), g.scalar(0.25))
    return g.graph(g.matmul(g.softmax(scores, 3), v))


def attention() -> Graph:
    g = Maker()
    q, k, v = (g.input(name, (2, 5, 16)) for name in "qkv")
    return g.graph(g.node("attention", (q, k, v), (2, 5, 16), "f32", causal=False, scale=0.25))


def half_product() -> Graph:
    g = Maker()
    return g.graph(g.matmul(g.input("a", (4, 5), "f16"), g.input("b", (5, 3), "f16")))


def many_updates() -> Graph:
    g = Maker()
    x, index, new = g.input("x", (9, 3)), g.input("i", (100, 3), "i64"), g.input("u", (100, 3))
    return g.graph(g.node("scatter_add", (x, index, new), (9, 3), "f32", axis=0))


def numbers() -> Graph:
    g = Maker()
    total = g.binary("mul", g.binary("add", g.scalar(1.5), g.scalar(2.0)), g.scalar(2.0))
    return g.graph(g.binary("add", g.input("x", (3,)), total))


def turned_twice() -> Graph:
    g = Maker()
    x = g.input("x", (2, 3))
    return g.graph(g.unary("exp", g.transpose(g.transpose(x, (1, 0)), (1, 0))))


def computed_behind_a_reshape() -> Graph:
    g = Maker()
    product = g.matmul(g.input("a", (4, 6)), g.input("b", (6, 6)))
    return g.graph(g.unary("relu", g.reshape(product, (4, 3, 2))))


def the_same_twice() -> Graph:
    g = Maker()
    x = g.input("x", (4,))
    return g.graph(g.binary("add", g.unary("exp", x), g.unary("tanh", g.unary("exp", x))))


def an_output_that_is_an_input() -> Graph:
    g = Maker()
    x = g.input("x", (3,))
    return g.graph(x, g.unary("exp", x))


def convolution() -> Graph:
    specs = [ts.TensorSpec(shape, "f16") for shape in (("n", 16, 6, 7), (24, 16, 3, 3))]
    return ts.jit(lambda x, w: ts.conv2d(x, w, padding=1), name="convolved").trace(specs).graph


EXAMPLES: dict[str, tuple[Callable[[], Graph], Kind, str, str]] = {
    "dead code": (unused, "cuda", "exp neg", "neg"),
    "find attention": (
        products_around_a_softmax, "cuda", "transpose matmul mul softmax matmul", "attention",
    ),
    "attention": (
        attention, "cpu", "attention",
        "reshape transpose matmul reshape mul softmax reshape matmul reshape",
    ),
    "cpu products": (half_product, "cpu", "matmul", "cast cast matmul cast"),
    "scatters": (
        many_updates, "cuda", "scatter_add",
        "lt add where maximum sub minimum argsort take_along fold_segments",
    ),
    "numbers": (numbers, "cuda", "add mul add", "add"),
    "simplify": (turned_twice, "cuda", "transpose transpose exp", "exp"),
    "reshapes": (computed_behind_a_reshape, "cuda", "matmul reshape relu", "matmul relu reshape"),
    "common": (the_same_twice, "cuda", "exp exp tanh add", "exp tanh add"),
    "outputs": (an_output_that_is_an_input, "cuda", "exp", "exp copy"),
    "channels last": (
        convolution, "cuda", "windows reshape reshape matmul reshape",
        "reshape transpose copy transpose windows transpose reshape "
        "reshape transpose copy reshape matmul reshape",
    ),
}  # fmt: skip
"""By pass: a graph, a kind of target, and the operators before and after that something needs."""


def steps_of(graph: Graph, kind: Kind) -> list[PassStep]:
    found: list[PassStep] = []
    optimize_graph(graph, kind=kind, units=TENSOR_CORES, watch=found.append)
    return found


def operators(graph: Graph, *, dead: bool) -> str:
    nodes = (graph if dead else remove_dead_code(graph)).nodes
    return " ".join(node.op for node in nodes if node.op not in LEAVES)


def test_every_pass_has_an_example() -> None:
    names = {step.by.name for step in steps_of(unused(), "cuda")}
    assert names == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_pass_does_what_it_is_for_and_nothing_to_the_result(name: str, rng: np.random.Generator) -> None:
    make, kind, before, after = EXAMPLES[name]
    step = next(s for s in steps_of(make(), kind) if s.by.name == name and s.before != s.after)
    dead = name == "dead code"
    assert (operators(step.before, dead=dead), operators(step.after, dead=dead)) == (before, after)
    same_results(step, rng)


def same_results(step: PassStep, rng: np.random.Generator) -> None:
    if any(node.op in OWN for node in step.after.nodes):
        return
    ports = program_of(step.before).inputs
    sizes = {str(d): 3 for port in ports for d in port.shape if not isinstance(d, int)}
    values = {}
    for port in ports:
        shape = tuple(evaluate(d, sizes) for d in port.shape)
        values[port.name] = random_array(rng, shape, port.dtype)
    assert bind_symbols(program_of(step.before), {n: v.shape for n, v in values.items()}) == sizes
    found, wanted = (run_graph(g, values, {}, precision="f64") for g in (step.after, step.before))
    for output, value in wanted.items():
        np.testing.assert_allclose(found[output], value, rtol=1e-12, atol=1e-12)
