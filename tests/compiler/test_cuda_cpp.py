"""Kernels from CUDA C++ files: compiled by NVRTC, emulated, packaged, and their mistakes named by line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tessera as ts
from tessera.compiler.cache import CompileCache
from tessera.compiler.cpp_types import kernel_types
from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget, DeploymentPackage
from tessera.program.errors import CompileError, InputError, KernelError, ToolchainError

HEADER = """#pragma once
template <typename T> __device__ T twice(T x) { return x + x; }
"""
SOURCE = """#include "own/common.cuh"
#include <cuda_fp16.h>

template <typename T>
__global__ void scale(const T *x, T *y, float a, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = T(a * float(twice(x[i])));
}

extern "C" __global__ void row_sums(const float *x, float *y, int rows, long long columns) {
    extern __shared__ float part[];
    float sum = 0;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) sum += x[blockIdx.x * columns + i];
    part[threadIdx.x] = sum;
    for (int step = blockDim.x / 2; step > 0; step /= 2) {
        __syncthreads();
        if (threadIdx.x < step) part[threadIdx.x] += part[threadIdx.x + step];
    }
    if (threadIdx.x == 0) y[blockIdx.x] = part[0];
}
"""
ROW_SUMS = {
    "x": ts.Array[ts.f32, "rows", "columns"],
    "y": ts.Array[ts.f32, "rows"],
    "rows": ts.Size[ts.i32, "rows"],
    "columns": ts.Size[ts.i64, "columns"],
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "common.cuh").write_text(HEADER)
    path = tmp_path / "kernels.cu"
    path.write_text(SOURCE)
    return path


def scale(source: Path, dtype: ts.DType = ts.f32, entry: str = "scale<float>", **more: Any) -> ts.CudaKernel:
    array = ts.Array[dtype, "n"]
    params = {"x": array, "y": array, "a": ts.f32, "n": ts.Size[ts.i32, "n"]}
    rest = {"grid": lambda n: ts.cdiv(n, 64), "block": 64, "outputs": "y", "params": params, **more}
    kernel: ts.CudaKernel = ts.cuda_kernel(source, entry=entry, **rest)
    return kernel


@pytest.mark.parametrize("n", [1, 64, 1000])
@pytest.mark.parametrize(("dtype", "entry"), [(ts.f32, "scale<float>"), (ts.f16, "scale<half>")])
def test_template_runs_from_its_ptx(
    source: Path, dtype: ts.DType, entry: str, n: int, rng: np.random.Generator
) -> None:
    x = rng.standard_normal(n).astype(dtype.numpy)
    y = np.zeros_like(x)
    result = scale(source, dtype, entry)(x, y, 1.25)
    np.testing.assert_allclose(y.astype(np.float64), 2.5 * x.astype(np.float64), rtol=1e-3)
    np.testing.assert_array_equal(np.asarray(result), y)


def test_decorated_declaration_with_dynamic_shared_memory(source: Path, rng: np.random.Generator) -> None:
    @ts.cuda_kernel(
        source, entry="row_sums", grid=lambda rows: rows, block=64, shared_bytes=256, outputs=("y",)
    )
    def sums(
        x: ts.Array[ts.f32, "rows", "columns"],
        y: ts.Array[ts.f32, "rows"],
        rows: ts.Size[ts.i32, "rows"],
        columns: ts.Size[ts.i64, "columns"],
    ) -> None: ...

    x = rng.standard_normal((7, 130)).astype(np.float32)
    y = np.zeros(7, np.float32)
    sums(x, y)
    np.testing.assert_allclose(y, x.astype(np.float64).sum(1), atol=1e-4)


def test_launch_with_a_grid_of_the_callers_choice(source: Path, rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((2, 100)).astype(np.float32)
    before = y.copy()
    scale(source)[1, 32](x, y, 0.5)
    np.testing.assert_array_equal(y, np.concatenate([x[:32], before[32:]]))


def test_package_holds_one_kernel_of_the_file_and_no_sizes_as_inputs(source: Path, tmp_path: Path) -> None:
    compiled = AOTCompiler(target_architectures=["sm_70", "sm_90", "cpu"]).compile(scale(source))
    compiled.save(tmp_path / "scale.tsc")
    package = DeploymentPackage.load(tmp_path / "scale.tsc")
    (program,) = package.programs.values()
    assert [p.name for p in program.inputs] == ["x", "y", "a"]
    assert program.targets == ("sm_70", "sm_90")
    assert any("CUDA C++" in note for note in compiled.artifact.notes)
    (ptx,) = (b.data.decode() for b in compiled.binaries if b.target == "sm_90" and b.format == "ptx")
    assert ".entry scale(" in ptx
    assert "row_sums(" not in ptx
    x = np.arange(5, dtype=np.float32)
    with package.create_runtime(device="emulator") as runtime:
        np.testing.assert_array_equal(runtime.execute({"x": x, "y": x, "a": 2.0}), 4 * x)


def test_cpu_alone_is_refused(source: Path) -> None:
    with pytest.raises(CompileError, match=r"CUDA C\+\+"):
        AOTCompiler(target_architectures=["cpu"]).compile(scale(source))


def test_machine_code_is_the_same_in_every_folder(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    (other / "own").mkdir(parents=True)
    (other / "own" / "common.cuh").write_text(HEADER)
    (other / "kernels.cu").write_text(SOURCE)
    config = AOTConfig(targets=[CompilationTarget("sm_80", ["-lineinfo"])])
    made = [
        AOTCompiler(config, cache=CompileCache.off()).compile(scale(path)).binaries
        for path in (source, other / "kernels.cu")
    ]
    assert [b.data for b in made[0]] == [b.data for b in made[1]]


@pytest.mark.parametrize("change", ["source", "header", "option", "nothing"])
def test_cache_knows_source_header_and_options(source: Path, tmp_path: Path, change: str) -> None:
    compiler = AOTCompiler(target_architectures=["sm_80"], cache=CompileCache(tmp_path / "cache"))
    compiler.compile(scale(source))
    options: tuple[str, ...] = ()
    if change == "source":
        source.write_text(SOURCE.replace("a * float", "1 + a * float"))
    elif change == "header":
        (tmp_path / "own" / "common.cuh").write_text(HEADER.replace("x + x", "x + x + x"))
    elif change == "option":
        options = ("-DUNUSED=1",)
    again = compiler.compile(scale(source, options=options))
    assert all(b.cached for b in again.binaries) == (change == "nothing")


def test_include_by_macro_is_never_answered_from_the_cache(source: Path, tmp_path: Path) -> None:
    source.write_text('#define WHICH "own/common.cuh"\n#include WHICH\n' + SOURCE.partition("\n")[2])
    compiler = AOTCompiler(target_architectures=["sm_80"], cache=CompileCache(tmp_path / "cache"))
    for _ in range(2):
        compiled = compiler.compile(scale(source))
        assert not any(b.cached for b in compiled.binaries)
    assert any("WHICH" in note for note in compiled.artifact.notes)


def test_options_and_include_dirs_reach_the_compiler(tmp_path: Path) -> None:
    (tmp_path / "headers").mkdir()
    (tmp_path / "headers" / "factor.h").write_text("#define FACTOR 3\n")
    (tmp_path / "k.cu").write_text(
        "#include <factor.h>\n"
        "__global__ void k(int *y, int n) { if (threadIdx.x < n) y[threadIdx.x] = FACTOR * PART; }"
    )
    kernel = ts.cuda_kernel(
        tmp_path / "k.cu", entry="k", grid=1, block=32, outputs="y",
        params={"y": ts.Array[ts.i32, "n"], "n": ts.Size[ts.i32, "n"]},
        options=["-DPART=5"], include_dirs=[tmp_path / "headers"],
    )  # fmt: skip
    y = np.zeros(9, np.int32)
    kernel(y)
    assert y.tolist() == [15] * 9


def test_register_limit_of_the_target_holds(source: Path) -> None:
    config = AOTConfig(targets=[CompilationTarget("sm_80", ["--maxrregcount=16"])])
    binary = AOTCompiler(config).compile(scale(source)).binaries[0]
    assert binary.resources is not None
    assert binary.resources.registers is not None
    assert binary.resources.registers <= 16


def test_mistake_is_named_by_its_line_and_column(source: Path) -> None:
    source.write_text(SOURCE.replace("twice(x[i])", "twize(x[i])"))
    with pytest.raises(CompileError, match="twize") as caught:
        AOTCompiler(target_architectures=["sm_80"]).compile(scale(source))
    place = caught.value.location
    assert place is not None
    assert (Path(place.file).name, place.line) == ("kernels.cu", 7)
    assert SOURCE.splitlines()[6].index("twice") == place.column


def test_mistake_in_a_header_is_named_there(source: Path) -> None:
    header = source.parent / "own" / "common.cuh"
    header.write_text(HEADER.replace("x + x", "x + z"))
    with pytest.raises(CompileError) as caught:
        AOTCompiler(target_architectures=["sm_80"]).compile(scale(source))
    place = caught.value.location
    assert place is not None
    assert (Path(place.file), place.line) == (header, 2)


def test_header_that_is_not_there_says_where_it_was_looked_for(source: Path) -> None:
    source.write_text(SOURCE.replace("common.cuh", "comon.cuh"))
    with pytest.raises(CompileError, match=r'cannot open source file "own/comon\.cuh"') as caught:
        AOTCompiler(target_architectures=["sm_80"]).compile(scale(source))
    place, hint = caught.value.location, caught.value.hint
    assert place is not None
    assert (place.line, place.column) == (1, SOURCE.index("own"))
    assert hint is not None
    assert str(source.parent) in hint
    assert "include_dirs=" in hint
    with pytest.raises(CompileError) as caught:
        AOTCompiler(target_architectures=["sm_80"]).compile(scale(source, include_dirs=["headers"]))
    assert "headers" in (caught.value.hint or "")
    assert "not there" in (caught.value.hint or "")


def test_entry_that_nvrtc_refuses_is_placed_at_the_function(source: Path) -> None:
    with pytest.raises(CompileError, match="entry='scale<flaot>': identifier \"flaot\"") as caught:
        AOTCompiler(target_architectures=["sm_80"]).compile(scale(source, entry="scale<flaot>"))
    place = caught.value.location
    assert place is not None
    assert "scale" in SOURCE.splitlines()[place.line - 1]
    assert "template argument" in (caught.value.hint or "")


def test_function_that_nothing_defines_is_named(source: Path) -> None:
    source.write_text(SOURCE.replace("template", "extern __device__ float nowhere(float);\ntemplate", 1))
    source.write_text(source.read_text().replace("float(twice(x[i]))", "nowhere(x[i])"))
    with pytest.raises(ToolchainError, match=r"scale uses nowhere \(_Z7nowheref\)") as caught:
        AOTCompiler(target_architectures=["sm_80"], cache=CompileCache.off()).compile(scale(source))
    assert caught.value.location is not None


def test_size_parameter_of_another_size_is_named() -> None:
    params = {"x": ts.Array[ts.f32, "n"], "n": ts.Size[ts.i32, "m"]}
    with pytest.raises(KernelError, match="name of a parameter that is the size m") as caught:
        ts.cuda_kernel(__file__, entry="f", params=params, outputs="x", grid=1, block=32)
    assert 'ts.Size[…, "n"]' in (caught.value.hint or "")


def test_two_kernels_compile_where_nothing_was_imported_before(source: Path) -> None:
    # Importing cuda.core in two threads at once leaves one of them without its Linker.
    (source.parent / "kernels.py").write_text(
        """import tessera as ts

def scale(name, dtype):
    params = {"x": ts.Array[dtype, "n"], "y": ts.Array[dtype, "n"], "a": ts.f32, "n": ts.Size[ts.i32, "n"]}
    return ts.cuda_kernel("kernels.cu", entry=f"scale<{name}>", params=params, outputs="y", grid=1, block=64)

wide = scale("float", ts.f32)
narrow = scale("half", ts.f16)
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "tessera", "compile", "kernels.py", "--arch", "sm_70,sm_80,sm_90", "--json"],
        cwd=source.parent,
        env={**os.environ, "TESSERA_CACHE_DIR": str(source.parent / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["kernels"]) == 6


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"entry": "scael<float>"}, "no __global__ function 'scael'"),
        ({"entry": "row_sums"}, "has 4 parameters of 8, 8, 4, 8 bytes"),
        ({"options": ["-std=c++99"]}, "NVRTC cannot compile"),
        ({"options": ["-G"]}, "cannot be one kernel's option"),
        ({"options": ["DTILE"]}, "is not a flag"),
    ],
)
def test_wrong_declaration_is_refused(source: Path, more: dict[str, Any], match: str) -> None:
    with pytest.raises((CompileError, KernelError), match=match):
        AOTCompiler(target_architectures=["sm_80"]).compile(scale(source, **more))


def test_missing_file_names_the_nearest(source: Path) -> None:
    with pytest.raises(KernelError, match=r"kernel\.cu") as caught:
        scale(source.with_name("kernel.cu"))
    assert caught.value.hint == "did you mean kernels.cu?"


def test_two_headers_of_one_name_are_refused(source: Path) -> None:
    (source.parent / "own" / "a.h").write_text('#include "b.h"\n')
    (source.parent / "own" / "b.h").write_text("")
    (source.parent / "b.h").write_text("")
    source.write_text('#include "own/a.h"\n#include "b.h"\n' + SOURCE)
    with pytest.raises(CompileError, match=r"'b\.h' is"):
        AOTCompiler(target_architectures=["sm_80"]).compile(scale(source))


def test_header_that_only_comments_include_changes_nothing(source: Path, tmp_path: Path) -> None:
    unused = source.parent / "unused.h"
    unused.write_text("#define A 1\n")
    source.write_text('/* #include "unused.h" */\n// #include "unused.h"\n' + SOURCE)
    compiler = AOTCompiler(target_architectures=["sm_80"], cache=CompileCache(tmp_path / "cache"))
    assert not any(b.cached for b in compiler.compile(scale(source)).binaries)
    unused.write_text("#define A 2\n")
    assert all(b.cached for b in compiler.compile(scale(source)).binaries)


def test_wrong_arguments_are_named(source: Path) -> None:
    x = np.ones(4, np.float32)
    with pytest.raises(InputError, match="x"):
        scale(source)(x.astype(np.float64), x, 1.0)
    with pytest.raises(InputError, match="missing"):
        scale(source)(x, x)


def test_size_of_a_numba_kernel_is_filled_in() -> None:
    from numba import cuda

    @ts.kernel(grid=lambda n: ts.cdiv(n, 32), block=32)
    def iota(y: ts.Array[ts.i32, "n"], half: ts.Size[ts.i32, "n // 2"]) -> None:
        i = cuda.grid(1)
        if i < half:
            y[i] = i + half

    y = np.zeros(10, np.int32)
    iota(y)
    assert y.tolist() == [5, 6, 7, 8, 9, 0, 0, 0, 0, 0]
    y[:] = 0
    iota[1, 32](y)
    assert y.tolist() == [5, 6, 7, 8, 9, 0, 0, 0, 0, 0]


TYPED = """
#include <cuda_fp16.h>
#include <cuda_bf16.h>
struct Pair { float a, b; };
template <class T> struct Box { T held; };
extern "C" __global__ void typed(const float4* __restrict__ x, __half2* h, unsigned short* b, const Pair* p,
                                 Box<Pair>* q, void* v, unsigned long long n, float s) { h[0].x = b[0]; }
extern "C" __global__ void reads(const float* x, const float* y, int n) {}
extern "C" __global__ void copy(const float* x, float* y, float s) {}
namespace ns { template <class T, int N> __global__ void copy(const T* x, T* y, T s) { y[N] = x[N] * s; } }
"""


def typed(path: Path, entry: str, outputs: str, **params: Any) -> Any:
    path.write_text(TYPED)
    kernel = ts.cuda_kernel(path, entry=entry, grid=1, outputs=outputs, params=params)
    return AOTCompiler(target_architectures=["sm_80"]).compile(kernel)


def test_vectors_bits_and_structures_hold_their_elements(tmp_path: Path) -> None:
    array = {"x": ts.f32, "h": ts.f16, "b": ts.bf16, "p": ts.f32, "q": ts.f32, "v": ts.i8}
    params = {name: ts.Array[dtype, "n"] for name, dtype in array.items()}
    assert typed(tmp_path / "t.cu", "typed", "h", **params, n=ts.i64, s=ts.f32)


F32, F16, F64 = (ts.Array[dtype, "n"] for dtype in (ts.f32, ts.f16, ts.f64))


@pytest.mark.parametrize(
    ("entry", "outputs", "params", "match", "hint"),
    [
        ("reads", "y", {"x": F64, "y": F32, "k": ts.i32},
         r"takes x as const float\*, declared is a pointer to ts.f64", "ts.f32"),
        ("copy", "y", {"x": F32, "y": F32, "s": ts.i32}, "takes s as float, declared is a number of ts.i32",
         "ts.f32"),
        ("reads", "y", {"x": F32, "y": F32, "k": ts.i32}, r"only reads y, which is const float\*",
         "out of outputs"),
        ("ns::copy<half, 2>", "y", {"x": F32, "y": F16, "s": ts.f16}, r"takes x as const __half\*", "ts.f16"),
        ("ns::copy<double, 0>", "y", {"x": F64, "y": F64, "s": ts.i64}, "takes s as double", "ts.f64"),
    ],
)  # fmt: skip
def test_type_that_cpp_does_not_take_is_named(
    tmp_path: Path, entry: str, outputs: str, params: dict[str, Any], match: str, hint: str
) -> None:
    with pytest.raises(KernelError, match=match) as caught:
        typed(tmp_path / "t.cu", entry, outputs, **params)
    assert hint in str(caught.value.hint)
    assert caught.value.location is not None


@pytest.mark.parametrize("flag", ["-G", "-lineinfo"])
def test_types_are_checked_in_code_for_debuggers_too(source: Path, flag: str) -> None:
    config = AOTConfig(targets=[CompilationTarget("sm_80", [flag])])
    assert AOTCompiler(config).compile(scale(source)).binaries
    with pytest.raises(KernelError, match="takes x as"):
        AOTCompiler(config).compile(scale(source, ts.i32))


def test_half_by_value_reaches_the_kernel(tmp_path: Path) -> None:
    path = tmp_path / "t.cu"
    path.write_text(TYPED)
    kernel = ts.cuda_kernel(
        path,
        entry="ns::copy<half, 2>",
        grid=1,
        block=1,
        outputs="y",
        params={"x": F16, "y": F16, "s": ts.f16},
    )
    x, y = np.arange(4, dtype=np.float16), np.zeros(4, np.float16)
    kernel(x, y, 1.5)
    np.testing.assert_array_equal(y, [0, 0, 3, 0])


def test_names_of_types_are_read_as_they_are_mangled() -> None:
    probe = "_Z19tessera_kernel_typeI{}Evv".format(
        "PFvPN2ns1QIfLi4EEEPKS2_PNS2_2InEP1ZINS1_IiLin2EEEEPS8_IfEPPfPVKxmbE"
    )
    assert [str(t) for t in kernel_types(probe) or ()] == [
        "ns::Q<float, 4>*", "const ns::Q<float, 4>*", "ns::Q<float, 4>::In*", "Z<ns::Q<int, -2>>*",
        "Z<float>*", "float**", "const long long*", "unsigned long", "bool",
    ]  # fmt: skip
    assert kernel_types("_Z5scalePf") is None
    assert kernel_types(probe.replace("x", "Dh")) is None
