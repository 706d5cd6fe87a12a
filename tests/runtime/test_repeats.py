"""Launches that are repeated inside an execution, on a GPU that a stand-in plays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from handmade import HIDDEN, mlp_weights, saxpy_program
from stand_in import StandIn
from test_cuda_without_gpu import for_gpu, layered_program

from tessera.program.artifact import Artifact
from tessera.program.errors import DeviceError
from tessera.runtime import ArtifactSource, open_artifact
from tessera.runtime.cuda import CudaDevice
from tessera.runtime.cuda_driver import CupyDriver
from tessera.runtime.repeats import FLUSH_FACTOR, Repeats

Build = Callable[..., Artifact]


def repeated(artifact: Artifact, driver: StandIn, repeats: Repeats, *inputs: np.ndarray) -> None:
    program = CudaDevice(driver, "cuda:0").load(artifact.programs[0], ArtifactSource(artifact))
    program.run(list(inputs), repeats)


@pytest.fixture
def layered(build: Build, rng: np.random.Generator) -> Artifact:
    return for_gpu(build(layered_program(), constants={"b": mlp_weights(rng)["W"][0]}))


def test_graph_is_replayed_and_the_l2_cache_flushed_before_cold_rounds(layered: Artifact) -> None:
    driver, repeats = StandIn(), Repeats(least=7, most=7)
    repeated(layered, driver, repeats, np.zeros((2, HIDDEN), np.float32))
    assert driver.captured == [2]
    assert repeats.replayed
    # The stand-in's clock moves by a microsecond from mark to mark.
    assert repeats.cold_ns == repeats.warm_ns == [1000] * 7
    assert driver.filled == 7
    assert repeats.flushed_bytes == FLUSH_FACTOR * driver.l2_bytes


def test_without_graphs_launches_are_timed_and_the_reason_is_kept(layered: Artifact) -> None:
    driver, repeats = StandIn(), Repeats(least=7, most=7)
    driver.no_graphs = "operation not supported"
    repeated(layered, driver, repeats, np.zeros((2, HIDDEN), np.float32))
    assert (repeats.replayed, repeats.why_not) == (False, "operation not supported")
    assert len(repeats.cold_ns) == len(repeats.warm_ns) == 7


def test_unknown_cache_is_not_flushed(layered: Artifact) -> None:
    driver, repeats = StandIn(), Repeats(least=7, most=7)
    driver.l2_bytes = 0
    repeated(layered, driver, repeats, np.zeros((2, HIDDEN), np.float32))
    assert (driver.filled, repeats.cold_ns, len(repeats.warm_ns)) == (0, [], 7)


def test_rounds_follow_the_time_to_spend(layered: Artifact) -> None:
    repeats = Repeats(seconds=1e-4, least=11, most=1000)
    repeated(layered, StandIn(), repeats, np.zeros((2, HIDDEN), np.float32))
    # A tenth of a millisecond in rounds of a microsecond.
    assert len(repeats.cold_ns) == 100


def test_inputs_are_copied_once_and_every_round_works_on_them(build: Build, rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(2, 300)).astype(np.float32)
    artifact, driver = for_gpu(build(saxpy_program())), StandIn()
    program = CudaDevice(driver, "cuda:0").load(artifact.programs[0], ArtifactSource(artifact))
    repeats = Repeats(least=2, most=2)
    (result,) = program.run([np.array(2, np.float32), x, y], repeats)
    assert driver.uploaded == x.nbytes + y.nbytes
    # Three to warm up, two cold, two warm: y has been updated seven times.
    np.testing.assert_allclose(result, 7 * 2 * x + y, rtol=1e-5, atol=1e-5)
    (again,) = program.run([np.array(2, np.float32), x, y], None)
    np.testing.assert_allclose(again, 2 * x + y, rtol=1e-5, atol=1e-5)


def test_program_without_launches_has_no_times(build: Build) -> None:
    repeats = Repeats()
    empty = np.zeros(0, np.float32)
    repeated(for_gpu(build(saxpy_program())), StandIn(), repeats, np.array(3, np.float32), empty, empty)
    assert (repeats.cold_ns, repeats.warm_ns) == ([], [])


def test_failure_on_the_gpu_is_told(layered: Artifact) -> None:
    driver = StandIn()
    program = CudaDevice(driver, "cuda:0").load(layered.programs[0], ArtifactSource(layered))
    driver.broken = True
    with pytest.raises(DeviceError):
        program.run([np.zeros((2, HIDDEN), np.float32)], Repeats())


def test_reset_forgets(layered: Artifact) -> None:
    repeats = Repeats(least=3, most=3)
    repeated(layered, StandIn(), repeats, np.zeros((2, HIDDEN), np.float32))
    repeats.reset()
    assert (repeats.cold_ns, repeats.warm_ns, repeats.replayed) == ([], [], False)


def test_other_devices_take_it_for_a_recorder(build: Build, rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(2, 300)).astype(np.float32)
    repeats = Repeats()
    with open_artifact(build(saxpy_program()), enable_profiling=repeats) as runtime:
        runtime.execute(2.0, x, y)
        profile = runtime.profile
    assert profile is not None
    assert len(profile.steps) == 1
    assert repeats.warm_ns == []


class Refused(Exception):
    """What CuPy raises where CUDA refuses."""


class FakeStream:
    """A CuPy stream that keeps what is asked of it."""

    ptr = 7

    def __init__(self, *, refuses: bool = False) -> None:
        self.asked: list[str] = []
        self.refuses = refuses

    def begin_capture(self) -> None:
        self.asked.append("begin")

    def end_capture(self) -> FakeStream:
        self.asked.append("end")
        if self.refuses:
            raise Refused("capture was invalidated")
        return self

    def launch(self, stream: FakeStream) -> None:
        assert stream is self
        self.asked.append("replay")


def cupy_driver() -> CupyDriver:
    driver = CupyDriver.__new__(CupyDriver)
    driver._errors = (Refused, Refused)
    return driver


def test_cupy_captures_launches_between_begin_and_end_and_replays_on_the_stream() -> None:
    stream = FakeStream()
    replay = cupy_driver().capture([lambda: stream.asked.append("launch")] * 2, stream)
    assert not isinstance(replay, str)
    replay()
    assert stream.asked == ["begin", "launch", "launch", "end", "replay"]


def test_cupy_ends_a_capture_that_fails_and_says_why() -> None:
    stream = FakeStream(refuses=True)

    def fail() -> None:
        raise Refused("operation not permitted when stream is capturing")

    reason = cupy_driver().capture([fail], stream)
    assert reason == "capture was invalidated"
    assert stream.asked == ["begin", "end"]


def test_cupy_fills_by_a_memset_on_the_stream() -> None:
    called: list[tuple[int, ...]] = []

    class Runtime:
        @staticmethod
        def memsetAsync(*arguments: int) -> None:
            called.append(arguments)

    driver = cupy_driver()
    driver._runtime = Runtime
    driver.fill(0x1000, 64, FakeStream())
    assert called == [(0x1000, 0, 64, 7)]
