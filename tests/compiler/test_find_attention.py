"""Attention written out by hand becomes one kernel on a GPU, and stays where that is not the same."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Maker, random_array
from test_lowering_pointwise import check

from tessera.compiler.explain import explain_graph
from tessera.compiler.passes.find_attention import find_attention

SHAPE = (2, 3, 9, 8)


def by_hand(g, *, dtype="f32", scale=("mul", 0.25), mask=None, turn=(0, 1, 3, 2)):
    q, k, v = (g.input(name, SHAPE, dtype) for name in "qkv")
    scores = g.matmul(q, g.transpose(k, turn))
    if scale is not None:
        scores = g.binary(scale[0], scores, g.scalar(scale[1], dtype))
    if mask is not None:
        scores = g.binary("add", mask, scores)
    return scores, g.matmul(g.softmax(scores, 3), v)


def inputs(rng, dtype="f32"):
    return {name: random_array(rng, SHAPE, dtype) for name in "qkv"}


WAYS = {"times": ("mul", 0.25), "over": ("div", 2.5), "plain": None}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_products_and_a_softmax_become_attention(way, dtype, rng):
    g = Maker()
    _, y = by_hand(g, dtype=dtype, scale=WAYS[way])
    graph = g.graph(g.unary("neg", y))
    assert [k.operators for k in explain_graph(graph).kernels] == [("attention", "neg")]
    assert find_attention(graph, "cpu") == graph
    check(graph, inputs(rng, dtype), tolerance=2e-5 if dtype == "f32" else 0.03)


def test_a_mask_that_is_added_goes_along(rng):
    g = Maker()
    _, y = by_hand(g, mask=g.input("m", (3, 1, 9)))
    graph = g.graph(y)
    assert "attention" in explain_graph(graph).kernels[-1].operators
    mask = np.where(rng.random((3, 1, 9)) < 0.3, -1e9, 0.0).astype(np.float32)
    check(graph, {**inputs(rng), "m": mask}, tolerance=2e-5)


def others_read_the_scores(g):
    scores, y = by_hand(g)
    return g.graph(y, g.reduce("max", scores, [3]))


def softmax_along_queries(g):
    q, k, v = (g.input(name, SHAPE) for name in "qkv")
    return g.graph(g.matmul(g.softmax(g.matmul(q, g.transpose(k, (0, 1, 3, 2))), 2), v))


def in_float64(g):
    return g.graph(by_hand(g, dtype="f64")[1])


@pytest.mark.parametrize("make", [others_read_the_scores, softmax_along_queries, in_float64])
def test_what_only_looks_like_attention_stays(make):
    g = Maker()
    graph = make(g)
    assert find_attention(graph, "cuda") == graph
