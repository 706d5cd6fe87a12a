"""Random programs, compiled with and without passes, agree with the reference on the CPU and the emulator."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from random_lines import STEPS
from random_programs import Array, RandomProgram, random_program

from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget
from tessera.emulator.sanitizer import Sanitizer
from tessera.reference import run_graph
from tessera.runtime import ArtifactSource
from tessera.runtime.cpu import CpuDevice
from tessera.runtime.emulator import EmulatorDevice

TOLERANCE = {"f64": 1e-11, "f32": 3e-5, "f16": 1e-2, "bf16": 6e-2}
"""Of some ten operators that round, relative to the largest result."""

SETTINGS = st.sampled_from([{}, {"enable_graph_optimization": False}, {"enable_kernel_fusion": False}])
HOPPER = CompilationTarget("sm_90", enable_hopper_features=True)


@settings(max_examples=4, suppress_health_check=list(HealthCheck))
@given(random=st.randoms(use_true_random=False), special=st.booleans(), options=SETTINGS)
def test_compiled_programs_give_the_references_answer(random: Random, special: bool, options: dict) -> None:
    check(random_program(random, random.randint(2, 4), STEPS, special), "sm_80", options)


@pytest.mark.soak
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(
    random=st.randoms(use_true_random=False),
    special=st.booleans(),
    options=SETTINGS,
    target=st.sampled_from(["sm_80", "sm_90", HOPPER]),
)
def test_longer_compiled_programs_give_the_references_answer(
    random: Random, special: bool, options: dict, target: str | CompilationTarget
) -> None:
    check(random_program(random, random.randint(3, 10), STEPS, special), target, options)


def check(program: RandomProgram, target: str | CompilationTarget, options: dict) -> None:
    note(str(program))
    trace = program.function().trace(program.specs)
    inputs = dict(zip(trace.graph.leaves("input"), program.inputs, strict=True))
    with np.errstate(all="ignore"):
        native = list(run_graph(trace.graph, inputs, trace.constants).values())
        double = list(run_graph(trace.graph, inputs, trace.constants, precision="f64").values())
    config = AOTConfig(targets=["cpu", target], generate_cubin=False, **options)
    artifact = AOTCompiler(config).compile(program.function(), list(program.specs)).artifact
    sanitizer = Sanitizer()
    for device in (CpuDevice(), EmulatorDevice(sanitizer=sanitizer if target == "sm_80" else None)):
        found = device.load(artifact.programs[0], ArtifactSource(artifact)).run(list(program.inputs), None)
        for number, result in enumerate(found):
            agree(program, number, np.asarray(result), native[number], double[number], device.name)
    assert sanitizer.findings == ()


def agree(
    program: RandomProgram, number: int, found: Array, native: Array, double: Array, device: str
) -> None:
    """Equal where nothing rounds; else as near as the reference's own rounding makes one expect."""
    what = f"output {number} on {device}"
    assert (found.shape, found.dtype) == (native.shape, native.dtype), what
    if program.exact()[number]:
        np.testing.assert_array_equal(found, native, err_msg=what)
        return
    got, rounded, exact = (a.astype(np.float64) for a in (found, native, double))
    finite = np.isfinite(exact) & np.isfinite(rounded)
    np.testing.assert_array_equal(got[~finite], rounded[~finite], err_msg=what)
    scale = max(float(np.abs(exact[finite]).max(initial=0)), 1e-3)
    noise = float(np.abs(rounded[finite] - exact[finite]).max(initial=0))
    error = float(np.abs(got[finite] - exact[finite]).max(initial=0))
    allowed = max(TOLERANCE[d] for d in program.dtypes()) * scale + 8 * noise
    assert error <= allowed, f"{what}: off by {error:.3g}, results up to {scale:.3g}\n{program}"
