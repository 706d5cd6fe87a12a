"""One flat function per kernel: device functions become part of their callers.

Parameters and results of calls become registers where each is always read and written in the same pieces,
and local memory otherwise.
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
    Module,
    Negated,
    Operand,
    Pair,
    ParamList,
    Register,
    Symbol,
    Variable,
    Vector,
)
from tessera.program.errors import CompileError

DEPTH_LIMIT = 64


def flatten(module: Module, entry: Function) -> Function:
    """The kernel with every call expanded, and `bar.red` split into its arrival and its result.

    Raises:
        CompileError: A call of a function without a body, through a pointer, or of a caller.
    """
    flat = Function(entry.name, is_entry=True, params=entry.params, results=(), line=entry.line)
    flat.registers = dict(entry.registers)
    flat.variables = list(entry.variables)
    flat.branch_tables = dict(entry.branch_tables)
    flat.directives = entry.directives
    expansion = _Expansion(module, flat)
    flat.body = list(expansion.expand(entry.body, (entry.name,)))
    _replace_params(flat)
    return flat


class _Expansion:
    def __init__(self, module: Module, flat: Function) -> None:
        self.module = module
        self.flat = flat
        self.count = 0

    def expand(
        self, body: list[Instruction | Label], callers: tuple[str, ...]
    ) -> Iterator[Instruction | Label]:
        for item in body:
            if isinstance(item, Label):
                yield item
            elif item.opcode == "call":
                yield from self.call(item, callers)
            elif item.opcode in ("bar", "barrier") and "red" in item.modifiers:
                rest = tuple(m for m in item.modifiers if m != "red")
                yield replace(item, modifiers=("vote", *rest), operands=item.operands[1:])
                yield replace(item, opcode="barresult", operands=item.operands[:2])
            else:
                yield item

    def call(self, item: Instruction, callers: tuple[str, ...]) -> Iterator[Instruction | Label]:
        results, name, arguments = call_parts(item)
        function = self.module.functions.get(name)
        if function is None or not function.body:
            raise CompileError(
                f"PTX line {item.line}: call of {name or 'a function pointer'}, which has no body here",
                ptx_line=item.line,
            )
        if name in callers or len(callers) > DEPTH_LIMIT:
            raise CompileError(
                f"PTX line {item.line}: {name} calls itself, which the fast engine cannot run",
                hint="write the recursion as a loop",
                ptx_line=item.line,
            )
        self.count += 1
        suffix = f"~{self.count}"
        after = f"$return{suffix}"
        names = {label.name: label.name + suffix for label in function.body if isinstance(label, Label)}
        names |= {register: register + suffix for register in function.registers}
        names |= {v.name: v.name + suffix for v in function.variables if v.space != "shared"}
        names |= {table: table + suffix for table in function.branch_tables}
        before: list[Instruction] = []
        behind: list[Instruction] = []
        for variable, argument in zip(function.params, arguments, strict=True):
            before += self.bind(variable, argument, names, suffix, item, into=True)
        for variable, result in zip(function.results, results, strict=True):
            behind += self.bind(variable, result, names, suffix, item, into=False)
        self.declare(function, names, suffix)
        if item.guard is not None:
            skip = Instruction(
                "bra", (), (Symbol(after + "x"),), item.line, item.guard, not item.guard_negated
            )
            yield skip
        yield from before
        body = [_renamed(each, names, after) for each in function.body]
        yield from self.expand(body, (*callers, name))
        yield Label(after, item.line)
        yield from behind
        yield Label(after + "x", item.line)

    def bind(
        self,
        variable: Variable,
        other: Operand,
        names: dict[str, str],
        suffix: str,
        at: Instruction,
        *,
        into: bool,
    ) -> list[Instruction]:
        """Make a formal parameter mean the actual one, by renaming it or by a copy."""
        if variable.space == "param" and isinstance(other, Symbol) and not other.offset:
            names[variable.name] = other.name
            return []
        formal = variable.name + suffix
        names[variable.name] = formal
        place: Operand = Register(formal)
        if variable.space == "reg":
            self.flat.registers[formal] = variable.type
        else:
            self.flat.variables.append(replace(variable, name=formal))
            place = Address(Symbol(formal))
        operands = (place, other) if into else (other, place)
        if variable.space == "reg":
            return [Instruction("mov", (variable.type,), operands, at.line)]
        return [Instruction("st" if into else "ld", ("param", variable.type), operands, at.line)]

    def declare(self, function: Function, names: dict[str, str], suffix: str) -> None:
        for register, kind in function.registers.items():
            self.flat.registers[names[register]] = kind
        for variable in function.variables:
            if variable.space != "shared":
                self.flat.variables.append(replace(variable, name=names[variable.name]))
            elif all(v.name != variable.name for v in self.flat.variables):
                self.flat.variables.append(variable)
        for table, targets in function.branch_tables.items():
            self.flat.branch_tables[table + suffix] = tuple(t + suffix for t in targets)


def call_parts(item: Instruction) -> tuple[tuple[Operand, ...], str, tuple[Operand, ...]]:
    """Results, function name and arguments of a `call`."""
    operands = list(item.operands)
    results: tuple[Operand, ...] = ()
    if isinstance(first := operands[0], ParamList):
        results = first.elements
        del operands[0]
    target = operands.pop(0)
    arguments: tuple[Operand, ...] = ()
    if operands and isinstance(operands[0], ParamList):
        arguments = operands[0].elements
    return results, target.name if isinstance(target, Symbol) else "", arguments


def _renamed(item: Instruction | Label, names: dict[str, str], after: str) -> Instruction | Label:
    if isinstance(item, Label):
        return Label(names[item.name], item.line)
    guard = item.guard and Register(names.get(item.guard.name, item.guard.name))
    if item.opcode == "ret":
        return replace(item, opcode="bra", modifiers=(), operands=(Symbol(after),), guard=guard)
    operands = tuple(rename(op, lambda n: names.get(n, n)) for op in item.operands)
    return replace(item, operands=operands, guard=guard)


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


# -- parameters of calls ------------------------------------------------------------------------


def _replace_params(flat: Function) -> None:
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
    moves = []
    for k, element in enumerate(elements):
        piece = Register(f"{name}+{start + k * size}")
        operands = (piece, element) if item.opcode == "st" else (element, piece)
        moves.append(replace(item, opcode="mov", modifiers=(item.modifiers[-1],), operands=operands))
    return moves
