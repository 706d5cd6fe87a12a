"""What the compiler says it does with a graph, and that results are the same with all of it off."""

from __future__ import annotations

import json

import numpy as np
import pytest
from graphs import Maker, random_array
from plan_interpreter import run

from tessera.compiler.explain import explain_graph, report_data, report_text
from tessera.compiler.plan import plan_graph
from tessera.reference import run_graph

OFF = {"enable_graph_optimization": False, "enable_kernel_fusion": False}


def network(rng):
    """A layer with something for every pass to do."""
    g = Maker()
    x, w = g.input("x", (6, 8)), g.constant("w", rng.normal(size=(8, 16)))
    bias = g.constant("b", rng.normal(size=16))
    scale = g.binary("add", g.scalar(0.25), g.scalar(0.75))
    hidden = g.binary("mul", g.binary("add", g.matmul(x, w), bias), scale)
    twice = [g.unary("relu", g.reshape(g.reshape(hidden, (4, 24)), (6, 16))) for _ in range(2)]
    g.unary("exp", x)
    return g, g.graph(g.softmax(g.binary("add", *twice), 1))


def test_every_pass_says_what_it_took_away(rng):
    _, graph = network(rng)
    report = explain_graph(graph, kind="cuda")
    by_name = {}
    for each in report.passes:
        by_name.setdefault(each.name, each)
        assert each.after == each.before - sum(each.removed.values()) + sum(each.added.values())
    assert by_name["dead code"].removed == {"exp": 1}
    assert by_name["numbers"].removed == {"add": 1}
    assert by_name["simplify"].removed == {"mul": 1, "reshape": 2}
    assert by_name["common"].removed == {"relu": 1, "reshape": 1}


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_kernels_and_bytes_are_those_of_the_plan(kind, rng):
    _, graph = network(rng)
    report = explain_graph(graph, kind=kind)
    plan, _ = plan_graph(graph, kind=kind, targets=("sm_80",))
    assert report.launches == len(plan.steps)
    off = plan_graph(report.optimized, kind=kind, targets=("sm_80",), enable_kernel_fusion=False)[0]
    assert report.unfused == len(off.steps)
    assert report.launches < report.unfused
    # x and w and the product, then the product, the bias and the result.
    assert report.bytes == (48 + 128 + 96 + 96 + 16 + 96) * 4
    assert report.bytes < report.unfused_bytes


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_passes_and_fusion_change_launches_and_no_result(kind, rng):
    g, graph = network(rng)
    inputs = {"x": random_array(rng, (6, 8))}
    expected = run_graph(graph, inputs, g.constants, precision="f64")["output"]
    launches = {}
    for name, options in (("on", {}), ("off", OFF)):
        launches[name] = len(plan_graph(graph, kind=kind, targets=("sm_80",), **options)[0].steps)
        found = run(graph, inputs, g.constants, kind=kind, **options)["output"]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert launches["on"] < launches["off"]


def test_a_report_fits_80_columns_and_is_data(rng):
    _, graph = network(rng)
    report = explain_graph(graph, kind="cpu")
    text = report_text(report, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "matmul" in text
    assert "simplify" in text
    data = json.loads(json.dumps(report_data(report)))
    assert [p["name"] for p in data["passes"]][:2] == ["dead code", "find attention"]
    assert data["launches"] == len(data["kernels"]) == 2
    assert data["kernels"][0]["blas"]


def test_what_depends_on_symbols_is_told_by_name():
    g = Maker()
    x = g.input("x", ("n", 4))
    report = explain_graph(g.graph(g.unary("exp", x)))
    assert "32*n bytes" in report_text(report)
    assert report_data(report)["bytes"] == "32*n"
