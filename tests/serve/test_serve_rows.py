"""Which programs may be stacked: only those whose rows are independent."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from small_models import linear_program, two_port_program

from tessera.program.dim import Dim, symbol
from tessera.program.dtype import f32, i64
from tessera.program.graph import Graph, Node
from tessera.program.program import Port, Program
from tessera.serve.rows import row_rule

N, M = symbol("n"), symbol("m")


def program(
    inputs: dict[str, tuple[Dim, ...]], *nodes: tuple[str, Sequence[int], dict[str, Any], tuple[Dim, ...]]
) -> Program:
    """Inputs, then nodes as (operator, operands, attributes, shape); the last is the output."""
    made = [Node(op="input", attrs={"name": n}, shape=s, dtype=f32) for n, s in inputs.items()]
    made += [Node(op=o, inputs=tuple(i), attrs=a, shape=s, dtype=f32) for o, i, a, s in nodes]
    return Program(
        name="p",
        inputs=tuple(Port(name=n, dtype=f32, shape=s) for n, s in inputs.items()),
        outputs=(Port(name="output", dtype=f32, shape=made[-1].shape),),
        graph=Graph(name="p", nodes=tuple(made), outputs=(len(made) - 1,)),
    )


INDEPENDENT = {
    "matmul": linear_program(),
    "several ports": two_port_program(),
    "softmax along a row": program({"x": (N, 4)}, ("softmax", [0], {"axis": 1}, (N, 4))),
    "layernorm": program({"x": (N, 4)}, ("layernorm", [0], {"eps": 1e-5}, (N, 4))),
    "sum along a row": program({"x": (N, 4, 5)}, ("sum", [0], {"axes": [1], "keepdims": False}, (N, 5))),
    "reshape within rows": program({"x": (N, 4, 5)}, ("reshape", [0], {}, (N, 20))),
    "there and back": program(
        {"x": (N, 4)},
        ("transpose", [0], {"perm": [1, 0]}, (4, N)),
        ("transpose", [1], {"perm": [1, 0]}, (N, 4)),
    ),
    "attention of each row": program(
        {"q": (N, M, 8), "k": (N, M, 8)},
        ("transpose", [1], {"perm": [0, 2, 1]}, (N, 8, M)),
        ("matmul", [0, 2], {}, (N, M, M)),
        ("softmax", [3], {"axis": 2}, (N, M, M)),
    ),
    "last of each row": program(
        {"x": (N, M, 4)}, ("slice", [0], {"starts": [0, -1, 0], "steps": [1, 1, 1]}, (N, 1, 4))
    ),
    "rows side by side": program({"x": (N, 4)}, ("concat", [0, 0], {"axis": 1}, (N, 8))),
    "attention in one": program(
        {"q": (N, 2, M, 8)}, ("attention", [0, 0, 0], {"causal": True, "scale": 1.0}, (N, 2, M, 8))
    ),
    "windows of each row": program(
        {"x": (N, 3, 8)},
        ("scalar", [], {"value": 0.0}, ()),
        ("windows", [0, 1], {"strides": [1], "dilations": [1], "before": [0], "spread": [1]}, (N, 3, 3, 6)),
        ("max", [2], {"axes": [1, 2, 3], "keepdims": False}, (N,)),
    ),
    "sums along rows": program({"x": (N, 4)}, ("cumsum", [0], {"axis": 1}, (N, 4))),
    "bias": program({"x": (N, 4)}, ("scalar", [], {"value": 2.0}, ()), ("mul", [0, 1], {}, (N, 4))),
}

MIXED = {
    "rows as keys": program(
        {"q": (N, 8), "k": (N, 8)},
        ("reshape", [0], {}, (1, N, 8)),
        ("attention", [2, 2, 2], {"causal": False, "scale": 1.0}, (1, N, 8)),
        ("reshape", [3], {}, (N, 8)),
    ),
    "sums over rows": program({"x": (N, 4)}, ("cumsum", [0], {"axis": 0}, (N, 4))),
    "rows moved on": program({"x": (N, 4)}, ("roll", [0], {"shifts": [1, 0]}, (N, 4))),
    "rows upside down": program({"x": (N, 4)}, ("slice", [0], {"starts": [-1, 0], "steps": [-1, 1]}, (N, 4))),
    "rows looked up": program(
        {"x": (N, 4)},
        ("argmax", [0], {"axes": [1], "keepdims": False}, (N,)),
        ("take", [0, 1], {"axis": 0}, (N, 4)),
    ),
    "softmax along the batch": program({"x": (N, 4)}, ("softmax", [0], {"axis": 0}, (N, 4))),
    "centred over the batch": program(
        {"x": (N, 4)}, ("mean", [0], {"axes": [0], "keepdims": True}, (1, 4)), ("sub", [0, 1], {}, (N, 4))
    ),
    "rows against rows": program(
        {"x": (N, 4)},
        ("transpose", [0], {"perm": [1, 0]}, (4, N)),
        ("matmul", [0, 1], {}, (N, N)),
        ("sum", [2], {"axes": [1], "keepdims": False}, (N,)),
    ),
    "layernorm of a vector": program({"x": (N,)}, ("layernorm", [0], {"eps": 1e-5}, (N,))),
    "reshape across rows": program(
        {"x": (N, 4)}, ("reshape", [0], {}, (4, N)), ("transpose", [1], {"perm": [1, 0]}, (N, 4))
    ),
    "fixed batch": program({"x": (8, 4)}, ("relu", [0], {}, (8, 4))),
    "second axis too": program({"x": (N, N)}, ("relu", [0], {}, (N, N))),
    "one input without rows": program({"x": (N, 4), "y": (4,)}, ("add", [0, 1], {}, (N, 4))),
    "output without rows": program({"x": (N, 4)}, ("sum", [0], {"axes": [0], "keepdims": False}, (4,))),
    "unknown operator": program({"x": (N, 4)}, ("fft", [0], {"axis": 1}, (N, 4))),
    "raw kernels": msgspec.structs.replace(linear_program(), graph=None),
}


@pytest.mark.parametrize("name", INDEPENDENT)
def test_row_rule_independent_rows_may_be_stacked(name: str) -> None:
    rule = row_rule(INDEPENDENT[name])
    assert rule.symbol is not None, rule.reason


@pytest.mark.parametrize("name", MIXED)
def test_row_rule_mixed_rows_run_alone_and_say_why(name: str) -> None:
    rule = row_rule(MIXED[name])
    assert rule.symbol is None
    assert rule.reason


def test_row_rule_scalar_that_counts_rows_forbids_stacking() -> None:
    counted = msgspec.structs.replace(
        linear_program(),
        inputs=(*linear_program().inputs, Port(name="rows", dtype=i64, kind="scalar")),
    )
    assert "rows" in (row_rule(counted).reason or "")


@pytest.mark.parametrize("name", [n for n in INDEPENDENT if n != "bias"] + ["bias"])
def test_stacked_rows_give_what_they_give_alone(name: str, rng: np.random.Generator) -> None:
    from tessera.reference import run_graph

    subject = INDEPENDENT[name]
    assert subject.graph is not None
    sizes = {"n": 0, "rows": 0, "m": 3}
    requests = []
    for rows in (1, 3, 2):
        shapes = {
            p.name: tuple(
                rows if i == 0 else d if isinstance(d, int) else sizes["m"] for i, d in enumerate(p.shape)
            )
            for p in subject.inputs
        }
        requests.append({n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()})
    weights = {c.name: rng.standard_normal(c.shape).astype(np.float32) for c in subject.constants}
    stacked = {n: np.concatenate([r[n] for r in requests]) for n in requests[0]}
    together = run_graph(subject.graph, stacked, weights, precision="f64")
    alone = [run_graph(subject.graph, r, weights, precision="f64") for r in requests]
    for output, value in together.items():
        np.testing.assert_allclose(value, np.concatenate([a[output] for a in alone]), rtol=1e-12, atol=1e-12)
