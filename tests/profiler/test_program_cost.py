"""Least traffic, arithmetic, and the ceilings that follow."""

from __future__ import annotations

import pytest
from profiled_programs import BATCH, linear, planned

from tessera.profiler import DATASHEETS, program_cost, roofline
from tessera.profiler.cost import graph_flops
from tessera.program.dtype import bool_, f32
from tessera.program.errors import InputError, OptionError
from tessera.program.graph import Graph, Node


def test_cost_linear_layer_counts_multiply_add_as_two() -> None:
    cost = program_cost(linear(), {"batch": 32})
    assert cost.flops == 2 * 32 * 64 * 16 + 32 * 16
    assert cost.input_bytes == 4 * 32 * 64
    assert cost.output_bytes == 4 * 32 * 16
    assert cost.constant_bytes == 4 * 64 * 16
    assert cost.bytes == cost.input_bytes + cost.output_bytes + cost.constant_bytes
    assert cost.intensity == pytest.approx(cost.flops / cost.bytes)


def test_cost_raw_kernel_has_bytes_and_unknown_flops() -> None:
    cost = program_cost(planned(), {"batch": 10})
    assert (cost.bytes, cost.flops, cost.intensity) == (4 * 10 + 8 * 10, None, None)


def test_cost_without_a_size_names_it() -> None:
    with pytest.raises(InputError, match="batch"):
        program_cost(linear(), {})


@pytest.mark.parametrize(
    ("op", "attrs", "shape", "expected"),
    [
        ("exp", {}, (BATCH, 8), 40),
        ("softmax", {"axis": 1}, (BATCH, 8), 200),
        ("sum", {"axes": [1], "keepdims": False}, (BATCH,), 40),
        ("mean", {"axes": [1], "keepdims": False}, (BATCH,), 45),
        ("reshape", {}, (8, BATCH), 0),
        ("cast", {}, (BATCH, 8), 0),
        ("layernorm", {"eps": 1e-5}, (BATCH, 8), 200),
    ],
)
def test_flops_of_one_operator(op: str, attrs: dict, shape: tuple, expected: int) -> None:
    nodes = (
        Node(op="input", attrs={"name": "x"}, shape=(BATCH, 8), dtype=f32),
        Node(op=op, inputs=(0,), attrs=attrs, shape=shape, dtype=f32),
    )
    assert graph_flops(Graph(name="g", nodes=nodes, outputs=(1,)), {"batch": 5}) == expected


def test_flops_of_booleans_are_none() -> None:
    nodes = (
        Node(op="input", attrs={"name": "x"}, shape=(4,), dtype=bool_),
        Node(op="maximum", inputs=(0, 0), shape=(4,), dtype=bool_),
    )
    assert graph_flops(Graph(name="g", nodes=nodes, outputs=(1,)), {}) == 0


def test_roofline_saxpy_on_hopper_is_bound_by_memory() -> None:
    n = 1 << 24
    found = roofline("H100 SXM", flops=2 * n, bytes_moved=12 * n)
    assert found.bound == "memory"
    assert found.attainable_tflops == pytest.approx(3.35 / 6)
    assert found.least_ms == pytest.approx(12 * n / 3.35e12 * 1e3)


def test_roofline_large_bf16_matmul_is_bound_by_compute() -> None:
    n = 8192
    found = roofline("A100 SXM 80 GB", flops=2 * n**3, bytes_moved=6 * n * n, precision="bf16")
    assert (found.bound, found.attainable_tflops) == ("compute", 312.0)
    assert found.ridge == pytest.approx(312 / 2.039)


def test_roofline_unknown_gpu_names_those_known() -> None:
    with pytest.raises(OptionError, match="H1000") as caught:
        roofline("H1000", flops=1, bytes_moved=1)
    assert all(name in (caught.value.hint or "") for name in DATASHEETS)


def test_roofline_bf16_on_volta_is_refused() -> None:
    with pytest.raises(OptionError, match="bf16"):
        roofline("V100 SXM2", flops=1, bytes_moved=1, precision="bf16")
