"""Intrinsics on numbers: conversions, packed arithmetic, fast functions, shuffles and reductions."""

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from emulated import Array, emulate
from numba import cuda

import tessera as ts
from tessera import gpu
from tessera.deploy import AOTCompiler
from tessera.program.errors import ArchitectureError, CompileError

BF16, E4M3, E5M2 = ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2


def one(function: Any, given: ts.DType, made: ts.DType) -> Any:
    """A kernel that applies a function of one number."""

    @ts.kernel(grid=1, block=32)
    def kernel(x: ts.Array[given, 32], y: ts.Array[made, 32]):
        i = cuda.threadIdx.x
        y[i] = function(x[i])

    return kernel


def two(function: Any, given: ts.DType, made: ts.DType) -> Any:
    @ts.kernel(grid=1, block=32)
    def kernel(x: ts.Array[given, 2, 32], y: ts.Array[made, 32]):
        i = cuda.threadIdx.x
        y[i] = function(x[0, i], x[1, i])

    return kernel


def three(function: Any, given: ts.DType, made: ts.DType) -> Any:
    @ts.kernel(grid=1, block=32)
    def kernel(x: ts.Array[given, 3, 32], y: ts.Array[made, 32]):
        i = cuda.threadIdx.x
        y[i] = function(x[0, i], x[1, i], x[2, i])

    return kernel


def widened(function: Any, given: ts.DType) -> Any:
    @ts.kernel(grid=1, block=32)
    def kernel(x: ts.Array[given, 32], y: ts.Array[ts.f32, 32, 2]):
        i = cuda.threadIdx.x
        low, high = function(x[i])
        y[i, 0] = low
        y[i, 1] = high

    return kernel


@pytest.mark.parametrize(
    ("name", "dtype", "target"),
    [
        ("f32_to_f16x2", np.float16, "sm_80"),
        ("f32_to_bf16x2", BF16, "sm_80"),
        ("f32_to_e4m3x2", E4M3, "sm_89"),
        ("f32_to_e5m2x2", E5M2, "sm_89"),
    ],
)
def test_pairs_of_floats_are_rounded_and_packed_low_first(
    name: str, dtype: Any, target: str, rng: np.random.Generator
) -> None:
    x = rng.normal(0, 3, (2, 32)).astype(np.float32)
    made = ts.i16 if np.dtype(dtype).itemsize == 1 else ts.i32
    out = emulate(two(getattr(gpu, name), ts.f32, made), x, np.zeros(32, made.numpy), target=target)["y"]
    np.testing.assert_array_equal(out.view(dtype).reshape(32, 2).T, x.astype(dtype))


@pytest.mark.parametrize(("name", "dtype"), [("f16x2_to_f32", np.float16), ("bf16x2_to_f32", BF16)])
def test_pairs_of_small_floats_are_widened(name: str, dtype: Any, rng: np.random.Generator) -> None:
    pairs = rng.normal(size=(32, 2)).astype(dtype)
    out = emulate(
        widened(getattr(gpu, name), ts.i32),
        pairs.view(np.int32),
        np.zeros((32, 2), np.float32),
        target="sm_70",
    )["y"]
    np.testing.assert_array_equal(out, pairs.astype(np.float32))


@pytest.mark.parametrize(
    ("name", "source", "dtype"),
    [
        ("e4m3x2_to_f16x2", E4M3, np.float16),
        ("e5m2x2_to_f16x2", E5M2, np.float16),
        ("f16x2_to_e4m3x2", np.float16, E4M3),
        ("f16x2_to_e5m2x2", np.float16, E5M2),
    ],
)
def test_eight_bit_floats_convert_to_and_from_half(
    name: str, source: Any, dtype: Any, rng: np.random.Generator
) -> None:
    pairs = rng.normal(0, 2, (32, 2)).astype(source)
    given, made = (ts.i16 if np.dtype(d).itemsize == 1 else ts.i32 for d in (source, dtype))
    words = pairs.view(given.numpy)
    out = emulate(one(getattr(gpu, name), given, made), words, np.zeros(32, made.numpy), target="sm_89")["y"]
    np.testing.assert_array_equal(out.view(dtype).reshape(32, 2), pairs.astype(dtype))


def test_tf32_keeps_ten_bits_of_mantissa(rng: np.random.Generator) -> None:
    x = rng.normal(size=32).astype(np.float32)
    out = emulate(one(gpu.f32_to_tf32, ts.f32, ts.i32), x, np.zeros(32, np.int32))["y"]
    assert (out & 0x1FFF == 0).all()
    np.testing.assert_allclose(out.view(np.float32), x, rtol=2**-11)


PACKED: dict[str, Callable[..., Array]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "max": np.maximum,
    "min": np.minimum,
    "fma": lambda a, b, c: a * b + c,
    "fma_relu": lambda a, b, c: np.maximum(a * b + c, 0),
}


@pytest.mark.parametrize("kind", ["f16", "bf16"])
@pytest.mark.parametrize("name", PACKED)
def test_packed_arithmetic_rounds_once(name: str, kind: str, rng: np.random.Generator) -> None:
    dtype = {"f16": np.float16, "bf16": BF16}[kind]
    reference = PACKED[name]
    count = len(inspect.signature(reference).parameters) if name.startswith("fma") else 2
    x = rng.normal(size=(count, 32, 2)).astype(dtype)
    kernel = {2: two, 3: three}[count](getattr(gpu, f"{name}_{kind}x2"), ts.i32, ts.i32)
    out = emulate(kernel, x.view(np.int32)[..., 0], np.zeros(32, np.int32), target="sm_90")["y"]
    expected = reference(*x.astype(np.float64)).astype(dtype)
    np.testing.assert_array_equal(out.view(dtype).reshape(32, 2), expected)


FAST: dict[str, tuple[Callable[[Array], Array], float]] = {
    "exp2_approx": (np.exp2, 3e-7),
    "log2_approx": (np.log2, 5e-7),
    "rcp_approx": (lambda x: 1 / x, 2e-7),
    "sqrt_approx": (np.sqrt, 3e-7),
    "rsqrt_approx": (lambda x: 1 / np.sqrt(x), 3e-7),
    "sin_approx": (np.sin, 2e-6),
    "cos_approx": (np.cos, 2e-6),
    "tanh_approx": (np.tanh, 6e-4),
}


@pytest.mark.parametrize("name", FAST)
def test_fast_functions_are_within_their_error(name: str, rng: np.random.Generator) -> None:
    reference, tolerance = FAST[name]
    x = rng.uniform(0.1, 3, 32).astype(np.float32)
    out = emulate(one(getattr(gpu, name), ts.f32, ts.f32), x, np.zeros(32, np.float32))["y"]
    expected = reference(x.astype(np.float64))
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["f16", "bf16"])
@pytest.mark.parametrize(("name", "reference"), [("exp2", np.exp2), ("tanh", np.tanh)])
def test_packed_fast_functions_agree_to_their_last_bits(
    name: str, reference: Any, kind: str, rng: np.random.Generator
) -> None:
    dtype = {"f16": np.float16, "bf16": BF16}[kind]
    x = rng.normal(size=(32, 2)).astype(dtype)
    kernel = one(getattr(gpu, f"{name}_approx_{kind}x2"), ts.i32, ts.i32)
    out = emulate(kernel, x.view(np.int32), np.zeros(32, np.int32), target="sm_90")["y"]
    expected = reference(x.astype(np.float64))
    np.testing.assert_allclose(
        out.view(dtype).reshape(32, 2).astype(np.float64),
        expected,
        rtol=2 * float(ml_dtypes.finfo(dtype).eps),
    )


@pytest.mark.parametrize(
    ("name", "lanes", "source"),
    [
        ("shuffle", 5, lambda lane: np.full(32, 5)),
        ("shuffle_up", 3, lambda lane: np.where(lane < 3, lane, lane - 3)),
        ("shuffle_down", 4, lambda lane: np.where(lane > 27, lane, lane + 4)),
        ("shuffle_xor", 9, lambda lane: lane ^ 9),
    ],
)
@pytest.mark.parametrize("dtype", [ts.f32, ts.i32])
def test_shuffles_take_the_value_of_another_lane(
    name: str, lanes: int, source: Any, dtype: ts.DType, rng: np.random.Generator
) -> None:
    function = getattr(gpu, name)

    @ts.kernel(grid=1, block=32)
    def kernel(x: ts.Array[dtype, 32], y: ts.Array[dtype, 32]):
        i = cuda.threadIdx.x
        y[i] = function(0xFFFFFFFF, x[i], lanes)

    x = rng.integers(-9, 9, 32).astype(dtype.numpy)
    out = emulate(kernel, x, np.zeros_like(x), target="sm_70")["y"]
    np.testing.assert_array_equal(out, x[source(np.arange(32))])


REDUCTIONS: dict[str, Callable[[Array], Any]] = {
    "redux_add": lambda x: x.sum(),
    "redux_min": lambda x: x.min(),
    "redux_max": lambda x: x.max(),
    "redux_min_u32": lambda x: x.view(np.uint32).min(),
    "redux_max_u32": lambda x: x.view(np.uint32).max(),
    "redux_and": lambda x: np.bitwise_and.reduce(x),
    "redux_or": lambda x: np.bitwise_or.reduce(x),
    "redux_xor": lambda x: np.bitwise_xor.reduce(x),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_fold_a_warp(name: str, rng: np.random.Generator) -> None:
    function = getattr(gpu, name)

    @ts.kernel(grid=1, block=32)
    def kernel(x: ts.Array[ts.i32, 32], y: ts.Array[ts.i32, 32]):
        i = cuda.threadIdx.x
        y[i] = function(x[i], 0xFFFFFFFF)

    x = rng.integers(-1000, 1000, 32).astype(np.int32)
    out = emulate(kernel, x, np.zeros_like(x))["y"]
    np.testing.assert_array_equal(out.view(np.uint32), np.uint32(int(REDUCTIONS[name](x)) & 0xFFFFFFFF))


# -- errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "target", "needs"),
    [
        ("tanh_approx", "sm_70", "sm_75"),
        ("f32_to_bf16x2", "sm_75", "sm_80"),
        ("f32_to_e4m3x2", "sm_86", "sm_89"),
        ("add_bf16x2", "sm_89", "sm_90"),
    ],
)
def test_an_older_architecture_is_refused_at_the_line_that_calls(name: str, target: str, needs: str) -> None:
    kernel = {"tanh_approx": one, "add_bf16x2": two}.get(name, two)(
        getattr(gpu, name), ts.i32 if "add" in name else ts.f32, ts.i32
    )
    with pytest.raises(ArchitectureError) as caught:
        AOTCompiler(target_architectures=[target]).compile(kernel)
    assert f"gpu.{name} needs {needs} or later" in caught.value.message
    assert target in (caught.value.hint or "")
    assert caught.value.location is not None
    line = inspect.getsource(inspect.getmodule(one)).splitlines()[caught.value.location.line - 1]  # type: ignore[arg-type]
    assert "function(" in line


def test_what_only_one_architecture_has_is_refused_without_its_suffix() -> None:
    @ts.kernel(grid=1, block=128)
    def kernel(x: ts.Array[ts.f32, "n"]):
        gpu.wgmma_fence()
        x[0] = 1.0

    with pytest.raises(ArchitectureError, match="needs an architecture of its own such as sm_90a"):
        AOTCompiler(target_architectures=["sm_90"]).compile(kernel)
    assert AOTCompiler(target_architectures=["sm_90a"]).compile(kernel).binaries


def test_arguments_that_do_not_fit_are_named() -> None:
    @ts.kernel(grid=1, block=32)
    def kernel(x: ts.Array[ts.f32, "n"]):
        a = (1, 2, 3)
        c = gpu.mma_m16n8k16_bf16(a, (1, 2), (0.0, 0.0, 0.0, 0.0))
        x[0] = c[0]

    with pytest.raises(CompileError, match="mma_m16n8k16_bf16 takes"):
        AOTCompiler(target_architectures=["sm_80"]).compile(kernel)


def test_a_count_must_be_written_in_the_source() -> None:
    @ts.kernel(grid=1, block=32)
    def kernel(x: ts.Array[ts.i32, "n"]):
        gpu.cp_async_wait(x[0])
        x[0] = 1

    with pytest.raises(CompileError, match="a number in the source"):
        AOTCompiler(target_architectures=["sm_80"]).compile(kernel)


def test_the_cpu_is_left_out_with_a_note() -> None:
    kernel = one(gpu.tanh_approx, ts.f32, ts.f32)
    compiled = AOTCompiler(target_architectures=["sm_80", "cpu"]).compile(kernel)
    assert {b.target for b in compiled.binaries} == {"sm_80"}
    assert any("needs a GPU" in note for note in compiled.artifact.notes)


def test_every_intrinsic_says_what_it_is_and_from_where() -> None:
    assert gpu.__all__ == sorted(set(gpu.__all__), key=lambda name: gpu.__all__.index(name))
    for name in gpu.__all__:
        function = getattr(gpu, name)
        assert function.__name__ == name
        assert "sm_" in function.__doc__
        assert re.search(r'Source: PTX ISA 8\.8, "[\w ,-]+(: [\w., ]+)?"\.$', function.__doc__), name


def test_plain_numba_kernels_may_be_the_first_to_name_one(tmp_path: Path) -> None:
    file = tmp_path / "plain.py"
    file.write_text(
        "from numba import cuda, types\n"
        "from tessera import gpu\n"
        "def kernel(x):\n"
        "    x[cuda.grid(1)] = gpu.tanh_approx(x[0]) + gpu.shuffle_xor(-1, x[1], 1)\n"
        "kind = types.void(types.float32[::1])\n"
        "text, _ = cuda.compile(kernel, kind, cc=(8, 0), device=False, abi='numba')\n"
        "assert 'tanh.approx.f32' in text and 'shfl.sync.bfly' in text\n"
    )
    subprocess.run([sys.executable, str(file)], check=True)
