"""What the translator writes for kernels with checks, at each access and each meeting of lanes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tessera.emulator.call_frames import STACK
from tessera.emulator.emit_ir import IOTA, WARP, Value, constant
from tessera.emulator.idioms import optimistic_in
from tessera.emulator.ptx import (
    TYPE_BYTES,
    Function,
    Instruction,
    Module,
    Variable,
    access_bytes,
    element_bytes,
)
from tessera.emulator.registers import unsupported
from tessera.emulator.shadow_ir import SYNC
from tessera.emulator.shadow_shared_ir import ATOMICS, COPIES
from tessera.program.errors import CompileError

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator

STRONG = frozenset({"volatile", "relaxed", "acquire", "release", "mmio"})
"""Qualifiers of loads and stores that are never part of a race: they are there to synchronize."""
ATOMIC = frozenset({"atom", "red"})
ACCESSES = frozenset({"ld", "ldu", "st", *ATOMIC})
UNCHECKED = frozenset({"mbarrier", "wgmma", "mapa", "service", "multimem", "getctarank", "tensormap"})
"""Opcodes that are not compiled with checks: what they order, and where they write, only the interpreter
follows."""
UNCHECKED_FORMS = frozenset({"cluster", "bulk", "tensor", "mbarrier"})
SPACES = ("global", "shared", "local", "const", "param")
SPACING = 256
"""Bytes between variables of a block's shared memory and of a thread's local memory."""


@dataclass(slots=True)
class Checks:
    """How a kernel is checked."""

    global_shift: int
    """Words of shadow memory lie `1 << shift` times as far apart as the device memory that they are for."""
    shared_shift: int
    besides: int
    """What the kernel does with shared memory besides reads and writes: `ATOMICS`, `COPIES`."""
    optimistic: frozenset[int]
    """Identities of loads that are no part of a race."""
    shared_extents: list[tuple[int, int]] = field(default_factory=list)
    """Offset and bytes of each variable."""
    local_extents: list[tuple[int, int]] = field(default_factory=list)

    @classmethod
    def of(cls, function: Function) -> Checks:
        """The checks of a kernel: records are as fine as its smallest access."""
        body = [i for i in function.body if isinstance(i, Instruction)]
        for instruction in body:
            if instruction.opcode in UNCHECKED or UNCHECKED_FORMS & _names(instruction):
                raise unsupported(instruction)
        if any(v.name == STACK for v in function.variables):
            raise CompileError(f"{function.name}: calls on a stack are not compiled with checks")
        accesses = [i for i in body if i.opcode in ACCESSES]
        grain = {
            space: min([4, *(access_bytes(i) for i in accesses if _may_touch(i, space))])
            for space in ("global", "shared")
        }
        besides = ATOMICS * any(i.opcode in ATOMIC and _may_touch(i, "shared") for i in body)
        besides |= COPIES * any(map(is_copy, body))
        if any(is_copy(i) and len(i.operands) > 3 for i in body):
            # Of copies that leave some of their bytes out, the first and the last byte are checked.
            grain["global"] = 1
        return cls(
            global_shift={4: 1, 2: 2, 1: 3}[grain["global"]],
            shared_shift={4: 0, 2: 1, 1: 2}[grain["shared"]],
            besides=besides,
            optimistic=optimistic_in(function),
        )

    def place(
        self, shared: Mapping[str, int], local: Mapping[str, int], own: Sequence[Variable], module: Module
    ) -> None:
        """Take over where variables lie: offsets of those of a block, and of the thread's own."""
        declared = [v for f in module.functions.values() for v in f.variables]
        declared += module.variables.values()
        sizes = {v.name: TYPE_BYTES[v.type] * v.count for v in declared if v.space == "shared"}
        self.shared_extents = [(at, sizes[n]) for n, at in shared.items() if sizes.get(n)]
        self.local_extents = [(local[v.name], TYPE_BYTES[v.type] * v.count) for v in own]


def _names(instruction: Instruction) -> set[str]:
    return {part for m in instruction.modifiers for part in m.split("::")}


def _spaces(instruction: Instruction) -> set[str]:
    return _names(instruction) & set(SPACES)


def _may_touch(instruction: Instruction, space: str) -> bool:
    named = _spaces(instruction)
    return not named or space in named


def hosts_of(
    t: Translator, instruction: Instruction, address: Value, place: str, size: int, *, write: bool
) -> str:
    """Host addresses of an access (a vector of i64) that was checked and recorded."""
    checks = t.checks
    if checks is None or size not in (1, 2, 4, 8, 16, 32):
        raise unsupported(instruction)
    space = "generic" if place == "global" and not _spaces(instruction) else place
    element = (min(element_bytes(instruction), size)).bit_length() - 1
    shift = {
        "global": checks.global_shift, "shared": checks.shared_shift, "local": element,
        "generic": checks.global_shift + 8 * checks.shared_shift + 64 * element,
    }[space]  # fmt: skip
    least = {
        "global": checks.global_shift, "shared": checks.shared_shift + 1, "local": 3,
        "generic": min(checks.global_shift, checks.shared_shift + 1),
    }[space]  # fmt: skip
    if size << least < 8 and space != "local":
        raise unsupported(instruction)
    access = _access(checks, instruction, write=write)
    name = f"touch_{space}_{access}_{size}_{shift}_{checks.besides}"
    t.helpers.add(name)
    address = t.spread(address)
    return t.let(
        f"call <{WARP} x i64> @{name}(ptr %ctx, ptr %blk, ptr %warp, i32 {t.site(instruction)}, "
        f"i32 {t.active()}, {address.type} {address.text})"
    )


def _access(checks: Checks, instruction: Instruction, *, write: bool) -> str:
    if instruction.opcode in ATOMIC:
        return "atomic"
    if STRONG & set(instruction.modifiers) or instruction.opcode == "mbarrier":
        return "set" if write else "look"
    if id(instruction) in checks.optimistic:
        return "look"
    if write and instruction.opcode == "cp":
        return "copy"
    return "write" if write else "read"


def met(t: Translator) -> None:
    """Lanes of a warp came together: what they did before is in order."""
    if t.checks is not None:
        t.raw(f"  call void @warp_met(ptr %blk, ptr %warp, i32 {t.mask})")


def is_copy(instruction: Instruction) -> bool:
    """Whether an instruction copies to shared memory asynchronously, or closes or awaits such copies."""
    return instruction.opcode == "cp" and "bulk" not in instruction.modifiers


def copies(t: Translator, instruction: Instruction) -> None:
    """A copy to shared memory begins, or a group of them is closed or waited for."""
    if t.checks is None:
        return
    if "commit_group" in instruction.modifiers:
        t.raw(f"  call void @copies_commit(ptr %blk, ptr %warp, i32 {t.active()})")
    elif "wait_all" in instruction.modifiers or "wait_group" in instruction.modifiers:
        left = "-1"
        if "wait_group" in instruction.modifiers:
            (operand,) = instruction.operands
            left = t.read(operand, "s32").text
        t.raw(f"  call void @copies_wait(ptr %ctx, ptr %blk, ptr %warp, i32 {t.active()}, i32 {left})")
    else:
        t.raw("  call void @copies_begin(ptr %blk, ptr %warp)")


def check_members(t: Translator, instruction: Instruction, members: Value) -> None:
    """Note lanes that a mask does not name."""
    if t.checks is None:
        return
    own = t.binary("and", t.binary("lshr", members, Value(IOTA, 32, vector=True)), constant(1, 32))
    unnamed = t.lane_bits(t.compare("eq", own, constant(0, 32)))
    _note(t, instruction, t.let(f"and i32 {unnamed}, {t.mask}", "m"))


def check_sources(t: Translator, instruction: Instruction, sources: Value) -> None:
    """Note lanes that read a register of a lane that takes no part."""
    if t.checks is None:
        return
    there = t.binary("and", t.binary("lshr", Value(t.mask, 32, vector=False), sources), constant(1, 32))
    absent = t.lane_bits(t.compare("eq", there, constant(0, 32)))
    _note(t, instruction, t.let(f"and i32 {absent}, {t.mask}", "m"))


def _note(t: Translator, instruction: Instruction, lanes: str) -> None:
    t.raw(f"  call void @note_some(ptr %blk, ptr %warp, i32 {SYNC}, i32 {t.site(instruction)}, i32 {lanes})")
