"""Inlined code knows the calls that it was inlined at."""

from __future__ import annotations

from tessera.emulator.parser import parse_ptx
from tessera.emulator.ptx import Instruction

PTX = """\
.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 p)
{
.reg .b32 %r<9>;
.loc 1 10 3
mov.u32 %r1, 1;
.loc 1 20 1, function_name $L__info_string0, inlined_at 1 10 3
add.u32 %r2, %r1, 1;
.loc 2 30 5, function_name $L__info_string0+7, inlined_at 1 20 1
add.u32 %r3, %r2, 1;
.loc 1 20 1, function_name $L__info_string0, inlined_at 1 12 9
add.u32 %r4, %r3, 1;
.loc 2 31 5, function_name $L__info_string0+7, inlined_at 1 20 1
add.u32 %r5, %r4, 1;
.loc 1 11 3
ret;
}
.file 1 "kernel.py"
.file 2 "maths.py"
"""


def test_calls_come_outermost_first() -> None:
    body = [i for i in parse_ptx(PTX).functions["k"].body if isinstance(i, Instruction)]
    assert [i.callers for i in body] == [
        (),
        ((1, 10),),
        ((1, 10), (1, 20)),
        # The same function inlined at another call.
        ((1, 12),),
        ((1, 12), (1, 20)),
        (),
    ]
    assert [(i.file, i.source_line) for i in body][2] == (2, 30)
