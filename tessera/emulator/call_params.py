"""Parameters and results of calls in a flat kernel.

They are registers where each is always read and written in the same pieces, and local memory otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

from tessera.emulator.ptx import (
    TYPE_BYTES,
    Address,
    Function,
    Instruction,
    Label,
    Negated,
    Operand,
    Pair,
    ParamList,
    Register,
    Symbol,
    Variable,
    Vector,
)


def rename(operand: Operand, new: Callable[[str], str]) -> Operand:
    """The operand with every name in it replaced."""
    match operand:
        case Register(name, part):
            return Register(new(name), part)
        case Symbol(name, offset):
            return Symbol(new(name), offset)
        case Negated(Register(name)):
            return Negated(Register(new(name)))
        case Pair(Register(first), Register(second)):
            return Pair(Register(new(first)), Register(new(second)))
        case Vector(elements):
            return Vector(tuple(rename(e, new) for e in elements))
        case ParamList(elements):
            return ParamList(tuple(rename(e, new) for e in elements))
        case Address(base=base, coordinates=coordinates):
            moved = replace(base, name=new(base.name)) if isinstance(base, Register | Symbol) else base
            inner = coordinates
            if coordinates is not None:
                inner = Vector(tuple(rename(e, new) for e in coordinates.elements))
            return replace(operand, base=moved, coordinates=inner)
        case _:
            return operand


def replace_params(flat: Function) -> None:
    """Turn the parameters of calls into registers, or into local memory where pieces overlap."""
    declared = {v.name: v for v in flat.variables if v.space == "param"}
    pieces: dict[str, set[tuple[int, int]]] = {name: set() for name in declared}
    spilled: set[str] = set()
    for item in flat.body:
        if isinstance(item, Instruction):
            access = _param_access(item, declared)
            if access is not None:
                name, start, size, count = access
                pieces[name] |= {(start + k * size, size) for k in range(count)}
            else:
                spilled |= {n for op in item.operands for n in _symbols(op)} & set(declared)
    spilled |= {name for name, found in pieces.items() if _overlap(found)}
    flat.variables = [
        replace(v, space="local") if v.name in spilled else v
        for v in flat.variables
        if v.space != "param" or v.name in spilled
    ]
    for name, found in pieces.items():
        if name not in spilled:
            flat.registers |= {f"{name}+{start}": f"b{8 * size}" for start, size in found}
    body: list[Instruction | Label] = []
    for item in flat.body:
        access = _param_access(item, declared) if isinstance(item, Instruction) else None
        if access is None or isinstance(item, Label):
            body.append(item)
        elif access[0] in spilled:
            body.append(
                replace(
                    item, modifiers=tuple("local" if m.startswith("param") else m for m in item.modifiers)
                )
            )
        else:
            body += _moves(item, access)
    flat.body = body


def _symbols(operand: Operand) -> Iterator[str]:
    found: list[str] = []
    rename(operand, lambda n: found.append(n) or n)  # type: ignore[func-returns-value]
    yield from found


def _overlap(pieces: set[tuple[int, int]]) -> bool:
    ordered = sorted(pieces)
    return any(a[0] + a[1] > b[0] for a, b in itertools.pairwise(ordered))


def _param_access(item: Instruction, declared: dict[str, Variable]) -> tuple[str, int, int, int] | None:
    """Variable, offset, element size and count of a `ld.param` or `st.param` on a call's parameter."""
    if item.opcode not in ("ld", "st") or not any(m.split("::")[0] == "param" for m in item.modifiers):
        return None
    address, value = item.operands if item.opcode == "st" else reversed(item.operands)
    if not isinstance(address, Address) or not isinstance(address.base, Symbol):
        return None
    if address.base.name not in declared:
        return None
    count = len(value.elements) if isinstance(value, Vector) else 1
    return address.base.name, address.base.offset + address.offset, TYPE_BYTES[item.modifiers[-1]], count


def _moves(item: Instruction, access: tuple[str, int, int, int]) -> list[Instruction]:
    name, start, size, _ = access
    value = item.operands[1] if item.opcode == "st" else item.operands[0]
    elements = value.elements if isinstance(value, Vector) else (value,)
    moves: list[Instruction] = []
    for k, element in enumerate(elements):
        piece = Register(f"{name}+{start + k * size}")
        operands = (piece, element) if item.opcode == "st" else (element, piece)
        origin = None if moves else item.origin
        moves.append(
            replace(item, opcode="mov", modifiers=(item.modifiers[-1],), operands=operands, origin=origin)
        )
    return moves
