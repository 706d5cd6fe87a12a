"""Long rows that are few: cut into parts, folded in two steps, by what the sizes are when it runs."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Maker, random_array
from test_lowering_pointwise import check

from tessera.compiler.plan import plan_graph
from tessera.program.dim import evaluate
from tessera.program.program import Choice

CUDA = ("cuda",)


def planned(graph):
    return plan_graph(graph, kind="cuda", targets=("sm_80",))


@pytest.mark.parametrize("op", ["sum", "mean", "max", "min", "prod"])
@pytest.mark.parametrize("symbolic", [True, False])
def test_a_long_row_is_folded_in_two_steps(op, symbolic, rng):
    g = Maker()
    x = g.input("x", (2, "m" if symbolic else 20_000))
    graph = g.graph(g.unary("neg", g.reduce(op, x, [1])))
    plan, _ = planned(graph)
    (step,) = plan.steps
    assert isinstance(step, Choice)
    assert [len(option.steps) for option in step.options] == ([2, 1] if symbolic else [2])
    assert evaluate(step.options[0].steps[0].grid[0], {"m": 20_000}) == 2 * 5
    values = random_array(rng, (2, 20_000)) * (1.0 if op != "prod" else 0.0001) + (op == "prod")
    check(graph, {"x": values.astype(np.float32)}, kinds=CUDA, tolerance=2e-4)


def test_long_columns_are_cut_too_and_what_is_fused_stays(rng):
    g = Maker()
    x, b = g.input("x", (16_500, 40), "bf16"), g.input("b", (40,), "bf16")
    graph = g.graph(g.binary("add", g.reduce("max", g.unary("abs", x), [0]), b))
    (step,) = planned(graph)[0].steps
    assert evaluate(step.options[0].steps[0].grid[0], {}) == 2 * 5
    values = {"x": random_array(rng, (16_500, 40), "bf16"), "b": random_array(rng, (40,), "bf16")}
    check(graph, values, kinds=CUDA)


def test_integers_keep_their_width_between_the_steps(rng):
    g = Maker()
    x = g.input("x", (17_000,), "i64")
    check(g.graph(g.reduce("sum", x, [0])), {"x": rng.integers(-(2**45), 2**45, 17_000)}, kinds=CUDA)


def test_many_rows_and_short_rows_take_one_step():
    g = Maker()
    many, short = g.input("x", (1000, 20_000)), g.input("y", (3, 4000))
    plan, _ = planned(g.graph(g.reduce("sum", many, [1]), g.reduce("sum", short, [1])))
    assert not any(isinstance(step, Choice) for step in plan.steps)


def test_a_hundred_million_elements_fill_a_gpu():
    g = Maker()
    plan, _ = planned(g.graph(g.reduce("sum", g.input("x", (100_000_000,)), [0])))
    (step,) = plan.steps
    assert step.options[0].steps[0].grid == (1024, 1, 1)
    assert step.options[0].steps[1].grid == (1, 1, 1)
    assert plan.arena_bytes == 4096
