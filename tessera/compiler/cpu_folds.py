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


def _strip(name: str, kind: Any) -> Any:
    """A function that gives memory for `STRIP` numbers, a place of its own for every call in a kernel."""

    def typer(typingctx: Any) -> Any:  # noqa: ARG001
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
            return cgutils.alloca_once(builder, _LLVM[kind], size=STRIP)

        return types.CPointer(kind)(), codegen

    typer.__name__ = typer.__qualname__ = name
    return intrinsic(typer)


strip_float32 = _strip("strip_float32", types.float32)
strip_float64 = _strip("strip_float64", types.float64)
strip_int64 = _strip("strip_int64", types.int64)
