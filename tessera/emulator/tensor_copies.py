"""`cp.async.bulk.tensor` and `cp.reduce.async.bulk.tensor` in the lockstep interpreter: boxes of tensors.

Source: PTX ISA 8.8, sections 9.7.9.27.1.2 and 9.7.9.27.1.3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tessera.emulator import mbarriers, tensor_boxes
from tessera.emulator.atomics import combine
from tessera.emulator.geometry import RANK_SHIFT
from tessera.emulator.instructions import GLOBAL_BASE, Executor, unsupported
from tessera.emulator.lanes import Array
from tessera.emulator.ptx import Address, Instruction, Operand, Register, Vector
from tessera.emulator.tensor_maps import decode
from tessera.program.errors import DeviceError, KernelError
from tessera.program.tensor_map import MAP_BYTES, TensorMap

_OFFSET = (1 << RANK_SHIFT) - 1


@dataclass(frozen=True, slots=True)
class TensorOperands:
    """The operands of a copy by what they are."""

    map: Address
    """Of the tensor map, with the coordinates."""
    shared: Address
    barrier: Address | None
    offsets: tuple[Operand, ...]
    """Of im2col."""
    blocks: Operand | None
    """Which blocks of the cluster get it."""

    @staticmethod
    def of(instruction: Instruction) -> TensorOperands:
        """Those of an instruction.

        Raises:
            CompileError: It has others.
        """
        places = [o for o in instruction.operands if isinstance(o, Address)]
        maps = [o for o in places if o.coordinates is not None]
        others = [o for o in places if o.coordinates is None]
        modes = [m for m in instruction.modifiers if m.startswith(("tile::", "im2col::", "im2col_no"))]
        if len(maps) != 1 or not 1 <= len(others) <= 2 or modes:
            raise unsupported(instruction)
        rest = [o for o in instruction.operands if not isinstance(o, Address)]
        offsets = next((o.elements for o in rest if isinstance(o, Vector)), ())
        scalars = [o for o in rest if not isinstance(o, Vector)]
        blocks = scalars[0] if "multicast::cluster" in instruction.modifiers else None
        return TensorOperands(maps[0], others[0], others[1] if len(others) > 1 else None, offsets, blocks)


def copy(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """One box after the other, one for each thread.

    Raises:
        DeviceError: No tensor map, coordinates that a GPU stops at, or a tensor outside of memory.
    """
    operands = TensorOperands.of(instruction)
    for thread in np.flatnonzero(mask).tolist():
        one = _Copy(executor, instruction, operands, thread)
        try:
            one.run()
        except KernelError as error:
            raise DeviceError(
                f"PTX line {instruction.line}: {instruction.mnemonic} by thread {thread} of block "
                f"{executor.run.geometry.index}: {error.message}",
                hint=error.hint, kind="tensor copy", ptx_line=instruction.line,
            ) from error  # fmt: skip


class _Copy:
    """The copy of one thread."""

    def __init__(
        self, executor: Executor, instruction: Instruction, operands: TensorOperands, thread: int
    ) -> None:
        self.executor, self.instruction, self.operands, self.thread = executor, instruction, operands, thread
        self.alone = np.zeros(executor.count, np.bool_)
        self.alone[thread] = True

    def run(self) -> None:
        executor, operands, modifiers = self.executor, self.operands, self.instruction.modifiers
        coordinates = operands.map.coordinates
        at = self.numbers(coordinates.elements if coordinates is not None else ())
        place = "param" if not isinstance(operands.map.base, Register) else "generic"
        where = replace(operands.map, coordinates=None)
        raw = executor.gather(place, where, MAP_BYTES, self.alone, self.instruction.line, 64)[self.thread]
        m = decode(raw.tobytes())
        first = next(x.split("::")[0] for x in modifiers if x.split("::")[0] in ("shared", "global"))
        loads = first == "shared"
        shared = int(executor.addresses(operands.shared)[self.thread])
        tensor_boxes.check_place(m, at, shared & _OFFSET, writes=not loads)
        offsets = self.numbers(operands.offsets)
        source, inside = tensor_boxes.elements(m, at, offsets)
        addresses = (m.address + source[inside]).astype(np.uint64)
        if loads:
            self.load(m, shared, addresses, inside)
        else:
            self.write(m, shared, addresses, inside)

    def load(self, m: TensorMap, shared: int, addresses: Array, inside: Array) -> None:
        places, going = self.reach("global", addresses, m.cell, write=False)
        memory = self.executor.storage("global")
        values = np.tile(tensor_boxes.filling(m), (len(inside), 1))
        found = memory[places[:, None] + np.arange(m.cell)]
        values[np.flatnonzero(inside)[going]] = tensor_boxes.converted(m, found)[going]
        barrier = self.operands.barrier
        for rank in self.ranks():
            at = shared if rank is None else shared & _OFFSET | rank + 1 << RANK_SHIFT
            self.move_shared(m, at, values.reshape(-1))
            if barrier is not None:
                near = int(self.executor.addresses(barrier)[self.thread])
                self.report(near if rank is None else near & _OFFSET | rank + 1 << RANK_SHIFT, m.bytes)

    def write(self, m: TensorMap, shared: int, addresses: Array, inside: Array) -> None:
        values = self.move_shared(m, shared, None).reshape(-1, m.cell)[inside]
        places, going = self.reach("global", addresses, m.cell, write=True)
        memory = self.executor.storage("global")
        index = places[going][:, None] + np.arange(m.cell)
        if self.instruction.modifiers[0] == "reduce":
            kind = tensor_boxes.PTX_TYPES.get(m.element, m.element)
            operation = replace(self.instruction, modifiers=(*self.instruction.modifiers, kind))
            old = np.ascontiguousarray(memory[index])
            values = combine(operation, old.reshape(-1), values[going].reshape(-1)).reshape(old.shape)
            memory[index] = values
        else:
            memory[index] = values[going]

    def move_shared(self, m: TensorMap, address: int, values: Array | None) -> Array:
        """Put a box into shared memory, or take it from there."""
        executor, unit = self.executor, min(m.cell, tensor_boxes.CHUNK)
        where = self.register(address)
        ((space, _, offsets),) = executor.split(
            "shared", where, 1, self.alone, self.instruction.line, write=values is not None, barrier=True
        )
        base = int(offsets[0])
        places = tensor_boxes.places(m.swizzle, base, m.bytes)
        self.reach(space, places[::unit].astype(np.uint64), unit, write=values is not None)
        memory = executor.storage(space)
        if values is None:
            found: Array = memory[places]
            return found
        memory[places] = values
        return values

    def reach(self, space: str, addresses: Array, size: int, *, write: bool) -> tuple[Array, Array]:
        """Offsets in a space of what is accessed, checked, and which of the accesses go ahead.

        Raises:
            DeviceError: Something lies outside.
        """
        run = self.executor.run
        base = GLOBAL_BASE if space == "global" else 0
        offsets = addresses.astype(np.int64) - base
        if run.watch is not None:
            threads = np.full(len(addresses), self.thread)
            align = min(size, tensor_boxes.CHUNK)
            going = run.watch.access(self.executor, space, threads, addresses, size, align, write=write)
            return np.where(going, offsets, 0), going
        if space == "global":
            inside = run.machine.memory.allocated(offsets, size)
        else:
            inside = offsets + size <= len(self.executor.storage(space))
        if not inside.all():
            bad = int(addresses[~inside][0])
            raise DeviceError(
                f"PTX line {self.instruction.line}: thread {self.thread} of block {run.geometry.index} "
                f"copies {size} bytes of {space} memory at {bad:#x}, where nothing is allocated",
                kind="out of bounds", ptx_line=self.instruction.line,
            )  # fmt: skip
        return offsets, inside

    def report(self, barrier: int, size: int) -> None:
        mbarriers.update(
            self.executor, self.register(barrier), "shared", self.alone, self.instruction.line,
            lambda state, _: replace(state, bytes=state.bytes - size),
        )  # fmt: skip

    def ranks(self) -> list[int | None]:
        """The blocks that get the box; None: as the address says."""
        if self.operands.blocks is None:
            return [None]
        (bits,) = self.numbers((self.operands.blocks,), "u16")
        return [rank for rank in range(16) if bits >> rank & 1]

    def numbers(self, operands: tuple[Operand, ...], kind: str = "s32") -> tuple[int, ...]:
        return tuple(int(self.executor.read(o, kind)[self.thread]) for o in operands)

    def register(self, value: int) -> Address:
        # A register of its own holds the address, so that the usual checks apply.
        self.executor.registers["%tensor"] = np.full(self.executor.count, value, np.uint64)
        return Address(Register("%tensor"))
