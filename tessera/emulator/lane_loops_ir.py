"""LLVM IR of what lanes do one after the other: atomics, C functions, division, directed rounding."""

from __future__ import annotations

import platform

from tessera.emulator.bounds_ir import V64
from tessera.emulator.emit_ir import WARP, Value, Writer, vector_text
from tessera.emulator.ptx import Instruction
from tessera.program.errors import CompileError


def _lane_loop(name: str, kind: str, result: str, operands: int, body: str) -> str:
    """A function over checked host addresses, one active lane after the other."""
    arguments = "".join(f", <{WARP} x {kind}> %v{k}" for k in range(operands))
    spill = "".join(
        f"\n  %s{k} = alloca <{WARP} x {kind}>, align 64"
        f"\n  store <{WARP} x {kind}> %v{k}, ptr %s{k}, align 64"
        for k in range(operands)
    )
    fetch = "".join(
        f"\n  %x{k}p = getelementptr {kind}, ptr %s{k}, i32 %lane\n  %x{k} = load {kind}, ptr %x{k}p"
        for k in range(operands)
    )
    return f"""
define internal <{WARP} x {result}> @{name}({V64} %h, i32 %mask{arguments}) noinline {{
  %out = alloca <{WARP} x {result}>, align 64
  store <{WARP} x {result}> zeroinitializer, ptr %out, align 64
  %hs = alloca {V64}, align 64
  store {V64} %h, ptr %hs, align 64{spill}
  br label %loop
loop:
  %m = phi i32 [ %mask, %0 ], [ %m1, %put ]
  %done = icmp eq i32 %m, 0
  br i1 %done, label %end, label %body
body:
  %lane = call i32 @llvm.cttz.i32(i32 %m, i1 true)
  %less = sub i32 %m, 1
  %m1 = and i32 %m, %less
  %hp = getelementptr i64, ptr %hs, i32 %lane
  %hi = load i64, ptr %hp
  %p = inttoptr i64 %hi to ptr{fetch}{body}
  br label %put
put:
  %op = getelementptr {result}, ptr %out, i32 %lane
  store {result} %r, ptr %op
  br label %loop
end:
  %all = load <{WARP} x {result}>, ptr %out, align 64
  ret <{WARP} x {result}> %all
}}"""


def atomic(name: str, operation: str, bits: str) -> str:
    """`atom_<LLVM operation>_<bits>`: the old values."""
    operation = operation.replace("-", "_")
    if operation in ("uincwrap", "udecwrap"):
        operation = f"{operation[:4]}_wrap"
    if operation == "fadd":
        body = f"""
  %x = bitcast i{bits} %x0 to double
  %old = atomicrmw fadd ptr %p, double %x seq_cst
  %r = bitcast double %old to i{bits}"""
    else:
        body = f"\n  %r = atomicrmw {operation} ptr %p, i{bits} %x0 seq_cst"
    return _lane_loop(name, f"i{bits}", f"i{bits}", 1, body)


def compare_and_swap(name: str, bits: str) -> str:
    """`cas_<bits>`: the old values."""
    body = f"""
  %pair = cmpxchg ptr %p, i{bits} %x0, i{bits} %x1 seq_cst seq_cst
  %r = extractvalue {{ i{bits}, i1 }} %pair, 0"""
    return _lane_loop(name, f"i{bits}", f"i{bits}", 2, body)


def combined(name: str, operation: str, kind: str, bits: str) -> str:
    """`rmw_<operation>_<PTX type>_<bits>`: what no atomic instruction of the host does; the old values."""
    body = f"""
  %first = load atomic i{bits}, ptr %p monotonic, align {int(bits) // 8}
  br label %try
try:
  %r = phi i{bits} [ %first, %body ], [ %seen, %try ]
  %new = call i{bits} @combine_{operation}_{kind}(i{bits} %r, i{bits} %x0)
  %pair = cmpxchg ptr %p, i{bits} %r, i{bits} %new seq_cst seq_cst
  %seen = extractvalue {{ i{bits}, i1 }} %pair, 0
  %fine = extractvalue {{ i{bits}, i1 }} %pair, 1
  br i1 %fine, label %kept, label %try
kept:"""
    return _combination(operation, kind, int(bits)) + _lane_loop(name, f"i{bits}", f"i{bits}", 1, body)


def _combination(operation: str, kind: str, bits: int) -> str:
    """`combine_<operation>_<PTX type>`: the new value from the old one and the operand."""
    # They read constants of the translator, whose module imports this one.
    from tessera.emulator import translate_floats as floats

    w = Writer()
    old, new = Value("%a", bits, vector=False), Value("%b", bits, vector=False)
    if kind == "f32":
        values = [old, new]
        if operation == "flushed":
            # In device memory, subnormals count as zeros (PTX ISA 8.8, section 9.7.13.5).
            values = [floats.flush(w, v) for v in values]
        result = floats.native(w, "add", "f32", values)
        if operation == "flushed":
            result = floats.flush(w, result)
        result = floats.canonical(w, result, "f32")
    elif operation == "add":
        result = floats.short_arithmetic(w, "add", kind, [old, new])
    else:
        result = floats.extremum(w, Instruction(operation, (), (), 0), kind, old, new)
    lines = "\n".join(w.lines)
    header = f"define internal i{bits} @combine_{operation}_{kind}(i{bits} %a, i{bits} %b)"
    return f"\n{header} {{\n{lines}\n  ret i{bits} {result.text}\n}}"


def tiny(name: str, opcode: str) -> str:
    """`tiny_<opcode>`: an f32 result with `.ftz`, looked at again where it is the smallest normal number."""
    from tessera.emulator import translate_floats as floats

    w = Writer()
    count = 3 if opcode == "fma" else 2
    kind = f"<{WARP} x i32>"
    value, *values = (Value(f"%x{k}", 32, vector=True) for k in range(count + 1))
    result = floats.without_tiny(w, value, "f32", floats.exact_f32(w, opcode, values))
    arguments = ", ".join(f"{kind} %x{k}" for k in range(count + 1))
    lines = "\n".join(w.lines)
    return f"""
define internal {kind} @{name}_slow({arguments}) noinline cold {{
{lines}
  ret {kind} {result.text}
}}

define internal {kind} @{name}({arguments}) alwaysinline {{
  %magnitude = and {kind} %x0, {vector_text([0x7FFFFFFF] * WARP, 32)}
  %edge = icmp eq {kind} %magnitude, {vector_text([0x00800000] * WARP, 32)}
  %bits = bitcast <{WARP} x i1> %edge to i32
  %none = icmp eq i32 %bits, 0
  br i1 %none, label %fine, label %slow
slow:
  %again = call {kind} @{name}_slow({arguments})
  ret {kind} %again
fine:
  ret {kind} %x0
}}"""


def call_of_one(name: str, function: str) -> str:
    """`map_<function>`: a C function of one double, lane by lane. The addresses are not used."""
    body = f"\n  %r = call double @{function}(double %x0)"
    return _lane_loop(name, "double", "double", 1, body)


def division(name: str, operation: str, bits: str) -> str:
    """`map2_<udiv, sdiv, urem, srem>_<bits>`: integer division; the divisors are not zero."""
    return _lane_loop(name, f"i{bits}", f"i{bits}", 2, f"\n  %r = {operation} i{bits} %x0, %x1")


def permutation(name: str, bits: str) -> str:
    """`permute_<bits>`: each lane's value from the lane that it names (in the addresses)."""
    body = f"\n  %from = getelementptr i{bits}, ptr %s0, i64 %hi\n  %r = load i{bits}, ptr %from"
    return _lane_loop(name, f"i{bits}", f"i{bits}", 1, body)


# Values of <fenv.h> by machine; the default is rounding to nearest, 0 everywhere.
_MODES = {
    "x86_64": {"rm": 0x400, "rp": 0x800, "rz": 0xC00},
    "aarch64": {"rp": 0x400000, "rm": 0x800000, "rz": 0xC00000},
}


def rounded(name: str, operation: str, rounding: str) -> str:
    """`round_<operation>_<rz, rm, rp>`: f64 arithmetic in another rounding mode of the host."""
    modes = _MODES.get(platform.machine())
    if modes is None:
        raise CompileError(f"directed f64 rounding is not known on {platform.machine()}")
    count = {"fma": 3, "sqrt": 1}.get(operation, 2)
    function = operation if operation in ("fma", "sqrt") else f"f{operation}"
    operands = ", ".join(f"double %x{k}" for k in range(count))
    mode = 'metadata !"round.dynamic", metadata !"fpexcept.strict"'
    body = f"""
  %before = call i32 @fesetround(i32 {modes[rounding]}) strictfp
  %r = call double @llvm.experimental.constrained.{function}.f64({operands}, {mode}) strictfp
  %after = call i32 @fesetround(i32 0) strictfp"""
    text = _lane_loop(name, "double", "double", count, body)
    return text.replace(") noinline {", ") noinline strictfp {")
