"""Products of matrices in shared memory by four warps together, on Hopper alone.

The sums are a tuple that goes through every call: `sums = gpu.wgmma_bf16(sums, a, b, 1)`. They are
there after `sums = gpu.wgmma_wait(0, sums)`, and nothing may touch them before.
Source of all: PTX ISA 8.8, "Asynchronous Warpgroup Level Matrix Instructions" and "Miscellaneous
Instructions: setmaxnreg".
"""

from __future__ import annotations

from functools import partial
from typing import Any

from llvmlite import ir
from numba.cuda import types

from tessera.language.gpu.assembly import (
    F32,
    I32,
    SM_90A,
    U32,
    U64,
    emit,
    fits,
    function,
    instruction,
    literal_of,
    many,
    pack,
    refuse,
    unpack,
    with_number,
)

_make = partial(instruction, home=__name__, memory=True)
_SWIZZLE_CODES = {0: 0, 16: 0, 128: 1, 64: 2, 32: 3}

wgmma_fence = _make(
    "wgmma_fence",
    "wgmma.fence.sync.aligned;",
    None,
    "Orders what four warps did to registers and shared memory before the products that follow.",
    SM_90A,
)
wgmma_commit = _make(
    "wgmma_commit",
    "wgmma.commit_group.sync.aligned;",
    None,
    "Makes the products started since the last one into a group.",
    SM_90A,
)
_REGISTERS = range(24, 257, 8)
setmaxnreg_inc = with_number(
    "setmaxnreg_inc",
    "setmaxnreg.inc.sync.aligned.u32 {n};",
    "Waits until each thread of the warpgroup has `count` registers.",
    SM_90A,
    _REGISTERS,
    home=__name__,
)
setmaxnreg_dec = with_number(
    "setmaxnreg_dec",
    "setmaxnreg.dec.sync.aligned.u32 {n};",
    "Leaves all but `count` registers of each thread to other warpgroups.",
    SM_90A,
    _REGISTERS,
    home=__name__,
)


def _wait_typer(count: Any, sums: Any) -> Any:
    number = literal_of(count)
    floats = isinstance(sums, types.UniTuple) and sums.dtype in (F32, I32, U32)
    if number is None or not floats or not 0 <= number < 8:
        raise refuse("wgmma_wait", "count: 0 to 7 in the source, sums: a tuple", [count, sums])

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        # The sums go in and out, so that nobody reads them before.
        operands = unpack(builder, values[1], sums)
        text = f"wgmma.wait_group.sync.aligned {number};"
        registers = emit(builder, text, sums, operands, memory=True, tied=len(operands))
        return pack(context, builder, registers, sums)

    return sums(count, sums), codegen


wgmma_wait = function(
    "wgmma_wait",
    ("count", "sums"),
    "The sums, once at most `count` of the newest groups of products are under way. sm_90a.",
    SM_90A,
    __name__,
)(_wait_typer)


def _descriptor_typer(address: Any, leading: Any, stride: Any, swizzle: Any) -> Any:
    code = _SWIZZLE_CODES.get(literal_of(swizzle) or 0) if literal_of(swizzle) is not None else None
    given = [address, leading, stride, swizzle]
    if code is None or not all(isinstance(kind, types.Integer) for kind in given):
        raise refuse(
            "wgmma_descriptor",
            "address, leading, stride: bytes, swizzle: 0, 32, 64 or 128 in the source",
            given,
        )

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        wide = ir.IntType(64)
        total = ir.Constant(wide, code << 62)
        for value, shift in zip(values[:3], (0, 16, 32), strict=True):
            field = builder.and_(
                builder.lshr(builder.zext(value, wide), ir.Constant(wide, 4)), ir.Constant(wide, 0x3FFF)
            )
            total = builder.or_(total, builder.shl(field, ir.Constant(wide, shift)))
        return total

    return U64(U32, U32, U32, swizzle), codegen


wgmma_descriptor = function(
    "wgmma_descriptor",
    ("address", "leading", "stride", "swizzle"),
    "Where a matrix lies in shared memory, for `wgmma`: its 32-bit address, the bytes between core matrices "
    "along and across, and the bytes of a swizzled row. sm_90a.",
    SM_90A,
    __name__,
)(_descriptor_typer)


def _product(kind: str, k: int, total: Any, *, trans: bool = False) -> Any:
    """`wgmma` of one type. The number of sums says how wide the product is."""
    name = f"wgmma_{kind}{'_trans' if trans else ''}"
    wanted = f"sums: {total} × 4 to 128, a: descriptor or uint32 × 4, b: descriptor, keep" + (
        ", a_trans, b_trans: 0 or 1 in the source" if trans else ""
    )

    def typer(sums: Any, a: Any, b: Any, keep: Any, *flags: Any) -> Any:
        numbers = [literal_of(flag) for flag in flags]
        held = many(U32, 4)
        in_registers = isinstance(a, types.BaseTuple)
        right = (
            isinstance(sums, types.UniTuple)
            and sums.dtype == total
            and sums.count in range(4, 129, 4)
            and fits(a, held if in_registers else U64)
            and fits(b, U64)
            and fits(keep, U32)
            and all(number in (0, 1) for number in numbers)
            and not (in_registers and numbers and numbers[0])
        )
        if not right:
            raise refuse(name, wanted, [sums, a, b, keep, *flags])
        left_kind = held if in_registers else U64
        text = _text(f"m64n{sums.count * 2}k{k}", kind, sums, 4 if in_registers else 1, numbers)

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
            left = unpack(builder, values[1], left_kind)
            operands = [*left, (values[2], U64), (values[3], U32), *unpack(builder, values[0], sums)]
            registers = emit(builder, text, sums, operands, memory=True, tied=sums.count)
            return pack(context, builder, registers, sums)

        return sums(sums, left_kind, U64, U32, *flags), codegen

    doc = (
        f"sums + a @ b of four warps, or a @ b where `keep` is 0: a (64, {k}), b ({k}, n) {kind}, "
        f"n = 2 × the number of sums, 8 to 256. a and b are descriptors of shared memory, a perhaps four "
        "registers; lines of memory run along k"
        + (", across it where `a_trans` or `b_trans` is 1" if trans else "")
        + ". sm_90a."
    )
    parameters = ("sums", "a", "b", "keep", *(("a_trans", "b_trans") if trans else ()))
    return function(name, parameters, doc, SM_90A, __name__)(typer)


def _text(shape: str, kind: str, sums: Any, left: int, flags: list[int | None]) -> str:
    first = sums.count
    d = "{" + ", ".join(f"${i}" for i in range(first)) + "}"
    a = f"${first}" if left == 1 else "{" + ", ".join(f"${first + i}" for i in range(left)) + "}"
    b, keep = f"${first + left}", f"${first + left + 1}"
    # Signs of a and b, then whether lines run across k; a in registers has no such flag.
    trail = ", 1, 1" if sums.dtype == F32 else ""
    if kind in ("f16", "bf16"):
        across = flags or [0, 0]
        trail += "".join(f", {flag}" for flag in (across if left == 1 else across[1:]))
    result = "f32" if sums.dtype == F32 else "s32"
    return (
        f"{{ .reg .pred keep; setp.ne.b32 keep, {keep}, 0; "
        f"wgmma.mma_async.sync.aligned.{shape}.{result}.{kind}.{kind} {d}, {a}, {b}, keep{trail}; }}"
    )


wgmma_f16 = _product("f16", 16, F32)
wgmma_f16_trans = _product("f16", 16, F32, trans=True)
wgmma_bf16 = _product("bf16", 16, F32)
wgmma_bf16_trans = _product("bf16", 16, F32, trans=True)
wgmma_tf32 = _product("tf32", 8, F32)
wgmma_e4m3 = _product("e4m3", 32, F32)
wgmma_e5m2 = _product("e5m2", 32, F32)
wgmma_s8 = _product("s8", 32, I32)
wgmma_u8 = _product("u8", 32, I32)
