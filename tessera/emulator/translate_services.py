"""Calls of the driver's functions in LLVM IR: the kernel stops in the middle and the host does it.

The call's site says which function; arguments and results go through the warp's area.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator.emit_ir import WARP, Value
from tessera.emulator.layout import CONTEXT, FAULTS
from tessera.emulator.ptx import Instruction

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator

ARGUMENTS = 5
"""At most; 32 of 64 bits each."""
V64 = f"<{WARP} x i64>"
FAULT_CODE = {name: code for code, name in FAULTS.items()}


def service(t: Translator, instruction: Instruction) -> None:
    """`printf`, `malloc`, `free`, a failed `assert`."""
    target, *arguments = instruction.operands
    offset = t.layout.slot("%service", ARGUMENTS * 64)
    area = t.let(f"getelementptr i8, ptr %warp, i64 {offset}")
    for k, argument in enumerate(arguments):
        value = t.spread(t.read(argument, "b64"))
        place = t.let(f"getelementptr i8, ptr {area}, i64 {k * WARP * 8}")
        t.raw(f"  store {V64} {value.text}, ptr {place}, align 64")
    host = t.let(f"inttoptr i64 {t.header('ctx', CONTEXT['service']).text} to ptr")
    site, mask = t.site(instruction), t.active()
    code = t.let(f"call i32 {host}(ptr %blk, ptr %warp, i32 {site}, i32 {mask}, ptr {area})")
    failed, fine = t.name("failed")[1:], t.name("fine")[1:]
    t.raw(f"  br i1 {t.let(f'icmp eq i32 {code}, 0')}, label %{fine}, label %{failed}")
    t.label(failed)
    kind = FAULT_CODE["service"]
    t.raw(f"  call void @fault(ptr %blk, ptr %warp, i32 {kind}, i32 {site}, i32 {mask}, i64 0)")
    t.raw("  br label %fault")
    t.label(fine)
    t.write(target, Value(t.let(f"load {V64}, ptr {area}, align 64"), 64, vector=True))


TABLE = {"service": service}
"""What each opcode is in LLVM IR."""
