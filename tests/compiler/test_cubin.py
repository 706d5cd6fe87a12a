from pathlib import Path

import pytest
from numba import cuda, float32
from sample_kernels import reverse, scale_c, with_helpers

from tessera.compiler.cubin import check_shared, parse_report, ptx_to_cubin, with_launch
from tessera.compiler.options import ToolOptions
from tessera.compiler.ptx import CudaKernel, Ptx, ir_to_ptx, lower
from tessera.program.artifact import Resources
from tessera.program.errors import ResourceError, ToolchainError

SCALE = CudaKernel("scale", scale_c, ("f32*", "f32*", "i64", "f32"), (True, False), threads=128)
REVERSE = CudaKernel("reverse", reverse, ("array:f32:1", "array:f32:1"), threads=256)


def cubin_of(kernel, target, **settings):
    options = ToolOptions(target, **settings)
    return ptx_to_cubin(ir_to_ptx(lower(kernel, options), kernel, options), kernel.name, options)


@pytest.mark.parametrize("target", ["sm_70", "sm_80", "sm_90", "sm_90a"])
def test_cubin_is_an_elf_file_with_its_resources(target):
    cubin, resources = cubin_of(REVERSE, target)
    assert cubin.startswith(b"\x7fELF")
    assert b".text.reverse" in cubin
    assert resources.shared_bytes == 1024
    assert 0 < resources.registers <= 255
    assert resources.spill_bytes == 0
    assert resources.stack_bytes == 0


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_kernel_without_shared_memory_reports_none_of_it(target):
    assert cubin_of(SCALE, target)[1].shared_bytes == 0


def test_register_limit_is_kept_and_spills_are_reported():
    def heavy(x, y):
        i = cuda.grid(1)
        a, b, c, d, e, f, g, h = x[i], x[i + 1], x[i + 2], x[i + 3], x[i + 4], x[i + 5], x[i + 6], x[i + 7]
        for _ in range(100):
            a, b, c, d = a * b + e, b * c + f, c * d + g, d * a + h
            e, f, g, h = e * a + b, f * b + c, g * c + d, h * d + a
        y[i] = a + b + c + d + e + f + g + h

    kernel = CudaKernel("heavy", heavy, ("f64*", "f64*"), threads=64)
    _, free = cubin_of(kernel, "sm_80")
    _, tight = cubin_of(kernel, "sm_80", max_registers=24)
    assert tight.registers <= 24 < free.registers
    assert free.spill_bytes == 0
    assert tight.spill_bytes > 0


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_every_optimization_level_assembles(level):
    assert cubin_of(SCALE, "sm_80", opt_level=level)[0].startswith(b"\x7fELF")


def test_debug_build_links_modules_apart():
    kernel = CudaKernel("with_helpers", with_helpers, ("array:f32:1", "array:f32:1"), threads=256)
    cubin, _ = cubin_of(kernel, "sm_80", debug=True, opt_level=0)
    assert b".debug_info" in cubin
    assert str(Path(__file__).parent).encode() not in cubin


def test_too_much_static_shared_memory_is_a_resource_error():
    def greedy(x):
        tile = cuda.shared.array(20000, float32)
        tile[cuda.threadIdx.x] = x[0]
        cuda.syncthreads()
        x[1] = tile[255 - cuda.threadIdx.x]

    with pytest.raises(ResourceError) as caught:
        cubin_of(CudaKernel("greedy", greedy, ("f32*",), threads=256), "sm_80")
    assert caught.value.required == 80000
    assert caught.value.limit == 48 << 10
    assert "dynamic" in caught.value.hint


def test_refused_ptx_is_a_toolchain_error():
    text = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry bad() { rot; }\n"
    with pytest.raises(ToolchainError, match="rot"):
        ptx_to_cubin(Ptx(text), "bad", ToolOptions("sm_80"))


def test_barrier_of_the_whole_grid_says_what_runs_it():
    def meet(x):
        x[0] = 1
        cuda.cg.this_grid().sync()
        x[1] = x[0]

    with pytest.raises(ToolchainError, match="waits for its whole grid") as caught:
        cubin_of(CudaKernel("meet", meet, ("f32*",), threads=32), "sm_80")
    assert "as_cuda()" in caught.value.hint


def test_launch_over_the_shared_cap_is_refused_with_both_numbers():
    with pytest.raises(ResourceError) as caught:
        check_shared(200_000, "k", "sm_90", 163840)
    assert (caught.value.required, caught.value.limit) == (200_000, 163840)
    assert "max_shared_memory_per_block" in caught.value.hint
    with pytest.raises(ResourceError, match="the architecture has"):
        check_shared(200_000, "k", "sm_80", None)


def test_launch_that_fits_no_multiprocessor_is_refused():
    with pytest.raises(ResourceError, match="200 registers × 1024 threads"):
        with_launch(
            Resources(registers=200, shared_bytes=0),
            "k",
            "sm_80",
            threads=1024,
            dynamic_shared_bytes=0,
            shared_cap=None,
        )


def test_occupancy_counts_dynamic_shared_memory():
    base = Resources(registers=32, shared_bytes=0, spill_bytes=0, stack_bytes=0)
    settings = {"threads": 256, "shared_cap": None}
    full = with_launch(base, "k", "sm_80", dynamic_shared_bytes=0, **settings)
    part = with_launch(base, "k", "sm_80", dynamic_shared_bytes=80 << 10, **settings)
    assert full.occupancy == 1.0
    assert part.occupancy == 0.25


def test_report_without_the_kernel_is_unknown_not_zero():
    assert parse_report("nothing here", "k", "sm_80") == Resources()
