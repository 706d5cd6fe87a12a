"""What memory a program takes, read off its plan: each temporary tensor, its life, and what it reuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tessera.profiler.sizes import batch_symbol
from tessera.program.arch import is_cpu
from tessera.program.bytesize import format_bytes
from tessera.program.dim import Dim, evaluate
from tessera.program.lifetimes import ALIGNMENT_BYTES, BufferLife, buffer_lives, lay_apart
from tessera.program.program import Choice, Compare, Launch, Plan, Port, Program, Step

LARGEST_BATCH = 1 << 40
"""No batch is larger; where even this one fits, memory is no limit."""


@dataclass(frozen=True, slots=True)
class BufferUse:
    """A temporary tensor with its sizes known."""

    name: str
    offset_bytes: int
    """Where it lies in the arena."""
    bytes: int
    first: int
    """Number of the step that writes it first, from 0."""
    last: int
    """Number of the last step that reads or writes it."""
    written_by: str
    """Kernel of the first step; `gemm` for a product done by the CPU's BLAS."""
    reuses: tuple[str, ...]
    """Earlier tensors whose memory it takes over."""


@dataclass(frozen=True, slots=True)
class MemoryAnalysis:
    """Memory of one program, from its plan; nothing here was measured."""

    package: str
    program: str
    target: str
    """Whose plan it is: `cpu-x86_64-v3`, `sm_90`."""
    device: str | None
    """What here runs it; None: nothing does, and the plan was read all the same."""
    sizes: Mapping[str, int]
    """The size of each symbol."""
    assumed: tuple[str, ...]
    """Symbols whose size nobody gave."""
    buffers: tuple[BufferUse, ...]
    """Temporary tensors, in the order in which they are written."""
    arena_bytes: int
    """Memory of all temporary tensors, as the plan lays them out."""
    separate_bytes: int
    """Memory that they would take if none took the place of another."""
    peak_bytes: int
    """Most bytes of them that are in use at one step: no arena can be smaller."""
    peak_step: int | None
    """The first step at which it is so; None without temporary tensors."""
    input_bytes: int
    output_bytes: int
    weight_bytes: int
    """Weights as stored, and what is made of them at load."""
    execution_bytes: int
    """Working memory of one execution: the arena; on a GPU the inputs and outputs too."""

    @property
    def reused_bytes(self) -> int:
        """What taking over places saves."""
        return self.separate_bytes - self.arena_bytes

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def analyze(
    package: str, program: Program, target: str, plan: Plan, *,
    device: str | None, sizes: Mapping[str, int], assumed: tuple[str, ...],
) -> MemoryAnalysis:  # fmt: skip
    """The memory that a plan takes where the symbols have these sizes."""
    lives = buffer_lives(plan)
    names = [_step_name(step, sizes) for step in plan.steps]
    buffers = tuple(_use(life, lives, names, sizes) for life in lives)
    loads = [sum(b.bytes for b in buffers if b.first <= step <= b.last) for step in range(len(plan.steps))]
    peak = max(loads, default=0)
    weights = sum(_bytes_of(c.shape, c.dtype.itemsize, {}) for c in program.constants)
    return MemoryAnalysis(
        package=package,
        program=program.name,
        target=target,
        device=device,
        sizes=dict(sizes),
        assumed=assumed,
        buffers=buffers,
        arena_bytes=evaluate(plan.arena_bytes, sizes),
        separate_bytes=evaluate(lay_apart(plan).arena_bytes, sizes),
        peak_bytes=peak,
        peak_step=loads.index(peak) if peak else None,
        input_bytes=sum(_port_bytes(p, sizes) for p in program.inputs),
        output_bytes=sum(_port_bytes(p, sizes) for p in program.outputs),
        weight_bytes=weights + plan.persistent_bytes,
        execution_bytes=execution_bytes(program, plan, sizes),
    )


def execution_bytes(program: Program, plan: Plan, sizes: Mapping[str, int]) -> int:
    """What one execution takes from its device's pool."""
    arena = evaluate(plan.arena_bytes, sizes)
    if any(is_cpu(target) for target in plan.targets):
        return arena
    ports = (*(p for p in program.inputs if p.kind == "tensor"), *program.outputs)
    return sum(_aligned(_port_bytes(p, sizes)) for p in ports) + arena


def largest_batch(program: Program, plan: Plan, sizes: Mapping[str, int], limit_bytes: int) -> int | None:
    """The most examples whose execution fits; None where the program has no batch axis, or any number fits.

    Working memory never shrinks as a batch grows.
    """
    symbol = batch_symbol(program)
    if symbol is None or _fits(program, plan, {**sizes, symbol: LARGEST_BATCH}, limit_bytes):
        return None
    low, high = 0, LARGEST_BATCH
    while high - low > 1:
        middle = (low + high) // 2
        if _fits(program, plan, {**sizes, symbol: middle}, limit_bytes):
            low = middle
        else:
            high = middle
    return low


def _fits(program: Program, plan: Plan, sizes: Mapping[str, int], limit_bytes: int) -> bool:
    return execution_bytes(program, plan, sizes) <= limit_bytes


def _use(
    life: BufferLife, lives: tuple[BufferLife, ...], names: list[str], sizes: Mapping[str, int]
) -> BufferUse:
    begin, size = _range(life, sizes)
    reuses = []
    for other in lives:
        start, length = _range(other, sizes)
        if other.last < life.first and start < begin + size and begin < start + length:
            reuses.append(other.name)
    return BufferUse(life.name, begin, size, life.first, life.last, names[life.first], tuple(reuses))


def _range(life: BufferLife, sizes: Mapping[str, int]) -> tuple[int, int]:
    return evaluate(life.offset_bytes, sizes), evaluate(life.bytes, sizes)


def _step_name(step: Step, sizes: Mapping[str, int]) -> str:
    """What a step runs where the symbols have these sizes; of several kernels the first."""
    if isinstance(step, Choice):
        option = next(o for o in step.options if all(_holds(guard, sizes) for guard in o.guard))
        return _step_name(option.steps[0], sizes) if option.steps else "nothing"
    return step.kernel if isinstance(step, Launch) else "gemm"


def _holds(guard: Compare, sizes: Mapping[str, int]) -> bool:
    from tessera.runtime.schedule import COMPARISONS

    return COMPARISONS[guard.op](evaluate(guard.lhs, sizes), evaluate(guard.rhs, sizes))


def _port_bytes(port: Port, sizes: Mapping[str, int]) -> int:
    return _bytes_of(port.shape, port.dtype.itemsize, sizes)


def _bytes_of(shape: tuple[Dim, ...], itemsize: int, sizes: Mapping[str, int]) -> int:
    total = itemsize
    for size in shape:
        total *= evaluate(size, sizes)
    return total


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _lines(found: MemoryAnalysis) -> list[str]:
    sizes = ", ".join(
        f"{name} = {size}{' (assumed)' if name in found.assumed else ''}"
        for name, size in found.sizes.items()
    )
    where = f"on {found.device}" if found.device else "no device here runs it"
    lines = [
        f"program {found.program} of {found.package}, plan for {found.target}, {where}",
        f"  sizes: {sizes or 'all fixed'}",
        f"  inputs {format_bytes(found.input_bytes)}, outputs {format_bytes(found.output_bytes)}, "
        f"weights {format_bytes(found.weight_bytes)}",
        f"  temporary tensors: {len(found.buffers)}, {format_bytes(found.arena_bytes)} "
        f"({format_bytes(found.separate_bytes)} if none took the place of another)",
    ]
    if found.peak_step is not None:
        lines.append(f"  in use at once: {format_bytes(found.peak_bytes)} at most, at step {found.peak_step}")
    lines.append(f"  working memory of one execution: {format_bytes(found.execution_bytes)}")
    lines += [
        f"    {b.name}: {format_bytes(b.bytes)} at {b.offset_bytes}, steps {b.first} to {b.last}, "
        f"written by {b.written_by}" + (f", in the place of {', '.join(b.reuses)}" if b.reuses else "")
        for b in found.buffers
    ]
    return lines
