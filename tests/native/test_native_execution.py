"""Programs give the same results through libtessera_rt as through Python's devices."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ctypes_runtime import NativeError, NativeLibrary
from native_project import ROOT, close, example
from numba import cuda

import tessera as ts
from tessera.deploy import AOTCompiler, DeploymentPackage, ModelExporter
from tessera.package import Package
from tessera.program.arch import host_cpu_targets
from tessera.program.artifact import Artifact
from tessera.program.dim import symbol
from tessera.program.dtype import DTYPES
from tessera.program.program import Gemm, Plan, Pointer, Port, Program

pytestmark = pytest.mark.skipif(not host_cpu_targets(), reason="no CPU target for this machine")


def python_results(package: Path, device: str, *inputs: object) -> list[np.ndarray]:
    with DeploymentPackage.load(package).create_runtime(device=device, strict_device=True) as runtime:
        found = runtime.execute(*inputs)
    return list(found.values()) if isinstance(found, dict) else [found]


def agrees(native: NativeLibrary, package: Path, tolerance: float, *inputs: object) -> list[np.ndarray]:
    """Results, equal to those of Python's cpu device bit by bit or nearly, and near the reference's."""
    found = native.load(package).execute(*inputs)
    for device in ("cpu", "reference"):
        expected = python_results(package, device, *inputs)
        assert [(a.dtype, a.shape) for a in found] == [(a.dtype, a.shape) for a in expected]
        for a, b in zip(found, expected, strict=True):
            close(a, b, tolerance)
    return found


@pytest.mark.parametrize(("dtype", "tolerance"), [("f32", 2e-5), ("bf16", 2e-2)])
@pytest.mark.parametrize("rows", [1, 3, 360])
def test_the_digits_classifier_agrees_and_is_right(
    native: NativeLibrary,
    digits_package: Callable[[str], Path],
    digits: object,
    dtype: str,
    tolerance: float,
    rows: int,
) -> None:
    images, labels = digits.held_out()
    (scores,) = agrees(native, digits_package(dtype), tolerance, images[:rows])
    if rows == len(labels):
        assert (scores.argmax(axis=1) == labels).mean() > 0.95


@ts.jit
def softmax_layernorm(x: ts.Tensor[ts.f32, "rows", "columns"]):
    return ts.softmax(x, axis=-1), ts.layernorm(x, eps=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (7, 33), (64, 1000), (2048, 40)])
def test_several_outputs_and_two_free_sizes_agree(
    native: NativeLibrary, compiled: Callable[..., Path], shape: tuple[int, int], rng: np.random.Generator
) -> None:
    package = compiled("softmax_layernorm", softmax_layernorm)
    assert len(agrees(native, package, 1e-5, rng.standard_normal(shape, dtype=np.float32))) == 2


def test_a_raw_kernel_with_a_scalar_updates_a_copy(
    native: NativeLibrary, compiled: Callable[..., Path], rng: np.random.Generator
) -> None:
    package = compiled("saxpy", example("saxpy", "kernels.py").saxpy)
    x, y = rng.standard_normal((2, 100_001), dtype=np.float32)
    before = y.copy()
    (found,) = native.load(package).execute(np.float32(2.5), x, y)
    np.testing.assert_array_equal(y, before)
    np.testing.assert_allclose(found, 2.5 * x + y, rtol=1e-6)


def test_an_int8_export_with_setup_and_persistent_weights_agrees(
    native: NativeLibrary, tmp_path: Path, digits: object
) -> None:
    images, _ = digits.held_out()
    package = tmp_path / "digits_int8.tsd"
    exporter = ModelExporter(digits.load(ts.f32), ts.tensor(images[:8]), target_architectures=["cpu"])
    exporter.export(package, include_weights=True, quantization="int8")
    agrees(native, package, 2e-5, images[:8])


@ts.jit
def mixed_types(x: ts.Tensor[ts.f64, "n", 8], k: ts.Tensor[ts.i32, "n", 8], h: ts.Tensor[ts.f16, "n", 8]):
    return x * ts.cast(k, ts.f64), ts.cast(h, ts.f32) + 1.0, ts.maximum(k, 3)


def test_doubles_halves_and_integers_agree(
    native: NativeLibrary, compiled: Callable[..., Path], rng: np.random.Generator
) -> None:
    inputs = (
        rng.standard_normal((5, 8)),
        rng.integers(-9, 9, (5, 8)).astype(np.int32),
        rng.standard_normal((5, 8)).astype(np.float16),
    )
    agrees(native, compiled("mixed_types", mixed_types), 1e-6, *inputs)


def test_an_empty_batch_gives_empty_results(
    native: NativeLibrary, digits_package: Callable[[str], Path]
) -> None:
    (found,) = native.load(digits_package("f32")).execute(np.zeros((0, 64), np.float32))
    assert found.shape == (0, 10)


def test_an_unpacked_folder_runs_like_the_file(
    native: NativeLibrary, digits_package: Callable[[str], Path], digits: object, tmp_path: Path
) -> None:
    folder = Package.load(digits_package("f32")).unpack(tmp_path / "unpacked")
    images, _ = digits.held_out()
    expected = native.load(digits_package("f32")).execute(images[:9])
    np.testing.assert_array_equal(native.load(folder).execute(images[:9]), expected)


def test_floats_of_another_width_are_converted(
    native: NativeLibrary, digits_package: Callable[[str], Path], digits: object
) -> None:
    images, _ = digits.held_out()
    runtime = native.load(digits_package("f32"))
    np.testing.assert_array_equal(
        runtime.execute(images[:4].astype(np.float64)), runtime.execute(images[:4].astype(np.uint8))
    )


def test_threads_share_one_runtime(
    native: NativeLibrary, digits_package: Callable[[str], Path], digits: object
) -> None:
    images, _ = digits.held_out()
    runtime = native.load(digits_package("f32"))
    sizes = [1, 5, 64, 360] * 4
    expected = {size: runtime.execute(images[:size])[0] for size in set(sizes)}
    wrong = []

    def work(size: int) -> None:
        for _ in range(20):
            if not np.array_equal(runtime.execute(images[:size])[0], expected[size]):
                wrong.append(size)

    threads = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def gemm_program(
    dtype: ts.program.dtype.DType, transpose_a: bool, transpose_b: bool, shared_b: bool
) -> Program:
    """`c = op(a) @ op(b)`, batched, every size free."""
    m, n, k, batch = map(symbol, ("m", "n", "k", "batch"))
    a, b = (k, m) if transpose_a else (m, k), (n, k) if transpose_b else (k, n)
    gemm = Gemm(
        dtype=dtype,
        m=m,
        n=n,
        k=k,
        batch=batch,
        a=Pointer(space="input", name="a"),
        b=Pointer(space="input", name="b"),
        c=Pointer(space="output", name="c"),
        transpose_a=transpose_a,
        transpose_b=transpose_b,
        stride_a=m * k,
        stride_b=0 if shared_b else k * n,
        stride_c=m * n,
    )
    return Program(
        name=f"gemm_{dtype}_{int(transpose_a)}{int(transpose_b)}{int(shared_b)}",
        inputs=(
            Port(name="a", dtype=dtype, shape=(batch, *a)),
            Port(name="b", dtype=dtype, shape=b if shared_b else (batch, *b)),
        ),
        outputs=(Port(name="c", dtype=dtype, shape=(batch, m, n)),),
        plans=(Plan(targets=(host_cpu_targets()[0],), steps=(gemm,)),),
    )


KINDS = [(d, a, b, s) for d in ("f32", "f64") for a in (0, 1) for b in (0, 1) for s in (0, 1)]
SIZES = [(1, 1, 1, 1), (1, 7, 3, 2), (3, 70, 65, 2), (4, 16, 1, 3), (13, 33, 300, 2), (97, 130, 257, 1)]
SIZES += [(200, 2100, 40, 1), (5, 6, 0, 2), (0, 4, 4, 1), (4, 4, 4, 0)]


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    programs = [gemm_program(DTYPES[d], bool(a), bool(b), bool(s)) for d, a, b, s in KINDS]
    package = Package.from_artifact(Artifact(tuple(programs), ()), name="products")
    return package.save(tmp_path_factory.mktemp("products") / "products.tsp")


@pytest.mark.parametrize(("dtype", "ta", "tb", "shared"), KINDS)
def test_own_products_equal_those_in_double_precision(
    native: NativeLibrary,
    products: Path,
    dtype: str,
    ta: int,
    tb: int,
    shared: int,
    rng: np.random.Generator,
) -> None:
    runtime = native.load(products)
    for m, n, k, batch in SIZES:
        a = rng.standard_normal((batch, k, m) if ta else (batch, m, k)).astype(DTYPES[dtype].numpy)
        b_shape = (n, k) if tb else (k, n)
        b = rng.standard_normal(b_shape if shared else (batch, *b_shape)).astype(DTYPES[dtype].numpy)
        (found,) = runtime.execute(a, b, program=f"gemm_{dtype}_{ta}{tb}{shared}")
        left, right = (np.swapaxes(v, -1, -2) if t else v for v, t in ((a, ta), (b, tb)))
        expected = left.astype(np.float64) @ right.astype(np.float64)
        # Rounding of k sums of products of standard normal numbers.
        limit = (1e-6 if dtype == "f32" else 1e-14) * 8 * max(k, 1) ** 0.5
        assert np.max(np.abs(found - expected), initial=0) <= limit, (m, n, k, batch)


STUB_BLAS = """
#include <stdio.h>
#define GEMM(name, T) \\
void name(int order, int ta, int tb, int m, int n, int k, T alpha, const T *a, int lda, const T *b, \\
          int ldb, T beta, T *c, int ldc) { \\
    (void)order; (void)beta; fprintf(stderr, #name "\\n"); \\
    for (int i = 0; i < m; i++) for (int j = 0; j < n; j++) { \\
        T sum = 0; \\
        for (int p = 0; p < k; p++) \\
            sum += (ta == 112 ? a[p * lda + i] : a[i * lda + p]) * \\
                   (tb == 112 ? b[j * ldb + p] : b[p * ldb + j]); \\
        c[i * ldc + j] = alpha * sum; } }
GEMM(cblas_sgemm, float)
GEMM(cblas_dgemm, double)
"""


def test_products_go_to_the_systems_blas_where_there_is_one(
    products: Path, library_path: Path, compiler: str, tmp_path: Path
) -> None:
    (tmp_path / "blas.c").write_text(STUB_BLAS)
    stub = tmp_path / "libstubblas.so"
    subprocess.run(["cc", "-shared", "-fPIC", str(tmp_path / "blas.c"), "-o", str(stub)], check=True)
    script = f"""
import sys; sys.path.insert(0, {str(ROOT / "tests" / "native")!r})
import numpy as np; from pathlib import Path; from ctypes_runtime import NativeLibrary
runtime = NativeLibrary(Path({str(library_path)!r})).load(Path({str(products)!r}))
rng = np.random.default_rng(0)
for dtype in ("f4", "f8"):
    for ta in (0, 1):
        for tb in (0, 1):
            a, b = rng.standard_normal((2, 3, 5)).astype(dtype), rng.standard_normal((2, 5, 4)).astype(dtype)
            given = (a.swapaxes(1, 2) if ta else a), (b.swapaxes(1, 2) if tb else b)
            name = f"gemm_f{{8 * int(dtype[1])}}_{{ta}}{{tb}}0"
            (c,) = runtime.execute(*given, program=name)
            np.testing.assert_allclose(c, a @ b, rtol=1e-5, atol=1e-5)
"""
    environment = {**os.environ, "TESSERA_BLAS": str(stub), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == ["cblas_sgemm"] * 8 + ["cblas_dgemm"] * 8


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f8e4m3", "f8e5m2", "f32", "f64"])
def test_conversions_round_as_ml_dtypes_does(
    native: NativeLibrary, dtype: str, rng: np.random.Generator
) -> None:
    kind = DTYPES[dtype].numpy
    values = np.concatenate(
        [
            rng.standard_normal(500) * 10.0 ** rng.integers(-9, 9, 500),
            [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 448, 464, 465, 57344, 61440, 65504, 65519, 65520],
        ]
    ).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = values.astype(kind)
    found = native.convert(values, dtype)
    nan = np.isnan(expected.astype(np.float32))
    np.testing.assert_array_equal(np.isnan(found.astype(np.float32)), nan)
    bits = f"u{kind.itemsize}"
    np.testing.assert_array_equal(found.view(bits)[~nan], expected.view(bits)[~nan])
    np.testing.assert_array_equal(native.convert(found, "f64"), found.astype(np.float64))


def test_integers_that_do_not_fit_are_refused(native: NativeLibrary) -> None:
    np.testing.assert_array_equal(native.convert(np.array([-128, 127]), "i8"), np.array([-128, 127], np.int8))
    with pytest.raises(NativeError, match="holds 128, but i8 holds -128 to 127"):
        native.convert(np.array([1, 128]), "i8")
    with pytest.raises(NativeError, match="f32 values, which do not convert to i32 without loss"):
        native.convert(np.ones(3, np.float32), "i32")


@ts.kernel(grid=lambda n: ts.cdiv(n, 64), block=64)
def unsigned(x: ts.Array[ts.u32, "n"], y: ts.Array[ts.u64, "n"], z: ts.Array[ts.u16, "n"], scale: ts.u32):
    i = cuda.grid(1)
    if i < x.size:
        x[i] = x[i] * scale
        y[i] = y[i] // np.uint64(3)
        z[i] = z[i] >> 1


def test_unsigned_integers_keep_every_bit(
    native: NativeLibrary, tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "unsigned.tsc"
    AOTCompiler(target_architectures=host_cpu_targets()[:1]).compile(unsigned).save(str(path))
    x = rng.integers(0, 2**32, 90, dtype=np.uint32)
    y, z = rng.integers(2**63, 2**64, 90, dtype=np.uint64), rng.integers(0, 2**16, 90, dtype=np.uint16)
    loaded = native.load(path)
    found = loaded.execute(x, y, z, np.array(4_000_000_000, np.uint32))
    for a, b in zip(found, (x * np.uint32(4_000_000_000), y // 3, z >> 1), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    with pytest.raises(NativeError, match="holds -1, but u32 holds 0 to 4294967295"):
        loaded.execute(x, y, z, np.array(-1))
    with pytest.raises(NativeError, match=rf"holds {y.max()}, but|holds \d{{19,20}}, but i64 holds at most"):
        native.convert(y, "i64")
