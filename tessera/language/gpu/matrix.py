"""Products of small matrices by the tensor cores, and the loads that put their operands into registers.

All 32 lanes of a warp take part. Which element of a matrix each register of each lane holds is in the
ISA's figures; `ldmatrix` puts it there.
Source of all: PTX ISA 8.8, "Warp-Level Matrix Instructions: mma, ldmatrix, stmatrix, movmatrix".
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tessera.language.gpu.assembly import (
    F32,
    F64,
    I32,
    SM_70,
    SM_75,
    SM_80,
    SM_89,
    SM_90,
    U32,
    Needs,
    function,
    instruction,
    literal_of,
    many,
    refuse,
)

_make = partial(instruction, home=__name__)


def _operand(first: int, count: int) -> str:
    return "{" + ", ".join(f"${first + i}" for i in range(count)) + "}"


def _mma(shape: str, kind: str, sums: str, needs: Needs, *, name: str | None = None) -> Any:
    """`mma` of one shape and type: (a, b, c) → a @ b + c."""
    m, n, k = (int(part) for part in shape.replace("m", "").replace("n", " ").replace("k", " ").split())
    total = {"f32": F32, "f64": F64, "s32": I32, "f16": U32}[sums]
    bits = {"f16": 16, "bf16": 16, "tf32": 32, "f64": 64}.get(kind, 8)
    held = {"f64": F64}.get(kind, U32)
    width = 64 if kind == "f64" else 32
    counts = [
        m * k * bits // width // 32,
        k * n * bits // width // 32,
        m * n // 32 // (2 if sums == "f16" else 1),
    ]
    d, a, b = counts[2], counts[0], counts[1]
    text = (
        f"mma.sync.aligned.{shape}.row.col.{sums}.{kind}.{kind}.{sums} {_operand(0, d)}, {_operand(d, a)}, "
        f"{_operand(d + a, b)}, {_operand(d + a + b, d)};"
    )
    doc = f"a @ b + c of a warp: a ({m}, {k}) {kind} by rows, b ({k}, {n}) {kind} by columns, sums {sums}."
    kinds: dict[str, Any] = {"a": _packed(held, a), "b": _packed(held, b), "c": _packed(total, d)}
    return _make(name or f"mma_{shape}_{kind}", text, kinds["c"], doc, needs, **kinds)


def _packed(kind: Any, count: int) -> Any:
    return many(kind, count)


mma_m16n8k8_f16 = _mma("m16n8k8", "f16", "f32", SM_75)
mma_m8n8k16_s8 = _mma("m8n8k16", "s8", "s32", SM_75)
mma_m8n8k16_u8 = _mma("m8n8k16", "u8", "s32", SM_75)
mma_m16n8k16_f16 = _mma("m16n8k16", "f16", "f32", SM_80)
mma_m16n8k16_f16_f16 = _mma("m16n8k16", "f16", "f16", SM_80, name="mma_m16n8k16_f16_f16")
mma_m16n8k8_bf16 = _mma("m16n8k8", "bf16", "f32", SM_80)
mma_m16n8k16_bf16 = _mma("m16n8k16", "bf16", "f32", SM_80)
mma_m16n8k4_tf32 = _mma("m16n8k4", "tf32", "f32", SM_80)
mma_m16n8k8_tf32 = _mma("m16n8k8", "tf32", "f32", SM_80)
mma_m16n8k16_s8 = _mma("m16n8k16", "s8", "s32", SM_80)
mma_m16n8k32_s8 = _mma("m16n8k32", "s8", "s32", SM_80)
mma_m16n8k16_u8 = _mma("m16n8k16", "u8", "s32", SM_80)
mma_m16n8k32_u8 = _mma("m16n8k32", "u8", "s32", SM_80)
mma_m16n8k32_e4m3 = _mma("m16n8k32", "e4m3", "f32", SM_89)
mma_m16n8k32_e5m2 = _mma("m16n8k32", "e5m2", "f32", SM_89)
mma_m8n8k4_f64 = _mma("m8n8k4", "f64", "f64", SM_80)


def _ldmatrix(count: int, *, trans: bool) -> Any:
    name = f"ldmatrix_x{count}{'_trans' if trans else ''}"
    text = (
        f"ldmatrix.sync.aligned.m8n8.x{count}{'.trans' if trans else ''}.shared.b16 "
        f"{_operand(0, count)}, [${count}];"
    )
    doc = (
        f"{count} matrices of 8 × 8 16-bit elements{', transposed,' if trans else ''} from shared memory. "
        "Lane 8 i + r gives the address of row r of matrix i: 16 bytes, a multiple of 16."
    )
    result = U32 if count == 1 else many(U32, count)
    return _make(name, text, result, doc, SM_75, memory=True, address=U32)


def _stmatrix(count: int, *, trans: bool) -> Any:
    name = f"stmatrix_x{count}{'_trans' if trans else ''}"
    text = (
        f"stmatrix.sync.aligned.m8n8.x{count}{'.trans' if trans else ''}.shared.b16 "
        f"[$0], {_operand(1, count)};"
    )
    doc = f"Stores {count} matrices where `ldmatrix_x{count}{'_trans' if trans else ''}` loads them from."
    values = U32 if count == 1 else many(U32, count)
    return _make(name, text, None, doc, SM_90, memory=True, address=U32, values=values)


ldmatrix_x1, ldmatrix_x2, ldmatrix_x4 = (_ldmatrix(count, trans=False) for count in (1, 2, 4))
ldmatrix_x1_trans, ldmatrix_x2_trans, ldmatrix_x4_trans = (
    _ldmatrix(count, trans=True) for count in (1, 2, 4)
)
stmatrix_x1, stmatrix_x2, stmatrix_x4 = (_stmatrix(count, trans=False) for count in (1, 2, 4))
stmatrix_x1_trans, stmatrix_x2_trans, stmatrix_x4_trans = (
    _stmatrix(count, trans=True) for count in (1, 2, 4)
)
movmatrix_trans = _make(
    "movmatrix_trans",
    "movmatrix.sync.aligned.m8n8.trans.b16 $0, $1;",
    U32,
    "An 8 × 8 matrix of 16-bit elements held by a warp, transposed.",
    SM_75,
    value=U32,
)


def _zeros(name: str, kind: Any) -> Any:
    def typer(count: Any) -> Any:
        number = literal_of(count)
        if number is None or not 1 <= number <= 256:
            raise refuse(name, "count: 1 to 256 in the source", [count])
        result = many(kind, number)

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
            return context.get_constant_null(result)

        return result(count), codegen

    doc = f"`count` zeros of {kind}, a tuple: what sums of products begin with. sm_70 and later."
    return function(name, ("count",), doc, SM_70, __name__)(typer)


zeros_f32 = _zeros("zeros_f32", F32)
zeros_i32 = _zeros("zeros_i32", I32)
