"""What a launch did, in numbers: instructions, accesses to memory, branches, operations, line by line.

Everything here is counted on PTX as it ran in the emulator. PTX is not the machine code of a GPU (SASS):
one of its instructions may become several there, or none. What depends on addresses alone (sectors, bank
conflicts) and on control flow (active lanes, divergence) is what a GPU would see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from tessera.program.errors import KernelError

LABEL = "emulated, PTX level"
"""What every table of these numbers says of itself."""
SECTOR_BYTES = 32
"""What caches and memory move at least. Source: Nsight Compute, Kernel Profiling Guide, "Memory Tables"."""
Space = Literal["global", "shared", "local"]
Operation = Literal["ld", "st", "atom", "red"]


@dataclass(frozen=True, slots=True)
class Access:
    """Accesses of one instruction to one state space, all of its executions together."""

    space: Space
    operation: Operation
    size: int
    """Bytes of one thread's access; of several, the widest."""
    requests: int
    """Warps that accessed."""
    threads: int
    """Threads that did."""
    asked_bytes: int
    """Bytes that the threads asked for."""
    passes: int
    """Global and local memory: sectors of 32 bytes. Shared memory: wavefronts, one per request and more
    where banks conflict."""
    ideal: int
    """The passes that as many threads take side by side: fewer where threads share what they read."""

    @property
    def moved_bytes(self) -> int:
        """Bytes of the sectors touched; 0 for shared memory."""
        return 0 if self.space == "shared" else self.passes * SECTOR_BYTES

    @property
    def excess(self) -> int:
        """Passes beyond the ideal: bank conflicts of shared memory."""
        return self.passes - self.ideal


@dataclass(frozen=True, slots=True)
class InstructionCounts:
    """One PTX instruction of one kernel, all of its executions together."""

    kernel: str
    function: str
    """The kernel itself, or the device function that the instruction is written in."""
    position: int
    """Its place in that function."""
    ptx_line: int
    file: str
    """Of the source, by `.loc`; empty where none is known. Inlined code is counted where it is written."""
    source_line: int
    """0 where none is known."""
    mnemonic: str
    kind: str
    """Class of instruction, such as `fp32 fma` or `load global`."""
    group: str
    """Nsight Compute's group of instructions."""
    precision: str
    executed: int
    """By warps, predicated off or not."""
    threads: int
    """Active threads of those."""
    threads_on: int
    """Those whose guard let them execute it."""
    divergent: int
    """Branches at which the threads of a warp went apart."""
    flops: int
    """Floating-point operations of scalar arithmetic: 1 for an addition or product, 2 for both in one."""
    tensor_flops: int
    """Operations of products of matrices."""
    accesses: tuple[Access, ...] = ()
    callers: tuple[tuple[str, int], ...] = ()
    """Of inlined code: file and line of each call it was inlined at, the outermost first."""

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells it from all other instructions of a module."""
        return self.kernel, self.function, self.position


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over instructions: all of a kernel, or those of one line."""

    instructions: tuple[InstructionCounts, ...]

    def total(self, value: Callable[[InstructionCounts], int]) -> int:
        """The sum of a number over the instructions."""
        return sum(value(i) for i in self.instructions)

    def count(self, *kinds: str) -> int:
        """Executions by warps of instructions whose class begins with one of the words."""
        return self.total(lambda i: i.executed if i.kind.startswith(kinds) else 0)

    @property
    def executed(self) -> int:
        """Instructions executed by warps."""
        return self.total(lambda i: i.executed)

    @property
    def threads(self) -> int:
        """Instructions executed by threads, predicated off or not."""
        return self.total(lambda i: i.threads)

    @property
    def threads_on(self) -> int:
        """Instructions executed by threads whose guard let them."""
        return self.total(lambda i: i.threads_on)

    @property
    def threads_per_instruction(self) -> float | None:
        """Active threads of an average instruction of a warp; None if there was none."""
        return self.threads / self.executed if self.executed else None

    @property
    def branches(self) -> int:
        """Branches executed by warps."""
        return self.total(lambda i: i.executed if i.mnemonic.startswith(("bra", "brx")) else 0)

    @property
    def divergent(self) -> int:
        """Branches at which threads of a warp went apart."""
        return self.total(lambda i: i.divergent)

    @property
    def flops(self) -> int:
        """Floating-point operations of scalar arithmetic, of every precision."""
        return self.total(lambda i: i.flops)

    @property
    def tensor_flops(self) -> int:
        """Operations of products of matrices."""
        return self.total(lambda i: i.tensor_flops)

    def flops_by_precision(self) -> dict[str, int]:
        """Operations of scalar arithmetic by `fp16`, `fp32`, `fp64`; those that there were."""
        return self._by_precision(lambda i: i.flops)

    def tensor_flops_by_type(self) -> dict[str, int]:
        """Operations of products of matrices by the type of A."""
        return self._by_precision(lambda i: i.tensor_flops)

    def _by_precision(self, value: Callable[[InstructionCounts], int]) -> dict[str, int]:
        found: dict[str, int] = {}
        for instruction in self.instructions:
            if value(instruction):
                found[instruction.precision] = found.get(instruction.precision, 0) + value(instruction)
        return dict(sorted(found.items()))

    def by_kind(self) -> dict[str, InstructionSums]:
        """Executions by class of instruction, the most frequent first."""
        found: dict[str, list[int]] = {}
        for i in self.instructions:
            sums = found.setdefault(i.kind, [0, 0, 0])
            for k, value in enumerate((i.executed, i.threads, i.threads_on)):
                sums[k] += value
        ordered = sorted(found.items(), key=lambda item: (-item[1][0], item[0]))
        return {kind: InstructionSums(*sums) for kind, sums in ordered if sums[0]}

    def memory(self, space: Space, *operations: Operation) -> Access:
        """All accesses to a state space together; by all operations if none is named."""
        chosen = [
            a
            for i in self.instructions
            for a in i.accesses
            if a.space == space and (not operations or a.operation in operations)
        ]
        return _joined(chosen, space, operations[0] if len(operations) == 1 else "ld")

    @property
    def moved_bytes(self) -> int:
        """Bytes of the sectors of global and local memory that were touched, before any cache."""
        return self.memory("global").moved_bytes + self.memory("local").moved_bytes

    @property
    def arithmetic_intensity(self) -> float | None:
        """Operations per byte of global memory moved, before any cache; None if none was."""
        moved = self.memory("global").moved_bytes
        return (self.flops + self.tensor_flops) / moved if moved else None


@dataclass(frozen=True, slots=True)
class InstructionSums:
    """Executions of one class of instructions."""

    executed: int
    threads: int
    threads_on: int


@dataclass(frozen=True, slots=True)
class LineCounts(Sums):
    """One line of source code, all of its instructions together."""

    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Counters(Sums):
    """What one launch did, or several together.

    `str()` of it is a table; `+` adds launches up.
    """

    launches: int = 1
    blocks: int = 0
    block_threads: int = 0
    """Threads of all blocks."""
    warps: int = 0

    @property
    def kernels(self) -> tuple[str, ...]:
        """Names of the kernels, in the order of their first launch."""
        return tuple(dict.fromkeys(i.kernel for i in self.instructions))

    def lines(self) -> tuple[LineCounts, ...]:
        """By line of source code, in the order of the source; what has no line is left out."""
        found: dict[tuple[str, int], list[InstructionCounts]] = {}
        for instruction in self.instructions:
            if instruction.source_line:
                found.setdefault((instruction.file, instruction.source_line), []).append(instruction)
        return tuple(LineCounts(tuple(own), file, line) for (file, line), own in sorted(found.items()))

    def line(self, number: int) -> LineCounts:
        """The counts of a line of source code, by its number alone.

        Raises:
            KernelError: Nothing was executed there.
        """
        own = tuple(i for i in self.instructions if i.source_line == number and number)
        if not own:
            known = sorted({i.source_line for i in self.instructions if i.source_line})
            raise KernelError(
                f"no instruction of {', '.join(self.kernels)} comes from line {number}",
                hint=f"lines: {', '.join(map(str, known)) or 'none; compile with line information'}",
            )
        return LineCounts(own, own[0].file, number)

    def metrics(self) -> Mapping[str, float]:
        """Numbers by the names that Nsight Compute has for them."""
        from tessera.emulator.count_metrics import metrics

        return metrics(self)

    def __add__(self, other: Counters) -> Counters:
        """Both together: instruction by instruction where they are of the same kernel."""
        if not isinstance(other, Counters):
            return NotImplemented
        rows = {i.key: i for i in self.instructions}
        for theirs in other.instructions:
            own = rows.get(theirs.key)
            rows[theirs.key] = theirs if own is None else _added(own, theirs)
        return Counters(
            tuple(rows.values()),
            self.launches + other.launches,
            self.blocks + other.blocks,
            self.block_threads + other.block_threads,
            self.warps + other.warps,
        )

    @staticmethod
    def sum(counters: Iterable[Counters]) -> Counters:
        """All of them together."""
        total = Counters((), launches=0)
        for each in counters:
            total = total + each
        return total

    def __str__(self) -> str:
        """A table, 80 columns wide."""
        from tessera.emulator.count_text import counters_text

        return counters_text(self)


def _added(a: InstructionCounts, b: InstructionCounts) -> InstructionCounts:
    if (a.mnemonic, a.ptx_line) != (b.mnemonic, b.ptx_line):
        raise KernelError(
            f"counts of two different kernels called {a.kernel} cannot be added: one has {a.mnemonic} in PTX "
            f"line {a.ptx_line} where the other has {b.mnemonic} in line {b.ptx_line}"
        )
    return replace(
        a,
        executed=a.executed + b.executed,
        threads=a.threads + b.threads,
        threads_on=a.threads_on + b.threads_on,
        divergent=a.divergent + b.divergent,
        flops=a.flops + b.flops,
        tensor_flops=a.tensor_flops + b.tensor_flops,
        accesses=merged((*a.accesses, *b.accesses)),
    )


def merged(accesses: Iterable[Access]) -> tuple[Access, ...]:
    """Accesses of one instruction with those to the same space, of the same kind and size, made one."""
    found: dict[tuple[Space, Operation, int], list[Access]] = {}
    for access in accesses:
        found.setdefault((access.space, access.operation, access.size), []).append(access)
    return tuple(_joined(same, space, operation) for (space, operation, _), same in sorted(found.items()))


def _joined(accesses: Iterable[Access], space: Space, operation: Operation) -> Access:
    own = list(accesses)
    return Access(
        space=space,
        operation=operation,
        size=max((a.size for a in own), default=0),
        requests=sum(a.requests for a in own),
        threads=sum(a.threads for a in own),
        asked_bytes=sum(a.asked_bytes for a in own),
        passes=sum(a.passes for a in own),
        ideal=sum(a.ideal for a in own),
    )
