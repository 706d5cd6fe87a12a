"""What a kernel or a program does, in operations and bytes: counted in the emulator, or from the graph."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tessera.profiler.cost import graph_operations, program_cost
from tessera.profiler.prediction import operations
from tessera.program.arch import Architecture, best_match, is_cpu
from tessera.program.dim import evaluate
from tessera.program.errors import OptionError
from tessera.program.occupancy import Occupancy, occupancy
from tessera.program.program import BoxMap, Launch, Plan, Pointer, Port, Program, Step

if TYPE_CHECKING:
    from tessera.emulator.counters import Counters
    from tessera.profiler.datasheet import Datasheet
    from tessera.profiler.emulated import EmulatedProfile, KernelProfile, StaticOccupancy

WAVEFRONT_BYTES = 128
"""What shared memory of a multiprocessor moves in a clock."""
Tensor = tuple[str, str]
"""(space, name) of a plan's pointer."""


@dataclass(frozen=True, slots=True)
class Work:
    """All launches of one kernel in one execution, or a whole program."""

    name: str
    operations: tuple[tuple[str, float], ...]
    """By kind of units, as ceilings are called: `f32`, `bf16 tensor`."""
    bytes: float
    """To and from memory at the least: what is read and what is written, each once."""
    worst_bytes: float
    """Of every sector touched; `bytes` where that is not known."""
    origin: str
    """`emulated, PTX level`, or `graph`."""
    launches: int = 1
    blocks: int | None = None
    """Of one launch, on average; None where it is not known."""
    threads: int | None = None
    """Of a block."""
    shared_bytes: float = 0.0
    """That shared memory moves: wavefronts of 128 bytes."""
    request_bytes: float | None = None
    """That one request of a warp to global memory moves, on average."""
    ring_bytes: float | None = None
    """Shared memory of a block that asynchronous copies fill ahead; None where there are none."""
    resident: Occupancy | None = None
    """On a multiprocessor of the GPU in question."""
    measured_ms: float | None = None
    """Of one execution, where somebody has measured it."""


def kernel_works(
    profile: EmulatedProfile, symbols: Mapping[str, int], capability: tuple[int, int]
) -> tuple[Work, ...]:
    """Every kernel of a counted program, in the order of their first launch.

    Args:
        profile: From `profile_emulated`.
        symbols: Values of the program's sizes.
        capability: Compute capability of the GPU in question, for what is resident on a multiprocessor: by
            machine code that it runs, else with the registers of what there is (`foreign_registers`).
    """
    plan = profile.program.plan_for(profile.target.split()[0])
    return tuple(
        _kernel_work(kernel, profile, _touched(profile.program, plan, kernel.kernel, symbols), capability)
        for kernel in profile.kernels
    )


def _kernel_work(
    kernel: KernelProfile, profile: EmulatedProfile, touched: tuple[float, float], capability: tuple[int, int]
) -> Work:
    from tessera.emulator.counters import LABEL

    counters = kernel.counters
    least, worst = _moved(counters, touched, len(kernel.launches))
    device = counters.memory("global")
    held = _resident(profile, kernel, capability)
    copies = any(i.mnemonic.startswith("cp.async") for i in counters.instructions)
    known = device.requests and not _uncounted(counters)
    return Work(
        name=kernel.kernel,
        operations=tuple(sorted(operations(counters).items())),
        bytes=least,
        worst_bytes=worst,
        origin=LABEL,
        launches=len(kernel.launches),
        blocks=round(counters.blocks / max(len(kernel.launches), 1)),
        threads=_block_threads(kernel) if kernel.launches else None,
        shared_bytes=counters.memory("shared").passes * WAVEFRONT_BYTES,
        request_bytes=device.moved_bytes / device.requests if known else None,
        ring_bytes=held.shared_bytes if held and copies else None,
        resident=held.occupancy if held else None,
    )


def _resident(
    profile: EmulatedProfile, kernel: KernelProfile, capability: tuple[int, int]
) -> StaticOccupancy | None:
    """What a multiprocessor of the GPU holds: by code that it runs, else with the registers of other code."""
    own = {o.target: o for o in profile.occupancy if o.kernel == kernel.kernel}
    match = best_match(own, capability)
    if match:
        return own[match]
    counted = profile.target.split()[0]
    if not own:
        return None
    other = own.get(counted) or next(iter(own.values()))
    held = occupancy(
        Architecture(*capability), threads=_block_threads(kernel), registers=other.registers,
        shared_bytes=other.shared_bytes,
    )  # fmt: skip
    return replace(other, occupancy=held) if held.blocks else None


def foreign_registers(profile: EmulatedProfile, capability: tuple[int, int]) -> str | None:
    """The architecture whose registers occupancy on a GPU is computed with, for want of code that it runs.

    None where there is such code, or no machine code at all.
    """
    targets = dict.fromkeys(o.target for o in profile.occupancy)
    if not targets or best_match(targets, capability):
        return None
    counted = profile.target.split()[0]
    return counted if counted in targets else next(iter(targets))


def _block_threads(kernel: KernelProfile) -> int:
    return max((x * y * z for x, y, z in (each.block for each in kernel.launches)), default=1)


def _moved(counters: Counters, touched: tuple[float, float], launches: int) -> tuple[float, float]:
    """Bytes to and from memory: at the least, and of every sector."""
    read, written = (each * launches for each in touched)
    worst = float(counters.moved_bytes)
    if _uncounted(counters):
        # Their sectors are not counted: what the arguments hold is all that is known.
        return read + written, max(read + written, worst)
    device = counters.memory("global")
    loaded = counters.memory("global", "ld").moved_bytes
    stored = counters.memory("global", "st").moved_bytes
    # Atomics read and write; what is never touched is never moved.
    return min(read, device.moved_bytes - stored) + min(written, device.moved_bytes - loaded), worst


def _uncounted(counters: Counters) -> bool:
    """Whether a kernel moves what the emulator does not count."""
    return any(i.mnemonic.startswith(_UNCOUNTED) for i in counters.instructions)


_UNCOUNTED = ("cp.async.bulk", "cp.reduce.async.bulk", "st.async")


def _touched(
    program: Program, plan: Plan | None, kernel: str, symbols: Mapping[str, int]
) -> tuple[float, float]:
    """Bytes of the tensors that a launch of a kernel may read and may write, each once."""
    own = [launch for launch in _launches(plan.steps if plan else ()) if launch.kernel == kernel]
    if plan is None or not own:
        cost = program_cost(program, symbols)
        return cost.input_bytes + cost.constant_bytes, cost.output_bytes
    sizes = _tensor_bytes(program, plan, symbols)
    read = written = 0.0
    for launch in own:
        for tensor in {_tensor(a.tensor if isinstance(a, BoxMap) else a) for a in launch.args
                       if isinstance(a, (BoxMap, Pointer))}:  # fmt: skip
            space, name = tensor
            size = sizes.get(tensor, 0)
            starts_full = any(p.name == name and p.initial for p in program.outputs)
            # Whether a buffer is read or written the plan does not say: the counters decide.
            read += size if space != "output" or starts_full else 0
            written += size if space in ("output", "buffer", "persistent") else 0
    return read / len(own), written / len(own)


def _tensor(pointer: Pointer) -> Tensor:
    return pointer.space, pointer.name


def _launches(steps: Iterable[Step]) -> list[Launch]:
    found: list[Launch] = []
    for step in steps:
        inner = [s for option in getattr(step, "options", ()) for s in option.steps]
        found += _launches(inner) if inner else [step] if isinstance(step, Launch) else []
    return found


def _tensor_bytes(program: Program, plan: Plan, symbols: Mapping[str, int]) -> dict[Tensor, int]:
    def size(shape: Iterable[object], itemsize: int) -> int:
        total = itemsize
        for dim in shape:
            total *= evaluate(dim, symbols)  # type: ignore[arg-type]
        return total

    def ports(space: str, found: Iterable[Port]) -> dict[Tensor, int]:
        return {(space, p.name): size(p.shape, p.dtype.itemsize) for p in found if p.kind == "tensor"}

    return {
        **ports("input", program.inputs),
        **ports("output", program.outputs),
        **{("constant", c.name): size(c.shape, c.dtype.itemsize) for c in program.constants},
        **{("buffer", b.name): evaluate(b.bytes, symbols) for b in plan.buffers},
        **{("persistent", b.name): evaluate(b.bytes, symbols) for b in plan.persistent},
    }


def graph_work(
    program: Program, symbols: Mapping[str, int], capability: tuple[int, int], *,
    launches: int = 1, measured_ms: float | None = None,
) -> Work:  # fmt: skip
    """A whole program from its graph, at any size: nothing runs.

    Bytes are those of inputs, outputs and weights, each once: temporary tensors stay in caches.

    Args:
        program: One with a graph.
        symbols: Values of its sizes.
        capability: Compute capability of the GPU in question: it decides what tensor cores do.
        launches: How many kernels it launches.
        measured_ms: Of one execution, where somebody has measured it.

    Raises:
        OptionError: It has no graph: a kernel written by hand.
        InputError: A size has no value in `symbols`.
    """
    if program.graph is None:
        raise OptionError(
            f"{program.name} has no graph: what a kernel written by hand does is counted",
            hint="tessera profile FILE counts it in the emulator",
        )
    moved = float(program_cost(program, symbols).bytes)
    counted = graph_operations(program.graph, symbols, capability)
    return Work(
        program.name, tuple(sorted(counted.items())), moved, moved, "graph", launches, measured_ms=measured_ms
    )


def planned_work(program: Program, symbols: Mapping[str, int], gpu: Datasheet) -> Work:
    """`graph_work` with the launches that the program's plan makes on a GPU: nothing runs.

    Args:
        program: One with a graph and code for the GPU.
        symbols: Values of its sizes.
        gpu: The model.

    Raises:
        OptionError: It has no graph, or no code that the GPU runs.
        InputError: A size has no value in `symbols`.
    """
    from tessera.runtime.schedule import LaunchCall, make_schedule

    work = graph_work(program, symbols, gpu.capability)
    target = best_match([t for t in program.targets if not is_cpu(t)], gpu.capability)
    plan = program.plan_for(target) if target else None
    if plan is None:
        own = Architecture(*gpu.capability).name
        raise OptionError(
            f"{program.name} has no code that {gpu.name} runs; it has {', '.join(program.targets) or 'none'}",
            hint=f"compile it with --arch {own}",
        )
    calls = [c for c in make_schedule(program, plan, symbols).calls if isinstance(c, LaunchCall)]
    if len(calls) != 1:
        return replace(work, launches=max(len(calls), 1))
    (x, y, z), block = calls[0].grid, calls[0].block
    x = min(x, gpu.multiprocessors) if calls[0].persistent else x
    return replace(work, blocks=x * y * z, threads=math.prod(block))
