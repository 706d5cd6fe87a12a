"""Execution on a real GPU, compared with the reference.

The package is compiled here, or made elsewhere by `gpu_package.py` and named
by `TESSERA_GPU_PACKAGE`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_package import CASES, FUNCTIONS, WIDTH, build

import tessera as ts
from tessera.program.artifact import Artifact, KernelBinary
from tessera.program.dim import symbol
from tessera.program.dtype import DType, bf16, f16, f32, i32
from tessera.program.errors import DeviceError, MissingDependencyError, OutOfMemoryError
from tessera.program.program import Extent, Launch, Plan, Pointer, Port, Program
from tessera.runtime import DeploymentPackage, Runtime, open_artifact
from tessera.runtime.cuda_driver import CupyDriver, open_driver

TOLERANCE = {f32: 1e-4, f16: 1e-2, bf16: 5e-2}
"""Absolute and relative: sums over up to 384 numbers, in another order than the reference's."""


def missing() -> str | None:
    """Why there is nothing to run on."""
    try:
        open_driver(0)
    except (DeviceError, MissingDependencyError) as error:
        return error.message
    return None


REASON = missing()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=f"needs a GPU: {REASON}")]


@pytest.fixture(scope="module")
def driver() -> CupyDriver:
    return open_driver(0)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, driver: CupyDriver) -> DeploymentPackage:
    made = os.environ.get("TESSERA_GPU_PACKAGE")
    if made:
        return DeploymentPackage.load(made)
    path: Path = tmp_path_factory.mktemp("gpu") / "gpu.tsp"
    build(path, [f"sm_{driver.cc[0]}{driver.cc[1]}"])
    return DeploymentPackage.load(path)


@pytest.fixture(scope="module")
def gpu(package: DeploymentPackage) -> Iterator[Runtime]:
    runtime = package.create_runtime("cuda:0", strict_device=True)
    yield runtime
    runtime.close()


@pytest.fixture(scope="module")
def oracle(package: DeploymentPackage) -> Runtime:
    graphs = {name: p for name, p in package.programs.items() if p.graph is not None}
    constants = {c.name: package.constant(c.name) for p in graphs.values() for c in p.constants}
    return open_artifact(Artifact(tuple(graphs.values()), (), constants), "reference", strict_device=True)


def inputs_for(name: str, dtype: DType, batch: int, rng: np.random.Generator) -> list[np.ndarray]:
    shapes = [tuple(batch if d == "batch" else d for d in shape) for shape in FUNCTIONS[name][1]]
    # Weights of a product are small, as trained ones are: results of size one.
    return [
        (rng.normal(size=s) / (s[0] ** 0.5 if i else 1)).astype(dtype.numpy) for i, s in enumerate(shapes)
    ]


@pytest.mark.parametrize("batch", [1, 7, 64, 1000, 0])
@pytest.mark.parametrize(("name", "dtype"), CASES, ids=lambda v: str(v))
def test_gpu_code_equals_the_reference(
    gpu: Runtime, oracle: Runtime, rng: np.random.Generator, name: str, dtype: DType, batch: int
) -> None:
    if name == "reductions" and batch == 0:
        pytest.skip("the mean over an empty axis is not a number")
    given = inputs_for(name, dtype, batch or 1, rng)
    if batch == 0:
        given = [v[:0] if FUNCTIONS[name][1][i][0] == "batch" else v for i, v in enumerate(given)]
    found, expected = (r.execute(f"{name}_{dtype}", *given) for r in (gpu, oracle))
    if not isinstance(found, dict):
        found, expected = {"output": found}, {"output": expected}
    for key, value in found.items():
        assert value.dtype == dtype.numpy
        assert value.shape == expected[key].shape
        np.testing.assert_allclose(
            value.astype(np.float64),
            expected[key].astype(np.float64),
            rtol=TOLERANCE[dtype],
            atol=TOLERANCE[dtype],
            err_msg=key,
        )


@pytest.mark.parametrize("n", [0, 1, 255, 256, 257, 1_000_003])
def test_raw_kernel_updates_a_copy(gpu: Runtime, rng: np.random.Generator, n: int) -> None:
    x, y = rng.normal(size=(2, n)).astype(np.float32)
    before = y.copy()
    result = gpu.execute("saxpy", 2.5, x, y)
    np.testing.assert_allclose(result, 2.5 * x.astype(np.float64) + y, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(y, before)


def test_runtime_says_what_it_runs_on(gpu: Runtime, driver: CupyDriver) -> None:
    assert gpu.device == "cuda:0"
    assert driver.name in gpu.device_description
    assert all(target.startswith("sm_") for target in gpu.targets.values())


def test_nan_stays_nan(gpu: Runtime) -> None:
    x = np.zeros((2, WIDTH), np.float32)
    x[1, 3] = np.nan
    result = gpu.execute("softmax_f32", x)
    np.testing.assert_allclose(result[0], 1 / WIDTH, rtol=1e-5)
    assert np.isnan(result[1]).all()


def test_threads_share_one_gpu(gpu: Runtime, rng: np.random.Generator) -> None:
    failures: list[int] = []

    def work(seed: int) -> None:
        own = np.random.default_rng(seed)
        for _ in range(20):
            x = own.normal(size=(int(own.integers(1, 300)), WIDTH)).astype(np.float32)
            e = np.exp(x - x.max(axis=1, keepdims=True))
            if not np.allclose(gpu.execute("softmax_f32", x), e / e.sum(axis=1, keepdims=True), atol=1e-5):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert gpu.memory_usage()["in_use_bytes"] == 0


def test_batch_in_parts_equals_the_whole(gpu: Runtime, rng: np.random.Generator) -> None:
    x = rng.normal(size=(100, WIDTH)).astype(np.float32)
    parts = gpu.execute_batch("softmax_f32", x, max_batch_size=32)
    np.testing.assert_allclose(parts, gpu.execute("softmax_f32", x), rtol=1e-6)


def test_profile_has_device_times(package: DeploymentPackage, rng: np.random.Generator) -> None:
    runtime = package.create_runtime("cuda:0", enable_profiling=True, strict_device=True)
    given = inputs_for("mlp", f32, 512, rng)
    for _ in range(3):
        runtime.execute("mlp_f32", *given)
    profile = runtime.profile
    assert profile is not None
    assert profile.executions == 3
    assert all(step.calls == 3 and 0 < step.min_ms < 1000 for step in profile.steps)
    assert sum(step.total_ms for step in profile.steps) < profile.total_ms
    runtime.close()


def test_limit_and_full_device_are_out_of_memory(package: DeploymentPackage, driver: CupyDriver) -> None:
    runtime = package.create_runtime("cuda:0", memory_pool_size="1MB", strict_device=True)
    with pytest.raises(OutOfMemoryError, match="memory_pool_size"):
        runtime.execute("softmax_f32", np.zeros((10_000, WIDTH), np.float32))
    with driver.current():
        _, total = driver.free_and_total_bytes()
        with pytest.raises(OutOfMemoryError) as caught:
            driver.allocate(total * 2)
    assert caught.value.required == total * 2
    assert 0 < caught.value.available < total
    assert runtime.execute("softmax_f32", np.zeros((1, WIDTH), np.float32)).shape == (1, WIDTH)


def test_closing_gives_memory_back(package: DeploymentPackage) -> None:
    runtime = package.create_runtime("cuda:0", strict_device=True)
    runtime.execute("softmax_f32", np.zeros((200_000, WIDTH), np.float32))
    before = runtime.memory_usage()["device_free_bytes"]
    device = runtime._state.device
    runtime.close()
    assert device.memory_usage()["device_free_bytes"] - before >= 2 * 200_000 * WIDTH * 4


def test_index_out_of_range_is_an_error(package: DeploymentPackage) -> None:
    with pytest.raises(DeviceError, match="no GPU 99"):
        package.create_runtime("cuda:99", strict_device=True)


def test_function_that_is_called_runs_on_the_gpu(rng: np.random.Generator) -> None:
    pytest.importorskip("numba.cuda", reason="needs the compiler")
    from tessera.deploy.eager import place

    assert place().device == "cuda:0"
    x = rng.normal(size=(5, 40)).astype(np.float32)
    result = ts.jit(lambda x: ts.relu(x) * 2.0)(x)
    np.testing.assert_allclose(result.numpy(), np.maximum(x, 0) * 2, rtol=1e-6)


HEAD = ".version 7.8\n.target {target}\n.address_size 64\n"
CLUSTER = """.visible .entry cluster_rank(.param .u64 out)
{
    .reg .u32 %r<3>;
    .reg .u64 %rd<4>;
    ld.param.u64 %rd1, [out];
    cvta.to.global.u64 %rd1, %rd1;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %cluster_ctarank;
    mul.wide.u32 %rd2, %r1, 4;
    add.s64 %rd3, %rd1, %rd2;
    st.global.u32 [%rd3], %r2;
    ret;
}
"""
SHARED = """.extern .shared .align 16 .b8 memory[];
.visible .entry last_word(.param .u64 out, .param .u64 offset)
{
    .reg .u32 %r<3>;
    .reg .u64 %rd<5>;
    ld.param.u64 %rd1, [out];
    cvta.to.global.u64 %rd1, %rd1;
    ld.param.u64 %rd2, [offset];
    mov.u64 %rd3, memory;
    add.s64 %rd4, %rd3, %rd2;
    mov.u32 %r1, 42;
    st.shared.u32 [%rd4], %r1;
    ld.shared.u32 %r2, [%rd4];
    st.global.u32 [%rd1], %r2;
    ret;
}
"""
TRAP = """.visible .entry trap(.param .u64 out)
{
    trap;
    ret;
}
"""


def assembled(target: str, text: str, **launch: Any) -> Runtime:
    """A runtime for one kernel in PTX whose output is `out: i32(n)`."""
    if open_driver(0).cc < (int(target[3]), int(target[4])):
        pytest.skip(f"needs {target}")
    n = symbol("n")
    program = Program(
        name="assembled",
        inputs=(Port(name="like", dtype=i32, shape=(n,)),),
        outputs=(Port(name="out", dtype=i32, shape=(n,)),),
        plans=(Plan(targets=(target,), steps=(Launch(**launch),)),),
    )
    code = (HEAD.format(target=target) + text).encode()
    binary = KernelBinary("assembled", "kernel", (launch["kernel"],), target, "ptx", code)
    return open_artifact(Artifact((program,), (binary,)), "cuda:0", strict_device=True)


OUT = Pointer(space="output", name="out")


def test_ptx_runs_where_no_cubin_fits_and_clusters_have_their_shape() -> None:
    n = symbol("n")
    runtime = assembled(
        "sm_90", CLUSTER, kernel="cluster_rank", grid=(n, 1, 1), cluster=(4, 1, 1), args=(OUT,)
    )
    assert runtime.targets == {"assembled": "sm_90 ptx"}
    assert runtime.execute(np.zeros(12, np.int32)).tolist() == [0, 1, 2, 3] * 3
    with pytest.raises(DeviceError, match="clusters of"):
        runtime.execute(np.zeros(10, np.int32))


@pytest.mark.parametrize("size", [1 << 10, 48 << 10, 96 << 10])
def test_dynamic_shared_memory_beyond_the_default_is_allowed(size: int) -> None:
    runtime = assembled(
        "sm_70",
        SHARED,
        kernel="last_word",
        grid=(1, 1, 1),
        shared_bytes=size,
        args=(OUT, Extent(value=size - 4)),
    )
    assert runtime.execute(np.zeros(1, np.int32)).tolist() == [42]


def test_shared_memory_beyond_the_device_is_an_error() -> None:
    runtime = assembled(
        "sm_70",
        SHARED,
        kernel="last_word",
        grid=(1, 1, 1),
        shared_bytes=1 << 20,
        args=(OUT, Extent(value=0)),
    )
    with pytest.raises(DeviceError, match="1048576 bytes of shared memory"):
        runtime.execute(np.zeros(1, np.int32))


def test_code_that_the_driver_refuses_is_an_error() -> None:
    with pytest.raises(DeviceError, match="cannot be loaded"):
        assembled("sm_70", "this is no PTX", kernel="f", grid=(1, 1, 1), args=())


def test_failing_kernel_is_a_device_error(tmp_path: Path) -> None:
    # In a process of its own: a trap leaves the GPU's context unusable.
    script = tmp_path / "trap.py"
    script.write_text(
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "import numpy as np, test_cuda as t\n"
        "from tessera.program.errors import DeviceError\n"
        "runtime = t.assembled('sm_70', t.TRAP, kernel='trap', grid=(1, 1, 1), args=(t.OUT,))\n"
        "try:\n    runtime.execute(np.zeros(1, np.int32))\n"
        "except DeviceError as error:\n    print('DeviceError:', error.message, flush=True)\n"
        "os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(Path(__file__).parent)], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("DeviceError: the GPU reports a failure"), done.stderr
