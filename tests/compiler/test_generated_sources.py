"""Generated text: compiles to PTX for every architecture, names, lines, and sharing of kernels."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from graphs import BINARY, MORE_BINARY, MORE_UNARY, UNARY, Maker

from tessera.compiler.kernel_source import POINTERS, SCALARS
from tessera.compiler.plan import plan_graph
from tessera.program.dtype import DTYPES, KERNEL_DTYPES

ARCHITECTURES = ((7, 0), (8, 0), (9, 0))


def _ptx(kernel, cc):
    from numba import cuda, types

    namespace: dict = {}
    exec(compile(kernel.source, kernel.name, "exec"), namespace)
    signature = tuple(
        types.CPointer(getattr(types, POINTERS[a])) if a in POINTERS else getattr(types, SCALARS[a])
        for a in kernel.args
    )
    ptx, _ = cuda.compile(namespace[kernel.name], signature, device=False, abi="numba", cc=cc)
    return ptx


def _kernels(graph):
    _, kernels = plan_graph(graph, kind="cuda", targets=("sm_80",))
    return kernels


def _network(dtype="bf16"):
    rng = np.random.default_rng(0)
    g = Maker("net")
    x, w = g.input("x", ("n", 64), dtype), g.constant("w", rng.normal(size=(96, 64)), dtype)
    h = g.unary("gelu", g.matmul(g.layernorm(x), g.transpose(w, (1, 0))))
    return g.graph(g.softmax(h, 1), g.reduce("mean", h, [0]), g.reduce("max", h, [0, 1]))


@pytest.mark.parametrize(
    ("dtype", "cc"),
    [*(("bf16", cc) for cc in ARCHITECTURES), ("f32", (7, 0)), ("f16", (9, 0)), ("f64", (8, 0))],
)
def test_networks_compile_for_every_architecture(dtype, cc):
    for kernel in _kernels(_network(dtype)):
        ptx = _ptx(kernel, cc)
        assert f".target sm_{cc[0]}{cc[1]}" in ptx
        assert ".extern" not in ptx
        assert ".local" not in ptx, "arrays in registers have gone to memory"


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_every_operator_compiles_for_the_gpu(dtype):
    g = Maker()
    x = g.input("x", ("n", 7), dtype)
    total = x
    for op in (*UNARY, *MORE_UNARY):
        total = g.binary("add", total, g.unary(op, x))
    for op in (*BINARY, *MORE_BINARY):
        total = g.binary(op, total, x)
    for kernel in _kernels(g.graph(total)):
        assert ".extern" not in _ptx(kernel, (8, 0))


NAMES = [name for name, dtype in DTYPES.items() if dtype not in KERNEL_DTYPES]
"""Element types that tensor functions compute with."""


def test_every_dtype_is_loaded_and_stored_on_the_gpu():
    g = Maker()
    inputs = [g.input(f"x{i}", ("n",), name) for i, name in enumerate(NAMES)]
    graph = g.graph(*(g.cast(x, "f32" if g.dtype(x).name != "f32" else "i32") for x in inputs))
    for kernel in _kernels(graph):
        assert ".extern" not in _ptx(kernel, (7, 0))
    graph = g.graph(*(g.cast(g.unary("copy", inputs[1]), name) for name in NAMES if name != "f32"))
    for kernel in _kernels(graph):
        assert ".extern" not in _ptx(kernel, (7, 0))


@pytest.mark.parametrize("dtype", ["i64", "i32", "i8"])
def test_integer_kernels_compile_for_the_gpu(dtype):
    g = Maker()
    x, y = g.input("x", ("n", 8), dtype), g.input("y", (8, "n"), dtype)
    graph = g.graph(
        g.matmul(x, y), g.reduce("max", x, [1]), g.reduce("sum", x, [0]), g.reduce("min", x, [0, 1])
    )
    for kernel in _kernels(graph):
        assert _ptx(kernel, (8, 0))


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_names_are_c_identifiers_that_say_what_is_done(kind):
    g = Maker("2-layer net/λ")
    x = g.input("x", ("n", 4))
    for _ in range(3):
        x = g.reduce("sum", g.unary("tanh", g.unary("exp", x)), [1], keepdims=True)
        x = g.unary("log", g.binary("mul", x, g.input(f"y{len(g.nodes)}", ("n", 4))))
    _, kernels = plan_graph(g.graph(x), kind=kind, targets=("sm_80",))
    assert len({k.name for k in kernels}) == len(kernels)
    for kernel in kernels:
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", kernel.name), kernel.name
        assert len(kernel.name) < 64
    assert any("exp_tanh_sum" in k.name for k in kernels)


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_lines_lead_back_to_the_user(kind):
    g = Maker()
    x = g.input("x", ("n",))
    y = g.unary("exp", x)
    _, (kernel,) = plan_graph(g.graph(g.unary("log", y)), kind=kind, targets=("sm_80",))
    lines = kernel.source.splitlines()
    found = {place.line: lines[number - 1] for number, place in kernel.locations.items()}
    assert "exp" in found[2]
    assert {place.file for place in kernel.locations.values()} == {"model.py"}


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_the_same_graph_gives_the_same_text(kind):
    first, second = (plan_graph(_network(), kind=kind, targets=("sm_80",)) for _ in range(2))
    assert first[0] == second[0]
    assert [k.source for k in first[1]] == [k.source for k in second[1]]


def test_without_fusion_every_operator_has_a_kernel():
    g = Maker()
    x = g.input("x", ("n",))
    graph = g.graph(g.unary("neg", g.unary("exp", g.unary("abs", x))))
    plan, _ = plan_graph(graph, kind="cuda", targets=("sm_80",), enable_kernel_fusion=False)
    assert len(plan.steps) == 3
    assert len(plan_graph(graph, kind="cuda", targets=("sm_80",))[0].steps) == 1


def test_without_optimization_nothing_is_done_at_load():
    g = Maker()
    w = g.constant("w", np.ones(4))
    graph = g.graph(g.binary("add", g.input("x", (4,)), g.unary("exp", w)))
    for kind in ("cuda", "cpu"):
        assert plan_graph(graph, kind=kind, targets=("sm_80",))[0].setup
        off = plan_graph(graph, kind=kind, targets=("sm_80",), enable_graph_optimization=False)[0]
        assert not off.setup
        assert not off.persistent


def test_very_large_graphs_are_cut_into_kernels_of_bearable_size():
    g = Maker()
    x = g.input("x", ("n",))
    y = x
    for _ in range(300):
        y = g.binary("add", g.unary("neg", y), x)
    plan, kernels = plan_graph(g.graph(y), kind="cuda", targets=("sm_80",), enable_graph_optimization=False)
    assert 6 <= len(plan.steps) <= 30
    assert max(k.source.count("\n") for k in kernels) < 120


def test_planning_does_not_import_numba():
    code = "import sys, tessera.compiler.plan; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
