"""What folds on a CPU are made of: steps that LLVM may take in vectors, and memory for a strip of columns."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.extending import intrinsic

from tessera.compiler.device import make_intrinsic

STRIP = 64
"""Columns of a strip: four cache lines of float32, folded together."""

_LLVM = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.int64: ir.IntType(64)}


def _step(name: str, kind: Any, instruction: str) -> Any:
    """`a` and `b` folded; a row of these may be folded in any order."""

    def build(context: Any, builder: Any, values: Any) -> Any:  # noqa: ARG001
        # Without this, sums would have to be added one after the other.
        return getattr(builder, instruction)(*values, flags=("reassoc",))

    return make_intrinsic(name, kind, (kind, kind), build)


def _extreme(name: str, kind: Any, function: str) -> Any:
    """The larger or smaller, NaN if either is."""

    def build(context: Any, builder: Any, values: Any) -> Any:  # noqa: ARG001
        number = _LLVM[kind]
        call = ir.FunctionType(number, [number, number])
        declared = builder.module.declare_intrinsic(f"llvm.{function}", [number], call)
        return builder.call(declared, values, fastmath=("nsz",))

    return make_intrinsic(name, kind, (kind, kind), build)


add_f32, add_f64 = (_step(f"add_{n}", k, "fadd") for n, k in (("f32", types.float32), ("f64", types.float64)))
mul_f32, mul_f64 = (_step(f"mul_{n}", k, "fmul") for n, k in (("f32", types.float32), ("f64", types.float64)))
max_f32, max_f64 = (
    _extreme(f"max_{n}", k, "maximum") for n, k in (("f32", types.float32), ("f64", types.float64))
)
min_f32, min_f64 = (
    _extreme(f"min_{n}", k, "minimum") for n, k in (("f32", types.float32), ("f64", types.float64))
)


TABLE = 1024
"""Counters of a table: four digits of 256 values."""


def _memory(name: str, kind: Any, count: int) -> Any:
    """A function that gives memory for so many numbers, a place of its own for every call in a kernel."""

    def typer(typingctx: Any) -> Any:  # noqa: ARG001
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
            return cgutils.alloca_once(builder, _LLVM[kind], size=count)

        return types.CPointer(kind)(), codegen

    typer.__name__ = typer.__qualname__ = name
    return intrinsic(typer)


strip_float32 = _memory("strip_float32", types.float32, STRIP)
strip_float64 = _memory("strip_float64", types.float64, STRIP)
strip_int64 = _memory("strip_int64", types.int64, STRIP)
table_int64 = _memory("table_int64", types.int64, TABLE)


def _order(context: Any, builder: Any, values: Any) -> Any:  # noqa: ARG001
    """Bits that are ordered as the numbers are: of negative ones all turned, of others the sign alone."""
    number, bits = ir.FloatType(), ir.IntType(32)
    # -0.0 and 0.0 are one number.
    raw = builder.bitcast(builder.fadd(values[0], ir.Constant(number, 0.0)), bits)
    turned = builder.or_(builder.ashr(raw, bits(31)), bits(0x80000000))
    is_number = builder.fcmp_ordered("ord", values[0], values[0])
    key = builder.select(is_number, builder.xor(raw, turned), bits(0xFFFFFFFF))
    return builder.zext(key, ir.IntType(64))


order_f32 = make_intrinsic("order_f32", types.int64, (types.float32,), _order)
"""An integer of 32 bits in the order of the floats; NaN is the largest."""
