"""Values from other lanes of a warp: shuffles of any 32-bit value, and reductions in one instruction.

Source of all: PTX ISA 8.8, "Data Movement and Conversion Instructions: shfl.sync" and "Parallel
Synchronization and Communication Instructions: redux.sync".
"""

from __future__ import annotations

from functools import partial
from typing import Any

from numba.cuda import types

from tessera.language.gpu.assembly import (
    F32,
    I32,
    SM_70,
    SM_80,
    U32,
    emit,
    function,
    instruction,
    refuse,
)

_make = partial(instruction, home=__name__)


def _shuffle(name: str, mode: str, clamp: str, what: str) -> Any:
    wanted = "mask: uint32, value: 32 bits, lanes: uint32"

    def typer(mask: Any, value: Any, lanes: Any) -> Any:
        kind = F32 if isinstance(value, types.Float) else U32 if value == U32 else I32
        if not isinstance(value, (types.Float, types.Integer)) or value.bitwidth > 32:
            raise refuse(name, wanted, [mask, value, lanes])

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
            operands = list(zip((values[1], values[2], values[0]), (kind, U32, U32), strict=True))
            return emit(
                builder, f"shfl.sync.{mode}.b32 $0, $1, $2, {clamp}, $3;", kind, operands, memory=False
            )[0]

        return kind(U32, kind, U32), codegen

    doc = f"{what} `value` is a float32, int32 or uint32; every lane of `mask` takes part. sm_70 and later."
    return function(name, ("mask", "value", "lanes"), doc, SM_70, __name__)(typer)


shuffle = _shuffle("shuffle", "idx", "0x1f", "The value of lane `lanes`.")
shuffle_up = _shuffle("shuffle_up", "up", "0", "The value of the lane `lanes` below, or one's own.")
shuffle_down = _shuffle("shuffle_down", "down", "0x1f", "The value of the lane `lanes` above, or one's own.")
shuffle_xor = _shuffle(
    "shuffle_xor", "bfly", "0x1f", "The value of the lane whose number differs in `lanes`."
)


def _redux(name: str, text: str, kind: Any, what: str) -> Any:
    return _make(
        name,
        f"redux.sync.{text} $0, $1, $2;",
        kind,
        f"{what} over the lanes of `mask`.",
        SM_80,
        value=kind,
        mask=U32,
    )


redux_add = _redux("redux_add", "add.s32", I32, "The sum")
redux_min = _redux("redux_min", "min.s32", I32, "The smallest")
redux_max = _redux("redux_max", "max.s32", I32, "The largest")
redux_min_u32 = _redux("redux_min_u32", "min.u32", U32, "The smallest, unsigned,")
redux_max_u32 = _redux("redux_max_u32", "max.u32", U32, "The largest, unsigned,")
redux_and = _redux("redux_and", "and.b32", U32, "Bitwise and")
redux_or = _redux("redux_or", "or.b32", U32, "Bitwise or")
redux_xor = _redux("redux_xor", "xor.b32", U32, "Bitwise exclusive or")
