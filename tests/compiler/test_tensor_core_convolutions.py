"""Convolutions on tensor cores: gathered windows against float64, their fallbacks, the machine code."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from products import check_variants, compiled, variants
from sass import families, needs_disassembler

import tessera as ts
from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget

HOPPER = CompilationTarget("sm_90", enable_hopper_features=True)


def kernels(fn: Any, specs: list[ts.TensorSpec], target: CompilationTarget | str = "sm_80") -> list[str]:
    return [b.name for b in compiled(fn, specs, target).binaries if b.format == "cubin"]


def normal(rng: np.random.Generator, *shapes: tuple[int, ...]) -> list[Any]:
    return [rng.standard_normal(shape) for shape in shapes]


def block(x: Any, w: Any, scale: Any, shift: Any, r: Any) -> Any:
    y = ts.conv2d(x, w, padding=1) * ts.reshape(scale, (1, 24, 1, 1)) + ts.reshape(shift, (1, 24, 1, 1))
    return ts.relu(y + r)


@pytest.mark.parametrize("target", ["sm_80", HOPPER])
@pytest.mark.parametrize("dtype", ["f16", pytest.param("bf16", marks=pytest.mark.slow), "tf32"])
def test_scale_shift_residual_and_activation_are_computed_where_sums_are_written(
    dtype: str, target: CompilationTarget | str, rng: np.random.Generator
) -> None:
    specs = [
        ts.TensorSpec(s, dtype) for s in (("n", 16, 9, 7), (24, 16, 3, 3), (24,), (24,), ("n", 24, 9, 7))
    ]
    inputs = normal(rng, (2, 16, 9, 7), (24, 16, 3, 3), (24,), (24,), (2, 24, 9, 7))
    ran = check_variants(ts.jit(block), specs, inputs, target=target)
    assert all("windows_matmul_mul_add_relu_" in name for name in ran)
    assert not any(name.endswith("any") for name in ran)


SIZES = st.integers(1, 20)


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(
    batch=st.integers(1, 3), channels=st.integers(1, 40), out=st.integers(1, 70),
    size=st.tuples(SIZES, SIZES), window=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)), padding=st.integers(0, 3),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)), symbolic=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_convolution_agrees_with_float64(
    batch: int, channels: int, out: int, size: tuple[int, int], window: tuple[int, int],
    stride: tuple[int, int], padding: int, dilation: tuple[int, int], symbolic: bool, seed: int,
) -> None:  # fmt: skip
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, window, strict=True)]
    assume(all(s + 2 * padding >= r for s, r in zip(size, reach, strict=True)))

    def convolved(x: Any, w: Any, b: Any) -> Any:
        return ts.conv2d(x, w, b, stride=stride, padding=padding, dilation=dilation)

    # Where all sizes are known, only the kernel that they choose is compiled, which takes most of the time.
    shape = ("n", channels, "h", "w") if symbolic else (batch, channels, *size)
    specs = [ts.TensorSpec(s, "f16") for s in (shape, (out, channels, *window), (out,))]
    inputs = normal(np.random.default_rng(seed), (batch, channels, *size), (out, channels, *window), (out,))
    check_variants(ts.jit(convolved), specs, inputs, watched=False)


@pytest.mark.slow
@settings(max_examples=2, deadline=None)
@given(
    channels=st.integers(1, 20), out=st.integers(1, 20), size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    window=st.tuples(st.integers(1, 4), st.integers(1, 4)), stride=st.integers(1, 3),
    dilation=st.integers(1, 2), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_transposed_convolution_agrees_with_float64(
    channels: int, out: int, size: tuple[int, int], window: tuple[int, int], stride: int, dilation: int,
    seed: int,
) -> None:  # fmt: skip
    def convolved(x: Any, w: Any) -> Any:
        return ts.conv_transpose2d(x, w, stride=stride, dilation=dilation)

    specs = [ts.TensorSpec(s, "f16") for s in ((2, channels, *size), (channels, out, *window))]
    inputs = normal(np.random.default_rng(seed), (2, channels, *size), (channels, out, *window))
    check_variants(ts.jit(convolved), specs, inputs, watched=False)


@pytest.mark.parametrize("target", ["sm_80", pytest.param(HOPPER, marks=pytest.mark.slow)])
def test_signals_and_transposed_images_neither_race_nor_read_outside(
    target: CompilationTarget | str, rng: np.random.Generator
) -> None:
    def signal(x: Any, w: Any, b: Any) -> Any:
        return ts.silu(ts.conv1d(x, w, b, stride=2, padding=3, dilation=2))

    specs = [ts.TensorSpec(s, "f16") for s in (("n", 48, "t"), (32, 48, 5), (32,))]
    check_variants(ts.jit(signal), specs, normal(rng, (2, 48, 37), (32, 48, 5), (32,)), target=target)

    def upsampled(x: Any, w: Any) -> Any:
        return ts.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1)

    specs = [ts.TensorSpec(s, "f16") for s in (("n", 24, 5, 6), (24, 16, 3, 3))]
    check_variants(ts.jit(upsampled), specs, normal(rng, (2, 24, 5, 6), (24, 16, 3, 3)), target=target)


def test_integers_are_exact(rng: np.random.Generator) -> None:
    def whole(x: Any, w: Any) -> Any:
        return ts.conv2d(ts.cast(x, ts.i32), ts.cast(w, ts.i32), padding=1)

    specs = [ts.TensorSpec(("n", 20, 6, 7), "i8"), ts.TensorSpec((24, 20, 3, 3), "i8")]
    inputs = [rng.integers(-128, 128, s) for s in ((2, 20, 6, 7), (24, 20, 3, 3))]
    ran = check_variants(ts.jit(whole), specs, inputs)
    assert all("mma" in name and not name.endswith("any") for name in ran)


@pytest.mark.parametrize("stride", [1, 2])
def test_windows_of_one_element_copy_the_places_they_need(stride: int, rng: np.random.Generator) -> None:
    def pointwise(x: Any, w: Any) -> Any:
        return ts.conv2d(x, w, stride=stride)

    specs = [ts.TensorSpec(("n", 40, 7, 7), "f16"), ts.TensorSpec((24, 40, 1, 1), "f16")]
    ran = check_variants(ts.jit(pointwise), specs, normal(rng, (2, 40, 7, 7), (24, 40, 1, 1)))
    assert not any(name.endswith("any") for name in ran)


@pytest.mark.slow
def test_weights_are_packed_once_and_copies_shared(rng: np.random.Generator) -> None:
    weights = [rng.standard_normal((16, 16, 3, 3)).astype(np.float16) for _ in range(2)]

    def twice(x: Any) -> Any:
        return ts.conv2d(x, weights[0], padding=1) + ts.conv2d(x, weights[1], padding=1)

    (program,) = compiled(ts.jit(twice), [ts.TensorSpec(("n", 16, 8, 8), "f16")]).programs
    (plan,) = program.plans
    assert len(plan.setup) == 2
    assert len(plan.steps) == 3
    names = [buffer.name.partition("_")[0] for buffer in plan.buffers]
    assert names.count("copy") == 1


def test_layouts_are_left_alone_without_tensor_cores_or_optimization() -> None:
    def convolved(x: Any, w: Any) -> Any:
        return ts.conv2d(x, w, padding=1)

    fn = ts.jit(convolved)
    half, single = (
        [ts.TensorSpec(s, dtype) for s in (("n", 16, 8, 8), (16, 16, 3, 3))] for dtype in ("f16", "f32")
    )
    assert len(kernels(fn, half, "sm_80")) > 1
    off = CompilationTarget("sm_80", tensor_core_config="off")
    assert kernels(fn, half, off) == kernels(fn, single) == ["convolved_0_windows_matmul"]
    config = AOTConfig(targets=["sm_80"], enable_graph_optimization=False)
    artifact = AOTCompiler(config).compile(fn, half).artifact
    names = [b.name for b in artifact.binaries if b.format == "cubin"]
    assert names == ["convolved_0_windows_matmul_mma64x64_any"]


def test_groups_and_depthwise_stay_with_loops_or_elements(rng: np.random.Generator) -> None:
    def depthwise(x: Any, w: Any) -> Any:
        return ts.conv2d(x, w, padding=1, groups=16)

    for each in (1, 16):
        specs = [ts.TensorSpec(("n", 16, 8, 8), "f16"), ts.TensorSpec((16, each // 16 or 1, 3, 3), "f16")]
        assert not any("copy" in name for name in kernels(ts.jit(depthwise), specs))


@needs_disassembler
@pytest.mark.parametrize(
    ("target", "dtype"),
    [
        ("sm_80", "tf32"),
        (HOPPER, "f16"),
        pytest.param("sm_90", "f16", marks=pytest.mark.slow),
        pytest.param("sm_90", "tf32", marks=pytest.mark.slow),
    ],
)
def test_convolutions_are_tensor_core_instructions(dtype: str, target: CompilationTarget | str) -> None:
    def convolved(x: Any, w: Any) -> Any:
        return ts.relu(ts.conv2d(x, w, padding=1))

    specs = [ts.TensorSpec(s, dtype) for s in (("n", 64, 56, 56), (64, 64, 3, 3))]
    artifact = compiled(ts.jit(convolved), specs, target)
    code = {b.name: b for b in artifact.binaries if b.format == "cubin"}
    for name, _, _ in variants(artifact.programs[0]):
        found = families(code[name].data)
        assert found["HGMMA" if "wgmma" in name else "HMMA"], name
        assert found["LDGSTS"], name
        assert not found["FFMA"], name
        assert not found["LDL"] + found["STL"], name
        resources = code[name].resources
        assert resources is not None
        assert (resources.spill_bytes, resources.stack_bytes) == (0, 0), name
