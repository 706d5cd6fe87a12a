import numpy as np
import pytest
from numba import cuda, float32

import tessera as ts
from tessera.compiler.aot import AOTCompiler
from tessera.compiler.options import AOTConfig, CompilationTarget

TERMS = 40
SOURCE = """
template <int VEC> __global__ void scale(const float* x, float* y, int n) {
  int i = (blockIdx.x * blockDim.x + threadIdx.x) * VEC;
  #pragma unroll
  for (int k = 0; k < VEC; ++k) if (i + k < n) y[i + k] = x[i + k] * FACTOR;
}
"""


def mixed(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    """Holds 40 numbers at once: none can be added up before the last is there."""
    i = cuda.grid(1)
    held = cuda.local.array(TERMS, float32)
    for k in range(TERMS):
        held[k] = x[(i + k * 977) % x.shape[0]]
    total = held[0]
    for k in range(TERMS):
        total = total * held[TERMS - 1 - k] + held[k]
    y[i] = total


def compiled(kernel, *flags):
    config = AOTConfig(targets=[CompilationTarget("sm_80", ["-O3", *flags])])
    binaries = AOTCompiler(config).compile(kernel).binaries
    ptx = next(b.data.decode() for b in binaries if b.format == "ptx")
    head = ptx[ptx.index(".entry") : ptx.index("{", ptx.index(".entry"))]
    return head, next(b.resources for b in binaries if b.format == "cubin")


def test_bounds_reach_the_assembler():
    free, most = compiled(ts.kernel(grid=4, block=256)(mixed))
    assert ".minnctapersm" not in free
    assert ".maxntid 256" in free
    head, bounded = compiled(ts.kernel(grid=4, block=256, min_blocks=8)(mixed))
    assert ".minnctapersm 8" in head
    # 65,536 registers for 8 blocks of 256 threads.
    assert bounded.registers <= 32 < most.registers
    head, limited = compiled(ts.kernel(grid=4, block=256, max_registers=24)(mixed))
    assert ".maxnreg 24" in head
    assert limited.registers <= 24


def test_the_lower_of_the_kernels_and_the_targets_limit_holds():
    kernel = ts.kernel(grid=4, block=256, max_registers=40)(mixed)
    assert ".maxnreg 24" in compiled(kernel, "--maxrregcount=24")[0]
    assert ".maxnreg 40" in compiled(kernel, "--maxrregcount=64")[0]


def test_bounds_may_be_tuned():
    kernel = ts.kernel(
        tune={"LEAST": [1, 8]},
        grid=4,
        block=256,
        min_blocks=lambda LEAST: LEAST,
    )(mixed)
    texts = [compiled(kernel.configured({"LEAST": n}))[0] for n in (1, 8)]
    assert [f".minnctapersm {n}" in text for n, text in zip((1, 8), texts, strict=True)] == [True, True]


@pytest.fixture
def cpp(tmp_path):
    (tmp_path / "scale.cu").write_text(SOURCE)
    return ts.cuda_kernel(
        tmp_path / "scale.cu",
        entry="scale<{VEC}>",
        tune={"VEC": [1, 4], "FACTOR": ["2.0f", "(1.0f + 3.0f)"]},
        grid=lambda n, VEC: ts.cdiv(n, 128 * VEC),
        block=128,
        min_blocks=12,
        outputs="y",
        params={"x": ts.Array[ts.f32, "n"], "y": ts.Array[ts.f32, "n"], "n": ts.Size[ts.i32, "n"]},
    )


def test_tuned_values_of_cuda_cpp_are_template_arguments_and_macros(cpp, rng, monkeypatch):
    monkeypatch.setenv("TESSERA_DEVICE", "emulator")
    x = rng.normal(size=1000).astype("f4")
    for vec in (1, 4):
        for factor, value in (("2.0f", 2), ("(1.0f + 3.0f)", 4)):
            chosen = cpp.configured({"VEC": vec, "FACTOR": factor})
            result = chosen(x, np.zeros(1000, "f4")).numpy()
            np.testing.assert_allclose(result, x.astype("f8") * value, rtol=1e-6)
    head, resources = compiled(cpp)
    assert ".maxntid 128, 1, 1" in head
    assert ".minnctapersm 12" in head
    assert resources.registers <= 40
