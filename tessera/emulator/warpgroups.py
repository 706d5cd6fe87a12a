"""`wgmma`: products of matrices in shared memory by four warps. They happen at once here, each warp computing
its own sixteen rows, so that fences are nothing; where products are waited for, the four warps meet.

Source: PTX ISA 8.8, section 9.7.15 (asynchronous warpgroup-level matrix instructions).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tessera.emulator import fragments, matrices
from tessera.emulator.lanes import Array
from tessera.emulator.matrices import ELEMENT_BITS, unknown, warps_of
from tessera.emulator.ptx import Immediate, Instruction, Operand, Vector
from tessera.program.errors import DeviceError

if TYPE_CHECKING:
    from tessera.emulator.instructions import Executor


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Where a matrix lies in shared memory (section 9.7.15.5.1.2.2, matrix descriptor format)."""

    start: int
    leading: int
    """Bytes between core matrices along the leading dimension."""
    stride: int
    """Bytes between core matrices along the strided dimension."""
    swizzle: int
    """Bytes of a swizzled row: 32, 64 or 128; 16 for no swizzle."""

    @staticmethod
    def decode(bits: int) -> Descriptor:
        """The descriptor in a 64-bit register."""
        sizes = {0: 16, 1: 128, 2: 64, 3: 32}
        return Descriptor(
            (bits & 0x3FFF) << 4, (bits >> 16 & 0x3FFF) << 4, (bits >> 32 & 0x3FFF) << 4, sizes[bits >> 62]
        )

    def addresses(self, rows: int, row_bytes: int) -> Array:
        """(rows, row_bytes) offsets of a matrix of that many lines along k ("k-major")."""
        row, byte = np.arange(rows)[:, None], np.arange(row_bytes)[None, :]
        if self.swizzle == 16:
            offset = row // 8 * self.stride + byte // 16 * self.leading + row % 8 * 16 + byte % 16
        else:
            offset = row // 8 * self.stride + row % 8 * self.swizzle + byte
        return self.swizzled(self.start + offset)

    def transposed_addresses(self, rows: int, row_bytes: int) -> Array:
        """(rows, row_bytes) offsets of a matrix whose lines run across k: `rows` of k."""
        row, byte = np.arange(rows)[:, None], np.arange(row_bytes)[None, :]
        if self.swizzle == 16:
            offset = row // 8 * self.leading + byte // 16 * self.stride + row % 8 * 16 + byte % 16
        else:
            inside = row % 8 * self.swizzle + byte % self.swizzle
            offset = row // 8 * self.stride + byte // self.swizzle * self.leading + inside
        return self.swizzled(self.start + offset)

    def swizzled(self, address: Array) -> Array:
        """Addresses with their 16-byte column mixed with their row."""
        mixed: Array = address ^ (address >> 7 & self.swizzle // 16 - 1) << 4
        return mixed


def _from_memory(
    executor: Executor,
    instruction: Instruction,
    descriptor: int,
    kind: str,
    rows: int,
    k: int,
    *,
    across: bool,
) -> Array:
    """(rows, k): an operand in shared memory, lines along k unless `across`."""
    place = Descriptor.decode(descriptor)
    bits = ELEMENT_BITS[kind]
    if across:
        addresses = place.transposed_addresses(k, rows * bits // 8)
    else:
        addresses = place.addresses(rows, k * bits // 8)
    memory = executor.run.shared
    if int(addresses.max()) >= len(memory):
        raise DeviceError(
            f"PTX line {instruction.line}: {instruction.mnemonic} reads shared memory at "
            f"{int(addresses.max()):#x}, past its {len(memory)} bytes",
            ptx_line=instruction.line,
        )
    values = matrices.unpack(memory[addresses], kind)
    return values.T if across else values


def _flag(instruction: Instruction, position: int) -> int:
    if position >= len(instruction.operands):
        return 0
    operand = instruction.operands[position]
    if not isinstance(operand, Immediate):
        raise unknown(instruction)
    return int(operand.value)


@dataclass(frozen=True, slots=True)
class Form:
    """What a `wgmma.mma_async` says."""

    d: str
    a: str
    b: str
    """Types of elements."""
    target: Operand
    a_operand: Operand
    """A descriptor, or the registers of a warp's 16 rows."""
    b_operand: Operand
    scale: Operand | None
    """A predicate: whether D is added to."""
    sign: int
    """-1 if the products are subtracted."""
    a_across: bool
    """Whether the lines of A in memory run along its rows, not along k."""
    b_across: bool
    """The same for columns of B."""

    @property
    def in_registers(self) -> bool:
        """Whether A is."""
        return isinstance(self.a_operand, Vector)

    @staticmethod
    def of(instruction: Instruction) -> Form:
        """What an instruction says.

        Raises:
            CompileError: A form that is not known, such as a sparse one.
        """
        m, n, _ = matrices.shape_of(instruction)
        kinds = [x for x in instruction.modifiers if x in ELEMENT_BITS]
        if len(kinds) != 3 or "sp" in instruction.modifiers or m != 64 or n % 8:
            raise unknown(instruction)
        target, a_operand, b_operand, *rest = instruction.operands
        in_registers = isinstance(a_operand, Vector)
        d, a, b = kinds
        return Form(
            d, a, b, target, a_operand, b_operand, rest[0] if rest else None,
            (_flag(instruction, 4) or 1) * (_flag(instruction, 5) or 1),
            not in_registers and bool(_flag(instruction, 6)),
            bool(_flag(instruction, 6 if in_registers else 7)),
        )  # fmt: skip


def _multiply(executor: Executor, instruction: Instruction, ready: Array) -> None:
    form = Form.of(instruction)
    _, n, k = matrices.shape_of(instruction)
    scale = executor.read(form.scale, "pred") if form.scale is not None else None
    old = matrices.read_elements(executor, form.target, form.d)
    results = np.zeros_like(old)
    held = matrices.read_elements(executor, form.a_operand, form.a) if form.in_registers else None
    places = None if form.in_registers else executor.read(form.a_operand, "u64")
    b_places = executor.read(form.b_operand, "u64")
    layout = fragments.accumulator(16, n)
    for threads in warps_of(ready):
        first = int(threads[0])
        if held is not None:
            a_layout = fragments.operand_a(16, k, 32 // ELEMENT_BITS[form.a])
            a = fragments.collect(held[threads], a_layout, (16, k))
        else:
            descriptor = int(places[first]) if places is not None else 0
            whole = _from_memory(executor, instruction, descriptor, form.a, 64, k, across=form.a_across)
            a = whole[first // 32 % 4 * 16 :][:16]
        b = _from_memory(executor, instruction, int(b_places[first]), form.b, n, k, across=form.b_across).T
        c = fragments.collect(old[threads], layout, (16, n))
        if scale is not None and not scale[first]:
            c = np.zeros_like(c)
        total = matrices.product(a * form.sign, b, c, instruction)
        results[threads] = fragments.distribute(total, layout)
    matrices.write_elements(executor, form.target, matrices.pack(results, form.d), ready)


def _warpgroup(executor: Executor, instruction: Instruction, ready: Array) -> None:
    if "mma_async" in instruction.modifiers:
        _multiply(executor, instruction, ready)


def meets(instruction: Instruction) -> bool:
    """Whether the four warps meet at the instruction: who goes on from there may say that the operands can
    be overwritten, which is true only when all four have read them.
    """
    return instruction.opcode == "wgmma" and "wait_group" in instruction.modifiers


def arrived(waiting: Array, alive: Array) -> Array:
    """Which of the threads that stand where warps meet have their whole warpgroup beside them."""
    ready = np.zeros(len(waiting), np.bool_)
    for start in range(0, len(waiting), 128):
        group = slice(start, start + 128)
        if not (alive[group] & ~waiting[group]).any():
            ready[group] = waiting[group]
    return ready


def _nothing(_executor: Executor, _instruction: Instruction, _ready: Array) -> None:
    """`setmaxnreg`: registers are not counted here."""


HANDLERS: dict[str, Callable[[Executor, Instruction, Array], None]] = {
    "wgmma": _warpgroup, "setmaxnreg": _nothing,
}  # fmt: skip
"""What each opcode of this family does."""
