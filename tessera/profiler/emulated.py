"""A program run once in the emulator, counted kernel by kernel."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tessera.program.arch import is_cpu, parse_arch
from tessera.program.errors import DeviceError
from tessera.program.occupancy import Occupancy, occupancy
from tessera.program.program import Program
from tessera.runtime.emulator import EmulatorDevice, best_code
from tessera.runtime.emulator_counts import CountedLaunch, CountingEngine
from tessera.runtime.profile import Recorder
from tessera.runtime.source import ProgramSource

if TYPE_CHECKING:
    import numpy as np

    from tessera.emulator.counters import Counters


@dataclass(frozen=True, slots=True)
class KernelProfile:
    """All launches of one kernel in one execution of a program."""

    kernel: str
    launches: tuple[CountedLaunch, ...]
    counters: Counters
    """Of all of them."""


@dataclass(frozen=True, slots=True)
class StaticOccupancy:
    """How many blocks of a kernel a multiprocessor of some architecture holds."""

    kernel: str
    target: str
    registers: int
    shared_bytes: int
    """Per block, static and dynamic."""
    spill_bytes: int | None
    occupancy: Occupancy


@dataclass(frozen=True, slots=True)
class EmulatedProfile:
    """One execution of a program in the emulator."""

    program: Program
    target: str
    """The code that ran: `sm_90 ptx`."""
    kernels: tuple[KernelProfile, ...]
    """In the order of their first launch."""
    occupancy: tuple[StaticOccupancy, ...]
    seconds: float
    """Of the execution, emulated; of no meaning for a GPU."""
    outputs: tuple[np.ndarray[Any, Any], ...] = ()
    """What it computed, in the order of the program's outputs."""
    launches: tuple[CountedLaunch, ...] = ()
    """Of all kernels, in the order in which they were made."""

    @property
    def counters(self) -> Counters:
        """Of all kernels together."""
        from tessera.emulator.counters import Counters

        return Counters.sum(k.counters for k in self.kernels)


def profile_emulated(
    program: Program,
    source: ProgramSource,
    inputs: Mapping[str, np.ndarray[Any, Any]],
    *,
    step_budget: int | None = None,
    recorder: Recorder | None = None,
    trace: bool = False,
) -> EmulatedProfile:
    """Run a program once in the emulator and count what its kernels do.

    Args:
        program: Which one.
        source: Where its code and weights come from.
        inputs: By name; scalars as arrays of rank 0.
        step_budget: Jumps backwards that a block of threads may make before its kernel counts as endless;
            None: 2^30.
        recorder: Takes the host's time of each emulated launch.
        trace: Also trace one block of each kernel, for rules about single threads.

    Raises:
        DeviceError: It has no PTX, or a kernel does what no kernel may or does not end.
        InputError: The inputs do not fit.
        CompileError: The emulator does not know an instruction.
    """
    from tessera.runtime.inputs import InputReader

    found = best_code(program, source)
    if found is None:
        raise DeviceError(
            f"program {program.name!r} has no PTX to emulate; "
            f"it has code for: {', '.join(program.targets) or 'no target'}",
            hint="compile it for a GPU too, such as --arch sm_80; or measure it: --device cpu",
        )
    values = InputReader(program).read([inputs])
    engine = CountingEngine(found[1].values(), step_budget, trace=trace)
    loaded = EmulatorDevice(engine=engine).load(program, source)
    # What is computed once when a program is loaded belongs to no execution.
    engine.launches.clear()
    start = time.perf_counter_ns()
    outputs = loaded.run(values, recorder)
    elapsed = time.perf_counter_ns() - start
    if recorder is not None:
        recorder.add_execution(elapsed, program.name, start)
    kernels = _by_kernel(engine.launches)
    occupied = static_occupancy(program, source, kernels)
    launches = tuple(engine.launches)
    return EmulatedProfile(program, loaded.target, kernels, occupied, elapsed / 1e9, tuple(outputs), launches)


def _by_kernel(launches: Sequence[CountedLaunch]) -> tuple[KernelProfile, ...]:
    from tessera.emulator.counters import Counters

    found: dict[str, list[CountedLaunch]] = {}
    for launch in launches:
        found.setdefault(launch.kernel, []).append(launch)
    return tuple(
        KernelProfile(name, tuple(own), Counters.sum(each.counters for each in own))
        for name, own in found.items()
    )


def static_occupancy(
    program: Program, source: ProgramSource, kernels: Sequence[KernelProfile]
) -> tuple[StaticOccupancy, ...]:
    """Occupancy of the kernels as they were launched, for every architecture that there is machine code of.

    Kernels of which the assembler's figures are not known are left out.
    """
    found = []
    for kernel in kernels:
        for target in (t for t in program.targets if not is_cpu(t)):
            binary = source.binary(program.name, kernel.kernel, target, "cubin")
            resources = binary.resources if binary is not None else None
            if resources is None or resources.registers is None:
                continue
            threads = max(x * y * z for x, y, z in (each.block for each in kernel.launches))
            dynamic = max(each.shared_bytes for each in kernel.launches)
            shared = (resources.shared_bytes or 0) + dynamic
            held = occupancy(
                parse_arch(target), threads=threads, registers=resources.registers, shared_bytes=shared
            )
            found.append(
                StaticOccupancy(
                    kernel.kernel, target, resources.registers, shared, resources.spill_bytes, held
                )
            )
    return tuple(found)
