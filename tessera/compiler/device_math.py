"""Mathematical functions that generated kernels call, on both Numba targets.

Numba's own `math` gives integers for `floor` and `ceil`, raises exceptions for
division by zero, and lacks some functions on one target or the other. These are
NVIDIA's libdevice on a GPU and LLVM's intrinsics or libm on a CPU.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from tessera.compiler.device import make_intrinsic

_I64 = ir.IntType(64)
_LLVM = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}

_INTRINSICS = frozenset({"floor", "ceil", "rint", "trunc"})
"""Functions that are one instruction on a CPU."""


def _is_gpu(context: Any) -> bool:
    return "cuda" in type(context).__name__.lower()


def _call(function: str, kind: Any, count: int) -> Any:
    """`function` of libdevice, or of libm."""
    suffix, number = ("f", _LLVM[kind]) if kind == types.float32 else ("", _LLVM[kind])

    def build(context: Any, builder: Any, values: Any) -> Any:
        if not _is_gpu(context) and function in _INTRINSICS:
            return builder.call(builder.module.declare_intrinsic(f"llvm.{function}", [number]), values)
        name = f"__nv_{function}{suffix}" if _is_gpu(context) else f"{function}{suffix}"
        kind_of_call = ir.FunctionType(number, [number] * count)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind_of_call, name), values)

    bits = "f32" if kind == types.float32 else "f64"
    return make_intrinsic(f"{function}_{bits}", kind, (kind,) * count, build)


floor_f32, floor_f64 = (_call("floor", kind, 1) for kind in _LLVM)
ceil_f32, ceil_f64 = (_call("ceil", kind, 1) for kind in _LLVM)
rint_f32, rint_f64 = (_call("rint", kind, 1) for kind in _LLVM)
trunc_f32, trunc_f64 = (_call("trunc", kind, 1) for kind in _LLVM)
exp2_f32, exp2_f64 = (_call("exp2", kind, 1) for kind in _LLVM)
expm1_f32, expm1_f64 = (_call("expm1", kind, 1) for kind in _LLVM)
log2_f32, log2_f64 = (_call("log2", kind, 1) for kind in _LLVM)
log1p_f32, log1p_f64 = (_call("log1p", kind, 1) for kind in _LLVM)
sin_f32, sin_f64 = (_call("sin", kind, 1) for kind in _LLVM)
cos_f32, cos_f64 = (_call("cos", kind, 1) for kind in _LLVM)
pow_f32, pow_f64 = (_call("pow", kind, 2) for kind in _LLVM)
fmod_f32, fmod_f64 = (_call("fmod", kind, 2) for kind in _LLVM)


def _safe_divisor(builder: Any, divisor: Any) -> tuple[Any, Any, Any]:
    """A divisor that no processor traps on, and whether the real one is 0, or -1."""
    is_zero = builder.icmp_signed("==", divisor, _I64(0))
    is_minus = builder.icmp_signed("==", divisor, _I64(-1))
    trapping = builder.or_(is_zero, is_minus)
    return builder.select(trapping, _I64(1), divisor), is_zero, is_minus


def _floordiv(context: Any, builder: Any, values: Any) -> Any:  # noqa: ARG001
    a, b = values
    safe, is_zero, is_minus = _safe_divisor(builder, b)
    quotient, rest = builder.sdiv(a, safe), builder.srem(a, safe)
    signs = builder.icmp_signed("<", builder.xor(rest, safe), _I64(0))
    down = builder.and_(builder.icmp_signed("!=", rest, _I64(0)), signs)
    quotient = builder.select(down, builder.sub(quotient, _I64(1)), quotient)
    quotient = builder.select(is_minus, builder.neg(a), quotient)
    return builder.select(is_zero, _I64(0), quotient)


def _mod(context: Any, builder: Any, values: Any) -> Any:  # noqa: ARG001
    a, b = values
    safe, is_zero, is_minus = _safe_divisor(builder, b)
    rest = builder.srem(a, safe)
    signs = builder.icmp_signed("<", builder.xor(rest, safe), _I64(0))
    other = builder.and_(builder.icmp_signed("!=", rest, _I64(0)), signs)
    rest = builder.select(other, builder.add(rest, safe), rest)
    return builder.select(builder.or_(is_zero, is_minus), _I64(0), rest)


def _pow(context: Any, builder: Any, values: Any) -> Any:  # noqa: ARG001
    """By squaring, wrapped around; of a negative exponent what 1/x leaves after cutting off."""
    x, exponent = values
    before = builder.block
    loop, after = builder.append_basic_block("pow.loop"), builder.append_basic_block("pow.after")
    builder.cbranch(builder.icmp_signed(">", exponent, _I64(0)), loop, after)
    builder.position_at_end(loop)
    total, power, left = (builder.phi(_I64) for _ in range(3))
    odd = builder.icmp_signed("!=", builder.and_(left, _I64(1)), _I64(0))
    more = builder.select(odd, builder.mul(total, power), total)
    square, rest = builder.mul(power, power), builder.lshr(left, _I64(1))
    for phi, first, next_ in ((total, _I64(1), more), (power, x, square), (left, exponent, rest)):
        phi.add_incoming(first, before)
        phi.add_incoming(next_, loop)
    builder.cbranch(builder.icmp_signed("!=", rest, _I64(0)), loop, after)
    builder.position_at_end(after)
    result = builder.phi(_I64)
    result.add_incoming(_I64(1), before)
    result.add_incoming(more, loop)
    is_one, is_minus = (builder.icmp_signed("==", x, _I64(unit)) for unit in (1, -1))
    is_even = builder.icmp_signed("==", builder.and_(exponent, _I64(1)), _I64(0))
    sign = builder.select(is_even, _I64(1), _I64(-1))
    below = builder.select(is_one, _I64(1), builder.select(is_minus, sign, _I64(0)))
    return builder.select(builder.icmp_signed("<", exponent, _I64(0)), below, result)


floordiv_i64 = make_intrinsic("floordiv_i64", types.int64, (types.int64, types.int64), _floordiv)
"""`a // b` rounded down; 0 where b is 0."""
mod_i64 = make_intrinsic("mod_i64", types.int64, (types.int64, types.int64), _mod)
"""`a % b` with the sign of b; 0 where b is 0."""
pow_i64 = make_intrinsic("pow_i64", types.int64, (types.int64, types.int64), _pow)
"""`a ** b`, wrapped around."""
