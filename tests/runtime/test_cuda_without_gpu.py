"""The CUDA device on a stand-in driver: host memory for the GPU's, native CPU kernels for cubins.

Argument arrays have the same form on both, so these kernels really run on what
the device laid out, copied and bound. What only a GPU can show is in `test_cuda_gpu.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from handmade import HIDDEN, TARGETS, mlp_weights, saxpy_program, softmax_program
from stand_in import StandIn

from tessera.program.artifact import Artifact
from tessera.program.dim import symbol
from tessera.program.dtype import bf16, f32, i32
from tessera.program.errors import DeviceError, MissingDependencyError, OutOfMemoryError
from tessera.program.program import (
    Buffer,
    Constant,
    Extent,
    Gemm,
    Launch,
    Plan,
    Pointer,
    Port,
    Program,
)
from tessera.runtime import ArtifactSource, DeviceFallbackWarning, open_artifact
from tessera.runtime.cuda import CudaDevice, choose_code
from tessera.runtime.cuda_driver import gpu_count
from tessera.runtime.profile import Recorder
from tessera.runtime.workspace import create_memory_pool

Build = Callable[..., Artifact]


def for_gpu(artifact: Artifact, target: str = "sm_90", kind: str = "cubin") -> Artifact:
    """The same artifact, its native code passed off as a GPU's."""
    programs = tuple(
        msgspec.structs.replace(
            p, plans=tuple(msgspec.structs.replace(plan, targets=(target,)) for plan in p.plans)
        )
        for p in artifact.programs
    )
    binaries = tuple(replace(b, target=target, format=kind) for b in artifact.binaries)
    return replace(artifact, programs=programs, binaries=binaries)


def layered_program() -> Program:
    """`relu(relu(x + b) + b)`: a constant, an arena, setup that widens a weight nobody else reads."""
    batch = symbol("batch")

    def step(source: Pointer, target: Pointer) -> Launch:
        bias = Pointer(space="persistent", name="b32")
        return Launch(
            kernel="bias_relu",
            grid=(batch, 1, 1),
            args=(source, bias, target, Extent(value=HIDDEN, dtype=i32)),
        )

    middle = Pointer(space="buffer", name="h")
    return Program(
        name="layered",
        inputs=(Port(name="x", dtype=f32, shape=(batch, HIDDEN)),),
        outputs=(Port(name="output", dtype=f32, shape=(batch, HIDDEN)),),
        constants=(Constant(name="b", dtype=bf16, shape=(HIDDEN,)),),
        plans=(
            Plan(
                targets=(TARGETS[0],),
                setup=(
                    Launch(
                        kernel="widen",
                        grid=(HIDDEN, 1, 1),
                        args=(Pointer(space="constant", name="b"), Pointer(space="persistent", name="b32")),
                    ),
                ),
                persistent=(Buffer(name="b32", offset_bytes=256, bytes=HIDDEN * 4),),
                persistent_bytes=256 + HIDDEN * 4,
                steps=(
                    step(Pointer(space="input", name="x"), middle),
                    step(middle, Pointer(space="output", name="output")),
                ),
                buffers=(Buffer(name="h", offset_bytes=64, bytes=batch * (HIDDEN * 4)),),
                arena_bytes=batch * (HIDDEN * 4) + 64,
            ),
        ),
    )


def load(artifact: Artifact, **options: Any) -> tuple[StandIn, CudaDevice, Any]:
    driver = StandIn()
    device = CudaDevice(driver, "cuda:0", **options)
    return driver, device, device.load(artifact.programs[0], ArtifactSource(artifact))


def test_kernel_runs_on_uploaded_inputs_and_scalars(build: Build, rng: np.random.Generator) -> None:
    driver, device, program = load(for_gpu(build(saxpy_program())))
    for n in (0, 1, 300, 1):
        x, y = rng.normal(size=(2, n)).astype(np.float32)
        (result,) = program.run([np.array(3, np.float32), x, y], None)
        np.testing.assert_allclose(result, 3 * x + y, rtol=1e-6, atol=1e-6)
    assert driver.uploaded == 302 * 2 * 4
    assert device.memory_usage()["in_use_bytes"] == 0
    assert program.target == "sm_90 cubin"


@pytest.mark.parametrize("batch", [0, 1, 7, 64])
def test_setup_weights_and_arena_work_together(build: Build, rng: np.random.Generator, batch: int) -> None:
    bias = mlp_weights(rng)["W"][0]
    _, device, program = load(for_gpu(build(layered_program(), constants={"b": bias})))
    x = rng.normal(size=(batch, HIDDEN)).astype(np.float32)
    (result,) = program.run([x], None)
    wide = bias.astype(np.float32)
    np.testing.assert_allclose(result, np.maximum(np.maximum(x + wide, 0) + wide, 0), rtol=1e-6)
    assert device.memory_usage()["weights_bytes"] == 2 * HIDDEN + 256 + HIDDEN * 4


def test_profile_has_device_time_of_each_launch(build: Build, rng: np.random.Generator) -> None:
    bias = mlp_weights(rng)["W"][0]
    _, _, program = load(for_gpu(build(layered_program(), constants={"b": bias})))
    recorder = Recorder()
    program.run([np.zeros((2, HIDDEN), np.float32)], recorder)
    program.run([np.zeros((2, HIDDEN), np.float32)], recorder)
    steps = recorder.snapshot("cuda:0").steps
    assert [(s.name, s.index, s.calls, s.mean_ms) for s in steps] == [
        ("bias_relu", 0, 2, 0.001),
        ("bias_relu", 1, 2, 0.001),
    ]


def test_limit_counts_inputs_outputs_and_arena(build: Build) -> None:
    _, _, program = load(for_gpu(build(softmax_program())), memory_limit_bytes=1 << 20)
    with pytest.raises(OutOfMemoryError, match="working memory") as caught:
        program.run([np.zeros((512, 512), np.float32)], None)
    assert caught.value.required == 2 * 512 * 512 * 4


def test_block_comes_back_after_a_failure(build: Build) -> None:
    driver, device, program = load(for_gpu(build(softmax_program())))
    driver.broken = True
    with pytest.raises(DeviceError, match="broken"):
        program.run([np.zeros((5, 5), np.float32)], None)
    assert device.memory_usage()["in_use_bytes"] == 0


def test_product_in_a_gpu_plan_is_refused(build: Build) -> None:
    program = softmax_program()
    x, out = Pointer(space="input", name="x"), Pointer(space="output", name="output")
    gemm = Gemm(dtype=f32, m=1, n=1, k=1, a=x, b=x, c=out)
    plan = msgspec.structs.replace(program.plans[0], steps=(gemm,))
    _, _, loaded = load(for_gpu(build(msgspec.structs.replace(program, plans=(plan,)))))
    with pytest.raises(DeviceError, match="BLAS"):
        loaded.run([np.zeros((1, 1), np.float32)], None)


def with_targets(artifact: Artifact, *codes: tuple[str, str]) -> Artifact:
    parts = [for_gpu(artifact, target, kind) for target, kind in codes]
    plans = {plan.targets: plan for part in parts for plan in part.programs[0].plans}
    program = msgspec.structs.replace(artifact.programs[0], plans=tuple(plans.values()))
    return replace(artifact, programs=(program,), binaries=tuple(b for p in parts for b in p.binaries))


@pytest.mark.parametrize(
    ("codes", "cc", "expected"),
    [
        ([("sm_80", "cubin"), ("sm_90", "cubin")], (9, 0), ("sm_90", "cubin")),
        ([("sm_80", "cubin"), ("sm_86", "cubin")], (8, 9), ("sm_86", "cubin")),
        ([("sm_90", "cubin"), ("sm_90a", "cubin")], (9, 0), ("sm_90a", "cubin")),
        ([("sm_80", "cubin"), ("sm_80", "ptx")], (8, 0), ("sm_80", "cubin")),
        ([("sm_80", "cubin"), ("sm_80", "ptx")], (9, 0), ("sm_80", "ptx")),
        ([("sm_70", "ptx"), ("sm_80", "ptx"), ("sm_90a", "ptx")], (12, 0), ("sm_80", "ptx")),
        ([("sm_90a", "ptx")], (9, 0), ("sm_90a", "ptx")),
    ],
)
def test_best_code_for_the_gpu_is_chosen(
    build: Build, codes: list[tuple[str, str]], cc: tuple[int, int], expected: tuple[str, str]
) -> None:
    artifact = with_targets(build(softmax_program()), *codes)
    _, target, kind = choose_code(artifact.programs[0], ArtifactSource(artifact), cc)
    assert (target, kind) == expected


@pytest.mark.parametrize(
    ("codes", "cc"),
    [
        ([("sm_90", "cubin")], (8, 0)),
        ([("sm_80", "cubin")], (9, 0)),
        ([("sm_90", "ptx")], (8, 9)),
        ([("sm_90a", "ptx"), ("sm_90a", "cubin")], (10, 0)),
    ],
)
def test_gpu_without_fitting_code_says_what_to_compile(
    build: Build, codes: list[tuple[str, str]], cc: tuple[int, int]
) -> None:
    artifact = with_targets(build(softmax_program()), *codes)
    with pytest.raises(DeviceError, match=f"capability {cc[0]}.{cc[1]}") as caught:
        choose_code(artifact.programs[0], ArtifactSource(artifact), cc)
    assert f"--arch sm_{cc[0]}{cc[1]}" in str(caught.value)


def has_gpu() -> bool:
    try:
        return gpu_count() > 0
    except DeviceError:
        return False


@pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
def test_missing_gpu_falls_back_to_the_cpu_and_says_so(build: Build, rng: np.random.Generator) -> None:
    with pytest.warns(DeviceFallbackWarning, match=r"cuda:0: .* running on cpu instead") as caught:
        runtime = open_artifact(build(softmax_program()), "cuda:0")
    assert caught[0].filename == __file__
    assert runtime.device == "cpu"
    assert runtime.execute(np.zeros((1, 4), np.float32)).tolist() == [[0.25] * 4]


@pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
def test_missing_gpu_is_an_error_where_devices_are_strict(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeviceError, match="device 'cuda:3' cannot run this"):
        open_artifact(build(softmax_program()), "cuda:3", strict_device=True)
    monkeypatch.setenv("TESSERA_STRICT_DEVICE", "1")
    with pytest.raises(DeviceError, match="device 'cuda:0' cannot run this"):
        open_artifact(build(softmax_program()), "cuda")


def test_missing_cupy_names_the_extra(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr("tessera.runtime.cuda_driver.gpu_count", lambda: 1)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cupy" else find(name))
    with pytest.raises(DeviceError, match="cupy") as caught:
        open_artifact(build(softmax_program()), "cuda:0", strict_device=True)
    assert caught.value.hint == "pip install 'tessera[cuda]'"
    assert isinstance(caught.value.__cause__, MissingDependencyError)


def test_index_out_of_range_says_how_many_there_are(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tessera.runtime.cuda_driver.gpu_count", lambda: 2)
    with pytest.raises(DeviceError, match="no GPU 2: 2 found") as caught:
        open_artifact(build(softmax_program()), "cuda:2", strict_device=True)
    assert "cuda:0 to cuda:1" in (caught.value.hint or "")


def test_lent_memory_holds_inputs_outputs_and_arena(build: Build, rng: np.random.Generator) -> None:
    _, device, program = load(for_gpu(build(saxpy_program())))
    x, y = rng.normal(size=(2, 300)).astype(np.float32)
    pool = create_memory_pool("1MB")
    with pool.get_buffer() as buffer:
        for _ in range(3):
            (result,) = program.run([np.array(3, np.float32), x, y], None, buffer)
            np.testing.assert_allclose(result, 3 * x + y, rtol=1e-6, atol=1e-6)
        assert buffer.bytes >= 3 * 1200
    assert pool.allocations == 1
    assert device.memory_usage()["peak_bytes"] == 0
    on_cpu = open_artifact(build(saxpy_program()))
    with (
        pool.get_buffer() as buffer,
        pytest.raises(DeviceError, match="is of cuda:0, the program runs on cpu"),
    ):
        on_cpu.execute(3, x, y, workspace=buffer)
