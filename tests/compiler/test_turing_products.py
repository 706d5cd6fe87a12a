"""Matrix products on the tensor cores of sm_75: elements come through registers, products in parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from products import check_variants, compiled
from sass import families, needs_disassembler, opcodes
from test_tensor_cores import LAYOUTS, draw, layer, operands, product

import tessera as ts

TURING = "sm_75"
OPCODES = {"f16": "HMMA.1688.F32", "i8": "IMMA.8816.S8.S8", "u8": "IMMA.8816.U8.U8"}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", OPCODES)
def test_every_type_and_layout_agrees_with_float64(dtype: str, layout: str, rng: np.random.Generator) -> None:
    fn, specs = product(layout, dtype)
    for sizes in ({"m": 80, "n": 70, "k": 96}, {"m": 9, "n": 3, "k": 17}):
        ran = check_variants(fn, specs, operands(layout, dtype, sizes, rng), target=TURING)
        assert ran == [f"{layout}_0_matmul_mma64x64_any"]


SIZES = st.sampled_from([0, 1, 2, 8, 15, 16, 17, 33, 64, 65, 129])
DEPTHS = st.sampled_from([0, 1, 7, 8, 16, 31, 32, 33, 64, 72])


@settings(max_examples=12, deadline=None)
@given(SIZES, SIZES, DEPTHS, st.sampled_from(sorted(OPCODES)), st.integers(0, 99))
def test_ragged_sizes_agree_with_float64(m: int, n: int, k: int, dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    fn, specs = product("nn", dtype)
    given_ = operands("nn", dtype, {"m": m, "n": n, "k": k}, rng)
    check_variants(fn, specs, given_, target=TURING, watched=False)


def test_bias_activation_and_residual_stay_in_the_kernel(rng: np.random.Generator) -> None:
    m, n, k = 20, 30, 40
    specs = [ts.TensorSpec(s, "f16") for s in (("m", "k"), ("k", "n"), ("n",), ("m", "n"))]
    inputs = [rng.standard_normal(s) for s in ((m, k), (k, n), (n,), (m, n))]
    ran = check_variants(ts.jit(layer), specs, inputs, target=TURING)
    assert len(ran) == 1
    assert "mma64x64_any" in ran[0]


def test_casts_to_wider_types_leave_operands_narrow(rng: np.random.Generator) -> None:
    def mixed(a: Any, b: Any) -> Any:
        return ts.matmul(ts.cast(a, ts.f32), ts.cast(b, ts.f32)) * 0.5

    def whole(a: Any, b: Any) -> Any:
        return ts.matmul(ts.cast(a, ts.i32), ts.cast(b, ts.i32))

    for fn, dtype in ((mixed, "f16"), (whole, "i8")):
        specs = [ts.TensorSpec(("m", 32), dtype), ts.TensorSpec((32, 24), dtype)]
        inputs = [draw(dtype, [20, 32], rng), draw(dtype, [32, 24], rng)]
        (name,) = check_variants(ts.jit(fn), specs, inputs, target=TURING)
        assert "mma" in name


def test_convolutions_and_computed_operands_are_loaded_by_element(rng: np.random.Generator) -> None:
    def convolved(x: Any, w: Any) -> Any:
        return ts.relu(ts.conv2d(x, w, padding=1))

    def gated(a: Any, b: Any) -> Any:
        return ts.matmul(ts.tanh(a) * 2, ts.cast(b, ts.f16))

    specs = [ts.TensorSpec(("n", 5, 6, 7), "f16"), ts.TensorSpec((9, 5, 3, 3), "f16")]
    inputs = [rng.standard_normal(s) for s in ((2, 5, 6, 7), (9, 5, 3, 3))]
    (name,) = check_variants(ts.jit(convolved), specs, inputs, target=TURING)
    assert "mma" in name
    specs = [ts.TensorSpec(("m", 24), "f16"), ts.TensorSpec((24, 10), "f32")]
    inputs = [rng.standard_normal(s) for s in ((13, 24), (24, 10))]
    names = check_variants(ts.jit(gated), specs, inputs, target=TURING)
    assert all("mma" in name for name in names)


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f64", "f8e4m3"])
def test_what_these_cores_do_not_multiply_has_loops(dtype: str) -> None:
    fn, specs = product("nn", dtype)
    assert {b.name for b in compiled(fn, specs, TURING).binaries} == {"nn_0_matmul"}


@needs_disassembler
@pytest.mark.parametrize("layout", ["nn", "tt"])
@pytest.mark.parametrize("dtype", OPCODES)
def test_products_are_tensor_core_instructions_without_spills(dtype: str, layout: str) -> None:
    fn, specs = product(layout, dtype)
    (cubin,) = (b for b in compiled(fn, specs, TURING).binaries if b.format == "cubin")
    assert cubin.resources is not None
    assert (cubin.resources.spill_bytes, cubin.resources.stack_bytes) == (0, 0)
    found = families(cubin.data)
    # 8 products of 16 × 8 × 32 bytes for each step of a warp: in two parts of halves, four of bytes.
    assert opcodes(cubin.data)[OPCODES[dtype]] == 8 * 2 * (2 if dtype == "f16" else 4)
    assert not found["FFMA"]
    assert not found["LDL"]
    assert not found["STL"]
