"""Matrix products on tensor cores: every variant against float64, what is chosen, and the machine code."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from products import check_variants, compiled, variants
from sass import families, needs_disassembler, opcodes

import tessera as ts
from tessera.deploy import CompilationTarget
from tessera.program.bind import bind_symbols
from tessera.runtime.schedule import make_schedule

LAYOUTS: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "nn": ("mk", "kn", lambda a, b: ts.matmul(a, b)),
    "nt": ("mk", "nk", lambda a, b: ts.matmul(a, ts.transpose(b, (1, 0)))),
    "tn": ("km", "kn", lambda a, b: ts.matmul(ts.transpose(a, (1, 0)), b)),
    "tt": ("km", "nk", lambda a, b: ts.matmul(ts.transpose(a, (1, 0)), ts.transpose(b, (1, 0)))),
}
"""How operands lie in memory."""
TELLING = [("bf16", "nn"), ("f16", "tt"), ("tf32", "nn"), ("i8", "nt")]
"""Between them, every way that an operand lies in shared memory."""
DTYPES = ["f16", "bf16", "tf32", "i8", "u8", "f8e4m3", "f8e5m2"]


def draw(dtype: str, shape: list[int], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    if dtype in ("i8", "u8"):
        return rng.integers(0 if dtype == "u8" else -128, 128, shape)
    return rng.standard_normal(shape)


def product(layout: str, dtype: str) -> tuple[Any, list[ts.TensorSpec]]:
    a, b, function = LAYOUTS[layout]
    return ts.jit(function, name=layout), [ts.TensorSpec(tuple(a), dtype), ts.TensorSpec(tuple(b), dtype)]


def operands(layout: str, dtype: str, sizes: dict[str, int], rng: np.random.Generator) -> list[Any]:
    return [draw(dtype, [sizes[axis] for axis in axes], rng) for axes in LAYOUTS[layout][:2]]


@pytest.mark.parametrize(
    ("dtype", "layout"),
    [
        pytest.param(d, x, marks=() if (d, x) in TELLING else pytest.mark.slow)
        for d in DTYPES
        for x in LAYOUTS
    ],
)
def test_every_variant_of_every_type_and_layout(dtype: str, layout: str, rng: np.random.Generator) -> None:
    fn, specs = product(layout, dtype)
    copied = np.dtype(ts.TensorSpec((), dtype).dtype.numpy).itemsize > 1 or layout == "nt"
    ran = check_variants(
        fn, specs, operands(layout, dtype, {"m": 144, "n": 80, "k": 96}, rng), target="sm_89", watched=False
    )
    assert len(ran) == (4 + (dtype != "tf32") if copied else 1)
    ran = check_variants(
        fn, specs, operands(layout, dtype, {"m": 33, "n": 65, "k": 17}, rng), target="sm_89", watched=False
    )
    assert [name.rpartition("_")[2] for name in ran] == ["words" if dtype == "tf32" else "any"]


@pytest.mark.parametrize(("dtype", "layout"), TELLING)
def test_rows_of_whole_words_are_copied(dtype: str, layout: str, rng: np.random.Generator) -> None:
    fn, specs = product(layout, dtype)
    ran = check_variants(fn, specs, operands(layout, dtype, {"m": 34, "n": 66, "k": 68}, rng))
    assert ran[0] == f"{layout}_0_matmul_mma64x64_words"


@pytest.mark.parametrize(("dtype", "layout"), TELLING)
def test_no_variant_races_or_reads_outside(dtype: str, layout: str, rng: np.random.Generator) -> None:
    fn, specs = product(layout, dtype)
    ran = check_variants(fn, specs, operands(layout, dtype, {"m": 80, "n": 16, "k": 144}, rng))
    assert len(ran) == 4 + (dtype != "tf32")


SIZES = st.sampled_from([1, 2, 3, 8, 15, 16, 17, 31, 33, 40, 63, 64, 65, 72, 100, 129])

DEPTHS = st.sampled_from([0, 1, 7, 8, 16, 31, 32, 33, 64, 72, 100])


@settings(max_examples=20, deadline=None)
@given(SIZES, SIZES, DEPTHS, st.sampled_from("nt"), st.integers(0, 99))
def test_ragged_sizes_agree_with_float64(m: int, n: int, k: int, right: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    fn, specs = product(f"n{right}", "bf16")
    check_variants(fn, specs, operands(f"n{right}", "bf16", {"m": m, "n": n, "k": k}, rng), watched=False)


def test_products_of_nothing_are_empty_or_zero(rng: np.random.Generator) -> None:
    fn, specs = product("nn", "f16")
    for sizes in ({"m": 0, "n": 8, "k": 8}, {"m": 8, "n": 0, "k": 8}, {"m": 8, "n": 8, "k": 0}):
        check_variants(fn, specs, operands("nn", "f16", sizes, rng), watched=False)


# -- what is fused ----------------------------------------------------------------------------------------


def layer(x: Any, w: Any, b: Any, r: Any) -> Any:
    return ts.gelu(ts.matmul(x, w) + b) + r


@pytest.mark.parametrize("dtype", ["f16", "bf16", "tf32"])
@pytest.mark.parametrize("sizes", [(40, 24, 48), (9, 30, 31)])
def test_bias_activation_and_residual_are_computed_where_sums_are_written(
    dtype: str, sizes: tuple[int, int, int], rng: np.random.Generator
) -> None:
    m, n, k = sizes
    specs = [ts.TensorSpec(s, dtype) for s in (("m", "k"), ("k", "n"), ("n",), ("m", "n"))]
    inputs = [rng.standard_normal(s) for s in ((m, k), (k, n), (n,), (m, n))]
    ran = check_variants(ts.jit(layer), specs, inputs)
    assert len(ran) == (4 + (dtype != "tf32") if k % 8 == 0 else 1)


def test_casts_to_wider_types_leave_operands_narrow(rng: np.random.Generator) -> None:
    def mixed(a: Any, b: Any) -> Any:
        return ts.matmul(ts.cast(a, ts.f32), ts.cast(b, ts.f32)) * 0.5

    def whole(a: Any, b: Any) -> Any:
        return ts.matmul(ts.cast(a, ts.i32), ts.cast(ts.transpose(b, (1, 0)), ts.i32))

    specs = [ts.TensorSpec(("m", 32), "bf16"), ts.TensorSpec((32, 24), "bf16")]
    ran = check_variants(ts.jit(mixed), specs, [rng.standard_normal(s) for s in ((20, 32), (32, 24))])
    assert all("mma" in name for name in ran)
    specs = [ts.TensorSpec(("m", 64), "i8"), ts.TensorSpec((24, 64), "i8")]
    ran = check_variants(ts.jit(whole), specs, [rng.integers(-128, 128, s) for s in ((20, 64), (24, 64))])
    assert len(ran) == 2
    assert all("mma" in name for name in ran)


def test_computed_operands_are_loaded_by_element(rng: np.random.Generator) -> None:
    def gated(a: Any, b: Any) -> Any:
        return ts.matmul(ts.relu(a), -b)

    specs = [ts.TensorSpec(("m", "k"), "f16"), ts.TensorSpec(("k", "n"), "f16")]
    ran = check_variants(ts.jit(gated), specs, [rng.standard_normal(s) for s in ((33, 40), (40, 24))])
    assert [name.rpartition("_")[2] for name in ran] == ["any"]


def test_batches_broadcast_and_heads_are_read_in_place(rng: np.random.Generator) -> None:
    def scores(q: Any, k: Any) -> Any:
        heads = [ts.transpose(ts.reshape(x, (x.shape[0], x.shape[1], 2, 16)), (0, 2, 1, 3)) for x in (q, k)]
        return ts.matmul(heads[0], ts.transpose(heads[1], (0, 1, 3, 2)))

    specs = [ts.TensorSpec(("b", "s", 32), "bf16"), ts.TensorSpec(("b", "t", 32), "bf16")]
    ran = check_variants(ts.jit(scores), specs, [rng.standard_normal(s) for s in ((2, 21, 32), (2, 40, 32))])
    assert len(ran) > 1

    def shared(a: Any, b: Any) -> Any:
        return ts.matmul(a, b)

    specs = [ts.TensorSpec(("b", 1, "m", 16), "f16"), ts.TensorSpec((3, 16, 24), "f16")]
    inputs = [rng.standard_normal(s) for s in ((2, 1, 20, 16), (3, 16, 24))]
    assert len(check_variants(ts.jit(shared), specs, inputs)) > 1


# -- what is chosen ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ((4096, 4096, 4096), "mma128x128"),
        ((64, 64, 4096), "mma64x64_split8"),
        ((512, 512, 512), "mma64x64"),
        ((4096, 4096, 4095), "mma64x64_any"),
        ((4096, 4096, 4094), "mma64x64_words"),
        ((1, 4096, 512), "mma64x64"),
    ],
)
def test_sizes_choose_the_variant(sizes: tuple[int, int, int], chosen: str) -> None:
    fn, specs = product("nn", "bf16")
    (program,) = compiled(fn, specs).programs
    m, n, k = sizes
    symbols = bind_symbols(program, {"a": (m, k), "b": (k, n)})
    calls = make_schedule(program, program.plans[0], symbols).calls
    assert calls[0].kernel == f"nn_0_matmul_{chosen}"
    assert len(calls) == (2 if "split" in chosen else 1)


def test_fixed_sizes_leave_one_kernel() -> None:
    fn = ts.jit(LAYOUTS["nn"][2], name="fixed")
    specs = [ts.TensorSpec((512, 512), "f16"), ts.TensorSpec((512, 512), "f16")]
    artifact = compiled(fn, specs)
    assert [b.name for b in artifact.binaries if b.format == "cubin"] == ["fixed_0_matmul_mma64x64"]
    assert any("tensor cores (mma.m16n8k16.f16), tiles of 64 × 64" in note for note in artifact.notes)


def test_architectures_share_what_they_can_and_have_what_they_need() -> None:
    fn, specs = product("nn", "f8e4m3")
    targets = [CompilationTarget(a) for a in ("sm_70", "sm_80", "sm_89", "sm_90", "sm_120")]
    from tessera.deploy import AOTCompiler, AOTConfig

    artifact = AOTCompiler(AOTConfig(targets=targets)).compile(fn, specs).artifact
    by_kernel: dict[str, set[str]] = {}
    for binary in artifact.binaries:
        by_kernel.setdefault(binary.name, set()).add(binary.target)
    assert by_kernel == {
        "nn_0_matmul": {"sm_70", "sm_80"},
        "nn_0_matmul_mma64x64_any": {"sm_89", "sm_90", "sm_120"},
    }
    plans = [set(plan.targets) for plan in artifact.programs[0].plans]
    assert plans == [{"sm_70"}, {"sm_80"}, {"sm_89", "sm_90", "sm_120"}]


def test_tensor_cores_can_be_left_alone() -> None:
    fn, specs = product("nn", "bf16")
    artifact = compiled(fn, specs, CompilationTarget("sm_80", tensor_core_config="off"))
    assert {b.name for b in artifact.binaries} == {"nn_0_matmul"}
    assert artifact.notes == ()


# -- machine code -----------------------------------------------------------------------------------------


OTHERS = ("sm_86", "sm_89", "sm_90", "sm_100", "sm_120")


@pytest.mark.parametrize("target", ["sm_80", *(pytest.param(t, marks=pytest.mark.slow) for t in OTHERS)])
@pytest.mark.parametrize(("dtype", "layout"), TELLING)
def test_registers_suffice(dtype: str, layout: str, target: str) -> None:
    fn, specs = product(layout, dtype)
    for binary in compiled(fn, specs, target).binaries:
        found = binary.resources
        assert found is not None
        assert (found.spill_bytes, found.stack_bytes) == (0, 0), binary.name
        assert found.registers is not None
        assert found.threads is not None
        # Two large blocks share a multiprocessor.
        assert found.registers * found.threads * 2 <= 65536, binary.name


@needs_disassembler
@pytest.mark.parametrize(
    ("dtype", "layout", "opcode"),
    [
        ("bf16", "nn", "HMMA.16816.F32.BF16"),
        ("f16", "tt", "HMMA.16816.F32"),
        ("tf32", "nn", "HMMA.1688.F32.TF32"),
        ("i8", "nt", "IMMA.16832.S8.S8"),
    ],
)
def test_products_are_tensor_core_instructions(dtype: str, layout: str, opcode: str) -> None:
    fn, specs = product(layout, dtype)
    artifact = compiled(fn, specs)
    code = {b.name: b.data for b in artifact.binaries if b.format == "cubin"}
    for name, _, _ in variants(artifact.programs[0]):
        found = families(code[name])
        assert opcodes(code[name])[opcode] == (32 if "128" in name else 8) * 2, name
        assert not found["FFMA"], name
        assert not found["LDL"], name
        assert not found["STL"], name
        if not name.endswith("any"):
            assert found["LDGSTS"], name
        if dtype != "tf32":
            assert found["LDSM"], name


@pytest.mark.parametrize(("dtype", "layout"), [("f8e4m3", "tt"), ("f8e5m2", "nn"), ("i8", "nn")])
def test_bytes_across_the_depth_are_put_together_in_registers(dtype: str, layout: str) -> None:
    fn, specs = product(layout, dtype)
    (binary, _) = compiled(fn, specs, "sm_89").binaries
    assert binary.resources is not None
    assert (binary.resources.spill_bytes, binary.resources.stack_bytes) == (0, 0)
