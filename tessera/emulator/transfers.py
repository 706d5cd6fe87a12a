"""Moving data between registers and memory, and between kinds of addresses.

Source: PTX ISA 8.8, section 9.7.9.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tessera.emulator.geometry import RANK_SHIFT
from tessera.emulator.instructions import LOCAL_WINDOW, SHARED_WINDOW, WINDOWS, Executor, unsupported
from tessera.emulator.lanes import BITS, Array, unsigned
from tessera.emulator.operands import type_of
from tessera.emulator.ptx import TYPE_BYTES, Address, Instruction, Vector


def _move(executor: Executor, instruction: Instruction, mask: Array) -> None:
    target, source = instruction.operands
    kind = type_of(instruction)
    if isinstance(source, Vector):
        raw = [executor.read(e, f"b{TYPE_BYTES[kind] * 8 // len(source.elements)}") for e in source.elements]
        packed = np.stack(raw, axis=1)
        executor.write(target, np.ascontiguousarray(packed).view(unsigned(TYPE_BYTES[kind]))[:, 0], mask)
    elif isinstance(target, Vector):
        part = np.dtype(f"u{TYPE_BYTES[kind] // len(target.elements)}")
        values = np.ascontiguousarray(executor.read(source, f"b{TYPE_BYTES[kind] * 8}"))
        parts = values.view(part).reshape(executor.count, -1)
        for i, element in enumerate(target.elements):
            executor.write(element, np.ascontiguousarray(parts[:, i]), mask)
    else:
        executor.write(target, executor.read(source, kind), mask)


def _convert_address(executor: Executor, instruction: Instruction, mask: Array) -> None:
    space = next(m for m in instruction.modifiers if m.split("::")[0] in WINDOWS).split("::")[0]
    source = instruction.operands[1]
    window = np.uint64(WINDOWS[space])
    values = executor.read(source, "u64")
    to_space = "to" in instruction.modifiers
    executor.write(instruction.operands[0], values - window if to_space else values + window, mask)


def space_of(instruction: Instruction) -> str:
    """The state space that an instruction names; `generic` if none."""
    names = [m.split("::")[0] for m in instruction.modifiers]
    return next((n for n in names if n in WINDOWS), "generic")


def _load(executor: Executor, instruction: Instruction, mask: Array) -> None:
    kind, target, source = type_of(instruction), instruction.operands[0], instruction.operands[1]
    if not isinstance(source, Address):
        raise unsupported(instruction)
    parts = target.elements if isinstance(target, Vector) else (target,)
    size = TYPE_BYTES[kind]
    raw = executor.gather(space_of(instruction), source, size * len(parts), mask, instruction.line)
    for i, part in enumerate(parts):
        piece = np.ascontiguousarray(raw[:, i * size : (i + 1) * size])
        executor.write(part, piece.view(np.dtype(BITS[kind])).reshape(-1), mask)


def store(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`st`."""
    kind, target, source = type_of(instruction), instruction.operands[0], instruction.operands[1]
    if not isinstance(target, Address):
        raise unsupported(instruction)
    parts = source.elements if isinstance(source, Vector) else (source,)
    raw = [
        np.ascontiguousarray(executor.read(p, kind)).view(np.uint8).reshape(executor.count, -1) for p in parts
    ]
    executor.scatter(space_of(instruction), target, np.concatenate(raw, axis=1), mask, instruction.line)


def _is_in_space(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`isspacep`: whether a generic address lies in a window."""
    space, _, part = instruction.modifiers[0].partition("::")
    address = executor.read(instruction.operands[1], "u64")
    window = address >> np.uint64(56)
    windows = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW, "param": LOCAL_WINDOW}
    if space in windows:
        values = window == np.uint64(windows[space] >> 56)
        if space == "shared" and part != "cluster":
            rank = address >> np.uint64(RANK_SHIFT) & np.uint64(0xFF)
            values &= (rank == 0) | (rank == executor.run.geometry.rank + 1)
    else:
        values = (window != np.uint64(SHARED_WINDOW >> 56)) & (window != np.uint64(LOCAL_WINDOW >> 56))
        values &= space == "global"
    executor.write(instruction.operands[0], values, mask)


def _sleep(executor: Executor, _instruction: Instruction, mask: Array) -> None:
    """`nanosleep`: who sleeps in a loop lets others go first."""
    executor.run.declined |= mask
    executor.run.progress += 1


def _zero(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`createpolicy`: caches are not modelled."""
    executor.write(instruction.operands[0], np.zeros(executor.count, np.uint64), mask)


def _nothing(_executor: Executor, _instruction: Instruction, _mask: Array) -> None:
    """Fences and prefetches change no value here: accesses happen in order."""


Handler = Callable[[Executor, Instruction, Array], None]

HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("membar", "fence", "prefetch", "prefetchu", "griddepcontrol", "discard",
                     "applypriority", "pmevent", "brkpt"), _nothing),
    "mov": _move, "cvta": _convert_address, "ld": _load, "ldu": _load, "st": store, "nanosleep": _sleep,
    "isspacep": _is_in_space, "createpolicy": _zero,
}  # fmt: skip
"""What each opcode of this family does."""
