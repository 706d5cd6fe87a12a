"""Functions of CUDA's device runtime that kernels call and no module brings along, in PTX of our own.

Source: CUDA C++ Programming Guide, "Grid Synchronization"; the functions are declared in
`cuda_device_runtime_api.h`.
"""

from __future__ import annotations

from functools import cache

from tessera.emulator.parser import parse_ptx
from tessera.emulator.ptx import Function, Instruction, Module, Register

ARRIVED = "tessera_grid_arrived"
"""Counts the blocks that came to the grid's barrier. Its highest bit turns when all have come: the first
block adds what is missing to that. The grid's workspace, to which `%envreg1` and `%envreg2` point for code
that nvcc compiles, begins there."""
ARRIVED_BYTES = 64
WORKSPACE = ("%envreg1", "%envreg2")
"""Upper and lower half of the workspace's address."""
RUNTIME = f"""
.version 8.0
.target sm_70
.address_size 64
.global .align 8 .b8 {ARRIVED}[{ARRIVED_BYTES}];
.visible .func (.param .b64 result) cudaCGGetIntrinsicHandle(.param .b32 scope)
{{
    .reg .b64 %handle;
    mov.u64 %handle, {ARRIVED};
    st.param.b64 [result], %handle;
    ret;
}}
.visible .func (.param .b32 result) cudaCGSynchronize(.param .b64 handle, .param .b32 flags)
{{
    .reg .b32 %a, %b, %n, %old, %now;
    .reg .pred %p;
    .reg .b64 %at;
    bar.sync 0;
    mov.u32 %a, %tid.x;
    mov.u32 %b, %tid.y;
    or.b32 %a, %a, %b;
    mov.u32 %b, %tid.z;
    or.b32 %a, %a, %b;
    setp.ne.u32 %p, %a, 0;
    @%p bra CAME;
    mov.u32 %a, %ctaid.x;
    mov.u32 %b, %ctaid.y;
    or.b32 %a, %a, %b;
    mov.u32 %b, %ctaid.z;
    or.b32 %a, %a, %b;
    setp.ne.u32 %p, %a, 0;
    mov.u32 %a, %nctaid.x;
    mov.u32 %b, %nctaid.y;
    mul.lo.u32 %a, %a, %b;
    mov.u32 %b, %nctaid.z;
    mul.lo.u32 %a, %a, %b;
    sub.u32 %n, 0x80000001, %a;
    selp.b32 %n, 1, %n, %p;
    mov.u64 %at, {ARRIVED};
    membar.gl;
    atom.global.add.u32 %old, [%at], %n;
LOOK:
    ld.volatile.global.u32 %now, [%at];
    xor.b32 %now, %now, %old;
    setp.ge.s32 %p, %now, 0;
    @%p bra LOOK;
    membar.gl;
CAME:
    bar.sync 0;
    mov.u32 %a, 0;
    st.param.b32 [result], %a;
    ret;
}}
"""


@cache
def _runtime() -> Module:
    return parse_ptx(RUNTIME)


def add_device_runtime(module: Module) -> None:
    """Give bodies to the runtime's functions that a module declares."""
    ours = _runtime().functions
    missing = {n: f for n, f in ours.items() if n in module.functions and not module.functions[n].body}
    if missing or any(_asks_for_workspace(f) for f in module.functions.values()):
        module.functions.update(missing)
        module.variables.update(_runtime().variables)


def _asks_for_workspace(function: Function) -> bool:
    return any(
        isinstance(operand, Register) and operand.name in WORKSPACE
        for item in function.body
        if isinstance(item, Instruction) and item.opcode == "mov"
        for operand in item.operands[1:]
    )
