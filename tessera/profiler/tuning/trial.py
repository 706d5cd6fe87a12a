"""One configuration tried: compiled, weighed, run, compared with the reference, and its cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from tessera.compiler.tuning.record import Kind, Record, Status, bucket_of
from tessera.compiler.tuning.strategy import Configuration
from tessera.profiler.tuning.cost_model import MODEL, LaunchWork, datasheet_for, predicted_cost
from tessera.profiler.tuning.prune import why_pruned
from tessera.profiler.tuning.static import StaticKernel, static_kernels
from tessera.profiler.tuning.subject import Subject
from tessera.program.arch import parse_arch
from tessera.program.artifact import Artifact
from tessera.program.errors import CompileError, KernelError, TesseraError
from tessera.program.occupancy import occupancy

if TYPE_CHECKING:
    import numpy as np

    Arrays = Sequence[np.ndarray[Any, Any]]

TOLERANCE = {2: 1e-2, 4: 1e-4, 8: 1e-10}
"""Relative and absolute, by bytes of a float: two orders of adding up differ by no more."""
WARM_UPS = 3
REPETITIONS = 21
CLOCKS_RISE_S = 0.5
"""Longer than an idle GPU takes to its full clock. On an H200 the first of one sweep took 22.6 µs, the same
tile later in it 16.9; first of two other sweeps 15.0 and, after this, 18.1."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of running a configuration."""

    outputs: Arrays
    cost_ms: float


class Meter(Protocol):
    """Runs artifacts and says what they cost."""

    @property
    def kind(self) -> Kind:
        """Whether costs are predicted or measured."""

    @property
    def gpu(self) -> str:
        """Model that the costs are for."""

    @property
    def driver(self) -> str:
        """Version of what they were found with."""

    def run(self, artifact: Artifact, kernels: Sequence[StaticKernel], inputs: Mapping[str, Any]) -> Run:
        """Run the only program of an artifact; only the time of `kernels` counts.

        Raises:
            DeviceError: It failed.
        """


class EmulatorMeter:
    """Counts in the emulator, and predicts by the cost model.

    Args:
        target: Architecture that the configurations are compiled for.

    Raises:
        OptionError: No datasheet to predict by.
    """

    kind: Kind = "predicted"
    driver = MODEL

    def __init__(self, target: str) -> None:
        self._arch = parse_arch(target)
        self.gpu = datasheet_for(self._arch).name

    def run(self, artifact: Artifact, kernels: Sequence[StaticKernel], inputs: Mapping[str, Any]) -> Run:
        """Run it once: counters are the same each time."""
        from tessera.profiler.emulated import profile_emulated
        from tessera.runtime.source import ArtifactSource

        profile = profile_emulated(artifact.programs[0], ArtifactSource(artifact), inputs)
        static = {k.name: k for k in kernels}
        work = []
        for launch in (each for kernel in profile.kernels for each in kernel.launches):
            x, y, z = launch.block
            if launch.kernel not in static:
                continue
            known, grid = static[launch.kernel], launch.grid
            held = occupancy(
                self._arch, threads=x * y * z, registers=known.registers, shared_bytes=known.shared_bytes
            )
            blocks = grid[0] * grid[1] * grid[2]
            work.append(LaunchWork(launch.counters, blocks, x * y * z, held, known.spill_bytes))
        return Run(profile.outputs, predicted_cost(work, self._arch).ms)


class DeviceMeter:
    """Measures on a device: CUDA events on a GPU, the clock on the cpu.

    Args:
        device: `cuda:0`.
        gpu: Its model.
        driver: Version of its driver.
    """

    kind: Kind = "measured"

    def __init__(self, device: str, gpu: str, driver: str) -> None:
        self._device = device
        self.gpu = gpu
        self.driver = driver
        self._rising = True

    def run(self, artifact: Artifact, kernels: Sequence[StaticKernel], inputs: Mapping[str, Any]) -> Run:
        """Run it, and take the median of several times: of its kernels alone, without copies."""
        import numpy as np

        from tessera.runtime import open_artifact

        own = {k.name for k in kernels}
        program = artifact.programs[0]
        with open_artifact(artifact, self._device, strict_device=True, enable_profiling=True) as runtime:
            result = runtime.execute(dict(inputs))
            by_name = result if isinstance(result, dict) else {program.outputs[0].name: result}
            outputs = [np.array(by_name[port.name]) for port in program.outputs]
            self._raise_clocks(lambda: runtime.execute(dict(inputs)))
            for _ in range(WARM_UPS):
                runtime.execute(dict(inputs))
            times = []
            for _ in range(REPETITIONS):
                runtime.reset_profile()
                runtime.execute(dict(inputs))
                profile = runtime.profile
                steps = profile.steps if profile else ()
                times.append(sum(step.total_ms for step in steps if step.name in own))
        return Run(outputs, statistics.median(times))

    def _raise_clocks(self, work: Callable[[], object]) -> None:
        """Before the first configuration counts: an idle GPU runs slowly, and the others would win for it."""
        end = time.monotonic() + CLOCKS_RISE_S
        while self._rising and self._device.startswith("cuda") and time.monotonic() < end:
            work()
        self._rising = False


@dataclass(slots=True)
class Trials:
    """Tries configurations of a subject with one set of inputs."""

    subject: Subject
    meter: Meter
    inputs: Mapping[str, Any]
    sizes: Mapping[str, int]
    prune: bool = True
    """Whether what is not worth running is not run."""
    _static: tuple[StaticKernel, ...] | None = None
    _outputs: Arrays | None = None
    _reference: Record | None = field(default=None)

    def reference(self) -> Record:
        """The record of the reference configuration, which must work.

        Raises:
            TesseraError: It does not compile, or fails.
        """
        if self._reference is None:
            artifact = self.subject.compile(self.subject.reference)
            self._static = self._kernels(artifact)
            run = self.meter.run(artifact, self._static, self.inputs)
            self._outputs = run.outputs
            self._reference = self.record(
                self.subject.reference, "ok", cost_ms=run.cost_ms, kernels=self._static
            )
        return self._reference

    def attempt(self, configuration: Configuration) -> Record:
        """Try a configuration. What goes wrong is its record, not an error."""
        reference = self.reference()
        if dict(configuration) == self.subject.reference:
            return reference
        try:
            artifact = self.subject.compile(configuration)
        except (CompileError, KernelError) as error:
            return self.record(configuration, "compile", reason=error.message)
        kernels = self._kernels(artifact)
        reason = why_pruned(kernels, self._static or ()) if self.prune else None
        if reason is not None:
            return self.record(configuration, "pruned", reason=reason, kernels=kernels)
        try:
            run = self.meter.run(artifact, kernels, self.inputs)
        except TesseraError as error:
            return self.record(configuration, "runtime", reason=error.message, kernels=kernels)
        wrong = difference(self._outputs or (), run.outputs)
        if wrong is not None:
            return self.record(configuration, "wrong", reason=wrong, kernels=kernels)
        return self.record(configuration, "ok", cost_ms=run.cost_ms, kernels=kernels)

    def _kernels(self, artifact: Artifact) -> tuple[StaticKernel, ...]:
        subject = self.subject
        return static_kernels(artifact, subject.target, dict(self.sizes), subject.kernels)

    def record(
        self,
        configuration: Configuration,
        status: Status,
        *,
        reason: str = "",
        cost_ms: float | None = None,
        kernels: Sequence[StaticKernel] = (),
    ) -> Record:
        """The record of a configuration of this subject."""
        return Record(
            kernel=self.subject.name,
            kernel_hash=self.subject.identity,
            target=self.subject.target,
            gpu=self.meter.gpu,
            driver=self.meter.driver,
            kind=self.meter.kind,
            bucket=bucket_of(self.sizes),
            sizes=dict(sorted(self.sizes.items())),
            configuration=dict(configuration),
            status=status,
            reason=reason,
            cost_ms=cost_ms,
            registers=max((k.registers for k in kernels), default=None),
            spill_bytes=max((k.spill_bytes for k in kernels), default=None),
            shared_bytes=max((k.shared_bytes for k in kernels), default=None),
            occupancy=min((k.occupancy.ratio for k in kernels), default=None),
        )


def difference(expected: Arrays, found: Arrays) -> str | None:
    """Where results differ by more than `TOLERANCE`; None if nowhere."""
    import numpy as np

    for number, (a, b) in enumerate(zip(expected, found, strict=True)):
        exact = a.dtype.kind in "iub"
        tolerance = 0.0 if exact else TOLERANCE.get(a.dtype.itemsize, 0.2)
        left, right = (v if exact else np.asarray(v, "f8") for v in (a, b))
        same = (
            left == right
            if exact
            else np.isclose(left, right, rtol=tolerance, atol=tolerance, equal_nan=True)
        )
        if not np.all(same):
            place = tuple(int(i) for i in np.argwhere(~same)[0])
            return (
                f"output {number} differs from the reference configuration's in {int(np.sum(~same))} of "
                f"{same.size} elements, first at {list(place)}: {right[place]:g} instead of {left[place]:g}"
            )
    return None
