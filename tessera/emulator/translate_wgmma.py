"""`wgmma` and `setmaxnreg` in LLVM IR.

A product happens at once, each warp computing its own rows. The four warps of a warpgroup meet where they
wait for it: whoever goes on from there may say that the operands can be overwritten, which is true only if
all four have read them.

Source: PTX ISA 8.8, section 9.7.15 (asynchronous warpgroup-level matrix instructions).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator.emit_ir import Value
from tessera.emulator.layout import BLOCK, CONTEXT
from tessera.emulator.matrices import shape_of
from tessera.emulator.matrix_group import GroupProduct, group_text
from tessera.emulator.matrix_product import per_tile
from tessera.emulator.ptx import Instruction, Operand, Vector
from tessera.emulator.translate import unsupported
from tessera.emulator.translate_control import FAULT_CODE
from tessera.emulator.translate_matrix import call_library, form_of, registers_of, slot_of
from tessera.emulator.warpgroups import Form

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator


def warpgroup(t: Translator, instruction: Instruction) -> None:
    """`wgmma`: fences and the ends of groups need nothing."""
    if "mma_async" in instruction.modifiers:
        _multiply(t, instruction)


def _multiply(t: Translator, instruction: Instruction) -> None:
    form = Form.of(instruction)
    _, n, _ = shape_of(instruction)
    group = GroupProduct(
        form.d, form.a, form.b,
        "registers" if form.in_registers else "across" if form.a_across else "lines",
        "across" if form.b_across else "lines",
        form_of(instruction, (form.d, form.a, form.b, form.d)),
        form.sign < 0, "satfinite" in instruction.modifiers,
    )  # fmt: skip
    target = registers_of(form.target)
    if (form.a_across or form.b_across) and form.a not in ("f16", "bf16"):
        raise unsupported(instruction)
    if len(target) != n // 8 * 2 * per_tile(form.d):
        raise unsupported(instruction)
    places = []
    if isinstance(form.a_operand, Vector):
        # The registers of A alternate between their halves of 16 rows.
        places = [slot_of(t, form.a_operand.elements[i], form.a) for i in (0, 2, 1, 3)]
    places += [slot_of(t, r, form.d, written=True) for r in target]
    a = "0" if form.in_registers else _first(t, t.read(form.a_operand, "u64"))
    b = _first(t, t.read(form.b_operand, "u64"))
    arguments = (
        f", i64 {n // 8}, i64 {a}, i64 {b}, i32 {_kept(t, form.scale)}"
        f", i64 {t.header('blk', BLOCK['shared']).text}, i64 {t.header('ctx', CONTEXT['shared_bytes']).text}"
    )
    outside = call_library(t, group.name, lambda: group_text(group), places, arguments, result="i64")
    bad, fine = t.name("bad")[1:], t.name("fine")[1:]
    t.raw(f"  br i1 {t.let(f'icmp slt i64 {outside}, 0')}, label %{fine}, label %{bad}")
    t.label(bad)
    code, site = FAULT_CODE["out of bounds"], t.site(instruction)
    t.raw(f"  call void @fault(ptr %blk, ptr %warp, i32 {code}, i32 {site}, i32 {t.mask}, i64 {outside})")
    t.raw("  br label %fault")
    t.label(fine)


def _first(t: Translator, value: Value) -> str:
    """The value of the first lane that takes part."""
    if not value.vector:
        return value.text
    lane = t.let(f"and i32 {t.let(f'call i32 @llvm.cttz.i32(i32 {t.mask}, i1 false)')}, 31")
    return t.let(f"extractelement {value.type} {value.text}, i32 {lane}")


def _kept(t: Translator, scale: Operand | None) -> str:
    """-1 if D is added to, 0 if not."""
    if scale is None:
        return "-1"
    said = t.let(f"and i32 {t.lane_bits(t.read(scale, 'pred'))}, {t.mask}")
    lowest = t.let(f"and i32 {t.mask}, {t.let(f'sub i32 0, {t.mask}')}")
    first = t.let(f"and i32 {said}, {lowest}")
    return t.let(f"sext i1 {t.let(f'icmp ne i32 {first}, 0')} to i32")


def nothing(_t: Translator, _instruction: Instruction) -> None:
    """`setmaxnreg`: registers are not counted here."""


TABLE = {"wgmma": warpgroup, "setmaxnreg": nothing}
