"""One flat function per kernel: device functions become part of their callers.

Functions that call themselves, and large ones with many callers, are there once and called on a stack.
Parameters and results of calls become registers where each is always read and written in the same pieces,
and local memory otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from tessera.emulator.call_frames import (
    POINTER,
    REGISTERS,
    STACK,
    STACK_BYTES,
    Stacked,
    copied,
    enter,
    frame_of,
    in_frame,
    pieces_of,
    save,
)
from tessera.emulator.call_graph import SERVICES, CallGraph, call_parts
from tessera.emulator.call_params import rename, replace_params
from tessera.emulator.ptx import (
    Address,
    Function,
    Immediate,
    Instruction,
    Label,
    Module,
    Operand,
    Register,
    Symbol,
    Variable,
)
from tessera.program.errors import CompileError

LARGE = 20_000
"""Instructions that copies of one function may make together; beyond, it is called on the stack."""


def flatten(module: Module, entry: Function) -> Function:
    """The kernel with every call expanded, and `bar.red` split into its arrival and its result.

    Raises:
        CompileError: A call of a function without a body.
    """
    flat = Function(entry.name, is_entry=True, params=entry.params, results=(), line=entry.line)
    flat.registers = dict(entry.registers)
    flat.variables = list(entry.variables)
    flat.branch_tables = dict(entry.branch_tables)
    flat.directives = entry.directives
    expansion = _Expansion(module, flat)
    flat.body = expansion.whole(entry)
    replace_params(flat)
    return flat


class _Expansion:
    def __init__(self, module: Module, flat: Function) -> None:
        self.module = module
        self.flat = flat
        self.count = 0
        self.graph = CallGraph(module)
        self.stacked: dict[str, Stacked] = {}
        """Functions that are called on the stack."""
        self.inside: Stacked | None = None
        """The one whose code is being written."""
        self.pieces: dict[str, set[tuple[int, int]]] = {}

    def whole(self, entry: Function) -> list[Instruction | Label]:
        """The kernel's code, then that of the functions that are called on the stack."""
        circles = self.graph.circles(entry.name)
        for name in (*circles, *self._too_large(entry, circles)):
            function, circle = self.module.functions[name], circles.get(name, frozenset())
            self.stacked[name] = Stacked(function, circle, frame_of(self.graph, function, circle))
        body = list(self.expand(_written(entry.body), entry))
        if not self.stacked:
            return body
        self.flat.registers |= REGISTERS | {s.back.name: "b32" for s in self.stacked.values()}
        self.flat.variables.append(Variable(STACK, "local", "b8", STACK_BYTES, 16))
        start = Instruction("mov", ("u64",), (POINTER, Symbol(STACK)), entry.line)
        body = [start, *body, Instruction("ret", (), (), entry.line)]
        for each in self.stacked.values():
            body += self.one_copy(each)
        for each in self.stacked.values():
            self.flat.branch_tables[each.table] = tuple(each.returns)
        return body

    def _too_large(self, entry: Function, circles: dict[str, frozenset[str]]) -> list[str]:
        """Functions of which there would be too much code if every call had a copy of its own."""
        sizes: dict[str, int] = {}
        copies: Counter[str] = Counter()

        def expanded(function: Function) -> int:
            if function.name not in sizes:
                sizes[function.name] = len(function.body)
                for item in function.body:
                    if isinstance(item, Instruction) and item.opcode == "call":
                        for name in self.graph.targets(function, item):
                            target = self.module.functions.get(name)
                            if target is not None and target.body and name not in circles:
                                copies[name] += 1
                                sizes[function.name] += expanded(target)
            return sizes[function.name]

        for name in (entry.name, *circles):
            expanded(self.module.functions[name])
        return [name for name, count in copies.items() if count > 1 and count * sizes[name] > LARGE]

    def expand(self, body: list[Instruction | Label], function: Function) -> Iterator[Instruction | Label]:
        if self.stacked:
            for name, found in pieces_of(body).items():
                self.pieces.setdefault(name, set()).update(found)
        for item in body:
            if isinstance(item, Label):
                yield item
            elif item.opcode == "call":
                yield from self.call(item, function)
            elif item.opcode in ("bar", "barrier") and "red" in item.modifiers:
                rest = tuple(m for m in item.modifiers if m != "red")
                yield replace(item, modifiers=("vote", *rest), operands=item.operands[1:])
                yield replace(item, opcode="barresult", operands=item.operands[:2], origin=None)
            else:
                yield item

    # -- calls ----------------------------------------------------------------------------------

    def call(self, item: Instruction, caller: Function) -> Iterator[Instruction | Label]:
        results, target, arguments = call_parts(item)
        if not isinstance(target, Symbol):
            yield from self.call_pointer(item, caller, target)
            return
        name = target.name
        function = self.module.functions.get(name)
        self.count += 1
        after = f"$return~{self.count}"
        yield _begun(item, after + "x")
        if name in SERVICES and (function is None or not function.body):
            yield from self.call_service(item, function, results, arguments)
        elif function is None or not function.body:
            raise CompileError(
                f"PTX line {item.line}: call of {name}, which has no body here", ptx_line=item.line
            )
        elif name in self.stacked:
            yield from self.call_on_stack(self.stacked[name], item, results, arguments, after)
        else:
            yield from self.copy(function, item, results, arguments, after)
        yield Label(after + "x", item.line)

    def copy(
        self, function: Function, item: Instruction, results: tuple[Operand, ...],
        arguments: tuple[Operand, ...], after: str,
    ) -> Iterator[Instruction | Label]:  # fmt: skip
        """A copy of the function's code at the place of the call."""
        suffix = f"~{self.count}"
        names = self.names(function, suffix)
        before: list[Instruction] = []
        behind: list[Instruction] = []
        for variable, argument in zip(function.params, arguments, strict=True):
            before += self.bind(variable, argument, names, suffix, item, into=True)
        for variable, result in zip(function.results, results, strict=False):
            behind += self.bind(variable, result, names, suffix, item, into=False)
        self.declare(function, names, suffix)
        yield from before
        end = Instruction("bra", (), (Symbol(after),), item.line)
        body = [_renamed(each, names, end) for each in _written(function.body)]
        yield from self.expand(body, function)
        yield Label(after, item.line)
        yield from behind

    def names(self, function: Function, suffix: str) -> dict[str, str]:
        """New names of what a function declares."""
        names = {label.name: label.name + suffix for label in function.body if isinstance(label, Label)}
        names |= {register: register + suffix for register in function.registers}
        names |= {v.name: v.name + suffix for v in function.variables if v.space != "shared"}
        return names | {table: table + suffix for table in function.branch_tables}

    def call_pointer(
        self, item: Instruction, caller: Function, target: Operand
    ) -> Iterator[Instruction | Label]:
        """A call through a pointer: one of the functions that it may mean, after the other."""
        self.count += 1
        done, chosen = f"$called~{self.count}", Register(f"%means~{self.count}")
        self.flat.registers[chosen.name] = "pred"
        addresses = self.module.function_addresses()
        yield _begun(item, done)
        for i, name in enumerate(self.graph.targets(caller, item)):
            following = f"{done}+{i}"
            operands = tuple(Symbol(name) if op is target else op for op in item.operands)
            yield Instruction("setp", ("eq", "u64"), (chosen, target, Immediate(addresses[name])), item.line)
            yield Instruction("bra", (), (Symbol(following),), item.line, chosen, guard_negated=True)
            yield from self.call(replace(item, operands=operands, guard=None, origin=None), caller)
            yield Instruction("bra", (), (Symbol(done),), item.line)
            yield Label(following, item.line)
        yield replace(
            item, opcode="trap", modifiers=("bad function pointer",), operands=(), guard=None, origin=None
        )
        yield Label(done, item.line)

    def call_service(
        self, item: Instruction, function: Function | None, results: tuple[Operand, ...],
        arguments: tuple[Operand, ...],
    ) -> Iterator[Instruction | Label]:  # fmt: skip
        """A function of the driver: an instruction of the engine's own."""
        _, target, _ = call_parts(item)
        given: list[Operand] = []
        for i, argument in enumerate(arguments):
            if not isinstance(argument, Symbol):
                given.append(argument)
                continue
            kind = function.params[i].type if function is not None else "b64"
            register = Register(f"%given{i}~{self.count}")
            self.flat.registers[register.name] = kind
            yield self.at_caller("ld", kind, argument, register, item)
            given.append(register)
        answer = Register("_")
        if results:
            kind = function.results[0].type if function is not None and function.results else "b32"
            answer = Register(f"%answer~{self.count}")
            self.flat.registers[answer.name] = kind
        name = target.name if isinstance(target, Symbol) else ""
        yield replace(
            item, opcode="service", modifiers=(name,), operands=(answer, *given), guard=None, origin=None
        )
        if results and isinstance(results[0], Symbol):
            yield self.at_caller("st", kind, results[0], answer, item)
        elif results:
            yield Instruction("mov", (kind,), (results[0], answer), item.line)

    def at_caller(
        self, opcode: str, kind: str, variable: Symbol, register: Register, at: Instruction
    ) -> Instruction:
        """A load or store of a variable that holds an argument or result."""
        place = Address(variable)
        operands = (place, register) if opcode == "st" else (register, place)
        return Instruction(opcode, ("param", kind), operands, at.line)

    # -- calls on the stack ---------------------------------------------------------------------

    def call_on_stack(
        self, callee: Stacked, item: Instruction, results: tuple[Operand, ...],
        arguments: tuple[Operand, ...], after: str,
    ) -> Iterator[Instruction | Label]:  # fmt: skip
        """A jump to the one copy of a function, and what comes before and after."""
        caller, line = self.inside, item.line
        bump = caller.frame.size if caller is not None else 0
        again = caller is not None and callee.function.name in caller.circle
        suffix = f"~{caller.function.name}" if caller is not None else ""
        if caller is not None and again:
            yield from save(caller, suffix, line, into=True)
        yield from enter(callee, bump, line)
        moves: list[Instruction] = []
        for variable, argument in zip(callee.function.params, arguments, strict=True):
            if variable.space == "reg":
                # Two steps: an argument may be what another parameter is about to replace.
                between = Register(f"%pass~{self.count}~{variable.name}")
                self.flat.registers[between.name] = variable.type
                yield Instruction("mov", (variable.type,), (between, argument), line)
                formal = Register(f"{variable.name}~{callee.function.name}")
                moves.append(Instruction("mov", (variable.type,), (formal, between), line))
                continue
            start, pieces = callee.frame.places[variable.name], self.pieces_of(argument)
            yield from copied(variable, start, argument, pieces, line, into=True)
        yield from moves
        number = Immediate(len(callee.returns))
        callee.returns.append(after)
        yield Instruction("mov", ("u32",), (callee.back, number), line)
        yield Instruction("bra", (), (Symbol(callee.label),), line)
        yield Label(after, line)
        if bump:
            yield Instruction("sub", ("u64",), (POINTER, POINTER, Immediate(bump)), line)
        if caller is not None and again:
            yield from save(caller, suffix, line, into=False)
        for variable, result in zip(callee.function.results, results, strict=False):
            if variable.space == "reg":
                formal = Register(f"{variable.name}~{callee.function.name}")
                yield Instruction("mov", (variable.type,), (result, formal), line)
                continue
            start, pieces = bump + callee.frame.places[variable.name], self.pieces_of(result)
            yield from copied(variable, start, result, pieces, line, into=False)

    def pieces_of(self, operand: Operand) -> set[tuple[int, int]]:
        return self.pieces.get(operand.name, set()) if isinstance(operand, Symbol) else set()

    def one_copy(self, stacked: Stacked) -> Iterator[Instruction | Label]:
        """The code of a function that is called on the stack."""
        function, suffix = stacked.function, f"~{stacked.function.name}"
        self.inside = stacked
        names = self.names(function, suffix)
        for variable in function.variables:
            if variable.space == "local":
                names.pop(variable.name)
        kept = replace(function, variables=[v for v in function.variables if v.space != "local"])
        self.declare(kept, names, suffix)
        end = Instruction("brx", ("idx",), (stacked.back, Symbol(stacked.table)), function.line)
        framed = in_frame(_written(function.body), stacked.frame)
        body = [_renamed(each, names, end) for each in framed]
        yield Label(stacked.label, function.line)
        yield from self.expand(body, function)
        yield end
        self.inside = None

    # -- names ----------------------------------------------------------------------------------

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


def _written(body: list[Instruction | Label]) -> list[Instruction | Label]:
    """The same code, of which each instruction names itself as its origin."""
    return [item if isinstance(item, Label) else replace(item, origin=item) for item in body]


def _begun(item: Instruction, after: str) -> Instruction:
    """What stands for the call instruction itself: a jump past it, or nothing but a mark in the code."""
    if item.guard is None:
        return Instruction("mark", (), (), item.line, origin=item.origin)
    return Instruction(
        "bra", (), (Symbol(after),), item.line, item.guard, not item.guard_negated, origin=item.origin
    )


def _renamed(item: Instruction | Label, names: dict[str, str], end: Instruction) -> Instruction | Label:
    """An item of a function under new names; `ret` becomes `end`."""
    if isinstance(item, Label):
        return Label(names[item.name], item.line)
    guard = item.guard and Register(names.get(item.guard.name, item.guard.name))
    if item.opcode == "ret":
        return replace(item, opcode=end.opcode, modifiers=end.modifiers, operands=end.operands, guard=guard)
    operands = tuple(rename(op, lambda n: names.get(n, n)) for op in item.operands)
    return replace(item, operands=operands, guard=guard)
