"""Types and operands of instructions, and how their results are written: what all emitters share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tessera.emulator import translate_floats as floats
from tessera.emulator.emit_ir import Value
from tessera.emulator.ptx import Instruction
from tessera.emulator.translate import BITS, unsupported

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator


def kind_of(instruction: Instruction) -> str:
    """The type that an instruction ends with."""
    kind = instruction.modifiers[-1] if instruction.modifiers else ""
    if kind not in BITS:
        raise unsupported(instruction)
    return kind


def is_float(kind: str) -> bool:
    """Whether a type is one of floats."""
    return kind.startswith(("f", "bf", "tf"))


def signed(kind: str) -> bool:
    """Whether a type is one of signed integers."""
    return kind.startswith("s")


def operands(
    t: Translator, instruction: Instruction, kind: str, count: int, *, loose: bool = False
) -> list[Value]:
    """The sources, right after the destination; subnormals made zeros where `.ftz` asks for it.

    `loose`: which NaN an operand is makes no difference.
    """
    values = [t.read(op, kind, loose=loose) for op in instruction.operands[1 : 1 + count]]
    if "ftz" in instruction.modifiers:
        values = [floats.flushed(t, v, kind) for v in values]
    return values


def finish(t: Translator, instruction: Instruction, value: Value, kind: str) -> None:
    """Saturate and flush a float result as the modifiers say, and write it."""
    value = floats.finished(t, value, kind, instruction.modifiers)
    # To turn every NaN into the one that PTX returns costs as much as the sum itself: done when it is seen.
    t.write(instruction.operands[0], replace(value, loose=kind == "f32"))
