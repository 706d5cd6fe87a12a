"""One PTX instruction after the other, each for all threads of a block at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tessera.emulator.geometry import RANK_SHIFT
from tessera.emulator.lanes import BITS, Array, unsigned
from tessera.emulator.ptx import (
    TYPE_BYTES,
    Address,
    Function,
    Immediate,
    Instruction,
    Negated,
    Operand,
    Pair,
    Register,
    Symbol,
    Variable,
)
from tessera.emulator.special import SPECIAL
from tessera.program.errors import CompileError, DeviceError

if TYPE_CHECKING:
    from tessera.emulator.lockstep import BlockRun

GLOBAL_BASE = 0x1_0000_0000
"""First device address. Nothing lies below it, so that a null pointer plus an offset is caught."""
SHARED_WINDOW = 0x7E00_0000_0000_0000
"""Generic addresses of shared memory begin here."""
LOCAL_WINDOW = 0x7F00_0000_0000_0000
"""Generic addresses of local memory begin here."""
WINDOWS = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW, "global": 0, "const": 0, "param": LOCAL_WINDOW}
CONSTANTS = {"WARP_SZ": 32}
"""Numbers that PTX has names for."""
PRIVATE = ("local", "param")
"""State spaces of which each thread has its own. Parameters lie in local memory here: their addresses may
be taken and passed on."""


class Executor:
    """Registers and variables of one function call, for every thread of a block."""

    def __init__(self, run: BlockRun, function: Function, params: Mapping[str, bytes]) -> None:
        self.run = run
        self.function = function
        self.count = run.threads
        self.registers: dict[str, Array] = {}
        self.instruction: Instruction | None = None
        """What is being executed; None between instructions."""
        self.local_at: dict[str, int] = {}
        """Address of each local variable and parameter; both live in the thread's own memory."""
        self.local_base = run.local_top
        params_of = (v for v in (*function.params, *function.results) if v.space == "param")
        for variable in (*params_of, *function.variables):
            if variable.space in ("local", "param"):
                size = TYPE_BYTES[variable.type] * variable.count
                start = run.reserve_local(size, variable.align or TYPE_BYTES[variable.type])
                self.local_at[variable.name] = start
                if run.watch is not None:
                    run.watch.reserved(start, size, written=variable.space == "param")
        for name, raw in params.items():
            self.param(name, len(raw))[:] = np.frombuffer(raw, np.uint8)

    def local_extents(self) -> list[tuple[int, int]]:
        """Offset and bytes of what may be accessed in local memory: variables, and all of the callers'."""
        sizes = {v.name: TYPE_BYTES[v.type] * v.count for v in self.function.variables if v.space == "local"}
        sizes |= {v.name: TYPE_BYTES[v.type] * v.count for v in self.function.params}
        own = [(at, sizes[name]) for name, at in self.local_at.items() if name in sizes]
        return [*own, *([(0, self.local_base)] if self.local_base else [])]

    def param(self, name: str, size: int) -> Array:
        """(threads, size) bytes: the memory of a parameter, to be read or written in place."""
        start = self.local_at[name]
        return self.run.local[:, start : start + size]

    # -- registers ------------------------------------------------------------------------------

    def guard(self, instruction: Instruction) -> Array:
        """Which threads the guard lets through."""
        if instruction.guard is None:
            return np.ones(self.count, np.bool_)
        return self.read(instruction.guard, "pred") ^ instruction.guard_negated

    def read(self, operand: Operand, kind: str) -> Array:
        """The value of an operand under a type, one per thread."""
        dtype = np.dtype(BITS[kind])
        if isinstance(operand, Immediate):
            return self.immediate(operand, dtype)
        if isinstance(operand, Negated):
            return ~self.read(operand.operand, kind)
        if isinstance(operand, Symbol):
            return np.full(self.count, self.address_of(operand.name) + operand.offset, np.uint64).astype(
                dtype
            )
        if not isinstance(operand, Register):
            raise CompileError(f"{self.function.name}: an operand of this form has no value: {operand}")
        special = SPECIAL.get(operand.name)
        if special is not None:
            return special(self.run).astype(dtype)
        bits = self.bits(operand.name)
        if bits.dtype.itemsize != dtype.itemsize:
            # A wider register read under a narrower type gives its low part.
            bits = bits.astype(unsigned(dtype.itemsize))
        return bits.view(dtype)

    def bits(self, name: str) -> Array:
        """The bits of a register, as unsigned integers (predicates as bool); zeros if never written."""
        if name not in self.registers:
            kind = self.function.registers.get(name)
            if kind is None:
                raise CompileError(f"{self.function.name}: unknown register {name}")
            size = 1 if kind == "pred" else TYPE_BYTES[kind]
            dtype = np.dtype(np.bool_) if kind == "pred" else unsigned(size)
            self.registers[name] = np.zeros(self.count, dtype)
        return self.registers[name]

    def immediate(self, operand: Immediate, dtype: np.dtype[Any]) -> Array:
        """A literal under a type, the same for every thread."""
        if operand.bits is not None and dtype.itemsize * 8 == operand.width:
            raw = np.array([operand.bits], np.dtype(f"u{dtype.itemsize}"))
            return np.repeat(raw.view(dtype), self.count)
        if dtype.kind in "iu" and isinstance(operand.value, int):
            mask = (1 << dtype.itemsize * 8) - 1
            raw = np.array([operand.value & mask], np.dtype(f"u{dtype.itemsize}"))
            return np.repeat(raw.view(dtype), self.count)
        return np.full(self.count, operand.value, dtype)

    def write(self, operand: Operand, values: Array, mask: Array) -> None:
        """Write the bits of `values` to a register, for the threads in `mask`."""
        if isinstance(operand, Pair):
            raise CompileError(f"{self.function.name}: unexpected pair of destinations")
        if not isinstance(operand, Register):
            raise CompileError(f"{self.function.name}: {operand} cannot be written")
        if operand.name == "_":
            return
        target = self.bits(operand.name)
        if target.dtype == np.bool_:
            target[mask] = values[mask].astype(np.bool_)
            return
        if values.dtype.itemsize < target.dtype.itemsize and values.dtype.kind == "i":
            values = values.astype(np.dtype(f"i{target.dtype.itemsize}"))
        raw = np.ascontiguousarray(values)
        if raw.dtype == np.bool_:
            raw = raw.astype(np.uint8)
        target[mask] = raw.view(unsigned(raw.dtype.itemsize)).astype(target.dtype)[mask]

    # -- memory ---------------------------------------------------------------------------------

    def address_of(self, name: str) -> int:
        """The address of a variable inside its state space."""
        for table in (self.local_at, self.run.shared_at, self.run.machine.symbols, CONSTANTS):
            if name in table:
                return table[name]
        raise CompileError(f"{self.function.name}: there is no variable {name}")

    def addresses(self, operand: Address) -> Array:
        """The address that each thread means, unsigned 64-bit."""
        base = operand.base
        if isinstance(base, Register):
            width = self.bits(base.name).dtype.itemsize
            values = self.read(base, f"u{width * 8}").astype(np.uint64)
        elif isinstance(base, Symbol):
            values = np.full(self.count, self.address_of(base.name) + base.offset, np.uint64)
        else:
            values = np.full(self.count, int(base.value), np.uint64)
        return values + np.uint64(operand.offset & 0xFFFF_FFFF_FFFF_FFFF)

    def gather(
        self, place: str, operand: Address, size: int, mask: Array, line: int, align: int | None = None
    ) -> Array:
        """(threads, size) bytes from memory; zeros where `mask` is off."""
        found = np.zeros((self.count, size), np.uint8)
        for space, threads, offsets in self.split(place, operand, size, mask, line, align):
            index = offsets[:, None] + np.arange(size)
            memory = self.storage(space)
            found[threads] = memory[threads[:, None], index] if space in PRIVATE else memory[index]
        return found

    def scatter(
        self, place: str, operand: Address, values: Array, mask: Array, line: int, align: int | None = None
    ) -> None:
        """Write (threads, size) bytes to memory, in thread order."""
        size = values.shape[1]
        for space, threads, offsets in self.split(place, operand, size, mask, line, align, write=True):
            index = offsets[:, None] + np.arange(size)
            memory = self.storage(space)
            if space in PRIVATE:
                memory[threads[:, None], index] = values[threads]
            else:
                memory[index] = values[threads]

    def storage(self, space: str) -> Array:
        """The bytes of a state space; (threads, bytes) for local memory."""
        if space == "shared":
            return self.run.shared
        if space.startswith("shared@"):
            return self.run.cluster.blocks[int(space[7:])].shared
        return self.run.local if space in PRIVATE else self.run.machine.memory.data

    def split(
        self, place: str, operand: Address, size: int, mask: Array, line: int, align: int | None = None,
        *, write: bool = False, barrier: bool = False,
    ) -> list[tuple[str, Array, Array]]:  # fmt: skip
        """Threads and byte offsets by state space, all checked against its bounds and `align`.

        Addresses must be multiples of `align`, by default of the size. `barrier` says that an mbarrier is
        meant. Under the sanitizer, accesses that fail a check are left out.

        Raises:
            DeviceError: An access outside of any allocation; names line, thread and address.
        """
        addresses = self.addresses(operand)
        align = size if align is None else align
        recorder = self.run.machine.recorder
        if recorder is not None and self.instruction is not None:
            recorder.access(self.instruction, place, addresses, mask, size, write=write)
        if place == "generic":
            window = addresses >> np.uint64(56)
            shared, local = window == SHARED_WINDOW >> 56, window == LOCAL_WINDOW >> 56
            groups = {"global": mask & ~shared & ~local, "local": mask & local, "shared": mask & shared}
        else:
            groups = {"global" if place == "const" else place: mask}
        if "shared" in groups and (addresses[groups["shared"]] >> np.uint64(RANK_SHIFT) & 0xFF).any():
            addresses, parts = self.by_block(addresses, groups.pop("shared"))
            groups |= parts
        found = []
        for space, members in groups.items():
            threads = np.flatnonzero(members)
            if not threads.size:
                continue
            offsets = addresses[threads]
            if place == "generic":
                offsets = offsets & np.uint64((1 << 56) - 1) if space != "global" else offsets
            if self.run.watch is not None and place != "param":
                going = self.run.watch.access(
                    self, space, threads, offsets, size, align, write=write, barrier=barrier
                )
                base = GLOBAL_BASE if space == "global" else 0
                found.append((space, threads[going], (offsets[going] - np.uint64(base)).astype(np.int64)))
                continue
            limit = self.storage(space).shape[-1]
            if space == "global":
                offsets = offsets - np.uint64(GLOBAL_BASE)
                inside = offsets < np.uint64(limit)
                signed = np.where(inside, offsets, 0).astype(np.int64)
                inside &= self.run.machine.memory.allocated(signed, size)
            else:
                inside = (offsets <= np.uint64(max(limit - size, 0))) & (size <= limit)
                signed = np.where(inside, offsets, 0).astype(np.int64)
            if not inside.all():
                bad = int(threads[~inside][0])
                raise DeviceError(
                    f"PTX line {line}: thread {bad} of block {self.run.geometry.index} accesses {size} bytes "
                    f"of {space} memory at {int(addresses[bad]):#x}, where nothing is allocated",
                    ptx_line=line,
                )
            unaligned = (offsets % np.uint64(align)) != 0
            if unaligned.any():
                bad = int(threads[unaligned][0])
                raise DeviceError(
                    f"PTX line {line}: thread {bad} of block {self.run.geometry.index} accesses {size} bytes "
                    f"of {space} memory at {int(addresses[bad]):#x}, which is not a multiple of {align}",
                    ptx_line=line,
                )
            found.append((space, threads, signed))
        return found

    def by_block(self, addresses: Array, mask: Array) -> tuple[Array, dict[str, Array]]:
        """Addresses without the rank of a block of the cluster, and threads by the block that they name.

        Raises:
            DeviceError: The block has ended.
        """
        blocks, own = self.run.cluster.blocks, self.run.geometry.rank
        high = addresses >> np.uint64(RANK_SHIFT) & np.uint64((1 << 56 - RANK_SHIFT) - 1)
        named = (high > 0) & (high <= len(blocks))
        ranks = np.where(named, high.astype(np.int64) - 1, own)
        cut = np.where(named, addresses & ~np.uint64((1 << 56) - (1 << RANK_SHIFT)), addresses)
        groups = {}
        for rank in np.unique(ranks[mask]).tolist():
            threads = mask & (ranks == rank)
            if not blocks[rank].living:
                raise DeviceError(
                    f"{self.function.name}: thread {int(np.flatnonzero(threads)[0])} of block "
                    f"{self.run.geometry.index} accesses the shared memory of block {rank} of its cluster, "
                    "which has ended",
                    hint="end with cluster.sync(): a block's shared memory lasts as long as the block",
                )
            groups["shared" if rank == own else f"shared@{rank}"] = threads
        return cut, groups

    # -- dispatch -------------------------------------------------------------------------------

    def execute(self, instruction: Instruction, mask: Array) -> None:
        """Run one instruction for the threads in `mask`.

        Raises:
            CompileError: The instruction is not known; names its PTX line and source line.
        """
        # The table's functions work on an Executor, so their module imports this one.
        from tessera.emulator.handlers import HANDLERS

        handler = HANDLERS.get(instruction.opcode)
        if handler is None:
            raise unsupported(instruction)
        if self.run.watch is not None:
            self.run.watch.executing(instruction, np.flatnonzero(mask))
        self.instruction = instruction
        try:
            with np.errstate(all="ignore"):
                handler(self, instruction, mask)
        except (IndexError, KeyError, StopIteration, ValueError) as error:
            # A form that PTX does not have: too few operands or types, or others than it knows.
            raise unsupported(instruction) from error
        self.instruction = None

    def argument(self, operand: Operand, variable: Variable) -> Array:
        """(threads, bytes): a call's argument."""
        if isinstance(operand, Symbol) and operand.name in self.local_at:
            return self.param(operand.name, TYPE_BYTES[variable.type] * variable.count).copy()
        values = np.ascontiguousarray(self.read(operand, variable.type))
        return values.view(np.uint8).reshape(self.count, -1)

    def take_result(self, operand: Operand, raw: Array, variable: Variable, mask: Array) -> None:
        """Put the bytes that a call returned where the caller wants them."""
        if isinstance(operand, Symbol):
            self.param(operand.name, raw.shape[1])[mask] = raw[mask]
        else:
            values = np.ascontiguousarray(raw).view(np.dtype(BITS[variable.type])).reshape(-1)
            self.write(operand, values, mask)


def unsupported(instruction: Instruction) -> CompileError:
    """The error for an instruction that is not known."""
    source = f" (source line {instruction.source_line})" if instruction.source_line else ""
    return CompileError(
        f"PTX line {instruction.line}{source}: the emulator does not know {instruction.mnemonic}",
        ptx_line=instruction.line,
    )
