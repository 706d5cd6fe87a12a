"""Which instructions of a kernel compute the same for every lane of a block, whenever they run."""

from __future__ import annotations

from collections.abc import Collection

from tessera.emulator.cfg import COLLECTIVE, ControlFlow, reads, writes
from tessera.emulator.ptx import Address, Instruction, Symbol
from tessera.emulator.registers import FIXED_SPECIALS, UNIFORM_SPECIALS

IMPURE = frozenset(
    {"ld", "ldu", "st", "atom", "red", "barresult", "call", "cp", "bra", "brx", "ret", "exit", "trap",
     "addc", "subc", "madc", "mbarrier"}
)  # fmt: skip
"""Opcodes whose result may differ from one execution to the next, or that have none."""
SCALAR_OPCODES = frozenset(
    {"add", "sub", "mul", "mad", "fma", "div", "rem", "min", "max", "and", "or", "xor", "not", "neg", "abs",
     "shl", "shr", "mov", "setp", "set", "selp", "cvt", "cvta", "popc", "clz", "brev", "bfe", "bfi", "ld",
     "sad", "cnot", "slct", "lop3", "prmt", "shf", "rcp", "sqrt", "copysign"}
)  # fmt: skip
"""Opcodes whose emitters keep scalars scalar."""


def fixed_instructions(flow: ControlFlow, params: Collection[str]) -> list[Instruction]:
    """Instructions that can be computed once, before the first basic block, in their order.

    Args:
        flow: The kernel's basic blocks.
        params: Names of the kernel's parameters.
    """
    instructions = [i for b in flow.blocks for i in b.instructions]
    definitions: dict[str, int] = {}
    for instruction in instructions:
        for name in writes(instruction):
            definitions[name] = definitions.get(name, 0) + 1
    known: set[str] = set()
    found = []
    for instruction in instructions:
        targets = writes(instruction)
        if instruction.guard is not None or not targets or any(definitions[t] > 1 for t in targets):
            continue
        if "cc" in instruction.modifiers or not _repeatable(instruction, params):
            continue
        if all(r in known or _alike_special(r) for r in reads(instruction)):
            known |= targets
            found.append(instruction)
    return found


def _repeatable(instruction: Instruction, params: Collection[str]) -> bool:
    if instruction.opcode == "ld":
        source = instruction.operands[1]
        param = any(m.split("::")[0] == "param" for m in instruction.modifiers)
        return (
            param
            and isinstance(source, Address)
            and isinstance(source.base, Symbol)
            and (source.base.name in params)
        )
    if instruction.opcode in IMPURE:
        return False
    return instruction.opcode not in COLLECTIVE and instruction.opcode in SCALAR_OPCODES


def _alike_special(name: str) -> bool:
    return name in UNIFORM_SPECIALS or name in FIXED_SPECIALS or name == "%warpid"
