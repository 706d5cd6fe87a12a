"""Attention on tensor cores: against float64 in the emulator, what is chosen, and the machine code."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from products import check_variants, compiled, variants
from sass import families, needs_disassembler, opcodes

import tessera as ts
from tessera.compiler import lower_flash_tma
from tessera.compiler.operand_view import reshaped_strides
from tessera.deploy import CompilationTarget
from tessera.program.bind import bind_symbols
from tessera.runtime.schedule import make_schedule

TOLERANCE = {"f16": 4e-3, "bf16": 2e-2}
"""Largest error relative to the largest result: weights and results are rounded to the type."""


def attention(name: str = "attend", **options: Any) -> Callable[..., Any]:
    return ts.jit(lambda q, k, v: ts.attention(q, k, v, **options), name=name)


def specs_of(dtype: str, depth: int, width: int | None = None, heads: tuple[int, int] = (2, 2)) -> list[Any]:
    many, few = heads
    shapes = (("b", many, "n", depth), ("b", few, "t", depth), ("b", few, "t", width or depth))
    return [ts.TensorSpec(shape, dtype) for shape in shapes]


def inputs_of(specs: list[Any], rng: np.random.Generator, **sizes: int) -> list[Any]:
    return [rng.standard_normal([sizes.get(size, size) for size in map(_name, s.shape)]) for s in specs]


def _name(size: Any) -> Any:
    return size if isinstance(size, int) else str(size)


def check(fn: Any, specs: list[Any], inputs: list[Any], **options: Any) -> list[str]:
    options.setdefault("tolerance", TOLERANCE[specs[0].dtype.name])
    return check_variants(fn, specs, inputs, **options)


CASES = [
    # dtype, depth, width, heads, causal
    ("f16", 64, None, (2, 2), False),
    ("bf16", 128, None, (4, 2), True),
    ("f16", 32, 96, (3, 1), True),
    ("bf16", 96, 40, (1, 1), False),
    ("bf16", 256, None, (1, 1), True),
    ("f16", 72, 24, (2, 1), True),
]
SLOW = [
    (dtype, depth, None, heads, causal)
    for dtype in ("f16", "bf16")
    for depth in (32, 64, 96, 128, 256)
    for heads in ((2, 2), (4, 1))
    for causal in (False, True)
]


@pytest.mark.parametrize(
    ("dtype", "depth", "width", "heads", "causal"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
)
def test_heads_of_every_size_agree_with_float64(
    dtype: str,
    depth: int,
    width: int | None,
    heads: tuple[int, int],
    causal: bool,
    rng: np.random.Generator,
) -> None:
    specs = specs_of(dtype, depth, width, heads)
    for queries, keys in ((21, 70), (67, 45)):
        inputs = inputs_of(specs, rng, b=1, n=queries, t=keys)
        ran = check(attention(causal=causal), specs, inputs, watched=False)
        assert "_flash" in ran[0]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2), st.integers(0, 140), st.integers(0, 140), st.booleans(), st.integers(0, 99))
def test_ragged_sizes_agree_with_float64(
    batch: int, queries: int, keys: int, causal: bool, seed: int
) -> None:
    specs = specs_of("bf16", 32, heads=(2, 1))
    inputs = inputs_of(specs, np.random.default_rng(seed), b=batch, n=queries, t=keys)
    check(attention(causal=causal), specs, inputs, watched=False)


@pytest.mark.parametrize("causal", [False, True])
def test_kernel_neither_races_nor_reads_outside(causal: bool, rng: np.random.Generator) -> None:
    specs = specs_of("f16", 64, heads=(2, 1))
    check(attention(causal=causal), specs, inputs_of(specs, rng, b=1, n=37, t=150))


@pytest.mark.parametrize("kind", ["bool", "added"])
def test_masks_of_any_broadcast_shape(kind: str, rng: np.random.Generator) -> None:
    def masked(q: Any, k: Any, v: Any, m: Any) -> Any:
        return ts.attention(q, k, v, mask=m, causal=True)

    shape = ("b", 1, "n", "t") if kind == "bool" else ("n", "t")
    specs = [*specs_of("bf16", 32), ts.TensorSpec(shape, "bool" if kind == "bool" else "bf16")]
    inputs = inputs_of(specs, rng, b=2, n=19, t=40)
    if kind == "bool":
        inputs[3] = inputs[3] > 0
    ran = check(ts.jit(masked), specs, inputs)
    assert ran == ["masked_0_attention_flash64x64"]


@pytest.mark.parametrize("scale", [-0.4, 0.0, 2.0])
def test_any_scale(scale: float, rng: np.random.Generator) -> None:
    specs = specs_of("f16", 32)
    check(attention(scale=scale), specs, inputs_of(specs, rng, b=1, n=9, t=70), watched=False)


def test_rows_without_keys_are_0_and_nan_stays_in_its_rows(rng: np.random.Generator) -> None:
    specs = [ts.TensorSpec((1, n, 32), "f16") for n in (70, 66, 66)]
    q, k, v = (rng.standard_normal((1, n, 32)) for n in (70, 66, 66))
    k[0, 64, 3] = np.nan
    found = _run(attention(causal=True), specs, [q, k, v])
    assert (found[0, :4] == 0).all()
    assert np.isfinite(found[0, :68]).all()
    assert np.isnan(found[0, 68:]).all()


def _run(fn: Any, specs: list[Any], inputs: list[Any]) -> Any:
    from tessera.runtime import ArtifactSource
    from tessera.runtime.emulator import EmulatorDevice

    artifact = compiled(fn, specs)
    (program,) = artifact.programs
    ready = [np.asarray(x).astype(p.dtype.numpy) for p, x in zip(program.inputs, inputs, strict=True)]
    (found,) = EmulatorDevice().load(program, ArtifactSource(artifact)).run(ready, None)
    return found


def test_large_scores_do_not_overflow(rng: np.random.Generator) -> None:
    specs = specs_of("bf16", 64)
    inputs = inputs_of(specs, rng, b=1, n=20, t=100)
    inputs[0] *= 1000
    check(attention(), specs, inputs, watched=False, tolerance=3e-2)


# -- where operands lie -----------------------------------------------------------------------------------


def test_parts_of_one_projection_are_read_in_place(rng: np.random.Generator) -> None:
    def rows(x: Any) -> Any:
        heads = [x.reshape(x.shape[0], x.shape[1], 2, 3, 32)[:, :, :, i] for i in range(3)]
        return ts.attention(*(ts.transpose(part, (0, 2, 1, 3)) for part in heads), causal=True)

    def thirds(x: Any) -> Any:
        heads = [p.reshape(x.shape[0], x.shape[1], 2, 32) for p in ts.split(x, 3, -1)]
        return ts.attention(*(ts.transpose(part, (0, 2, 1, 3)) for part in heads))

    for fn in (rows, thirds):
        specs = [ts.TensorSpec(("b", "s", 192), "f16")]
        ran = check(ts.jit(fn), specs, [rng.standard_normal((2, 37, 192))])
        assert ran == [f"{fn.__name__}_0_attention_flash128x64"]


@pytest.mark.parametrize(
    ("case", "specs"),
    [
        ("float32", specs_of("f32", 64)),
        ("no multiple of 8 columns", specs_of("f16", 20)),
        ("too wide", specs_of("f16", 8, 264)),
    ],
)
def test_what_tensor_cores_cannot_take_has_one_kernel_of_loops(case: str, specs: list[Any]) -> None:
    artifact = compiled(attention(), specs)
    assert {b.name for b in artifact.binaries} == {"attend_0_attention"}, case
    assert artifact.notes == ()


def test_unaligned_parts_have_one_kernel_of_loops() -> None:
    fn = ts.jit(lambda x: ts.attention(x[..., 4:36], x[..., :32], x[..., :32]), name="shifted")
    artifact = compiled(fn, [ts.TensorSpec((2, "n", 64), "f16")])
    assert not any("flash" in b.name for b in artifact.binaries)


@pytest.mark.parametrize(
    "target", ["sm_70", "sm_75", CompilationTarget("sm_80", tensor_core_config="off")], ids=str
)
def test_targets_without_these_tensor_cores_have_loops(target: Any) -> None:
    artifact = compiled(attention(), specs_of("f16", 64), target)
    assert {b.name for b in artifact.binaries} == {"attend_0_attention"}


def test_notes_say_what_was_made() -> None:
    notes = compiled(attention(), specs_of("bf16", 64)).notes
    assert any("tensor cores (mma.m16n8k16.bf16), 128 queries by 64 keys" in note for note in notes)


def test_reshapes_keep_strides_only_where_axes_lie_in_order() -> None:
    # (batch, rows, 2 of 3 parts × 8 columns) of a tensor with rows of 24.
    assert reshaped_strides((240, 24, 1), (4, 10, 16), (4, 10, 2, 8)) == (240, 24, 8, 1)
    assert reshaped_strides((240, 24, 1), (4, 10, 16), (40, 16)) == (24, 1)
    assert reshaped_strides((240, 24, 1), (4, 10, 16), (4, 160)) is None
    assert reshaped_strides((7, 24, 1), (1, 10, 16), (10, 16)) == (24, 1)


# -- machine code -----------------------------------------------------------------------------------------

OTHERS = ("sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
WIDTHS = (32, 64, 96, 128, 192, 256)


@pytest.mark.parametrize("target", ["sm_80", *(pytest.param(t, marks=pytest.mark.slow) for t in OTHERS)])
@pytest.mark.parametrize(
    ("depth", "causal"),
    [
        (64, True),
        (128, False),
        (256, True),
        *(pytest.param(d, c, marks=pytest.mark.slow) for d in WIDTHS for c in (False, True)),
    ],
)
def test_registers_suffice(depth: int, causal: bool, target: str) -> None:
    for binary in compiled(attention(causal=causal), specs_of("bf16", depth), target).binaries:
        found = binary.resources
        assert found is not None
        assert (found.spill_bytes, found.stack_bytes) == (0, 0), binary.name


@needs_disassembler
@pytest.mark.parametrize(("dtype", "opcode"), [("bf16", "HMMA.16816.F32.BF16"), ("f16", "HMMA.16816.F32")])
def test_products_are_tensor_core_instructions(dtype: str, opcode: str) -> None:
    artifact = compiled(attention(causal=True), specs_of(dtype, 64))
    code = {b.name: b.data for b in artifact.binaries if b.format == "cubin"}
    ((name, _, _),) = variants(artifact.programs[0])
    found = families(code[name])
    # Of 32 rows and 64 keys: 2 × 8 × 4 for the scores, 2 × 8 × 4 for the values.
    assert opcodes(code[name])[opcode] == 128
    assert found["LDGSTS"]
    assert found["LDSM"] == 8 + 16 + 16
    assert not found["LDL"]
    assert not found["STL"]


# -- warpgroups -------------------------------------------------------------------------------------------

HOPPER = CompilationTarget("sm_90", enable_hopper_features=True)
TMA = "attend_0_attention_flash_tma128x128"


@pytest.mark.parametrize(
    ("dtype", "depth", "width", "heads", "causal"),
    [
        ("bf16", 64, None, (2, 1), True),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("f16", 128, None, (1, 1), False),
                ("bf16", 128, None, (4, 2), True),
                ("f16", 64, 96, (2, 2), False),
                ("bf16", 40, 24, (1, 1), True),
                ("f16", 96, 32, (3, 3), True),
                ("f16", 32, 128, (2, 1), False),
            )
        ),
    ],
)
def test_warpgroups_agree_with_float64(
    dtype: str,
    depth: int,
    width: int | None,
    heads: tuple[int, int],
    causal: bool,
    rng: np.random.Generator,
) -> None:
    specs = specs_of(dtype, depth, width, heads)
    for queries, keys in ((140, 300), (70, 50)):
        inputs = inputs_of(specs, rng, b=1, n=queries, t=keys)
        ran = check(attention(causal=causal), specs, inputs, target=HOPPER, watched=False)
        assert ran[0] == TMA
        assert len(ran) == 2


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(st.integers(1, 2), st.integers(1, 270), st.integers(1, 400), st.booleans(), st.integers(0, 99))
def test_ragged_sizes_of_warpgroups_agree_with_float64(
    batch: int, queries: int, keys: int, causal: bool, seed: int
) -> None:
    specs = specs_of("bf16", 32, heads=(2, 1))
    inputs = inputs_of(specs, np.random.default_rng(seed), b=batch, n=queries, t=keys)
    check(attention(causal=causal), specs, inputs, target=HOPPER, watched=False)


def test_warpgroups_neither_race_nor_read_outside(rng: np.random.Generator) -> None:
    specs = specs_of("bf16", 64, heads=(2, 1))
    check(attention(causal=True), specs, inputs_of(specs, rng, b=1, n=135, t=270), target=HOPPER)


@pytest.mark.parametrize("causal", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_blocks_go_from_tile_to_tile(
    causal: bool, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lower_flash_tma, "RESIDENT", 2)
    specs = specs_of("f16", 32, heads=(3, 1))
    inputs = inputs_of(specs, rng, b=1, n=300, t=260)
    ran = check(attention(causal=causal), specs, inputs, target=HOPPER, watched=causal)
    assert ran[0] == TMA


@pytest.mark.slow
def test_warpgroups_read_parts_of_one_projection_in_place(rng: np.random.Generator) -> None:
    def thirds(x: Any) -> Any:
        heads = [p.reshape(x.shape[0], x.shape[1], 2, 64) for p in ts.split(x, 3, -1)]
        return ts.attention(*(ts.transpose(part, (0, 2, 1, 3)) for part in heads), causal=True)

    specs = [ts.TensorSpec(("b", "s", 384), "f16")]
    ran = check(ts.jit(thirds), specs, [rng.standard_normal((2, 150, 384))], target=HOPPER, watched=False)
    assert ran[0] == "thirds_0_attention_flash_tma128x128"


def test_sizes_of_0_and_what_warpgroups_cannot_take_stay_with_warps() -> None:
    specs = specs_of("bf16", 64)
    (program,) = compiled(attention(), specs, HOPPER).programs
    for keys, kernel in ((5, TMA), (0, "attend_0_attention_flash128x64")):
        shapes = {"q": (1, 2, 7, 64), "k": (1, 2, keys, 64), "v": (1, 2, keys, 64)}
        (call,) = make_schedule(program, program.plans[0], bind_symbols(program, shapes)).calls
        assert call.kernel == kernel
    assert not any("tma" in b.name for b in compiled(attention(), specs_of("f16", 136), HOPPER).binaries)


@needs_disassembler
@pytest.mark.parametrize(("depth", "causal"), [(64, True), (128, False), (128, True)])
def test_warpgroups_multiply_without_waiting_in_between(depth: int, causal: bool) -> None:
    artifact = compiled(attention(causal=causal), specs_of("bf16", depth), HOPPER)
    (cubin,) = (b for b in artifact.binaries if b.name == TMA and b.format == "cubin")
    found = families(cubin.data)
    # Scores of the first tile and of the others, and values of the others and of the last.
    assert found["HGMMA"] == 2 * depth // 16 + 2 * 128 // 16
    assert opcodes(cubin.data)["WARPGROUP.ARRIVE"] == 4
    assert found["UTMALDG"]
    assert not found["LDL"]
    assert not found["STL"]
    assert cubin.resources is not None
    assert (cubin.resources.spill_bytes, cubin.resources.stack_bytes) == (0, 0)
