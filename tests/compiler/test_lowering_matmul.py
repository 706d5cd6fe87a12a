"""Matrix products of every dtype and batch, with what is fused into them."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Maker, random_array
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lowering_pointwise import check

from tessera.compiler.plan import plan_graph
from tessera.program.program import Gemm

TOLERANCE = {"f64": 1e-12, "f32": 1e-5, "tf32": 1e-5, "f16": 4e-3, "bf16": 3e-2, "f8e4m3": 0.3}
DTYPES = ["f64", "f32", "tf32", "f16", "bf16", "f8e4m3", "i64", "i32", "i8", "u8", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_every_dtype_give_the_reference(dtype, rng):
    g = Maker()
    a, b = g.input("a", ("m", "k"), dtype), g.input("b", ("k", "n"), dtype)
    graph = g.graph(g.matmul(a, b))
    for m, k, n in ((3, 5, 2), (65, 17, 3), (1, 1, 1)):
        inputs = {"a": random_array(rng, (m, k), dtype), "b": random_array(rng, (k, n), dtype)}
        check(graph, inputs, tolerance=TOLERANCE.get(dtype))


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(
        [((), ()), ((2,), ()), ((), (3,)), ((2,), (2,)), ((2, 1), (1, 3)), ((1,), (4,)), ((2, 1), (3,))]
    ),
    st.tuples(*[st.sampled_from([1, 3, 17])] * 3),
    st.tuples(st.booleans(), st.booleans()),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_batches_broadcast_and_transposes_are_read_in_place(batches, sizes, transposed, fuse, seed):
    rng = np.random.default_rng(seed)
    m, k, n = sizes
    g = Maker()
    operands, inputs = [], {}
    for name, batch, (rows, columns), flip in zip("ab", batches, ((m, k), (k, n)), transposed, strict=True):
        shape = (*batch, *((columns, rows) if flip else (rows, columns)))
        x = g.input(name, shape)
        inputs[name] = random_array(rng, shape)
        perm = [*range(len(batch)), len(batch) + 1, len(batch)]
        operands.append(g.transpose(x, perm) if flip else x)
    graph = g.graph(g.matmul(*operands))
    check(graph, inputs, tolerance=3e-5, enable_kernel_fusion=fuse)


def test_a_layer_is_one_kernel_on_a_gpu(rng):
    g = Maker()
    x = g.input("x", ("n", 24), "bf16")
    w, b = g.constant("w", rng.normal(size=(30, 24)), "bf16"), g.constant("b", rng.normal(size=30), "bf16")
    y = g.binary("add", g.matmul(x, g.transpose(w, (1, 0))), b)
    graph = g.graph(g.unary("gelu", y))
    plan, kernels = plan_graph(graph, kind="cuda", targets=("sm_90",))
    assert [k.name for k in kernels] == ["forward_0_matmul_add_gelu"]
    assert not plan.setup
    assert plan.arena_bytes == 0
    for n in (0, 1, 70):
        check(graph, {"x": random_array(rng, (n, 24), "bf16")}, g.constants, tolerance=0.04)


def test_a_cpu_widens_weights_once_at_load(rng):
    g = Maker()
    x, w = g.input("x", ("n", 24), "bf16"), g.constant("w", rng.normal(size=(24, 30)), "bf16")
    plan, _ = plan_graph(g.graph(g.matmul(x, w)), kind="cpu", targets=("cpu-x86_64-v3",))
    assert [type(step).__name__ for step in plan.steps] == ["Launch", "Gemm", "Launch"]
    assert [step.args[1].space for step in plan.setup] == ["persistent"]
    gemm = plan.steps[1]
    assert isinstance(gemm, Gemm)
    assert gemm.b.space == "persistent"
    assert plan.persistent_bytes == 24 * 30 * 4 + (-24 * 30 * 4) % 256


def test_one_weight_for_all_makes_one_tall_product(rng):
    g = Maker()
    x, w = g.input("x", ("b", "s", 8)), g.constant("w", rng.normal(size=(8, 4)))
    graph = g.graph(g.matmul(x, w))
    plan, kernels = plan_graph(graph, kind="cpu", targets=("cpu-x86_64-v3",))
    assert not kernels
    (gemm,) = plan.steps
    assert gemm.batch == 1
    assert str(gemm.m) == "b*s"
    check(graph, {"x": random_array(rng, (2, 3, 8))}, g.constants, tolerance=1e-5)


def test_attention_with_symbolic_sizes_gives_the_reference(rng):
    g = Maker()
    heads, width = 2, 6
    x = g.input("x", ("b", "s", heads * width))
    b, s, _ = g.shape(x)
    projections = []
    for name in "qkv":
        w = g.constant(name, rng.normal(size=(heads * width, heads * width)) / 3)
        y = g.reshape(g.matmul(x, w), (b, s, heads, width))
        projections.append(g.transpose(y, (0, 2, 1, 3)))
    q, k, v = projections
    scores = g.binary("mul", g.matmul(q, g.transpose(k, (0, 1, 3, 2))), g.scalar(width**-0.5))
    mixed = g.transpose(g.matmul(g.softmax(scores, 3), v), (0, 2, 1, 3))
    y = g.binary("add", x, g.reshape(mixed, (b, s, heads * width)))
    graph = g.graph(g.layernorm(y))
    for sizes in ((1, 1), (2, 5), (0, 3)):
        for options in ({}, {"enable_kernel_fusion": False}, {"enable_graph_optimization": False}):
            check(
                graph,
                {"x": random_array(rng, (*sizes, heads * width))},
                g.constants,
                tolerance=3e-5,
                **options,
            )


def test_a_product_over_no_columns_is_zero():
    g = Maker()
    a, b = g.input("a", ("m", "k")), g.input("b", ("k", "n"))
    graph = g.graph(g.binary("add", g.matmul(a, b), g.scalar(1.0)))
    for m, k, n in ((2, 0, 3), (0, 2, 3), (2, 3, 0)):
        check(graph, {"a": np.zeros((m, k), np.float32), "b": np.zeros((k, n), np.float32)})


def test_residual_of_a_product_is_added_where_it_is_written(rng):
    g = Maker()
    x, w = g.input("x", ("n", 16)), g.constant("w", rng.normal(size=(16, 16)))
    y = g.binary("add", g.unary("relu", x), g.matmul(x, w))
    graph = g.graph(g.unary("tanh", y))
    _, kernels = plan_graph(graph, kind="cuda", targets=("sm_80",))
    assert len(kernels) == 1
    assert kernels[0].cc_dependent
    check(graph, {"x": random_array(rng, (5, 16))}, g.constants, tolerance=1e-5)
