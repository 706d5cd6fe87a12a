"""`cp.async`: copies from global to shared memory. They happen at once here, which every program that waits
for them correctly must accept; so waiting is nothing.

Source: PTX ISA 8.8, section 9.7.9.25 (data movement and conversion: asynchronous copy).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tessera.emulator.instructions import Executor, unsupported
from tessera.emulator.lanes import Array
from tessera.emulator.ptx import Address, Immediate, Instruction


def _copy(executor: Executor, instruction: Instruction, mask: Array) -> None:
    modifiers = instruction.modifiers
    if "commit_group" in modifiers or "wait_group" in modifiers or "wait_all" in modifiers:
        return
    if "mbarrier" in modifiers or "bulk" in modifiers:
        raise unsupported(instruction)
    target, source, size, *rest = instruction.operands
    if not (isinstance(target, Address) and isinstance(source, Address) and isinstance(size, Immediate)):
        raise unsupported(instruction)
    count = int(size.value)
    kept = np.full(executor.count, count, np.int64)
    if rest and "cache_hint" not in modifiers[-1]:
        option = rest[0]
        name = getattr(option, "name", "")
        if executor.function.registers.get(name) == "pred":
            # A predicate that holds: nothing is read, zeros are written.
            kept = np.where(executor.read(option, "pred"), 0, count)
        else:
            kept = np.minimum(executor.read(option, "u32").astype(np.int64), count)
    values = np.zeros((executor.count, count), np.uint8)
    for length in np.unique(kept[mask]):
        if length:
            chosen = mask & (kept == length)
            found = executor.gather("global", source, int(length), chosen, instruction.line, count)
            values[chosen, :length] = found[chosen]
    executor.scatter("shared", target, values, mask, instruction.line)


HANDLERS: dict[str, Callable[[Executor, Instruction, Array], None]] = {"cp": _copy}
"""What each opcode of this family does."""
