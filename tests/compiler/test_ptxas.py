"""Kernels that ptxas assembles as whole programs: its report, its errors, and doing without it."""

import pytest
from numba import cuda, uint8

from tessera import gpu
from tessera.compiler import cubin
from tessera.compiler.cubin import ptx_to_cubin
from tessera.compiler.options import ToolOptions
from tessera.compiler.ptx import CudaKernel, Ptx, ir_to_ptx, lower
from tessera.compiler.ptxas import assemble, find_ptxas, gains, report
from tessera.program.artifact import Resources
from tessera.program.errors import ToolchainError

OPTIONS = ToolOptions("sm_90a")


def chained(out, steps):
    start = gpu.shared_address(cuda.shared.array(0, uint8, 1024), 0)
    a = gpu.wgmma_descriptor(start, 16, 1024, 128)
    c = gpu.zeros_f32(32)
    for _ in range(steps):
        gpu.wgmma_fence()
        c = gpu.wgmma_bf16(c, a, a, 1)
        c = gpu.wgmma_bf16(c, a, a, 1)
        gpu.wgmma_commit()
        c = gpu.wgmma_wait(0, c)
    out[cuda.threadIdx.x] = c[0]


def warpgroup_ptx() -> Ptx:
    kernel = CudaKernel("chained", chained, ("f32*", "i64"), threads=128, cc_dependent=True)
    return ir_to_ptx(lower(kernel, OPTIONS), kernel, OPTIONS)


def test_warpgroup_kernels_gain_and_others_do_not() -> None:
    assert gains(warpgroup_ptx().text)
    assert not gains(".visible .entry k() { ret; }")


def test_report_of_one_kernel_becomes_numbers() -> None:
    log = (
        "    16 bytes stack frame, 24 bytes spill stores, 28 bytes spill loads\n"
        "ptxas info    : Used 58 registers, used 1 barriers, 512 bytes smem"
    )
    assert report(log) == Resources(registers=58, stack_bytes=16, shared_bytes=512, spill_bytes=52)
    assert report("nothing") == Resources()


def test_same_bytes_from_every_folder(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = find_ptxas()
    if tool is None:
        pytest.skip("needs ptxas: pip install nvidia-cuda-nvcc-cu12")
    text = warpgroup_ptx().text
    first = assemble(tool, text, "chained", OPTIONS)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert assemble(tool, text, "chained", OPTIONS) == first
    with pytest.raises(ToolchainError, match="the assembler refused chained for sm_90a"):
        assemble(tool, text.replace("wgmma.fence", "wgmma.fince"), "chained", OPTIONS)


def test_without_ptxas_the_linker_assembles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cubin, "find_ptxas", lambda: None)
    code, resources = ptx_to_cubin(warpgroup_ptx(), "chained", OPTIONS)
    assert code.startswith(b"\x7fELF")
    assert resources.spill_bytes == 0
