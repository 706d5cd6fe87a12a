import numpy as np
import pytest
from numba import cuda, float32
from sample_kernels import saxpy, strided, transposed, with_atomic, with_barrier

import tessera as ts
from tessera.compiler.aot import AOTCompiler
from tessera.compiler.options import AOTConfig, CompilationTarget, ToolOptions
from tessera.compiler.raw_kernel import kernel_unit
from tessera.program.arch import host_cpu_targets
from tessera.program.errors import CompileError
from tessera.program.program import Extent, Immediate, Pointer, ScalarInput
from tessera.runtime import open_artifact

HERE = host_cpu_targets()[0]


def on_cpu(kernel, *inputs):
    compiled = AOTCompiler(target_architectures=["cpu"]).compile(kernel)
    with open_artifact(compiled.artifact, device="cpu") as runtime:
        return np.asarray(runtime.execute(*inputs))


def test_arguments_are_flattened_as_numba_passes_them():
    unit = kernel_unit(saxpy, [ToolOptions("sm_80")])
    (plan,) = unit.program.plans
    (launch,) = plan.steps
    n = unit.program.inputs[1].shape[0]
    null, item = Pointer(space="null"), Immediate(value=4, dtype=ts.i64)
    size, stride = Extent(value=n), Extent(value=4)
    assert launch.args == (
        ScalarInput(name="a", dtype=ts.f32),
        *(null, null, size, item, Pointer(space="input", name="x"), size, stride),
        *(null, null, size, item, Pointer(space="output", name="y"), size, stride),
    )
    assert launch.block == (256, 1, 1)


def test_written_array_is_an_output_that_starts_as_the_input():
    program = kernel_unit(saxpy, [ToolOptions("sm_80")]).program
    (output,) = program.outputs
    assert (output.name, output.initial) == ("y", "y")
    assert [p.name for p in program.inputs] == ["a", "x", "y"]
    assert program.inputs[0].kind == "scalar"
    assert program.graph is None


@pytest.mark.parametrize("n", [0, 1, 255, 256, 1000])
def test_serial_form_computes_what_numpy_does(rng, n):
    x, y = rng.normal(size=n).astype("f4"), rng.normal(size=n).astype("f4")
    before = y.copy()
    np.testing.assert_allclose(on_cpu(saxpy, np.float32(2.5), x, y), 2.5 * x + y, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(y, before)


@pytest.mark.parametrize("shape", [(1, 1), (8, 16), (33, 50)])
def test_two_axes_early_returns_and_device_functions(rng, shape):
    x = rng.normal(size=shape).astype("f4")
    exact = (x.astype("f8") / 4 + np.sqrt(np.abs(x.astype("f8")))).T
    result = on_cpu(transposed, x, np.zeros(shape[::-1], "f4"))
    np.testing.assert_allclose(result, exact, rtol=1e-6, atol=1e-6)


def test_grid_stride_loop_sees_the_sizes_of_block_and_grid(rng):
    x = rng.integers(-1000, 1000, 1500).astype("i4")
    np.testing.assert_array_equal(on_cpu(strided, x, np.zeros(1500, "i4")), x * 2 + 64 + 4000)


@pytest.mark.parametrize(
    ("kernel", "what"), [(with_barrier, "cuda.syncthreads (a barrier)"), (with_atomic, "cuda.atomic")]
)
def test_cooperation_alone_on_the_cpu_is_refused_with_its_line(kernel, what):
    with pytest.raises(CompileError) as caught:
        AOTCompiler(target_architectures=["cpu"]).compile(kernel)
    assert what in caught.value.message
    assert f"at line {caught.value.location.line}" in caught.value.message
    assert caught.value.location.file == kernel.source_file


def test_cooperation_among_several_targets_skips_the_cpu_with_a_note():
    compiled = AOTCompiler(target_architectures=["sm_80", "cpu"]).compile(with_barrier)
    assert compiled.programs[0].targets == ("sm_80",)
    assert {b.target for b in compiled.binaries} == {"sm_80"}
    assert any("cpu" in note and "cuda.syncthreads" in note for note in compiled.artifact.notes)


def test_cooperation_inside_a_device_function_is_found():
    from numba import cuda

    @cuda.jit(device=True)
    def which():
        return cuda.threadIdx.x

    @ts.kernel(grid=1, block=32)
    def kernel(x: ts.Array[ts.i32, "n"]):
        x[cuda.grid(1)] = which()

    globals()["which"] = which
    with pytest.raises(CompileError, match="threadIdx"):
        AOTCompiler(target_architectures=["cpu"]).compile(kernel)


def test_16_bit_floats_need_a_gpu():
    from numba import cuda

    @ts.kernel(grid=1, block=32)
    def kernel(x: ts.Array[ts.bf16, "n"]):
        i = cuda.grid(1)
        if i < x.size:
            x[i] = x[i] + x[i]

    compiled = AOTCompiler(target_architectures=["sm_80", "cpu"]).compile(kernel)
    assert any("bf16" in note for note in compiled.artifact.notes)
    with pytest.raises(CompileError, match="bf16"):
        AOTCompiler(target_architectures=["cpu"]).compile(kernel)


def test_kernel_that_reads_an_unknown_object_is_compiled_with_a_note():
    from numba import cuda

    class Odd:
        """Nothing that can be compared."""

    odd = Odd()

    @ts.kernel(grid=1, block=32)
    def kernel(x: ts.Array[ts.f32, "n"]):
        x[cuda.grid(1)] = odd

    unit = kernel_unit(kernel, [ToolOptions("sm_80")])
    assert unit.jobs[0].parts is None
    assert any("compiled anew" in note for note in unit.notes)


def test_misspelt_name_is_reported_before_any_compiler_runs():
    from numba import cuda

    @ts.kernel(grid=1, block=32)
    def kernel(x: ts.Array[ts.f32, "n"]):
        index = cuda.grid(1)  # noqa: F841
        x[idnex] = 1.0

    with pytest.raises(CompileError) as caught:
        AOTCompiler(target_architectures=["sm_80"]).compile(kernel)
    assert caught.value.hint == "did you mean index?"
    assert caught.value.location.column is not None


def test_integer_scalar_may_be_a_size(rng):
    from numba import cuda

    @ts.kernel(grid=lambda count: ts.cdiv(count, 32), block=32)
    def kernel(count: ts.i64, x: ts.Array[ts.f64, "n"]):
        i = cuda.grid(1)
        if i < count:
            x[i] = i

    result = on_cpu(kernel, np.int64(40), np.full(64, -1.0))
    np.testing.assert_array_equal(result, [*range(40), *[-1] * 24])
    assert HERE in AOTCompiler(target_architectures=["cpu"]).compile(kernel).programs[0].targets


@ts.kernel(grid=lambda n: ts.cdiv(n, 128), block=128)
def triple(x: ts.Array[ts.bf16, "n"], y: ts.Array[ts.bf16, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = float32(x[i]) * float32(3)


@ts.kernel(grid=lambda n: ts.cdiv(n, 128), block=128)
def f16_to_bf16(x: ts.Array[ts.f16, "n"], y: ts.Array[ts.bf16, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = x[i]


@pytest.mark.parametrize("kernel", [triple, f16_to_bf16])
def test_16_bit_floats_convert_both_ways_on_a_gpu(kernel):
    # The conversions are C++ functions that are linked in: their names must survive ours.
    compiled = AOTCompiler(target_architectures=["sm_75", "sm_90"]).compile(kernel)
    assert {(b.target, b.format) for b in compiled.binaries} >= {("sm_75", "cubin"), ("sm_90", "cubin")}


@ts.kernel(grid=lambda n: ts.cdiv(n, 128), block=128, outputs="y")
def polynomial(x: ts.Array[ts.bf16, "n"], h: ts.Array[ts.f16, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = float32(x[i] * x[i] + x[i]) - float32(h[i] / (h[i] * h[i] + h[i]))


@pytest.mark.parametrize("flags", [[], ["-lineinfo"], ["--use_fast_math"]])
def test_arithmetic_on_16_bit_floats_stays_in_registers(flags, rng):
    targets = [CompilationTarget(name, flags) for name in ("sm_70", "sm_80", "sm_90")]
    compiled = AOTCompiler(AOTConfig(targets=targets)).compile(polynomial)
    for binary in compiled.binaries:
        if binary.format == "cubin":
            assert (binary.resources.stack_bytes, binary.resources.spill_bytes) == (0, 0)
        else:
            text = binary.data.decode()
            assert "call" not in text
            assert text.count(".entry") == 1
            assert ('"test_raw_kernel.py", 1, 1' in text) == (flags == ["-lineinfo"])
    assert not compiled.artifact.notes
    import ml_dtypes

    x = rng.uniform(0.5, 2, 300).astype(ml_dtypes.bfloat16)
    h = rng.uniform(0.5, 2, 300).astype(np.float16)
    y = np.zeros(300, np.float32)
    polynomial(x, h, y)
    wide, half = x.astype(np.float64), h.astype(np.float64)
    np.testing.assert_allclose(y, wide * wide + wide - 1 / (half + 1), rtol=4e-2, atol=4e-2)
