"""The arena: nothing that lives together overlaps, and memory is used again."""

from __future__ import annotations

import numpy as np
from graphs import Maker, random_array
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_interpreter import run

from tessera.compiler.memory_plan import Lifetime, never_exceeds, plan_memory
from tessera.compiler.plan import plan_graph
from tessera.program.dim import align, ceildiv, evaluate, maximum, symbol
from tessera.reference import run_graph

N, M = symbol("n"), symbol("m")
SIZES = st.sampled_from([0, 4, 256, 1000, N * 4, N * 400, N * M * 4, M * 8, N * 4 + 100, ceildiv(N, 3) * 4])


@st.composite
def lifetimes(draw):
    found = []
    for i in range(draw(st.integers(0, 14))):
        first = draw(st.integers(0, 20))
        found.append(Lifetime(f"t{i}", draw(SIZES), first, first + draw(st.integers(0, 6))))
    return found


@settings(deadline=None)
@given(lifetimes(), st.integers(0, 3000), st.integers(0, 300))
def test_tensors_in_use_together_never_overlap(tensors, n, m):
    buffers, arena = plan_memory(tensors)
    values = {"n": n, "m": m}
    places = {b.name: (evaluate(b.offset_bytes, values), evaluate(b.bytes, values)) for b in buffers}
    for tensor in tensors:
        start, size = places[tensor.name]
        assert start % 256 == 0
        assert size == evaluate(tensor.bytes, values)
        assert start + size <= evaluate(arena, values)
    for a in tensors:
        for b in tensors:
            if a is not b and a.first <= b.last and b.first <= a.last:
                (x, size_x), (y, size_y) = places[a.name], places[b.name]
                assert x + size_x <= y or y + size_y <= x


def test_a_chain_of_equal_tensors_takes_the_room_of_two():
    chain = [Lifetime(f"t{i}", N * 4, i, i + 1) for i in range(9)]
    buffers, arena = plan_memory(chain)
    assert len(buffers) == 9
    assert arena == align(N * 4, 256) * 2


def test_a_smaller_tensor_takes_over_a_larger_place():
    buffers, arena = plan_memory([Lifetime("a", N * 400, 0, 1), Lifetime("b", N * 4, 2, 3)])
    assert buffers[1].offset_bytes == 0
    assert arena == align(N * 400, 256)


@settings(deadline=None)
@given(lifetimes(), st.integers(0, 3000), st.integers(0, 300))
def test_an_arena_is_no_larger_than_all_side_by_side_and_no_smaller_than_the_peak(tensors, n, m):
    values = {"n": n, "m": m}
    _, arena = plan_memory(tensors)
    sizes = [evaluate(align(t.bytes, 256), values) for t in tensors]
    pairs = list(zip(tensors, sizes, strict=True))
    live = [[size for t, size in pairs if t.first <= step <= t.last] for step in range(30)]
    assert max(map(sum, live)) <= evaluate(arena, values) <= sum(sizes)


def test_fixed_sizes_are_packed_between_what_lives_longer():
    long, wide = Lifetime("long", 256, 0, 9), Lifetime("wide", 2048, 0, 0)
    halves = [Lifetime("left", 1024, 1, 2), Lifetime("right", 1024, 1, 2)]
    buffers, arena = plan_memory([wide, long, *halves])
    assert arena == 2048 + 256
    assert len({b.offset_bytes for b in buffers if b.name != "wide"}) == 3


def test_a_tensor_takes_the_tightest_place_that_is_free():
    tensors = [Lifetime("big", N * 400, 0, 0), Lifetime("small", N * 8, 0, 0), Lifetime("x", N * 4, 1, 1)]
    buffers, _ = plan_memory([*tensors, Lifetime("y", N * 400, 1, 1)])
    places = {b.name: b.offset_bytes for b in buffers}
    assert places["x"] == places["small"]
    assert places["y"] == places["big"]


def test_sizes_are_compared_by_their_terms():
    assert never_exceeds(N * 4, N * 8)
    assert never_exceeds(N * 4, N * 4 + 1)
    assert never_exceeds(3, 3)
    assert not never_exceeds(N * 4, M * 4)
    assert not never_exceeds(N * 8, N * 4)
    assert not never_exceeds(4, N * 4)
    assert not never_exceeds(0, maximum(N, M) - N)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.sampled_from(["cpu", "cuda"]))
def test_random_graphs_compute_right_in_shared_memory(seed, count, kind):
    rng = np.random.default_rng(seed)
    g = Maker()
    made = [g.input("x", ("n", 3))]
    for _ in range(count):
        a, b = (made[int(i)] for i in rng.integers(max(0, len(made) - 3), len(made), 2))
        made.append(g.binary(str(rng.choice(["add", "sub", "maximum"])), a, g.unary("tanh", b)))
    graph = g.graph(made[-1], made[int(rng.integers(1, len(made)))])
    values = {"x": random_array(rng, (2, 3))}
    results = run(graph, values, {}, kind=kind, enable_kernel_fusion=False)
    expected = run_graph(graph, values, {}, precision="f64")
    for name, value in expected.items():
        np.testing.assert_allclose(results[name], value, rtol=1e-4, atol=1e-4)


def test_temporaries_of_a_deep_network_share_two_places(rng):
    g = Maker()
    x = g.input("x", ("n", 8))
    for i in range(6):
        x = g.unary("relu", g.matmul(x, g.constant(f"w{i}", rng.normal(size=(8, 8)))))
    plan, kernels = plan_graph(g.graph(x), kind="cuda", targets=("sm_80",))
    assert len(plan.buffers) == 5
    assert plan.arena_bytes == align(N * 32, 256) * 2
    assert len(kernels) == 1, "equal layers share one kernel"
