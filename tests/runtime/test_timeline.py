"""Every piece of an execution on a timeline: of the CPU's own, and of a GPU that a stand-in plays."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from handmade import HIDDEN, mlp_weights, saxpy_program
from stand_in import StandIn
from test_cuda_without_gpu import for_gpu, layered_program

from tessera.program.artifact import Artifact
from tessera.runtime import ArtifactSource, Timeline, open_artifact
from tessera.runtime.cuda import CudaDevice
from tessera.runtime.timeline import Span

Build = Callable[..., Artifact]


def watched(artifact: Artifact, *inputs: np.ndarray) -> Timeline:
    timeline = Timeline()
    program = CudaDevice(StandIn(), "cuda:0").load(artifact.programs[0], ArtifactSource(artifact))
    program.run(list(inputs), timeline)
    timeline.add_execution(1_000_000, artifact.programs[0].name)
    return timeline


def test_gpu_execution_has_every_copy_and_launch_in_order(build: Build, rng: np.random.Generator) -> None:
    artifact = for_gpu(build(layered_program(), constants={"b": mlp_weights(rng)["W"][0]}))
    spans = watched(artifact, np.zeros((2, HIDDEN), np.float32)).spans
    device = [s for s in spans if s.track == "device"]
    assert [(s.kind, s.name, s.step) for s in device] == [
        ("empty", "", None),
        ("upload", "x", None),
        ("kernel", "bias_relu", 0),
        ("kernel", "bias_relu", 1),
        ("download", "output", None),
    ]
    # The stand-in's clock moves by a microsecond from mark to mark.
    assert {s.duration_ns for s in device} == {1000}
    assert all(a.end_ns == b.start_ns for a, b in pairwise(device))
    assert [s.size_bytes for s in device if s.kind in ("upload", "download")] == [2 * HIDDEN * 4] * 2
    host = [s.kind for s in spans if s.track == "host"]
    assert host == ["execution", "allocate", "upload", "launch", "launch", "download", "wait"]


def test_output_that_starts_as_an_input_is_a_copy_on_the_device(
    build: Build, rng: np.random.Generator
) -> None:
    x, y = rng.normal(size=(2, 300)).astype(np.float32)
    spans = watched(for_gpu(build(saxpy_program())), np.array(3, np.float32), x, y).spans
    kinds = [(s.kind, s.name) for s in spans if s.track == "device"][1:]
    assert kinds[:2] == [("upload", "x"), ("upload", "y")]
    assert kinds[2][0] == "copy"
    assert [kind for kind, _ in kinds[3:]] == ["kernel", "download"]


def test_nothing_is_copied_of_empty_inputs(build: Build) -> None:
    empty = np.zeros(0, np.float32)
    spans = watched(for_gpu(build(saxpy_program())), np.array(3, np.float32), empty, empty).spans
    assert [s.kind for s in spans if s.track == "device"] == ["empty"]


def test_steps_of_the_cpu_have_medians(build: Build, rng: np.random.Generator) -> None:
    timeline = Timeline()
    runtime = open_artifact(build(saxpy_program()), enable_profiling=timeline)
    x, y = rng.normal(size=(2, 300)).astype(np.float32)
    for _ in range(3):
        runtime.execute(2.0, x, y)
    profile = runtime.profile
    assert profile is not None
    (step,) = profile.steps
    times = sorted(s.duration_ns for s in timeline.spans if s.kind == "kernel")
    assert step.median_ms == times[1] / 1e6
    assert [s.execution for s in timeline.spans if s.kind == "execution"] == [0, 1, 2]
    for span in timeline.spans:
        (whole,) = (s for s in timeline.spans if s.kind == "execution" and s.execution == span.execution)
        assert whole.start_ns <= span.start_ns <= span.end_ns <= whole.end_ns
    runtime.reset_profile()
    assert timeline.spans == ()


def test_threads_keep_their_executions_apart() -> None:
    timeline = Timeline()
    ready = threading.Barrier(4)

    def work() -> None:
        ready.wait()
        for step in range(50):
            timeline.add_span(Span("host", "kernel", str(threading.get_ident()), step, 1))
            timeline.add_execution(10)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kernels = [s for s in timeline.spans if s.kind == "kernel"]
    assert len(kernels) == 200
    assert all(s.name == str(s.thread) for s in kernels)
    assert sorted({s.execution for s in kernels}) == list(range(200))


def test_more_spans_than_the_limit_are_counted_and_not_kept() -> None:
    timeline = Timeline(limit=3)
    for ns in (10, 70, 30):
        timeline.add_step("p", 0, "k", ns)
        timeline.add_execution(100, "p")
    assert (len(timeline.spans), timeline.dropped) == (3, 3)
    # The median is of all calls all the same.
    assert timeline.snapshot("cpu").steps[0].median_ms == 30e-6
    assert timeline.snapshot("cpu").executions == 3
