"""One PTX instruction after the other, each for all threads of a block at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tessera.emulator.lanes import BITS, Array
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
from tessera.program.errors import CompileError, DeviceError

if TYPE_CHECKING:
    from tessera.emulator.lockstep import BlockRun

WARP = 32
GLOBAL_BASE = 0x1_0000_0000
"""First device address. Nothing lies below it, so that a null pointer plus an offset is caught."""
SHARED_WINDOW = 0x7E00_0000_0000_0000
"""Generic addresses of shared memory begin here."""
LOCAL_WINDOW = 0x7F00_0000_0000_0000
"""Generic addresses of local memory begin here."""
WINDOWS = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW, "global": 0, "const": 0, "param": 0}
AXES = {"x": 0, "y": 1, "z": 2}


class Executor:
    """Registers and variables of one function call, for every thread of a block."""

    def __init__(self, run: BlockRun, function: Function, params: Mapping[str, bytes]) -> None:
        self.run = run
        self.function = function
        self.count = run.threads
        self.registers: dict[str, Array] = {}
        self.param_bytes: dict[str, Array] = {
            name: np.tile(np.frombuffer(raw, np.uint8), (self.count, 1)) for name, raw in params.items()
        }
        self.local_at: dict[str, int] = {}
        top = 0
        for variable in function.variables:
            size = TYPE_BYTES[variable.type] * variable.count
            if variable.space == "local":
                align = variable.align or TYPE_BYTES[variable.type]
                top = -(-top // align) * align
                self.local_at[variable.name] = top
                top += size
            elif variable.space == "param":
                self.param_bytes[variable.name] = np.zeros((self.count, size), np.uint8)
        self.local = np.zeros((self.count, top), np.uint8)

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
        special = self.special(operand.name)
        if special is not None:
            return special.astype(dtype)
        bits = self.bits(operand.name)
        if bits.dtype.itemsize != dtype.itemsize:
            # A wider register read under a narrower type gives its low part.
            bits = bits.astype(np.dtype(f"u{dtype.itemsize}"))
        return bits.view(dtype)

    def bits(self, name: str) -> Array:
        """The bits of a register, as unsigned integers (predicates as bool); zeros if never written."""
        if name not in self.registers:
            kind = self.function.registers.get(name)
            if kind is None:
                raise CompileError(f"{self.function.name}: unknown register {name}")
            size = 1 if kind == "pred" else TYPE_BYTES[kind]
            dtype = np.bool_ if kind == "pred" else np.dtype(f"u{size}")
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
        target[mask] = raw.view(np.dtype(f"u{raw.dtype.itemsize}")).astype(target.dtype)[mask]

    def special(self, name: str) -> Array | None:
        """The value of a special register, or None if `name` is none."""
        base, _, axis = name.partition(".")
        geometry = self.run.geometry
        linear = np.arange(self.count, dtype=np.int64)
        if base in ("%tid", "%ntid", "%ctaid", "%nctaid"):
            i = AXES[axis]
            if base == "%tid":
                stride = int(np.prod(geometry.block[:i], dtype=np.int64))
                return linear // stride % geometry.block[i]
            per_axis = {"%ntid": geometry.block, "%ctaid": geometry.index, "%nctaid": geometry.grid}[base]
            return np.full(self.count, per_axis[i])
        lane = linear % WARP
        values: dict[str, Callable[[], Array]] = {
            "%laneid": lambda: lane,
            "%warpid": lambda: linear // WARP,
            "%nwarpid": lambda: np.full(self.count, -(-self.count // WARP)),
            "%lanemask_eq": lambda: 1 << lane,
            "%lanemask_lt": lambda: (1 << lane) - 1,
            "%lanemask_le": lambda: (2 << lane) - 1,
            "%lanemask_gt": lambda: 0xFFFFFFFF & ~((2 << lane) - 1),
            "%lanemask_ge": lambda: 0xFFFFFFFF & ~((1 << lane) - 1),
            "%clock": lambda: np.full(self.count, self.run.steps),
            "%clock64": lambda: np.full(self.count, self.run.steps),
            "%globaltimer": lambda: np.full(self.count, self.run.steps),
            "%smid": lambda: np.zeros(self.count, np.int64),
            "%dynamic_smem_size": lambda: np.full(self.count, self.run.dynamic_bytes),
        }
        return values[name]() if name in values else None

    # -- memory ---------------------------------------------------------------------------------

    def address_of(self, name: str) -> int:
        """The address of a variable inside its state space."""
        for table in (self.local_at, self.run.shared_at, self.run.machine.symbols):
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

    def gather(self, place: str, operand: Address, size: int, mask: Array, line: int) -> Array:
        """(threads, size) bytes from memory; zeros where `mask` is off."""
        found = np.zeros((self.count, size), np.uint8)
        if place == "param":
            if not isinstance(operand.base, Symbol):
                raise CompileError(f"PTX line {line}: parameters are read by name only")
            raw = self.param_bytes[operand.base.name]
            start = operand.base.offset + operand.offset
            found[mask] = raw[mask, start : start + size]
            return found
        for space, threads, offsets in self.split(place, operand, size, mask, line):
            index = offsets[:, None] + np.arange(size)
            memory = self.storage(space)
            found[threads] = memory[threads[:, None], index] if space == "local" else memory[index]
        return found

    def scatter(self, place: str, operand: Address, values: Array, mask: Array, line: int) -> None:
        """Write (threads, size) bytes to memory, in thread order."""
        size = values.shape[1]
        if place == "param":
            if not isinstance(operand.base, Symbol):
                raise CompileError(f"PTX line {line}: parameters are written by name only")
            start = operand.base.offset + operand.offset
            self.param_bytes[operand.base.name][mask, start : start + size] = values[mask]
            return
        for space, threads, offsets in self.split(place, operand, size, mask, line):
            index = offsets[:, None] + np.arange(size)
            memory = self.storage(space)
            if space == "local":
                memory[threads[:, None], index] = values[threads]
            else:
                memory[index] = values[threads]

    def storage(self, space: str) -> Array:
        """The bytes of a state space; (threads, bytes) for local memory."""
        if space == "shared":
            return self.run.shared
        return self.local if space == "local" else self.run.machine.memory.data

    def split(
        self, place: str, operand: Address, size: int, mask: Array, line: int
    ) -> list[tuple[str, Array, Array]]:
        """Threads and byte offsets by state space, all checked against its bounds.

        Raises:
            DeviceError: An access outside of any allocation; names line, thread and address.
        """
        addresses = self.addresses(operand)
        if place == "generic":
            window = addresses >> np.uint64(56)
            spaces = np.where(window == 0x7E, "shared", np.where(window == 0x7F, "local", "global"))
        else:
            spaces = np.full(self.count, "global" if place == "const" else place)
        found = []
        for space in np.unique(spaces[mask]):
            threads = np.flatnonzero(mask & (spaces == space))
            offsets = addresses[threads]
            if place == "generic":
                offsets = offsets & np.uint64((1 << 56) - 1) if space != "global" else offsets
            limit = self.storage(str(space)).shape[-1]
            if space == "global":
                offsets = offsets - np.uint64(GLOBAL_BASE)
                inside = offsets < np.uint64(limit)
                signed = np.where(inside, offsets, 0).astype(np.int64)
                inside &= self.run.machine.memory.allocated(signed, size)
            else:
                inside = offsets + np.uint64(size) <= np.uint64(limit)
                signed = np.where(inside, offsets, 0).astype(np.int64)
            if not inside.all():
                bad = int(threads[~inside][0])
                raise DeviceError(
                    f"PTX line {line}: thread {bad} of block {self.run.geometry.index} accesses {size} bytes "
                    f"of {space} memory at {int(addresses[bad]):#x}, where nothing is allocated",
                    ptx_line=line,
                )
            found.append((str(space), threads, signed))
        return found

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
        with np.errstate(all="ignore"):
            handler(self, instruction, mask)

    def argument(self, operand: Operand, variable: Variable) -> Array:
        """The bytes of a call's argument."""
        if isinstance(operand, Symbol):
            return self.param_bytes[operand.name].copy()
        values = np.ascontiguousarray(self.read(operand, variable.type))
        return values.view(np.uint8).reshape(self.count, -1)

    def take_result(self, operand: Operand, raw: Array, variable: Variable, mask: Array) -> None:
        """Put the bytes that a call returned where the caller wants them."""
        if isinstance(operand, Symbol):
            self.param_bytes[operand.name][mask] = raw[mask]
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
