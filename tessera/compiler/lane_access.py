"""Intrinsics of generated GPU kernels that read and write neighbouring elements, up to 16 bytes at once.

NVVM merges accesses by itself only where it knows how memory is aligned, which it cannot be told of a
kernel's parameters; and it refuses vectors of more than four elements. So elements of less than four bytes
travel in words. Source: PTX ISA, "ld", "st": vectors of 16 bytes must begin at a multiple of 16.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core.extending import intrinsic
from numba.cuda import types

from tessera.compiler.lanes import WIDEST_BYTES

_WORD = 4


def _bytes(element: Any) -> int:
    if isinstance(element, ir.IntType):
        return max(1, int(element.width) // 8)
    return 8 if isinstance(element, ir.DoubleType) else 4


def _units(element: Any, count: int) -> tuple[int, Any, int]:
    """Elements of one access, LLVM's type of what it moves, and its alignment in bytes."""
    size = _bytes(element)
    at_once = min(count, WIDEST_BYTES // size)
    moved = at_once * size
    if size >= _WORD:
        return at_once, element if at_once == 1 else ir.VectorType(element, at_once), moved
    if moved <= _WORD:
        return at_once, ir.IntType(8 * moved), moved
    return at_once, ir.VectorType(ir.IntType(32), moved // _WORD), moved


def _place(builder: Any, pointer: Any, index: Any, unit: Any) -> Any:
    return builder.bitcast(builder.gep(pointer, [index]), ir.PointerType(unit))


def _part(builder: Any, value: Any, element: Any, number: int) -> Any:
    """Element `number` of what was read."""
    if value.type == element:
        return value
    size = _bytes(element)
    if size >= _WORD:
        return builder.extract_element(value, ir.IntType(32)(number))
    if isinstance(value.type, ir.VectorType):
        value = builder.extract_element(value, ir.IntType(32)(number * size // _WORD))
        number %= _WORD // size
    shifted = builder.lshr(value, value.type(8 * size * number)) if number else value
    return builder.trunc(shifted, element)


def _joined(builder: Any, parts: list[Any], unit: Any) -> Any:
    """What is written, of its elements."""
    element = parts[0].type
    if unit == element:
        return parts[0]
    if isinstance(unit, ir.IntType):
        return _word(builder, parts, unit)
    made = ir.Constant(unit, ir.Undefined)
    per_word = max(1, _WORD // _bytes(element))
    for number in range(unit.count):
        own = parts[number * per_word : (number + 1) * per_word]
        value = own[0] if _bytes(element) >= _WORD else _word(builder, own, unit.element)
        made = builder.insert_element(made, value, ir.IntType(32)(number))
    return made


def _word(builder: Any, parts: list[Any], word: Any) -> Any:
    made = builder.zext(parts[0], word)
    for number, part in enumerate(parts[1:], 1):
        shifted = builder.shl(builder.zext(part, word), word(8 * _bytes(part.type) * number))
        made = builder.or_(made, shifted)
    return made


def _reader(count: int) -> Any:
    def typer(typingctx: Any, pointer: Any, index: Any) -> Any:  # noqa: ARG001
        result = types.UniTuple(pointer.dtype, count)

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
            memory, first = values
            element = memory.type.pointee
            at_once, unit, alignment = _units(element, count)
            parts = []
            for start in range(0, count, at_once):
                place = builder.add(first, first.type(start)) if start else first
                read = builder.load(_place(builder, memory, place, unit), align=alignment)
                parts += [_part(builder, read, element, number) for number in range(at_once)]
            return context.make_tuple(builder, result, parts)

        return result(pointer, types.int64), codegen

    typer.__name__ = typer.__qualname__ = f"read_lanes_{count}"
    return intrinsic(typer)


def _writer(count: int) -> Any:
    def typer(typingctx: Any, pointer: Any, index: Any, values: Any) -> Any:  # noqa: ARG001
        kind = types.UniTuple(pointer.dtype, count)

        def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:  # noqa: ARG001
            memory, first, several = given
            element = memory.type.pointee
            at_once, unit, alignment = _units(element, count)
            parts = [builder.extract_value(several, number) for number in range(count)]
            for start in range(0, count, at_once):
                place = builder.add(first, first.type(start)) if start else first
                made = _joined(builder, parts[start : start + at_once], unit)
                builder.store(made, _place(builder, memory, place, unit), align=alignment)
            return context.get_dummy_value()

        return types.void(pointer, types.int64, kind), codegen

    typer.__name__ = typer.__qualname__ = f"write_lanes_{count}"
    return intrinsic(typer)


read_lanes_2, read_lanes_4, read_lanes_8, read_lanes_16 = (_reader(n) for n in (2, 4, 8, 16))
write_lanes_2, write_lanes_4, write_lanes_8, write_lanes_16 = (_writer(n) for n in (2, 4, 8, 16))
