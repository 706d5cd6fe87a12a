"""The CUDA path: without a driver, and against a driver made of host memory."""

import ctypes.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ctypes_runtime import NativeError, NativeLibrary
from native_project import ROOT

from tessera.package import Package
from tessera.program.artifact import Artifact, KernelBinary
from tessera.program.dim import ceildiv, symbol
from tessera.program.dtype import f32
from tessera.program.program import (
    Buffer,
    Constant,
    Extent,
    Launch,
    Plan,
    Pointer,
    Port,
    Program,
    ScalarInput,
)

HERE = Path(__file__).parent
N = symbol("n")


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(has_driver(), reason="there is an NVIDIA driver")
def test_a_machine_without_a_driver_says_so(
    native: NativeLibrary, digits_package: Callable[[str], Path]
) -> None:
    with pytest.raises(NativeError, match=r"no NVIDIA driver on this machine \(libcuda.so.1") as caught:
        native.load(digits_package("f32"), "cuda:0")
    assert caught.value.status == "device"
    assert 'use the device "cpu"' in caught.value.hint
    assert native.load(digits_package("f32"), "auto").device == "cpu"


def saxpy(targets: tuple[str, ...], **launch: object) -> Program:
    """`y = a * x + y` in place, with a weight: x is scaled by it into the arena, setup makes it twice."""
    scale = Launch(
        kernel="scale",
        grid=(N, 1, 1),
        args=(
            Pointer(space="input", name="x"),
            Pointer(space="persistent", name="twice"),
            Pointer(space="buffer", name="scaled"),
        ),
    )
    add = Launch(
        kernel="saxpy",
        grid=(ceildiv(N, 128), 1, 1),
        block=(128, 1, 1),
        args=(
            ScalarInput(name="a", dtype=f32),
            Pointer(space="buffer", name="scaled"),
            Pointer(space="output", name="y"),
            Extent(value=N),
        ),
        **launch,
    )
    square = Launch(
        kernel="scale",
        grid=(1, 1, 1),
        args=(
            Pointer(space="constant", name="w"),
            Pointer(space="constant", name="w"),
            Pointer(space="persistent", name="twice"),
        ),
    )
    return Program(
        name="forward",
        inputs=(
            Port(name="a", dtype=f32, kind="scalar"),
            Port(name="x", dtype=f32, shape=(N,)),
            Port(name="y", dtype=f32, shape=(N,)),
        ),
        outputs=(Port(name="y", dtype=f32, shape=(N,), initial="y"),),
        constants=(Constant(name="w", dtype=f32, shape=(1,)),),
        plans=(
            Plan(
                targets=targets,
                steps=(scale, add),
                buffers=(Buffer(name="scaled", offset_bytes=0, bytes=4 * N),),
                arena_bytes=4 * N,
                setup=(square,),
                persistent=(Buffer(name="twice", offset_bytes=0, bytes=4),),
                persistent_bytes=4,
            ),
        ),
    )


CODE = [("sm_80", "cubin"), ("sm_86", "cubin"), ("sm_90a", "cubin"), ("sm_75", "ptx"), ("sm_90", "ptx")]


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Saves the saxpy program with code of these targets and formats."""
    folder = tmp_path_factory.mktemp("stubs")

    def run(*code: tuple[str, str], prefix: str = "stub", **launch: object) -> Path:
        program = saxpy(tuple(dict.fromkeys(target for target, _ in code)), **launch)
        binaries = tuple(
            KernelBinary("forward", kernel, (kernel,), target, kind, f"{prefix} {target} {kind}".encode())
            for target, kind in code
            for kernel in ("saxpy", "scale")
        )
        artifact = Artifact((program,), binaries, {"w": np.array([3], np.float32)})
        count = len(list(folder.iterdir()))
        return Package.from_artifact(artifact, name="saxpy").save(folder / f"{count}.tsd")

    return run


SCRIPT = """
import ctypes, sys; sys.path.insert(0, {here!r})
import numpy as np; from pathlib import Path; from ctypes_runtime import NativeError, NativeLibrary
stub = ctypes.CDLL("libcuda.so.1")
stub.stub_context.restype = ctypes.c_void_p
stub.cuCtxSetCurrent(ctypes.c_void_p(4096))
native = NativeLibrary(Path({library!r}))
try:
    runtime = native.load(Path(sys.argv[1]), sys.argv[2])
    print(runtime.device)
    x, y = np.random.default_rng(0).standard_normal((2, 1000), dtype=np.float32)
    for n in (1000, 1, 0, 500):
        (found,) = runtime.execute(np.float32(2), x[:n], y[:n])
        np.testing.assert_allclose(found, y[:n] + 2 * 9 * x[:n], rtol=1e-5, atol=1e-5)
    print("right")
except NativeError as error:
    print(error)
else:
    del runtime
finally:
    assert stub.stub_context() == 4096, "the caller's context"
    runtime = None
    assert stub.stub_live() == 0, f"{{stub.stub_live()}} things were not given back"
"""


@pytest.fixture(scope="module")
def on_stub(tmp_path_factory: pytest.TempPathFactory, library_path: Path) -> Callable[..., tuple[str, str]]:
    """Runs a package in a process whose libcuda.so.1 is the stub; gives what it prints and what ran."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("stub")
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    stub = folder / "libcuda.so.1"
    subprocess.run([compiler, *flags, str(HERE / "cuda_stub.c"), "-o", str(stub)], check=True)

    def run(package: Path, device: str = "cuda:0", **settings: str) -> tuple[str, str]:
        environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(ROOT), **settings}
        script = SCRIPT.format(here=str(HERE), library=str(library_path))
        command = [sys.executable, "-c", script, str(package), device]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    return run


@pytest.mark.parametrize(
    ("cc", "chosen"),
    [
        ("86", "sm_86 cubin"),
        ("80", "sm_80 cubin"),
        ("89", "sm_86 cubin"),
        ("90", "sm_90a cubin"),
        ("75", "sm_75 ptx"),
        ("100", "sm_90 ptx"),
    ],
)
def test_the_best_code_for_the_gpu_is_loaded_and_right(
    save: Callable[..., Path], on_stub: Callable[..., tuple[str, str]], cc: str, chosen: str
) -> None:
    printed, ran = on_stub(save(*CODE), STUB_CC=cc)
    assert printed.split() == ["cuda:0", "right"]
    assert {line for line in ran.splitlines() if line.startswith("load")} == {f"load stub {chosen}"}


def test_launches_have_the_plans_grid_block_and_order(
    save: Callable[..., Path], on_stub: Callable[..., tuple[str, str]]
) -> None:
    _, ran = on_stub(save(("sm_86", "cubin")))
    launches = [line for line in ran.splitlines() if line.startswith("launch")]
    assert launches[0] == "launch scale grid 1 1 1 block 1 shared 0"
    assert launches[1] == "launch scale grid 1000 1 1 block 1 shared 0"
    assert launches[2] == "launch saxpy grid 8 1 1 block 128 shared 0"
    assert len(launches) == 7, "an empty grid is skipped"


def test_large_shared_memory_is_asked_for_once_and_checked(
    save: Callable[..., Path], on_stub: Callable[..., tuple[str, str]]
) -> None:
    _, ran = on_stub(save(("sm_86", "cubin"), shared_bytes=60_000))
    assert ran.count("attribute 8 = 60000") == 1
    printed, _ = on_stub(save(("sm_86", "cubin"), shared_bytes=200_000))
    assert "kernel 'saxpy': 200000 bytes of shared memory per block, Stub GPU 0 has 101376" in printed


def test_clusters_are_launched_as_such(
    save: Callable[..., Path], on_stub: Callable[..., tuple[str, str]]
) -> None:
    printed, ran = on_stub(save(("sm_90", "cubin"), cluster=(2, 1, 1)), STUB_CC="90")
    assert "right" in printed
    assert "cluster 4: 2 1 1" in ran


@pytest.mark.parametrize(
    ("device", "settings", "message"),
    [
        ("cuda:1", {}, "there is no GPU 1: 1 found (use cuda:0 to cuda:0"),
        ("cuda:0", {"STUB_GPUS": "0"}, "there is no GPU 0: 0 found"),
        ("cuda:0", {"STUB_CC": "70"}, "has no code for Stub GPU 0 (compute capability 7.0)"),
        ("cuda:0", {"STUB_FAIL": "cuInit"}, "the NVIDIA driver does not work: CUDA_ERROR_STUB (719)"),
        ("cuda:0", {"STUB_FAIL": "cuLaunchKernel"}, "kernel 'scale' cannot be launched: CUDA_ERROR_STUB"),
        ("cuda:0", {"STUB_FAIL": "cuStreamSynchronize"}, "CUDA_ERROR_STUB (719): the stub says so"),
    ],
)
def test_what_fails_on_a_gpu_says_what_and_gives_everything_back(
    save: Callable[..., Path],
    on_stub: Callable[..., tuple[str, str]],
    device: str,
    settings: dict[str, str],
    message: str,
) -> None:
    printed, _ = on_stub(save(*CODE), device, **settings)
    assert printed.startswith("device: ")
    assert message in printed


def test_code_that_the_driver_refuses_shows_its_log(
    save: Callable[..., Path], on_stub: Callable[..., tuple[str, str]]
) -> None:
    printed, _ = on_stub(save(("sm_80", "ptx"), prefix="nonsense"))
    assert "cannot be loaded on Stub GPU 0: line 1: this is no stub" in printed


def test_auto_takes_the_gpu_where_the_package_has_code_for_it(
    save: Callable[..., Path],
    on_stub: Callable[..., tuple[str, str]],
) -> None:
    assert on_stub(save(*CODE), "auto")[0].split() == ["cuda:0", "right"]
    printed, _ = on_stub(save(("sm_90", "cubin")), "auto")
    assert "has no code for this CPU" in printed
    assert "; and on a GPU: program 'forward' has no code for Stub GPU 0" in printed


@pytest.mark.gpu
@pytest.mark.skipif(not has_driver(), reason="needs a GPU: there is no NVIDIA driver")
def test_a_real_gpu_computes_what_the_cpu_does(compile_program: Callable[..., Path], tmp_path: Path) -> None:
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    package = tmp_path / "gpu.tsp"
    script = ROOT / "tests" / "runtime" / "gpu_package.py"
    architecture = f"sm_{found.replace('.', '')}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, script, package, architecture, "cpu"], check=True, env=environment)
    program = compile_program(HERE / "compare_devices.cpp", tmp_path / "compare")
    done = subprocess.run([program, package, "cuda:0", "cpu"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_comparing_a_device_with_itself_finds_no_difference(
    compile_program: Callable[..., Path], digits_package: Callable[[str], Path], tmp_path: Path
) -> None:
    program = compile_program(HERE / "compare_devices.cpp", tmp_path / "compare")
    command = [program, digits_package("bf16"), "cpu", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(line.endswith(": 0") for line in done.stdout.splitlines()[1:])
