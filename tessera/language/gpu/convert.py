"""Conversions and arithmetic of small floats, two of them in a register.

Packed values hold their first element in the low bits.
Source of all: PTX ISA 8.8, "Data Movement and Conversion Instructions: cvt" and "Half Precision
Floating Point Instructions".
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tessera.language.gpu.assembly import F32, SM_70, SM_80, SM_89, SM_90, U16, U32, Needs, instruction, many

_make = partial(instruction, home=__name__)
_PAIR: dict[str, Any] = {"low": F32, "high": F32}

f32_to_f16x2 = _make(
    "f32_to_f16x2", "cvt.rn.f16x2.f32 $0, $2, $1;", U32, "Two float32, rounded to float16.", SM_80, **_PAIR
)
f32_to_bf16x2 = _make(
    "f32_to_bf16x2", "cvt.rn.bf16x2.f32 $0, $2, $1;", U32, "Two float32, rounded to bfloat16.", SM_80, **_PAIR
)
f16x2_to_f32 = _make(
    "f16x2_to_f32",
    "{ .reg .b16 l, h; mov.b32 {l, h}, $2; cvt.f32.f16 $0, l; cvt.f32.f16 $1, h; }",
    many(F32, 2),
    "Two float16 as float32.",
    packed=U32,
)
bf16x2_to_f32 = _make(
    "bf16x2_to_f32",
    "{ .reg .b32 t; shl.b32 t, $2, 16; mov.b32 $0, t; and.b32 t, $2, 0xffff0000; mov.b32 $1, t; }",
    many(F32, 2),
    "Two bfloat16 as float32.",
    packed=U32,
)
f32_to_tf32 = _make(
    "f32_to_tf32",
    "cvt.rna.tf32.f32 $0, $1;",
    U32,
    "A float32 rounded to tf32, ties away from zero: bits for `mma`.",
    SM_80,
    value=F32,
)
round_tf32_x4 = _make(
    "round_tf32_x4",
    " ".join(f"cvt.rna.tf32.f32 ${i}, ${i + 4};" for i in range(4)),
    many(U32, 4),
    "Four float32, as `ldmatrix` loads their bits, rounded to tf32.",
    SM_80,
    bits=many(U32, 4),
)
f32_to_e4m3x2 = _make(
    "f32_to_e4m3x2",
    "cvt.rn.satfinite.e4m3x2.f32 $0, $2, $1;",
    U16,
    "Two float32, rounded to 8-bit floats with 3 bits of mantissa; beyond the range the largest number.",
    SM_89,
    **_PAIR,
)
f32_to_e5m2x2 = _make(
    "f32_to_e5m2x2",
    "cvt.rn.satfinite.e5m2x2.f32 $0, $2, $1;",
    U16,
    "Two float32, rounded to 8-bit floats with 2 bits of mantissa; beyond the range the largest number.",
    SM_89,
    **_PAIR,
)
e4m3x2_to_f16x2 = _make(
    "e4m3x2_to_f16x2",
    "cvt.rn.f16x2.e4m3x2 $0, $1;",
    U32,
    "Two 8-bit floats with 3 bits of mantissa as float16, exactly.",
    SM_89,
    packed=U16,
)
e5m2x2_to_f16x2 = _make(
    "e5m2x2_to_f16x2",
    "cvt.rn.f16x2.e5m2x2 $0, $1;",
    U32,
    "Two 8-bit floats with 2 bits of mantissa as float16, exactly.",
    SM_89,
    packed=U16,
)
f16x2_to_e4m3x2 = _make(
    "f16x2_to_e4m3x2",
    "cvt.rn.satfinite.e4m3x2.f16x2 $0, $1;",
    U16,
    "Two float16, rounded to 8-bit floats with 3 bits of mantissa.",
    SM_89,
    packed=U32,
)
f16x2_to_e5m2x2 = _make(
    "f16x2_to_e5m2x2",
    "cvt.rn.satfinite.e5m2x2.f16x2 $0, $1;",
    U16,
    "Two float16, rounded to 8-bit floats with 2 bits of mantissa.",
    SM_89,
    packed=U32,
)


def _binary(name: str, kind: str, text: str, what: str, needs: Needs) -> Any:
    full = f"{name}_{kind}"
    return _make(full, f"{text}.{kind} $0, $1, $2;", U32, f"{what}, element by element.", needs, a=U32, b=U32)


def _fma(name: str, kind: str, text: str, what: str, needs: Needs) -> Any:
    full = f"{name}_{kind}"
    return _make(full, f"{text}.{kind} $0, $1, $2, $3;", U32, what, needs, a=U32, b=U32, c=U32)


add_f16x2 = _binary("add", "f16x2", "add.rn", "a + b", SM_70)
sub_f16x2 = _binary("sub", "f16x2", "sub.rn", "a - b", SM_70)
mul_f16x2 = _binary("mul", "f16x2", "mul.rn", "a * b", SM_70)
max_f16x2 = _binary("max", "f16x2", "max", "The larger; a number before NaN", SM_80)
min_f16x2 = _binary("min", "f16x2", "min", "The smaller; a number before NaN", SM_80)
fma_f16x2 = _fma("fma", "f16x2", "fma.rn", "a * b + c, rounded once.", SM_70)
fma_relu_f16x2 = _fma("fma_relu", "f16x2", "fma.rn.relu", "a * b + c rounded once, 0 where negative.", SM_80)
add_bf16x2 = _binary("add", "bf16x2", "add.rn", "a + b", SM_90)
sub_bf16x2 = _binary("sub", "bf16x2", "sub.rn", "a - b", SM_90)
mul_bf16x2 = _binary("mul", "bf16x2", "mul.rn", "a * b", SM_90)
max_bf16x2 = _binary("max", "bf16x2", "max", "The larger; a number before NaN", SM_80)
min_bf16x2 = _binary("min", "bf16x2", "min", "The smaller; a number before NaN", SM_80)
fma_bf16x2 = _fma("fma", "bf16x2", "fma.rn", "a * b + c, rounded once.", SM_80)
fma_relu_bf16x2 = _fma(
    "fma_relu", "bf16x2", "fma.rn.relu", "a * b + c rounded once, 0 where negative.", SM_80
)
