"""The emulator as a device: GPU code of packages and artifacts, run without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numba import cuda

import tessera as ts
from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget
from tessera.emulator.sanitizer import Sanitizer
from tessera.package.package import Package
from tessera.program.artifact import Artifact
from tessera.program.dim import symbol
from tessera.program.errors import DeviceError, OutOfMemoryError
from tessera.program.program import Choice, Compare, Launch, Option
from tessera.reference import run_graph
from tessera.runtime import ArtifactSource, DeploymentPackage, open_artifact
from tessera.runtime.emulator import EmulatorDevice, best_code

ENGINES = ["compiled", "interpreter"]


@ts.kernel(grid=lambda n: ts.cdiv(n, 64), block=64)
def axpy(a: ts.f64, x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = a * x[i] + y[i]


@ts.kernel(grid=lambda n: ts.cdiv(n, 64), block=64)
def fill(n: ts.i64, value: ts.i32, y: ts.Array[ts.i32, "n"]):
    i = cuda.grid(1)
    if i < n:
        y[i] = value


@ts.kernel(grid=lambda n: n * 1_000_000_000, block=32)
def vast(n: ts.i32, y: ts.Array[ts.f32, 32]):
    y[cuda.threadIdx.x] = 1


@ts.kernel(grid=2, block=2)
def talk(y: ts.Array[ts.i32, 4]):
    i = cuda.grid(1)
    print("thread", i, y[i])
    y[i] += 1


class Net(ts.Module):
    """Two layers whose weights the plan prepares once."""

    def __init__(self) -> None:
        self.first = ts.Linear(24, 40, dtype=ts.bf16)
        self.second = ts.Linear(40, 5)

    def forward(self, x: Any) -> Any:
        return ts.softmax(self.second(ts.cast(ts.gelu(self.first(x)), ts.f32)), axis=-1)


def compiled(subject: Any, specs: Any = None, targets: tuple[str, ...] = ("sm_80",)) -> Artifact:
    """PTX alone: no cubin, which nothing here runs."""
    made = [CompilationTarget(architecture=target) for target in targets]
    return AOTCompiler(AOTConfig(targets=made, generate_cubin=False)).compile(subject, specs).artifact


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to run PTX."""
    name: str = request.param
    if name == "interpreter":
        # As where LLVM is not installed.
        monkeypatch.setattr("tessera.runtime.emulator.has_llvm", lambda: False)
    return name


def test_kernel_updates_its_output_and_leaves_its_input(engine: str, rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((2, 150)).astype(np.float32)
    before = y.copy()
    with open_artifact(compiled(axpy), "emulator", strict_device=True) as runtime:
        out = runtime.execute(2.5, x, y)
        assert runtime.device == "emulator"
        assert runtime.targets["axpy"] == "sm_80 ptx"
    np.testing.assert_allclose(out, 2.5 * x.astype(np.float64) + before, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(y, before)


def test_scalar_that_is_a_size_sets_the_grid(engine: str) -> None:
    with open_artifact(compiled(fill), "emulator", strict_device=True) as runtime:
        for n in (0, 1, 64, 100):
            np.testing.assert_array_equal(runtime.execute(n, -7, np.zeros(n, np.int32)), np.full(n, -7))


def test_model_agrees_with_the_reference_for_every_batch(engine: str, rng: np.random.Generator) -> None:
    net = Net()
    specs = [ts.TensorSpec(("batch", 24), ts.bf16)]
    traced = net.trace(specs)
    with open_artifact(compiled(net, specs), "emulator", strict_device=True) as runtime:
        for batch in (1, 7, 33, 7):
            x = rng.standard_normal((batch, 24)).astype(ts.bf16.numpy)
            (expected,) = run_graph(traced.graph, {"x": x}, traced.constants, precision="f64").values()
            np.testing.assert_allclose(runtime.execute(x), expected, atol=2e-2)
        usage = runtime.memory_usage()
    assert usage["in_use_bytes"] == 0
    assert usage["peak_bytes"] > 0
    assert usage["weights_bytes"] >= 24 * 40 * 2 + 40 * 5 * 4


def test_choice_takes_the_first_option_whose_guard_holds(engine: str) -> None:
    artifact = compiled(fill)
    (program,) = artifact.programs
    (plan,) = program.plans
    (launch,) = plan.steps
    assert isinstance(launch, Launch)
    skipped = msgspec.structs.replace(launch, grid=(0, 1, 1))
    guard = Compare(lhs=symbol("n"), op=">", rhs=10)
    choice = Choice(options=(Option(steps=(skipped,), guard=(guard,)), Option(steps=(launch,))))
    changed = msgspec.structs.replace(program, plans=(msgspec.structs.replace(plan, steps=(choice,)),))
    with open_artifact(Artifact((changed,), artifact.binaries), "emulator", strict_device=True) as runtime:
        np.testing.assert_array_equal(runtime.execute(5, 3, np.zeros(5, np.int32)), np.full(5, 3))
        np.testing.assert_array_equal(runtime.execute(20, 3, np.zeros(20, np.int32)), np.zeros(20))


def test_package_runs_on_the_emulator(tmp_path: Path, rng: np.random.Generator) -> None:
    Package.from_artifact(compiled(axpy), name="axpy").save(tmp_path / "axpy.tsd")
    x = rng.standard_normal(70).astype(np.float32)
    with DeploymentPackage.load(tmp_path / "axpy.tsd").create_runtime(
        device="emulator", enable_profiling=True, strict_device=True
    ) as runtime:
        np.testing.assert_allclose(runtime.execute(1.0, x, x), 2 * x, rtol=1e-6)
        profile = runtime.profile
    assert profile is not None
    assert [step.name for step in profile.steps] == ["axpy"]


def test_newest_architecture_with_ptx_is_taken() -> None:
    artifact = compiled(axpy, targets=("sm_70", "sm_90a", "sm_80"))
    (program,) = artifact.programs
    found = best_code(program, ArtifactSource(artifact))
    assert found is not None
    # Code for one architecture only comes after code that any newer one runs.
    assert found[0] == "sm_80"
    without = Artifact(artifact.programs, tuple(b for b in artifact.binaries if b.target != "sm_80"))
    found = best_code(program, ArtifactSource(without))
    assert found is not None
    assert found[0] == "sm_70"


def test_program_without_ptx_is_refused_with_what_to_do() -> None:
    artifact = compiled(axpy, targets=("cpu",))
    with pytest.raises(DeviceError, match=r"no PTX to emulate.*--arch sm_80"):
        open_artifact(artifact, "emulator", strict_device=True)


def test_working_memory_over_the_limit_is_refused() -> None:
    x = np.zeros(10_000, np.float32)
    with (
        open_artifact(compiled(axpy), "emulator", memory_pool_size="64KB", strict_device=True) as runtime,
        pytest.raises(OutOfMemoryError, match="118 KiB of working memory"),
    ):
        runtime.execute(1.0, x, x)


def test_bad_access_is_an_error_of_the_device(engine: str) -> None:
    @ts.kernel(grid=1, block=32)
    def far(x: ts.Array[ts.f32, 32]):
        x[cuda.threadIdx.x + 100_000_000] = 1

    with (
        open_artifact(compiled(far), "emulator", strict_device=True) as runtime,
        pytest.raises(DeviceError, match="tessera check FILE"),
    ):
        runtime.execute(np.zeros(32, np.float32))


def test_sanitized_runs_give_the_same_results(rng: np.random.Generator) -> None:
    """Buffers lie apart under the sanitizer, and nothing may depend on where they are."""
    net = Net()
    artifact = compiled(net, [ts.TensorSpec(("batch", 24), ts.bf16)])
    x = rng.standard_normal((9, 24)).astype(ts.bf16.numpy)
    sanitizer = Sanitizer()
    device = EmulatorDevice(sanitizer=sanitizer)
    loaded = device.load(artifact.programs[0], ArtifactSource(artifact))
    first, second = loaded.run([x], None), loaded.run([x], None)
    with open_artifact(artifact, "emulator", strict_device=True) as runtime:
        plain = runtime.execute(x)
    for (value,) in (first, second):
        np.testing.assert_allclose(value, plain, rtol=1e-5, atol=1e-6)
    assert not sanitizer.findings


def test_more_blocks_than_a_gpu_takes_are_refused_before_the_launch(engine: str) -> None:
    runtime = open_artifact(compiled(vast), "emulator")
    with pytest.raises(DeviceError, match="3000000000 blocks along x, a GPU takes 2147483647"):
        runtime.execute(3, np.zeros(32, np.float32))


def test_what_threads_print_comes_out_in_the_order_of_blocks(
    engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = open_artifact(compiled(talk), "emulator")
    for _ in range(2):
        runtime.execute(np.array([7, 8, 9, 5], np.int32))
        assert capsys.readouterr().out == "thread 0 7\nthread 1 8\nthread 2 9\nthread 3 5\n"


def test_launches_are_told_to_observers_until_forgotten(engine: str, rng: np.random.Generator) -> None:
    from tessera.runtime import launches

    heard: list[tuple[str, str, str]] = []

    def note(program: str, kernel: str, device: str) -> None:
        heard.append((program, kernel, device))

    launches.observe(note)
    try:
        test_kernel_updates_its_output_and_leaves_its_input(engine, rng)
    finally:
        launches.forget(note)
    told = list(heard)
    test_kernel_updates_its_output_and_leaves_its_input(engine, rng)
    assert told
    assert {device for _, _, device in told} == {"emulator"}
    assert heard == told
