"""Functions in one instruction, with the errors that the ISA states.

Subnormal numbers count as zero where the PTX says `ftz`.
Source of all: PTX ISA 8.8, "Floating Point Instructions" and "Half Precision Floating Point Instructions".
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tessera.language.gpu.assembly import F32, SM_70, SM_75, SM_90, U32, Needs, instruction

_make = partial(instruction, home=__name__)


def _unary(name: str, text: str, what: str, needs: Needs = SM_70, kind: Any = F32) -> Any:
    return _make(name, f"{text} $0, $1;", kind, what, needs, x=kind)


exp2_approx = _unary("exp2_approx", "ex2.approx.ftz.f32", "2 to the power of x, within 2 ulp.")
log2_approx = _unary(
    "log2_approx", "lg2.approx.ftz.f32", "The binary logarithm, within 2**-22 near 1, else 2 ulp."
)
rcp_approx = _unary("rcp_approx", "rcp.approx.ftz.f32", "1 / x, within 1 ulp.")
sqrt_approx = _unary("sqrt_approx", "sqrt.approx.ftz.f32", "The square root, within 1 ulp.")
rsqrt_approx = _unary("rsqrt_approx", "rsqrt.approx.ftz.f32", "1 / sqrt(x), within 2**-22.9 of it.")
sin_approx = _unary("sin_approx", "sin.approx.ftz.f32", "The sine, within 2**-20.5 for -π to π.")
cos_approx = _unary("cos_approx", "cos.approx.ftz.f32", "The cosine, within 2**-20.5 for -π to π.")
tanh_approx = _unary("tanh_approx", "tanh.approx.f32", "The hyperbolic tangent, within 2**-11 of it.", SM_75)
exp2_approx_f16x2 = _unary(
    "exp2_approx_f16x2", "ex2.approx.f16x2", "2 to the power of two float16.", SM_75, U32
)
tanh_approx_f16x2 = _unary("tanh_approx_f16x2", "tanh.approx.f16x2", "tanh of two float16.", SM_75, U32)
exp2_approx_bf16x2 = _unary(
    "exp2_approx_bf16x2", "ex2.approx.ftz.bf16x2", "2 to the power of two bfloat16.", SM_90, U32
)
tanh_approx_bf16x2 = _unary("tanh_approx_bf16x2", "tanh.approx.bf16x2", "tanh of two bfloat16.", SM_90, U32)
