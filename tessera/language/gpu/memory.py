"""Addresses of elements, and loads and stores of 16 bytes with hints for the caches.

Source of all: PTX ISA 8.8, "Data Movement and Conversion Instructions: ld, ld.global.nc, st, cvta".
"""

from __future__ import annotations

from functools import partial
from typing import Any

from llvmlite import ir
from numba.cuda import types

from tessera.language.gpu.assembly import (
    F32,
    SM_70,
    SM_75,
    U32,
    U64,
    Needs,
    fits,
    function,
    instruction,
    many,
    refuse,
)

_make = partial(instruction, home=__name__, memory=True)
_SHARED = 3
"""LLVM's address space of shared memory on this target."""


def _address(name: str, what: str, result: Any, to_integer: Any) -> Any:
    wanted = "array or pointer, index"

    def typer(array: Any, index: Any) -> Any:
        several = isinstance(index, types.BaseTuple)
        axes = len(index) if several else 1
        position = types.UniTuple(types.intp, axes) if several else types.intp
        is_array = isinstance(array, types.Array) and axes == array.ndim
        is_pointer = isinstance(array, types.CPointer) and not several
        if not fits(index, position) or not (is_array or is_pointer):
            raise refuse(name, wanted, [array, index])

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
            where = [builder.extract_value(values[1], i) for i in range(axes)] if several else [values[1]]
            return to_integer(builder, _element(context, builder, array, values[0], where))

        return result(array, position), codegen

    doc = f"{what} `index` is a number, or a tuple with one for each axis. sm_70 and later."
    return function(name, ("array", "index"), doc, SM_70, __name__)(typer)


def _element(context: Any, builder: Any, kind: Any, value: Any, where: list[Any]) -> Any:
    """LLVM pointer to an element of an array or of what a pointer points at."""
    from numba.cuda import cgutils

    if isinstance(kind, types.CPointer):
        return builder.gep(value, where)
    array = context.make_array(kind)(context, builder, value)
    return cgutils.get_item_pointer(context, builder, kind, array, where)


def _shared_integer(builder: Any, pointer: Any) -> Any:
    there = builder.addrspacecast(pointer, ir.PointerType(pointer.type.pointee, addrspace=_SHARED))
    return builder.ptrtoint(there, ir.IntType(32))


address = _address(
    "address",
    "The 64-bit address of an element.",
    U64,
    lambda builder, pointer: builder.ptrtoint(pointer, ir.IntType(64)),
)
shared_address = _address(
    "shared_address", "The 32-bit address of an element of an array in shared memory.", U32, _shared_integer
)

_VECTORS = {
    "u32x4": (U32, 4, "v4.b32"),
    "f32x4": (F32, 4, "v4.f32"),
    "u32x2": (U32, 2, "v2.b32"),
    "f32x2": (F32, 2, "v2.f32"),
}


def _registers(first: int, count: int) -> str:
    return "{" + ", ".join(f"${first + i}" for i in range(count)) + "}"


def _load(kind: str, space: str, qualifier: str, suffix: str, what: str, needs: Needs = SM_70) -> Any:
    element, count, form = _VECTORS[kind]
    text = f"ld.{space}{qualifier}.{form} {_registers(0, count)}, [${count}];"
    doc = (
        f"{count} neighbours of 32 bits from {space} memory{what}; the address is a multiple of {4 * count}."
    )
    name, values = f"load_{_prefix(space)}{kind}{suffix}", many(element, count)
    return _make(name, text, values, doc, needs, address=_where(space))


def _store(kind: str, space: str, qualifier: str, suffix: str, what: str) -> Any:
    element, count, form = _VECTORS[kind]
    text = f"st.{space}{qualifier}.{form} [$0], {_registers(1, count)};"
    doc = f"Stores {count} neighbours of 32 bits to {space} memory{what}; at a multiple of {4 * count}."
    return _make(
        f"store_{_prefix(space)}{kind}{suffix}",
        text,
        None,
        doc,
        address=_where(space),
        values=many(element, count),
    )


def _where(space: str) -> Any:
    return U32 if space == "shared" else U64


def _prefix(space: str) -> str:
    return "shared_" if space == "shared" else ""


_ONCE = ", read once: it leaves the caches first"
_KEPT = ", which nobody writes while the kernel runs"
_ALONE = f"{_KEPT}, kept out of the first-level cache; 128 bytes around it go to the second"

load_u32x4 = _load("u32x4", "global", "", "", "")
load_f32x4 = _load("f32x4", "global", "", "", "")
load_u32x4_constant = _load("u32x4", "global", ".nc", "_constant", _KEPT)
load_f32x4_constant = _load("f32x4", "global", ".nc", "_constant", _KEPT)
load_u32x4_streaming = _load("u32x4", "global", ".cs", "_streaming", _ONCE)
load_f32x4_streaming = _load("f32x4", "global", ".cs", "_streaming", _ONCE)
load_u32x4_bypass = _load("u32x4", "global", ".nc.L1::no_allocate.L2::128B", "_bypass", _ALONE, SM_75)
load_f32x4_bypass = _load("f32x4", "global", ".nc.L1::no_allocate.L2::128B", "_bypass", _ALONE, SM_75)
store_u32x4 = _store("u32x4", "global", "", "", "")
store_f32x4 = _store("f32x4", "global", "", "", "")
store_u32x4_streaming = _store("u32x4", "global", ".cs", "_streaming", ", not read again soon")
store_f32x4_streaming = _store("f32x4", "global", ".cs", "_streaming", ", not read again soon")
load_shared_u32x4 = _load("u32x4", "shared", "", "", "")
load_shared_f32x4 = _load("f32x4", "shared", "", "", "")
store_shared_u32x4 = _store("u32x4", "shared", "", "", "")
store_shared_f32x4 = _store("f32x4", "shared", "", "", "")
load_shared_u32x2 = _load("u32x2", "shared", "", "", "")
load_shared_f32x2 = _load("f32x2", "shared", "", "", "")
store_shared_u32x2 = _store("u32x2", "shared", "", "", "")
store_shared_f32x2 = _store("f32x2", "shared", "", "", "")
store_u32x2 = _store("u32x2", "global", "", "", "")
store_u32 = _make(
    "store_u32", "st.global.b32 [$0], $1;", None, "Stores 32 bits to global memory.", address=U64, value=U32
)
load_shared_u32 = _make(
    "load_shared_u32", "ld.shared.b32 $0, [$1];", U32, "32 bits from shared memory.", address=U32
)
load_shared_f32 = _make(
    "load_shared_f32", "ld.shared.f32 $0, [$1];", F32, "A float32 from shared memory.", address=U32
)
store_shared_u32 = _make(
    "store_shared_u32",
    "st.shared.b32 [$0], $1;",
    None,
    "Stores 32 bits to shared memory.",
    address=U32,
    value=U32,
)
