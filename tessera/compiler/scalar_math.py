"""Operators on single numbers, as Python text for Numba: one table for every kernel and target.

In a kernel a number is a float64, a float32 (float16, bfloat16, tf32 and 8-bit
floats compute in float32) or an int64 (every integer and bool), and is brought
back to its dtype's values after each integer operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tessera.program.dtype import (
    DType,
    bf16,
    bool_,
    f8e4m3,
    f8e5m2,
    f16,
    f64,
    i8,
    i16,
    i32,
    i64,
    tf32,
    u8,
)
from tessera.program.graph import Attr

_SMALL_FLOATS = {bf16: "bf16", f16: "f16", f8e4m3: "f8e4m3", f8e5m2: "f8e5m2"}
_INTEGER_WRAP = {
    i64: "{x}",
    i32: "int64(int32({x}))",
    i16: "int64(int16({x}))",
    i8: "int64(int8({x}))",
    u8: "({x} & 255)",
    bool_: "{x}",
}
_STORED_INTEGER = {i64: "{x}", i32: "int32({x})", i16: "int16({x})", i8: "int8({x})", u8: "uint8({x})"}

# {x}, {a}, {b}: names of values. {F}: float32 or float64. {d}: f32 or f64.
_FLOAT_UNARY = {
    "copy": "{x}",
    "neg": "-{x}",
    "abs": "abs({x})",
    "exp": "exp_{d}({x})",
    "log": "log_{d}({x})",
    "sqrt": "math.sqrt({x})",
    "rsqrt": "div_{d}({F}(1.0), math.sqrt({x}))",
    "tanh": "tanh_{d}({x})",
    "sigmoid": "div_{d}({F}(1.0), {F}(1.0) + exp_{d}(-{x}))",
    "erf": "erf_{d}({x})",
    # NaN stays NaN, as NumPy's maximum has it.
    "relu": "{F}(0.0) if {x} <= {F}(0.0) else {x}",
    "silu": "div_{d}({x}, {F}(1.0) + exp_{d}(-{x}))",
}
_FLOAT_UNARY |= {op: f"{op}_{{d}}({{x}})" for op in ("exp2", "expm1", "log2", "log1p", "sin", "cos")}
_FLOAT_UNARY |= {op: f"{op}_{{d}}({{x}})" for op in ("floor", "ceil", "trunc")}
_FLOAT_UNARY |= {
    "round": "rint_{d}({x})",
    "sign": "{F}(1.0) if {x} > {F}(0.0) else ({F}(-1.0) if {x} < {F}(0.0) else {x})",
}
_GELU = {
    "none": "{F}(0.5) * {x} * ({F}(1.0) + erf_{d}({x} * {F}(0.7071067811865476)))",
    # Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
    "tanh": "{F}(0.5) * {x} * ({F}(1.0) + tanh_{d}("
    "{F}(0.7978845608028654) * ({x} + {F}(0.044715) * {x} * {x} * {x})))",
}
_Template = str | tuple[str, ...]
"""An expression, or several: those before the last get the names {t0}, {t1}…"""
_FLOAT_BINARY: dict[str, _Template] = {
    "add": "{a} + {b}",
    "sub": "{a} - {b}",
    "mul": "{a} * {b}",
    "div": "div_{d}({a}, {b})",
    "maximum": "{a} if {a} >= {b} or {a} != {a} else {b}",
    "minimum": "{a} if {a} <= {b} or {a} != {a} else {b}",
    "pow": "pow_{d}({a}, {b})",
    # Source: npy_divmod of NumPy: the remainder has the divisor's sign, the quotient is rounded down.
    "mod": (
        "fmod_{d}({a}, {b})",
        "{t0} + {b} if {t0} != 0 and ({t0} < 0) != ({b} < 0) else "
        "({t0} if {t0} != 0 else ({F}(-0.0) if {b} < 0 else {F}(0.0)))",
    ),
    "floordiv": (
        "fmod_{d}({a}, {b})",
        "div_{d}({a} - {t0}, {b}) - ({F}(1.0) if {t0} != 0 and ({t0} < 0) != ({b} < 0) else {F}(0.0))",
        "floor_{d}({t1})",
        "div_{d}({a}, {b})",
        "{t3} if {b} == 0 else ({t3} * {F}(0.0) if {t1} == 0 else "
        "({t2} + {F}(1.0) if {t1} - {t2} > {F}(0.5) else {t2}))",
    ),
}
_INTEGER_UNARY = {
    "copy": "{x}",
    "neg": "-{x}",
    "abs": "abs({x})",
    "relu": "{x} if {x} > 0 else 0",
    "sign": "1 if {x} > 0 else (-1 if {x} < 0 else 0)",
}
_INTEGER_BINARY = {
    "floordiv": "floordiv_i64({a}, {b})",
    "mod": "mod_i64({a}, {b})",
    "pow": "pow_i64({a}, {b})",
    "add": "{a} + {b}",
    "sub": "{a} - {b}",
    "mul": "{a} * {b}",
    "maximum": "{a} if {a} >= {b} else {b}",
    "minimum": "{a} if {a} <= {b} else {b}",
}
_BOOL_BINARY = {"add": "{a} | {b}", "mul": "{a} & {b}", "maximum": "{a} | {b}", "minimum": "{a} & {b}"}

_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_TESTS = {"isnan": "int64({x} != {x})", "isinf": "int64(abs({x}) == {F}(math.inf))"}
_FOLDS = {"sum": "add", "mean": "add", "prod": "mul", "max": "maximum", "min": "minimum"}
PEAK = "peak"
"""The fold of softmax: the largest number of floats on a GPU, one instruction. NaN needs no care, for it
comes back with the sum of the exponentials."""

Let = Callable[[str], str]
"""Gives a value a name, so that an expression may use it more than once."""


def compute_type(dtype: DType) -> str:
    """Numba type in which elements of `dtype` are computed."""
    if not dtype.is_float:
        return "int64"
    return "float64" if dtype == f64 else "float32"


def pointer_kind(dtype: DType) -> str:
    """Kind of a kernel argument that points at elements of `dtype`."""
    return "f32*" if dtype == tf32 else f"{dtype.name}*"


def literal(value: float, dtype: DType) -> str:
    """A number of `dtype`, which must hold it exactly."""
    if not dtype.is_float:
        # INT64_MIN has no literal: its minus is an operator on a number out of range.
        return f"~int64({~int(value)})" if int(value) < 0 else f"int64({int(value)})"
    number = float(value)
    if math.isnan(number):
        text = "math.nan"
    elif math.isinf(number):
        text = "math.inf" if number > 0 else "-math.inf"
    else:
        text = repr(number)
    return f"{compute_type(dtype)}({text})"


def load(element: str, dtype: DType) -> str:
    """The number in an element of memory."""
    if dtype in _SMALL_FLOATS:
        return f"{_SMALL_FLOATS[dtype]}_to_f32({element})"
    return element if dtype.is_float else f"int64({element})"


def store(value: str, dtype: DType) -> str:
    """A computed number as an element of memory."""
    if dtype in _SMALL_FLOATS:
        return f"f32_to_{_SMALL_FLOATS[dtype]}({value})"
    return value if dtype.is_float else _STORED_INTEGER.get(dtype, "uint8({x})").format(x=value)


def cast(value: str, source: DType, target: DType, *, rounded: bool = True) -> str:
    """A number of one dtype as one of another; `rounded=False` where a `store` will round it."""
    if source == target:
        return value
    have, want = compute_type(source), compute_type(target)
    if target == bool_:
        return f"int64({value} != {literal(0, source)})"
    if want == "int64":
        return _INTEGER_WRAP[target].format(x=value if have == want else f"int64({value})")
    converted = value if have == want else f"{want}({value})"
    if target in _SMALL_FLOATS and rounded:
        small = _SMALL_FLOATS[target]
        return f"{small}_to_f32(f32_to_{small}({converted}))"
    return converted


def convert(value: str, have: str, want: str) -> str:
    """A number of one compute type as another."""
    return value if have == want else f"{want}({value})"


def unary(op: str, x: str, dtype: DType, approximate: Attr = None) -> str:
    """`op` of a number of `dtype`."""
    if not dtype.is_float:
        return _INTEGER_WRAP[dtype].format(x=f"({_INTEGER_UNARY[op].format(x=x)})")
    template = _GELU[str(approximate or "none")] if op == "gelu" else _FLOAT_UNARY[op]
    return template.format(x=x, **_names(dtype))


def binary(op: str, a: str, b: str, dtype: DType, let: Let) -> str:
    """`op` of two numbers of `dtype`."""
    if dtype == bool_:
        return _BOOL_BINARY[op].format(a=a, b=b)
    if not dtype.is_float:
        return _INTEGER_WRAP[dtype].format(x=f"({_INTEGER_BINARY[op].format(a=a, b=b)})")
    template = _FLOAT_BINARY[op]
    names = {"a": a, "b": b, **_names(dtype)}
    *steps, last = (template,) if isinstance(template, str) else template
    for position, step in enumerate(steps):
        names[f"t{position}"] = let(step.format(**names))
    return last.format(**names)


def compare(op: str, a: str, b: str) -> str:
    """Whether two numbers of one dtype are as `op` says, 1 or 0."""
    return f"int64({a} {_COMPARISONS[op]} {b})"


def test(op: str, x: str, dtype: DType) -> str:
    """Whether a float of `dtype` is what `op` says, 1 or 0."""
    return _TESTS[op].format(x=x, **_names(dtype))


def where(condition: str, yes: str, no: str) -> str:
    """One of two numbers of one dtype."""
    return f"{yes} if {condition} != 0 else {no}"


def divide(a: str, b: str, kind: str) -> str:
    """`a / b` of two floats of a compute type, as IEEE 754 has it."""
    return f"div_{'f64' if kind == 'float64' else 'f32'}({a}, {b})"


def exponential(x: str, kind: str) -> str:
    """`e**x` of a float of a compute type."""
    return f"exp_{'f64' if kind == 'float64' else 'f32'}({x})"


def logarithm(x: str, kind: str) -> str:
    """The natural logarithm of a float of a compute type."""
    return f"log_{'f64' if kind == 'float64' else 'f32'}({x})"


def combine(op: str, a: str, b: str, kind: str) -> str:
    """Fold `b` into `a` in a reduction; `kind` is their compute type."""
    if op == PEAK:
        return f"peak_{'f64' if kind == 'float64' else 'f32'}({a}, {b})"
    table = _INTEGER_BINARY if kind == "int64" else _FLOAT_BINARY
    return str(table[_FOLDS[op]]).format(a=a, b=b)


def start(op: str, dtype: DType, kind: str) -> str:
    """What a reduction of `dtype` begins with: folding it into anything changes nothing."""
    if op in ("sum", "mean", "prod"):
        return f"{kind}({1 if op == 'prod' else 0})"
    if not dtype.is_float:
        # Of the dtype itself, not of int64: over no elements it is the result.
        top = (1 << (dtype.bits - 1 if dtype.kind == "int" else dtype.bits)) - 1 if dtype != bool_ else 1
        bottom = -top - 1 if dtype.kind == "int" else 0
        return literal(bottom if op == "max" else top, dtype)
    return f"{kind}({'' if op == 'min' else '-'}math.inf)"


def _names(dtype: DType) -> dict[str, str]:
    return {"F": compute_type(dtype), "d": "f64" if dtype == f64 else "f32"}
