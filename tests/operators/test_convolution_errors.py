"""Convolutions that do not fit, and what they become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tessera as ts
from tessera.compiler.plan import plan_graph
from tessera.program.errors import ShapeError, TesseraError, TraceError
from tessera.program.program import Gemm
from tessera.reference import run_graph
from tests.operators.running import compiled_results

X = ts.TensorSpec(("n", 4, 8, 8))
W = ts.TensorSpec((6, 4, 3, 3))
REFUSED: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "rank": (lambda x, w: ts.conv1d(x, w), "conv1d: .* must have 3 axes each"),
    "channels": (lambda x, w: ts.conv2d(x[:, :3], w), "conv2d: the weight w .* is for 4 channels"),
    "groups": (lambda x, w: ts.conv2d(x, w, groups=2), "with groups=2"),
    "bias": (lambda x, w: ts.conv2d(x, w, w[0, 0, 0]), "conv2d: the bias"),
    "long": (lambda x, w: ts.conv2d(x, w, dilation=4), "conv2d: a window of 9 does not fit axis -2"),
    "stride": (lambda x, w: ts.conv2d(x, w, stride=0), "conv2d: stride=0 is less than 1"),
    "strides": (lambda x, w: ts.conv2d(x, w, stride=(1, 2, 3)), "has 3 numbers for 2 axes"),
    "same": (lambda x, w: ts.conv2d(x, w, stride=2, padding="same"), "padding='same' is for a stride of 1"),
    "padding": (lambda x, w: ts.conv2d(x, w, padding="full"), "padding='full' is unknown"),
    "pool": (lambda x, w: ts.max_pool2d(x, 9), "max_pool2d: a window of 9 does not fit"),
    "adaptive": (lambda x, w: ts.adaptive_avg_pool2d(x, 0), "adaptive_avg_pool2d: size=0 is less than 1"),
    "resize": (lambda x, w: ts.resize(x), "resize: .* either size or scale"),
    "mode": (lambda x, w: ts.resize(x, scale=2, mode="cubic"), "resize: mode='cubic' is unknown"),
    "transposed": (lambda x, w: ts.conv_transpose2d(x, w), "conv_transpose2d: .* is for 6 channels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_named_at_its_line(name: str) -> None:
    call, text = REFUSED[name]
    with pytest.raises((ShapeError, TraceError), match=text) as raised:
        ts.jit(lambda x, w: call(x, w)).trace([X, W])
    error: TesseraError = raised.value
    assert error.hint
    assert error.location is not None
    assert error.location.file == __file__


def layer(x: Any, w: Any, b: Any) -> Any:
    return ts.conv2d(x, w, b, padding=1)


def test_gpu_reads_windows_where_the_product_reads_them() -> None:
    graph = ts.jit(layer).trace([X, W, ts.TensorSpec((6,))]).graph
    plan, _ = plan_graph(graph, kind="cuda", targets=("sm_80",))
    assert len(plan.steps) == 1
    assert not plan.buffers


def test_what_follows_a_convolution_is_computed_in_its_kernel(rng: np.random.Generator) -> None:
    weights = {k: rng.uniform(0.5, 1, 6).astype(np.float32) for k in ("mean", "var", "weight", "bias")}

    def block(x: Any, w: Any, b: Any, r: Any) -> Any:
        y = ts.batchnorm(ts.conv2d(x, w, b, padding=1), *weights.values())
        return ts.relu(y + r * 0.5)

    specs = [X, W, ts.TensorSpec((6,)), ts.TensorSpec(("n", 6, 8, 8))]
    traced = ts.jit(block).trace(specs)
    plan, _ = plan_graph(traced.graph, kind="cuda", targets=("sm_80",))
    assert len(plan.steps) == 1
    operands = [
        rng.standard_normal(s).astype(np.float32) for s in ((2, 4, 8, 8), (6, 4, 3, 3), (6,), (2, 6, 8, 8))
    ]
    inputs = dict(zip(("x", "w", "b", "r"), operands, strict=True))
    exact = run_graph(traced.graph, inputs, traced.constants, precision="f64")["output"]
    for device, (found,) in compiled_results(ts.jit(block), specs, operands):
        np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4, err_msg=device)


def test_cpu_leaves_the_product_to_its_blas() -> None:
    graph = ts.jit(layer).trace([X, W, ts.TensorSpec((6,))]).graph
    plan, _ = plan_graph(graph, kind="cpu", targets=("cpu-x86_64-v3",))
    assert sum(isinstance(step, Gemm) for step in plan.steps) == 1


def test_sizes_follow_symbols() -> None:
    def down(x: Any) -> Any:
        return ts.max_pool2d(x, 3, 2, padding=1), ts.avg_pool2d(x, 2)

    graph = ts.jit(down).trace([ts.TensorSpec((1, 3, "h", "w"))]).graph
    assert [str(graph.nodes[i].shape[2]) for i in graph.outputs] == [
        "((h - 1) // (2)) + 1",
        "((h - 2) // (2)) + 1",
    ]
