"""Matrix products by warpgroups on sm_90a: tensor maps, persistent blocks, and the machine code."""

from typing import Any

import numpy as np
import pytest
from products import TOLERANCE, check_variants, compiled
from sass import families, needs_disassembler, opcodes
from test_tensor_cores import operands, product

import tessera as ts
from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget
from tessera.emulator.sanitizer import Sanitizer
from tessera.program.bind import bind_symbols
from tessera.program.program import BoxMap, Choice, Program
from tessera.reference import run_graph
from tessera.runtime import ArtifactSource
from tessera.runtime.emulator import EmulatorDevice
from tessera.runtime.schedule import LaunchCall, make_schedule


def hopper(config: str | None = None) -> CompilationTarget:
    return CompilationTarget("sm_90", enable_hopper_features=True, wgmma_config=config)


@pytest.mark.parametrize(
    ("dtype", "layout"),
    [
        ("bf16", "nn"),
        ("f16", "tt"),
        ("i8", "nt"),
        ("tf32", "nt"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("bf16", "nt"), ("f16", "tn"), ("u8", "nt"), ("f8e4m3", "nt"), ("f8e5m2", "nt"))
        ),
    ],
)
def test_warpgroup_products_of_every_type_and_layout(
    dtype: str, layout: str, rng: np.random.Generator
) -> None:
    fn, specs = product(layout, dtype)
    for width in (64, 128, 256):
        for sizes in ({"m": 144, "n": 80, "k": 160}, {"m": 16, "n": 272, "k": 16}):
            inputs = operands(layout, dtype, sizes, rng)
            ran = check_variants(fn, specs, inputs, target=hopper(f"m64n{width}k16"), watched=False)
            assert f"{layout}_0_matmul_tma128x{width}" in ran


def test_blocks_go_from_tile_to_tile(rng: np.random.Generator) -> None:
    fn, specs = product("nn", "f16")
    inputs = operands("nn", "f16", {"m": 272, "n": 200, "k": 712}, rng)
    for blocks in (1, 5):
        ran = check_variants(fn, specs, inputs, target=hopper("m64n64k16"), watched=False, blocks=blocks)
        assert "nn_0_matmul_tma128x64" in ran


def biased(a: Any, b: Any, c: Any, r: Any) -> Any:
    return ts.relu(ts.matmul(a, b) + c) + r


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_bias_activation_and_residual_stay_in_the_one_kernel_without_a_race(
    dtype: str, rng: np.random.Generator
) -> None:
    specs = [ts.TensorSpec(s, dtype) for s in (("m", "k"), ("k", "n"), ("n",), ("m", "n"))]
    inputs = [rng.standard_normal(s) for s in ((72, 200), (200, 40), (40,), (72, 40))]
    ran = check_variants(ts.jit(biased), specs, inputs, target=hopper())
    for width in (256, 128, 64):
        assert f"biased_0_matmul_add_relu_add_tma128x{width}" in ran


@pytest.mark.parametrize("dtype", ["f32", "i32", "bf16", "f8e5m2", "i8", "i64"])
def test_results_of_every_width_are_written(dtype: str, rng: np.random.Generator) -> None:
    kind = "i8" if dtype[0] == "i" else "bf16"

    def through(a: Any, b: Any) -> Any:
        wide = ts.i32 if kind == "i8" else ts.f32
        sums = ts.matmul(ts.cast(a, wide), ts.cast(ts.transpose(b, (1, 0)), wide))
        return ts.cast(sums, getattr(ts, dtype))

    specs = [ts.TensorSpec(("m", "k"), kind), ts.TensorSpec(("n", "k"), kind)]
    for n in (44, 45):
        inputs = operands("nt", kind, {"m": 20, "n": n, "k": 48}, rng)
        ran = check_variants(ts.jit(through), specs, inputs, target=hopper("m64n64k16"), watched=False)
        assert any("tma" in name for name in ran)


def test_batches_are_dimensions_of_the_map(rng: np.random.Generator) -> None:
    def scores(q: Any, k: Any) -> Any:
        heads = [ts.transpose(ts.reshape(x, (x.shape[0], x.shape[1], 2, 16)), (0, 2, 1, 3)) for x in (q, k)]
        return ts.matmul(heads[0], ts.transpose(heads[1], (0, 1, 3, 2)))

    specs = [ts.TensorSpec(("b", "s", 32), "bf16"), ts.TensorSpec(("b", "t", 32), "bf16")]
    inputs = [rng.standard_normal(s) for s in ((2, 21, 32), (2, 40, 32))]
    ran = check_variants(ts.jit(scores), specs, inputs, target=hopper("m64n64k16"), watched=False)
    assert any("tma" in name for name in ran)

    def shared(a: Any, b: Any) -> Any:
        return ts.matmul(a, b)

    specs = [ts.TensorSpec(("b", 1, "m", 16), "f16"), ts.TensorSpec((3, 16, 24), "f16")]
    inputs = [rng.standard_normal(s) for s in ((2, 1, 20, 16), (3, 16, 24))]
    ran = check_variants(ts.jit(shared), specs, inputs, target=hopper("m64n64k16"), watched=False, blocks=2)
    assert any("tma" in name for name in ran)


def test_tensors_of_too_many_dimensions_for_a_map_are_copied_by_threads(rng: np.random.Generator) -> None:
    outer = ("p", "q", "r", "s")
    specs = [ts.TensorSpec((*outer, "m", 16), "f16"), ts.TensorSpec((*outer, 16, 24), "f16")]
    inputs = [rng.standard_normal((2, 1, 1, 2, *s)) for s in ((20, 16), (16, 24))]
    fn = ts.jit(lambda a, b: ts.matmul(a, b), name="deep")
    ran = check_variants(fn, specs, inputs, target=hopper("m64n64k16"), watched=False)
    assert any("wgmma128x64" in name for name in ran)


def maps(program: Program, shapes: dict[str, tuple[int, ...]]) -> list[Any]:
    """Kernel and maps of what runs for these shapes."""
    (call,) = make_schedule(program, program.plans[0], bind_symbols(program, shapes)).calls
    return [call.kernel, *(a for a in call.args if hasattr(a, "box"))]


def test_the_plan_says_how_operands_lie() -> None:
    fn, specs = product("nn", "bf16")
    (program,) = compiled(fn, specs, hopper()).programs
    (step,) = program.plans[0].steps
    assert isinstance(step, Choice)
    found = [a for o in step.options for s in o.steps for a in s.args if isinstance(a, BoxMap)]
    assert all(m.swizzle == 128 for m in found)
    assert str(found[0]) == "map of input a, boxes of 128 × 64 bf16"
    kernel, left, right = maps(program, {"a": (4096, 512), "b": (512, 8192)})
    assert kernel == "nn_0_matmul_tma128x256"
    assert (left.sizes, left.strides_bytes, left.box) == ((512, 4096), (1024,), (64, 128))
    assert (right.sizes, right.strides_bytes, right.box) == ((8192, 512), (16384,), (64, 64))


@pytest.mark.parametrize(
    ("sizes", "columns"),
    [((4096, 4096), 256), ((384, 4096), 128), ((256, 4096), 64), ((512, 512), 64), ((320, 512), None)],
)
def test_sizes_choose_the_width(sizes: tuple[int, int], columns: int | None) -> None:
    fn, specs = product("nn", "bf16")
    (program,) = compiled(fn, specs, hopper()).programs
    kernel, *_ = maps(program, {"a": (sizes[0], 512), "b": (512, sizes[1])})
    assert kernel == f"nn_0_matmul_{f'tma128x{columns}' if columns else 'mma64x64'}"


@pytest.mark.parametrize("sizes", [(256, 4095, 4096), (256, 4096, 4090), (4096, 4096, 0)])
def test_strides_that_no_map_has_take_another_kernel_where_packing_does_not_pay(
    sizes: tuple[int, int, int],
) -> None:
    fn, specs = product("nn", "bf16")
    (program,) = compiled(fn, specs, hopper()).programs
    m, n, k = sizes
    (kernel,) = maps(program, {"a": (m, k), "b": (k, n)})
    assert "mma64x64" in kernel


# -- operands that are packed first ------------------------------------------------------------------------


PACKED = [
    ("tf32", "nn", (72, 100, 72), "pack_b"),
    ("tf32", "nn", (72, 99, 71), "pack_a pack_b"),
    ("i8", "nn", (72, 96, 80), "pack_b"),
    ("f8e4m3", "tn", (72, 96, 70), "pack_a pack_b"),
    ("f16", "nn", (33, 65, 72), "pack_b"),
    ("bf16", "nt", (33, 65, 71), "pack_a pack_b"),
    ("f16", "tn", (65, 40, 70), "pack_a"),
    ("f16", "nn", (33, 64, 72), ""),
]


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small products are packed like large ones, so that the emulator can run them."""
    from tessera.compiler import matmul_variants, packed_operands

    monkeypatch.setattr(matmul_variants, "LEAST_LINES", 1)
    monkeypatch.setattr(packed_operands, "LEAST_LINES", 1)
    monkeypatch.setattr(matmul_variants, "BOX_TILES", {256: 1, 128: 1, 64: 1})


def run_chosen(fn: Any, specs: list[ts.TensorSpec], inputs: list[Any]) -> list[str]:
    """Kernels that the sizes choose; their result agrees with float64, without a finding."""
    artifact = compiled(fn, specs, hopper("m64n64k16"))
    (program,) = artifact.programs
    named = {p.name: np.asarray(v).astype(p.dtype.numpy) for p, v in zip(program.inputs, inputs, strict=True)}
    traced = fn.trace(specs)
    (expected,) = run_graph(traced.graph, named, traced.constants, precision="f64").values()
    sanitizer = Sanitizer()
    device = EmulatorDevice(sanitizer=sanitizer)
    (found,) = device.load(program, ArtifactSource(artifact)).run(list(named.values()), None)
    assert sanitizer.findings == ()
    bound = max(TOLERANCE.get(p.dtype.name, 0) for p in (*program.inputs, *program.outputs))
    np.testing.assert_allclose(found.astype(np.float64), expected, atol=bound * np.abs(expected).max())
    shapes = {name: value.shape for name, value in named.items()}
    calls = make_schedule(program, program.plans[0], bind_symbols(program, shapes)).calls
    return [call.kernel.partition("matmul_")[2] for call in calls if isinstance(call, LaunchCall)]


@pytest.mark.usefixtures("everything_is_large")
@pytest.mark.parametrize(("dtype", "layout", "sizes", "packed"), PACKED)
def test_operands_that_copies_cannot_take_are_packed_first(
    dtype: str, layout: str, sizes: tuple[int, int, int], packed: str, rng: np.random.Generator
) -> None:
    fn, specs = product(layout, dtype)
    inputs = operands(layout, dtype, dict(zip("mnk", sizes, strict=True)), rng)
    # Results' rows are no multiples of 16 bytes either where B's are not.
    across = dtype in ("f16", "bf16") and layout[1] == "n" and "pack_b" in packed
    assert run_chosen(fn, specs, inputs) == [*packed.split(), f"tma128x64{'_any' if across else ''}"]


@pytest.mark.usefixtures("everything_is_large")
def test_computed_operands_and_batches_are_packed(rng: np.random.Generator) -> None:
    def gated(a: Any, b: Any) -> Any:
        return ts.matmul(ts.relu(a), b) * 2.0

    specs = [ts.TensorSpec(("p", "m", "k"), "bf16"), ts.TensorSpec(("p", "k", "n"), "bf16")]
    inputs = [rng.standard_normal(s) for s in ((2, 33, 66), (2, 66, 70))]
    kernels = run_chosen(ts.jit(gated), specs, inputs)
    assert [name.partition("mul_")[2] or name for name in kernels][-1].endswith("tma128x64_any")
    assert len(kernels) == 3


@pytest.mark.parametrize(
    ("dtype", "layout", "sizes", "packed"),
    [
        ("f16", "nn", (4097, 4093, 4095), 2), ("f16", "nn", (4096, 4093, 4096), 1),
        ("tf32", "nn", (4096, 4096, 4096), 1), ("tf32", "nn", (256, 4096, 4096), 0),
        ("i8", "nn", (4096, 4096, 4096), 1), ("f16", "nn", (4096, 4096, 4096), 0),
    ],
)  # fmt: skip
def test_large_products_are_packed_and_only_they_take_memory_for_it(
    dtype: str, layout: str, sizes: tuple[int, int, int], packed: int
) -> None:
    fn, specs = product(layout, dtype)
    (program,) = compiled(fn, specs, hopper()).programs
    m, n, k = sizes
    made = make_schedule(program, program.plans[0], bind_symbols(program, {"a": (m, k), "b": (k, n)}))
    assert sum("pack_" in call.kernel for call in made.calls if isinstance(call, LaunchCall)) == packed
    itemsize = specs[0].dtype.itemsize
    expected = packed * 4096 * 4096 * itemsize
    # The parts of a depth that is cut are there for whatever sizes.
    assert expected <= made.arena_bytes <= expected * 1.01 + 8 * 262144 * 4


def test_fixed_sizes_that_copies_take_leave_no_packing() -> None:
    fn = ts.jit(lambda a, b: ts.matmul(a, b), name="fixed")
    specs = [ts.TensorSpec(("m", 512), "f16"), ts.TensorSpec((512, 1024), "f16")]
    assert not any("pack" in b.name for b in compiled(fn, specs, hopper()).binaries)


def test_what_warpgroups_cannot_multiply_stays_with_warps() -> None:
    fn, specs = product("nn", "f32")
    artifact = compiled(fn, specs, hopper("m64n256k32"))
    assert not any("wgmma" in b.name or "tma" in b.name for b in artifact.binaries)
    assert any("wgmma_config m64n256k32 chose nothing" in note for note in artifact.notes)


def test_a_cap_on_shared_memory_takes_stages_away_and_then_the_bulk_copies() -> None:
    fn, specs = product("nn", "bf16")
    for cap, text in ((None, "4 stages, bulk"), (184320, "3 stages, bulk"), (163840, "3 stages, async")):
        config = AOTConfig(targets=[hopper("m64n256k16")], max_shared_memory_per_block=cap)
        notes = AOTCompiler(config).compile(fn, specs).artifact.notes
        assert any(f"wgmma.m64n256k16.bf16), tiles of 128 × 256, {text}" in n for n in notes)


@needs_disassembler
@pytest.mark.parametrize(
    ("dtype", "layout", "width", "copies"),
    [
        ("bf16", "nn", 128, 3),
        ("f16", "tt", 256, 3),
        ("i8", "nt", 64, 2),
        ("tf32", "nt", 256, 2),
        ("f8e4m3", "nt", 256, 2),
    ],
)
def test_one_warpgroup_copies_and_two_multiply_without_waiting_in_between(
    dtype: str, layout: str, width: int, copies: int
) -> None:
    fn, specs = product(layout, dtype)
    artifact = compiled(fn, specs, hopper(f"m64n{width}k16"))
    (cubin,) = (b for b in artifact.binaries if b.name.endswith(f"tma128x{width}") and b.format == "cubin")
    found, whole = families(cubin.data), opcodes(cubin.data)
    assert found[{"i8": "IGMMA", "f8e4m3": "QGMMA"}.get(dtype, "HGMMA")] == 4
    assert whole["WARPGROUP.ARRIVE"] == 1
    assert whole["UTMALDG.2D"] == copies
    assert found["USETMAXREG"] == 2
    assert not any(found[name] for name in ("FFMA", "LDL", "STL", "LDGSTS"))
    assert cubin.resources is not None
    assert (cubin.resources.spill_bytes, cubin.resources.stack_bytes) == (0, 0)


@pytest.mark.slow
def test_source_lines_change_nothing_in_how_maps_are_passed() -> None:
    fn, specs = product("nn", "f16")
    config = AOTConfig(targets=[hopper("m64n64k16")], include_debug_info=True)
    artifact = AOTCompiler(config).compile(fn, specs).artifact
    (ptx,) = (
        b.data.decode() for b in artifact.binaries if b.name.endswith("tma128x64") and b.format == "ptx"
    )
    assert ptx.count(".param .align 64 .b8") == 2


def test_shapes_that_no_template_has_are_refused() -> None:
    from tessera.program.errors import OptionError

    with pytest.raises(OptionError, match="64, 128 or 256 columns wide, not 96"):
        hopper("m64n96k16")
    with pytest.raises(OptionError, match="enable_hopper_features, not sm_90") as caught:
        CompilationTarget("sm_90", wgmma_config="m64n128k16")
    assert "enable_hopper_features=True" in (caught.value.hint or "")
