"""Bulk copies of kernels that run in the LLVM engine: compiled code stops and the host does them.

The operands come in rows of 32 lanes (see `translate_bulk`). A copy is done when the call returns.

Source: PTX ISA 8.8, section 9.7.9.27 (`cp.async.bulk`, `cp.reduce.async.bulk`, tensor copies).
"""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tessera.emulator import layout as at
from tessera.emulator import tensor_boxes
from tessera.emulator.atomics import combine
from tessera.emulator.geometry import RANK_SHIFT
from tessera.emulator.lanes import Array
from tessera.emulator.mbarriers import State
from tessera.emulator.ptx import Instruction
from tessera.emulator.report import thread_index
from tessera.emulator.tensor_maps import decode
from tessera.program.errors import DeviceError, KernelError
from tessera.program.tensor_map import MAP_BYTES, TensorMap

if TYPE_CHECKING:
    from tessera.emulator.services import Services

ROWS = {name: i for i, name in enumerate(
    ("target", "source", "barrier", "size", "blocks", *(f"at{i}" for i in range(5)), "o0", "o1", "o2"))
}  # fmt: skip
"""What each row of operands holds; `at` are coordinates, `o` the offsets of im2col."""
NO_BARRIER = (1 << 64) - 1
_OFFSET = (1 << RANK_SHIFT) - 1
_SHARED, _LOCAL = 0x7E, 0x7F


class BulkCopy:
    """One thread's copy.

    Args:
        services: Of the launch.
        block: Address of the block's state.
        warp: Of the warp's.
        lane: Which of its lanes.
        instruction: The copy.
        operands: (rows,) uint64.
    """

    def __init__(
        self, services: Services, block: int, warp: int, lane: int, instruction: Instruction, operands: Array
    ) -> None:
        self.services, self.block, self.warp, self.lane = services, block, warp, lane
        self.instruction = instruction
        self.values = {name: int(operands[i]) for name, i in ROWS.items()}
        spaces = [m.split("::")[0] for m in instruction.modifiers]
        self.target, self.source = [s for s in spaces if s in ("shared", "global")][:2]
        self.rank = next((int(m[0]) for m in instruction.modifiers if m in DIMENSIONS), 0)

    def run(self) -> None:
        """Do it.

        Raises:
            DeviceError: An operand that a GPU stops at, or memory that is not there.
        """
        try:
            self.tensor() if self.rank else self.bytes()
        except KernelError as error:
            raise self.error("tensor copy", error.message, error.hint) from error

    # -- bytes ----------------------------------------------------------------------------------

    def bytes(self) -> None:
        """`cp.async.bulk` and `cp.reduce.async.bulk`."""
        v, size = self.values, self.values["size"] & 0xFFFF_FFFF
        source = self.memory(self.source, v["source"], size, 16)
        for rank in self.ranks():
            target = self.memory(self.target, self.of_block(v["target"], rank), size, 16)
            if self.instruction.modifiers[0] == "reduce":
                target[:] = combine(self.instruction, target.copy(), source)
            else:
                target[:] = source
            self.report(rank, size)

    # -- tensors --------------------------------------------------------------------------------

    def tensor(self) -> None:
        """`cp.async.bulk.tensor` and `cp.reduce.async.bulk.tensor`."""
        v, loads = self.values, self.target == "shared"
        m = decode(self.memory("generic", v["source" if loads else "target"], MAP_BYTES, 64).tobytes())
        where = tuple(_signed(v[f"at{i}"]) for i in range(self.rank))
        offsets = tuple(_signed(v[f"o{i}"]) for i in range(self.rank - 2)) if m.im2col else ()
        shared = v["target" if loads else "source"]
        tensor_boxes.check_place(m, where, shared & _OFFSET, writes=not loads)
        if loads:
            values = self.box(m, where, offsets)
            for rank in self.ranks():
                self.put(m, self.of_block(shared, rank), values)
                self.report(rank, m.bytes)
            return
        place, inside = tensor_boxes.elements(m, where, offsets)
        tensor, low = self.around(m, place[inside])
        taken = self.put(m, shared, None).reshape(-1, m.cell)[inside]
        index = (place[inside] - low)[:, None] + np.arange(m.cell)
        if self.instruction.modifiers[0] == "reduce":
            kind = tensor_boxes.PTX_TYPES.get(m.element, m.element)
            operation = replace(self.instruction, modifiers=(*self.instruction.modifiers, kind))
            taken = combine(operation, tensor[index].reshape(-1), taken.reshape(-1)).reshape(taken.shape)
        tensor[index] = taken

    def box(self, m: TensorMap, where: tuple[int, ...], offsets: tuple[int, ...]) -> Array:
        """The bytes of a box, in the order of shared memory before they change places."""
        whole = all(
            x >= 0 and x + (n - 1) * s < size
            for x, n, s, size in zip(where, m.copied, m.every, m.sizes, strict=False)
        )
        if m.im2col is None and whole and m.every[0] == 1:
            return tensor_boxes.converted(m, self.solid(m, where))
        place, inside = tensor_boxes.elements(m, where, offsets)
        values = np.tile(tensor_boxes.filling(m), (len(inside), 1))
        if inside.any():
            tensor, low = self.around(m, place[inside])
            found = tensor[(place[inside] - low)[:, None] + np.arange(m.cell)]
            values[inside] = tensor_boxes.converted(m, found)
        return values.reshape(-1)

    def solid(self, m: TensorMap, where: tuple[int, ...]) -> Array:
        """A box that lies inside the tensor: rows of bytes."""
        steps = [s * e for s, e in zip(m.strides, m.every[1:], strict=True)]
        start = where[0] * m.cell + sum(x * s for x, s in zip(where[1:], m.strides, strict=True))
        counts = m.copied[1:]
        inner = m.copied[0] * m.cell
        reach = sum((n - 1) * s for n, s in zip(counts, steps, strict=True)) + inner
        memory = self.memory("global", m.address + start, reach, 1)
        shape, strides = (*reversed(counts), inner), (*reversed(steps), 1)
        return np.lib.stride_tricks.as_strided(memory, shape, strides).reshape(-1)

    def around(self, m: TensorMap, place: Array) -> tuple[Array, int]:
        """Memory that holds elements of a tensor, and where in the tensor it begins."""
        if not place.size:
            return np.zeros(0, np.uint8), 0
        low = int(place.min())
        return self.memory("global", m.address + low, int(place.max()) - low + m.cell, 1), low

    def put(self, m: TensorMap, address: int, values: Array | None) -> Array:
        """Put a box into shared memory, or take it from there."""
        places = tensor_boxes.places(m.swizzle, address & _OFFSET, m.bytes)
        low = int(places.min())
        memory = self.memory("shared", address - (address & _OFFSET) + low, int(places.max()) - low + 1, 16)
        index = places - low
        if values is None:
            found: Array = memory[index]
            return found
        if m.swizzle:
            memory[index] = values
        else:
            memory[:] = values
        return values

    # -- places ---------------------------------------------------------------------------------

    def ranks(self) -> list[int | None]:
        """The blocks of the cluster that get it; None: as the address says."""
        if "multicast::cluster" not in self.instruction.modifiers:
            return [None]
        bits = self.values["blocks"]
        return [rank for rank in range(16) if bits >> rank & 1]

    def of_block(self, address: int, rank: int | None) -> int:
        """The same place in another block's shared memory."""
        return address if rank is None else address & _OFFSET | rank + 1 << RANK_SHIFT

    def memory(self, space: str, address: int, size: int, align: int) -> Array:
        """Bytes of the host that a device address means.

        Raises:
            DeviceError: They are not in one allocation, or not aligned.
        """
        if address % align:
            raise self.error("misaligned", f"{size} bytes at {address:#x}, no multiple of {align}")
        window = address >> 56
        if space == "shared" or window == _SHARED:
            start = self.shared(address & ((1 << 56) - 1), size)
        elif window == _LOCAL:
            raise self.error("out of bounds", f"{address:#x} is local memory")
        else:
            self.check_device(address, size)
            start = address
        if not size:
            return np.zeros(0, np.uint8)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(start))

    def check_device(self, address: int, size: int) -> None:
        """Whether device memory, or the parameters, hold these bytes."""
        start, count = self.services.params
        if start <= address and address + size <= start + count:
            return
        found = self.services.memory.at(address)
        if found is None or address + size > found.address + found.size:
            where = self.services.memory.describe(address)
            raise self.error(
                "out of bounds", f"{size} bytes at {address:#x}, where nothing is allocated: {where}"
            )

    def shared(self, offset: int, size: int) -> int:
        """Host address of shared memory, of this block or, where a rank is in it, of another one."""
        rank, total = (offset >> RANK_SHIFT) - 1, self.services.shared_bytes
        cluster = _word(self.block, at.BLOCK["cluster"])
        base = _word(self.block, at.BLOCK["shared"])
        if 0 <= rank < _word(cluster, at.CLUSTER["count"]):
            offset &= _OFFSET
            base = _word(cluster, at.CLUSTER_SHARED + 8 * rank)
            if not _word(_word(cluster, at.CLUSTER_STATES + 8 * rank), at.BLOCK["alive"]):
                raise self.error("ended", f"shared memory of block {rank} of the cluster, which has ended")
        if offset + size > total:
            raise self.error(
                "out of bounds", f"{size} bytes at {offset:#x} of shared memory, which has {total}"
            )
        return base + offset

    def report(self, rank: int | None, size: int) -> None:
        """Tell the barrier that bytes have come."""
        if self.values["barrier"] == NO_BARRIER:
            return
        cell = self.memory("shared", self.of_block(self.values["barrier"], rank), 8, 8).view(np.uint64)
        state = State.unpack(int(cell[0]))
        cell[0] = replace(state, bytes=state.bytes - size).settled().pack()
        events = ctypes.c_int64.from_address(self.block + at.BLOCK["events"])
        events.value += 1

    def error(self, kind: str, text: str, hint: str | None = None) -> DeviceError:
        """What went wrong, where."""
        index = tuple(_word(self.block, at.BLOCK[f"ctaid_{axis}"]) for axis in "xyz")
        warp = ctypes.c_int32.from_address(self.warp + at.WARP_ID).value
        thread = thread_index(32 * warp + self.lane, self.services.threads)
        i = self.instruction
        return DeviceError(
            f"PTX line {i.line}: {i.mnemonic} by thread {thread} of block {index}: {text}",
            hint=hint, kind=kind, ptx_line=i.line, block=index, thread=thread,
        )  # fmt: skip


DIMENSIONS = tuple(f"{n}d" for n in range(1, 6))


def _word(base: int, offset: int) -> int:
    return ctypes.c_int64.from_address(base + offset).value


def _signed(value: int) -> int:
    low = value & 0xFFFF_FFFF
    return low - (1 << 32) if low >> 31 else low
