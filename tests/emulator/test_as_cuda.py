"""Ordinary Numba CUDA code on the emulated device."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba.cuda")

from numba import cuda, float32, int32, vectorize, void

from tessera.emulator import as_cuda
from tessera.program.errors import ArchitectureError, DeviceError, ResourceError


@pytest.fixture(params=["llvm", "lockstep"])
def device(request: pytest.FixtureRequest) -> Iterator[object]:
    with as_cuda(engine=request.param) as found:
        yield found


@cuda.jit
def saxpy(a, x, y):
    i = cuda.grid(1)
    if i < x.size:
        y[i] += a * x[i]


@cuda.jit
def unguarded(x):
    x[cuda.grid(1)] = 1


def test_kernel_on_host_arrays_writes_them(device, rng) -> None:
    x, y = rng.random((2, 1000), np.float32)
    expected = y + np.float32(2) * x
    saxpy[4, 256](np.float32(2), x, y)
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_kernel_on_device_arrays_leaves_the_host_alone(device, rng) -> None:
    x, y = rng.random((2, 300), np.float32)
    on_device, before = cuda.to_device(y), y.copy()
    saxpy[3, 128](np.float32(-1), cuda.to_device(x), on_device)
    np.testing.assert_array_equal(y, before)
    np.testing.assert_allclose(on_device.copy_to_host(), y - x, rtol=1e-6)


def test_kernel_on_strided_views_touches_only_their_elements(device, rng) -> None:
    x, table = rng.random(50, np.float32), np.zeros((100, 3), np.float32)
    saxpy[1, 64](np.float32(1), x, table[::-2, 1])
    np.testing.assert_array_equal(table[::-2, 1], x)
    assert not table[::2].any()
    assert not table[:, [0, 2]].any()


def test_kernel_with_signature_device_function_shared_memory_and_barrier(device, rng) -> None:
    @cuda.jit(device=True)
    def square(v):
        return v * v

    @cuda.jit(void(float32[:], float32[:]))
    def norms(x, out):
        tile = cuda.shared.array(128, float32)
        t = cuda.threadIdx.x
        tile[t] = square(x[cuda.grid(1)])
        cuda.syncthreads()
        step = 64
        while step:
            if t < step:
                tile[t] += tile[t + step]
            cuda.syncthreads()
            step //= 2
        if t == 0:
            out[cuda.blockIdx.x] = tile[0]

    x, out = rng.random(512, np.float32), np.zeros(4, np.float32)
    norms[4, 128](x, out)
    np.testing.assert_allclose(out, (x.reshape(4, 128).astype(np.float64) ** 2).sum(1), rtol=1e-5)


def test_dynamic_shared_memory_and_two_dimensions(device, rng) -> None:
    @cuda.jit
    def transpose(a, b):
        tile = cuda.shared.array(0, float32)
        x, y = cuda.threadIdx.x, cuda.threadIdx.y
        tile[y * 8 + x] = a[cuda.blockIdx.y * 8 + y, cuda.blockIdx.x * 8 + x]
        cuda.syncthreads()
        b[cuda.blockIdx.x * 8 + y, cuda.blockIdx.y * 8 + x] = tile[x * 8 + y]

    a, b = rng.random((16, 24), np.float32), np.zeros((24, 16), np.float32)
    transpose[(3, 2), (8, 8), 0, 4 * 64](a, b)
    np.testing.assert_array_equal(b, a.T)


def test_atomics_votes_and_shuffles(device, rng) -> None:
    @cuda.jit
    def count(x, bins, ballots, sums):
        i = cuda.grid(1)
        cuda.atomic.add(bins, x[i], 1)
        ballots[i] = cuda.ballot_sync(0xFFFFFFFF, x[i] % 2 == 0)
        v = x[i]
        for step in (16, 8, 4, 2, 1):
            v += cuda.shfl_xor_sync(0xFFFFFFFF, v, step)
        sums[i] = v

    x = rng.integers(0, 8, 64).astype(np.int32)
    bins, ballots, sums = np.zeros(8, np.int32), np.zeros(64, np.uint32), np.zeros(64, np.int32)
    count[2, 32](x, bins, ballots, sums)
    np.testing.assert_array_equal(bins, np.bincount(x, minlength=8))
    for warp in (slice(0, 32), slice(32, 64)):
        assert set(ballots[warp]) == {sum(1 << i for i, v in enumerate(x[warp]) if v % 2 == 0)}
        assert set(sums[warp]) == {x[warp].sum()}


def test_engines_agree_on_many_blocks_with_loops(rng) -> None:
    @cuda.jit
    def escape(out, width):
        x, y = cuda.grid(2)
        c = complex(-2 + 3 * x / width, -1 + 2 * y / width)
        z, steps = complex(0, 0), 0
        while steps < 30 and z.real * z.real + z.imag * z.imag < 4:
            z, steps = z * z + c, steps + 1
        out[y, x] = steps

    results = []
    for engine in ("llvm", "lockstep"):
        out = np.zeros((16, 16), np.int32)
        with as_cuda(engine=engine):
            escape[(4, 4), (4, 4)](out, 16)
        results.append(out)
    np.testing.assert_array_equal(*results)
    assert len(np.unique(results[0])) > 5


def test_access_outside_an_array_in_many_blocks_is_an_error() -> None:
    x = np.zeros(100, np.float32)
    with as_cuda(engine="llvm"), pytest.raises(DeviceError, match="400 bytes"):
        unguarded[40, 32](x)


def test_blocks_of_a_cooperative_grid_wait_for_each_other(device) -> None:
    @cuda.jit
    def reverse(a):
        grid = cuda.cg.this_grid()
        i = cuda.grid(1)
        a[i] = i
        grid.sync()
        other = a[a.size - 1 - i]
        grid.sync()
        a[i] = other

    a = np.zeros(64, np.int32)
    reverse[4, 16](a)
    np.testing.assert_array_equal(a, np.arange(64)[::-1])


def test_tuples_records_and_complex_numbers_as_arguments(device) -> None:
    kind = np.dtype([("a", np.int32), ("b", np.float64)], align=True)

    @cuda.jit
    def fill(pair, records, z):
        i = cuda.grid(1)
        records[i].a = pair[0] + i
        records[i].b = pair[1][i] + z.imag

    records = np.zeros(4, kind)
    fill[1, 4]((7, np.arange(4.0)), records, 1 + 2j)
    assert records["a"].tolist() == [7, 8, 9, 10]
    assert records["b"].tolist() == [2.0, 3.0, 4.0, 5.0]


def test_constants_math_and_local_arrays(device, rng) -> None:
    table = np.arange(10, dtype=np.float64)

    @cuda.jit
    def work(x, out):
        i = cuda.grid(1)
        weights = cuda.const.array_like(table)
        local = cuda.local.array(4, float32)
        for j in range(4):
            local[j] = x[i] * j
        out[i] = weights[i] + math.exp(local[1]) + cuda.fma(local[2], 2.0, 1.0) + cuda.popc(i)

    x, out = rng.random(10), np.zeros(10)
    work[1, 10](x, out)
    bits = np.array([i.bit_count() for i in range(10)])
    np.testing.assert_allclose(out, table + np.exp(x) + 4 * x + 1 + bits, rtol=1e-6)


@pytest.mark.parametrize("make", [cuda.managed_array, cuda.mapped_array])
def test_memory_that_host_and_device_share(device, make) -> None:
    shared = make(32, np.float32)
    shared[:] = 3
    saxpy[1, 32](np.float32(2), cuda.to_device(np.ones(32, np.float32)), shared)
    np.testing.assert_array_equal(np.asarray(shared), np.full(32, 5, np.float32))


def test_host_memory_mapped_for_a_while(device) -> None:
    values = np.ones(32, np.float32)
    with cuda.mapped(values) as mapped:
        saxpy[1, 32](np.float32(1), mapped, mapped)
    np.testing.assert_array_equal(values, np.full(32, 2, np.float32))


def test_streams_and_events_keep_order_and_time(device) -> None:
    stream, start, end = cuda.stream(), cuda.event(), cuda.event()
    pinned = cuda.pinned_array(64, np.float32)
    pinned[:] = 1
    start.record(stream)
    on_device = cuda.to_device(pinned, stream=stream)
    saxpy[1, 64, stream](np.float32(1), on_device, on_device)
    on_device.copy_to_host(pinned, stream=stream)
    end.record(stream)
    stream.synchronize()
    assert (pinned == 2).all()
    assert 0 < cuda.event_elapsed_time(start, end) < 60_000
    assert end.query()


def test_forall_reduce_and_vectorize(device, rng) -> None:
    x, y = rng.random((2, 100), np.float32)
    expected = y + x
    saxpy.forall(100)(np.float32(1), x, y)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    total = cuda.reduce(lambda a, b: a + b)
    assert total(np.arange(500.0)) == 500 * 499 / 2

    @vectorize([float32(float32, float32)], target="cuda")
    def ratio(a, b):
        return a / b

    np.testing.assert_allclose(ratio(x, y), x / y, rtol=1e-6)


def test_print_inside_a_kernel_reaches_standard_output(device, capsys) -> None:
    @cuda.jit
    def hello(n):
        if cuda.grid(1) == 2:
            print("thread", cuda.grid(1), n)

    hello[1, 4](1.5)
    assert capsys.readouterr().out == "thread 2 1.500000\n"


def test_device_describes_itself(device, capsys) -> None:
    assert cuda.is_available()
    assert cuda.detect()
    assert "emulated sm_80" in capsys.readouterr().out
    gpu = cuda.get_current_device()
    assert (gpu.compute_capability, gpu.WARP_SIZE, gpu.MAX_THREADS_PER_BLOCK) == ((8, 0), 32, 1024)
    free, total = cuda.current_context().get_memory_info()
    kept = cuda.device_array(1 << 20, np.uint8)
    assert cuda.current_context().get_memory_info().free <= free - kept.nbytes
    assert total >= free


def test_kernel_shows_its_ptx_and_registers(device) -> None:
    @cuda.jit(void(int32[:]))
    def fill(x):
        x[cuda.grid(1)] = 1

    assert ".target sm_80" in next(iter(fill.inspect_asm().values()))
    assert 0 < fill.get_regs_per_thread() <= 255


def test_cc_chooses_the_gpu_and_unknown_ones_are_refused() -> None:
    with as_cuda((9, 0)):
        assert cuda.get_current_device().compute_capability == (9, 0)
    with pytest.raises(ArchitectureError, match="4, 2"), as_cuda((4, 2)):
        pass


def test_access_outside_an_array_is_an_error(device) -> None:
    @cuda.jit
    def beyond(x):
        x[cuda.grid(1) + 10_000_000] = 1

    with pytest.raises(DeviceError, match="nothing is allocated"):
        beyond[1, 32](np.zeros(4, np.float32))


def test_exception_of_a_debug_kernel_reaches_the_caller(device) -> None:
    @cuda.jit(debug=True, opt=False)
    def failing(x):
        if cuda.grid(1) == 3:
            raise ValueError("three")
        x[cuda.grid(1)] = 1

    with pytest.raises(ValueError, match=r"tid=\[0, 0, 3\].*three"):
        failing[1, 8](np.zeros(8))


def test_cuda_source_is_linked_with_the_kernel(device, tmp_path: Path) -> None:
    source = tmp_path / "twice.cu"
    source.write_text('extern "C" __device__ int twice(int *out, int x) { *out = 2 * x; return 0; }')
    twice = cuda.declare_device("twice", "int32(int32)", link=str(source))

    @cuda.jit
    def work(x):
        i = cuda.grid(1)
        x[i] = twice(i)

    x = np.zeros(5, np.int32)
    work[1, 5](x)
    assert x.tolist() == [0, 2, 4, 6, 8]


def test_afterwards_everything_is_as_before() -> None:
    from tessera.emulator import numba_cuda

    p = numba_cuda.parts()
    owners = [p.driver, p.devices, p.devicearray, p.dispatcher, p.nvrtc, p.nrt, p.config,
              p.driver.driver, p.codegen.CUDACodeLibrary, p.args.Out]  # fmt: skip
    was_available = cuda.is_available()
    before = [dict(vars(o)) for o in owners]
    kept = []

    def fail() -> None:
        with as_cuda():
            kept.append(cuda.to_device(np.zeros(3)))
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail()
    for owner, names in zip(owners, before, strict=True):
        after = dict(vars(owner))
        assert {k for k in names | after if names.get(k) is not after.get(k)} <= {"_logger"}
    assert cuda.is_available() == was_available
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept.clear()  # freed on the emulated device, though it is gone


def test_contexts_nest() -> None:
    with as_cuda() as outer, as_cuda() as inner:
        assert inner is outer
        with as_cuda((7, 5)):
            x = np.zeros(4, np.float32)
            saxpy[1, 4](np.float32(1), np.ones(4, np.float32), x)
            assert cuda.get_current_device().compute_capability == (7, 5)
        saxpy[1, 4](np.float32(1), np.ones(4, np.float32), x)
        assert cuda.get_current_device().compute_capability == (8, 0)
        assert (x == 2).all()


def test_threads_share_the_device_until_the_last_has_left() -> None:
    was_available = cuda.is_available()
    inside, leave, outcomes = threading.Barrier(2), threading.Event(), []

    def stay() -> None:
        with as_cuda():
            inside.wait()
            leave.wait()
            x = np.zeros(4, np.float32)
            saxpy[1, 4](np.float32(1), np.ones(4, np.float32), x)
            outcomes.append(x.tolist())

    thread = threading.Thread(target=stay)
    with as_cuda():
        thread.start()
        inside.wait()
    leave.set()
    thread.join()
    assert outcomes == [[1.0] * 4]
    assert cuda.is_available() == was_available


_TEST_FILE = """
import numpy as np
import pytest
from numba import cuda

pytestmark = pytest.mark.skipif(not cuda.is_available(), reason="no GPU")

@cuda.jit
def double(x):
    x[cuda.grid(1)] *= 2

def test_double():
    x = np.arange(8)
    double[1, 8](x)
    assert (x == 2 * np.arange(8)).all()
    assert cuda.get_current_device().compute_capability == (8, 6)
"""


def _pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"]
    if not entry_points(group="pytest11", name="tessera_cuda"):
        # Installed before there was a plugin.
        command += ["-p", "tessera.emulator.pytest_plugin"]
    return subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_pytest_plugin_runs_tests_of_kernels_without_a_gpu(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(textwrap.dedent(_TEST_FILE))
    on = _pytest(tmp_path, "--tessera-cuda", "--tessera-cuda-cc", "8.6")
    assert "1 passed" in on.stdout, on.stdout
    (tmp_path / "pytest.ini").write_text("[pytest]\ntessera_cuda = true\ntessera_cuda_cc = 8.6\n")
    assert "1 passed" in _pytest(tmp_path).stdout
    wrong = _pytest(tmp_path, "--tessera-cuda-cc", "eight")
    assert wrong.returncode == pytest.ExitCode.USAGE_ERROR


@cuda.jit
def much_shared(x):
    tile = cuda.shared.array(16384, float32)
    tile[cuda.threadIdx.x] = x[0]
    cuda.syncthreads()
    x[cuda.threadIdx.x] = tile[0]


def test_more_static_shared_memory_than_ptxas_takes_is_refused(device) -> None:
    with pytest.raises(ResourceError, match="65536 bytes of shared memory, ptxas takes 49152") as caught:
        much_shared[1, 32](np.ones(32, np.float32))
    assert "shared.array(0" in str(caught.value.hint)
