"""Functions that call themselves: one copy of each in the kernel's code, a stack in local memory.

Such a function ends by a jump to where it was called from, which a register names. Before a call that may
come back to the caller's own code, the registers that are still needed go to the caller's frame, and
afterwards back. Parameters, results and local variables lie in the frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tessera.emulator.call_graph import CallGraph, call_parts
from tessera.emulator.cfg import control_flow
from tessera.emulator.layout import align
from tessera.emulator.ptx import (
    TYPE_BYTES,
    Address,
    Function,
    Immediate,
    Instruction,
    Label,
    Operand,
    Register,
    Symbol,
    Variable,
    Vector,
)
from tessera.program.errors import CompileError

STACK_BYTES = 16 << 10
"""Of each thread, in kernels that have functions which call themselves."""
STACK = "%stack~"
POINTER = Register("%sp~")
"""Where the running function's frame begins."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What a call of a function keeps in local memory."""

    places: dict[str, int]
    """Offset of each parameter, result and local variable."""
    saved: dict[str, tuple[int, str]]
    """Offset and type of each register that is needed after a call that may come back here."""
    size: int


def frame_of(graph: CallGraph, function: Function, circle: frozenset[str]) -> Frame:
    """Lay out the frame of a function.

    Args:
        graph: Calls of the module.
        function: The function.
        circle: The functions through which it may call itself.
    """
    places: dict[str, int] = {}
    top = 0
    local = (v for v in function.variables if v.space == "local")
    params = (v for v in (*function.params, *function.results) if v.space == "param")
    for variable in (*params, *local):
        top = align(top, variable.align or TYPE_BYTES[variable.type])
        places[variable.name] = top
        top += TYPE_BYTES[variable.type] * variable.count
    saved: dict[str, tuple[int, str]] = {}
    for name in sorted(_needed(graph, function, circle)):
        kind = function.registers[name]
        size = 4 if kind == "pred" else TYPE_BYTES[kind]
        top = align(top, size)
        saved[name] = (top, kind if kind == "pred" else f"b{8 * size}")
        top += size
    # The place to return to comes last.
    return Frame(places, saved, align(top + 4, 16))


def _needed(graph: CallGraph, function: Function, circle: frozenset[str]) -> set[str]:
    """Registers that live across calls within the circle."""
    found: set[str] = set()
    for block in control_flow(function).blocks:
        last = block.instructions[-1] if block.instructions else None
        if last is not None and last.opcode == "call" and circle & set(graph.targets(function, last)):
            found |= block.live_out & set(function.registers)
    return found


def in_frame(body: list[Instruction | Label], frame: Frame) -> Iterator[Instruction | Label]:
    """A function's code with its parameters and local variables in its frame.

    Raises:
        CompileError: A call is given a parameter of the function itself, not a copy.
    """
    for item in body:
        if isinstance(item, Label):
            yield item
            continue
        if item.opcode == "call":
            results, _, arguments = call_parts(item)
            if any(isinstance(op, Symbol) and op.name in frame.places for op in (*results, *arguments)):
                raise CompileError(
                    f"PTX line {item.line}: a function that calls itself passes its own parameter on",
                    ptx_line=item.line,
                )
            yield item
            continue
        operands: list[Operand] = []
        moved = False
        for operand in item.operands:
            base = operand.base if isinstance(operand, Address) else operand
            if not isinstance(base, Symbol) or base.name not in frame.places:
                operands.append(operand)
                continue
            start = frame.places[base.name] + base.offset
            if isinstance(operand, Address):
                operands.append(replace(operand, base=POINTER, offset=start + operand.offset))
                moved = True
            else:
                yield Instruction("add", ("u64",), (ADDRESS, POINTER, Immediate(start)), item.line)
                operands.append(ADDRESS)
        modifiers = item.modifiers
        if moved:
            modifiers = tuple("local" if m.startswith("param") else m for m in modifiers)
        yield replace(item, operands=tuple(operands), modifiers=modifiers)


ADDRESS = Register("%at~")
"""The address of a variable in the frame."""
SPILLED = Register("%spilled~")
"""A predicate on its way to or from the frame."""
OVER = Register("%over~")
"""Whether the stack is used up."""
REGISTERS = {
    POINTER.name: "b64", ADDRESS.name: "b64", SPILLED.name: "b32", OVER.name: "pred",
    **{f"%piece{8 * size}~": f"b{max(8 * size, 16)}" for size in (1, 2, 4, 8, 16)},
}  # fmt: skip


@dataclass(slots=True)
class Stacked:
    """A function that is called on the stack."""

    function: Function
    circle: frozenset[str]
    frame: Frame
    returns: list[str] = field(default_factory=list)
    """Labels that it may return to."""

    @property
    def label(self) -> str:
        """Where its code begins."""
        return f"$function~{self.function.name}"

    @property
    def table(self) -> str:
        """Name of the list of labels that it may return to."""
        return f"$returns~{self.function.name}"

    @property
    def back(self) -> Register:
        """The register with the number of the label to return to."""
        return Register(f"%back~{self.function.name}")


def save(caller: Stacked, suffix: str, line: int, *, into: bool) -> Iterator[Instruction]:
    """Put what the caller still needs into its frame, or take it back."""
    back = {caller.back.name: (caller.frame.size - 4, "b32")}
    registers = {name + suffix: where for name, where in caller.frame.saved.items()}
    for name, (start, kind) in (back | registers).items():
        register, place = Register(name), Address(POINTER, start)
        if kind == "pred" and into:
            chosen = (SPILLED, Immediate(1), Immediate(0), register)
            yield Instruction("selp", ("b32",), chosen, line)
            yield Instruction("st", ("local", "b32"), (place, SPILLED), line)
        elif kind == "pred":
            yield Instruction("ld", ("local", "b32"), (SPILLED, place), line)
            yield Instruction("setp", ("ne", "u32"), (register, SPILLED, Immediate(0)), line)
        elif into:
            yield Instruction("st", ("local", kind), (place, register), line)
        else:
            yield Instruction("ld", ("local", kind), (register, place), line)


def enter(callee: Stacked, bump: int, line: int) -> Iterator[Instruction]:
    """Begin a frame behind the caller's, if the stack has room for it."""
    if bump:
        yield Instruction("add", ("u64",), (POINTER, POINTER, Immediate(bump)), line)
    limit = Symbol(STACK, STACK_BYTES - callee.frame.size)
    yield Instruction("setp", ("gt", "u64"), (OVER, POINTER, limit), line)
    yield Instruction("trap", ("stack overflow",), (), line, guard=OVER)


def pieces_of(body: list[Instruction | Label]) -> dict[str, set[tuple[int, int]]]:
    """Offsets and sizes of what the code reads and writes of each call's parameters."""
    found: dict[str, set[tuple[int, int]]] = {}
    for item in body:
        if isinstance(item, Label) or item.opcode not in ("ld", "st"):
            continue
        if not any(m.split("::")[0] == "param" for m in item.modifiers):
            continue
        address, value = item.operands if item.opcode == "st" else reversed(item.operands)
        if isinstance(address, Address) and isinstance(address.base, Symbol):
            size = TYPE_BYTES[item.modifiers[-1]]
            count = len(value.elements) if isinstance(value, Vector) else 1
            start = address.base.offset + address.offset
            found.setdefault(address.base.name, set()).update((start + k * size, size) for k in range(count))
    return found


def copied(
    variable: Variable, start: int, other: Operand, pieces: set[tuple[int, int]], line: int, *, into: bool
) -> Iterator[Instruction]:
    """A parameter or result between the callee's frame, `start` bytes behind the pointer, and the caller.

    Args:
        variable: What the callee declares.
        start: Its offset.
        other: What the caller names: a register, a number, or a variable of its own.
        pieces: How the caller reads or writes that variable.
        line: PTX line of the call.
        into: To the callee.
    """
    if not isinstance(other, Symbol):
        place = Address(POINTER, start)
        operands = (place, other) if into else (other, place)
        yield Instruction("st" if into else "ld", ("local", variable.type), operands, line)
        return
    for at, size in sorted(pieces):
        piece, kind = Register(f"%piece{8 * size}~"), f"b{8 * size}"
        frame, outside = Address(POINTER, start + at), Address(Symbol(other.name, other.offset + at))
        source, target = (outside, frame) if into else (frame, outside)
        spaces = ("param", "local") if into else ("local", "param")
        yield Instruction("ld", (spaces[0], kind), (piece, source), line)
        yield Instruction("st", (spaces[1], kind), (target, piece), line)
