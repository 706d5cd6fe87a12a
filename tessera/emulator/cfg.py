"""Basic blocks of a function, and which registers live across them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tessera.emulator.polls import poll_edges
from tessera.emulator.ptx import (
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
    Vector,
)
from tessera.program.errors import CompileError

COLLECTIVE = frozenset(
    {"shfl", "vote", "match", "redux", "activemask", "bar", "barrier", "mma", "wmma", "ldmatrix", "stmatrix",
     "movmatrix", "elect", "wgmma", "setmaxnreg"}
)  # fmt: skip
"""Opcodes that act on a whole warp at once. Each is a block of its own."""
NO_RESULT = frozenset(
    {"st", "bra", "brx", "bar", "barrier", "membar", "fence", "red", "ret", "exit", "trap", "brkpt",
     "prefetch", "prefetchu", "nanosleep", "stmatrix", "discard", "applypriority", "griddepcontrol",
     "setmaxnreg", "pmevent"}
)  # fmt: skip
"""Opcodes whose first operand is read, not written (`bar.red` apart, which has a result)."""
ENDS_FLOW = frozenset({"ret", "exit", "trap"})


@dataclass(frozen=True, slots=True)
class Block:
    """Instructions that run one after the other."""

    index: int
    instructions: tuple[Instruction, ...]
    successors: tuple[int, ...]
    """Blocks that may run next; the fall-through, if any, comes last."""
    live_in: frozenset[str] = frozenset()
    """Registers whose value on entry may still be read."""
    live_out: frozenset[str] = frozenset()
    """Registers whose value on exit may still be read."""

    @property
    def collective(self) -> bool:
        """Whether this is one warp-wide instruction."""
        return len(self.instructions) == 1 and self.instructions[0].opcode in COLLECTIVE


@dataclass(frozen=True, slots=True)
class ControlFlow:
    """The blocks of a function, in text order; block 0 is the entry."""

    blocks: tuple[Block, ...]
    labels: dict[str, int]
    """Block by label."""
    polls: frozenset[tuple[int, int]] = frozenset()
    """Jumps backwards, from block to block, of loops that only look at memory."""
    searches: frozenset[tuple[int, int]] = frozenset()
    """The same of loops that also carry something from turn to turn."""


def control_flow(function: Function) -> ControlFlow:
    """Blocks and liveness of `function`.

    Raises:
        CompileError: A branch to a label that does not exist, or a label that is there twice; names the line.
    """
    bodies, labels = _split(function)
    successors = [_successors(i, body, labels, function, len(bodies)) for i, body in enumerate(bodies)]
    live_in, live_out = _liveness(bodies, successors)
    blocks = tuple(
        Block(i, tuple(body), successors[i], live_in[i], live_out[i]) for i, body in enumerate(bodies)
    )
    return ControlFlow(blocks, labels, *poll_edges(blocks))


def _split(function: Function) -> tuple[list[list[Instruction]], dict[str, int]]:
    bodies: list[list[Instruction]] = [[]]
    labels: dict[str, int] = {}
    for item in function.body:
        if isinstance(item, Label):
            if bodies[-1]:
                bodies.append([])
            if item.name in labels:
                raise CompileError(
                    f"PTX line {item.line}: label {item.name!r} is there twice", ptx_line=item.line
                )
            labels[item.name] = len(bodies) - 1
        elif item.opcode in COLLECTIVE:
            if bodies[-1]:
                bodies.append([])
            bodies[-1].append(item)
            bodies.append([])
        else:
            bodies[-1].append(item)
            if item.opcode in ("bra", "brx") or item.opcode in ENDS_FLOW or item.opcode == "call":
                bodies.append([])
    # A function may fall off its end; the empty last block stands for the return there.
    return bodies, labels


def branch_targets(instruction: Instruction, function: Function) -> tuple[str, ...]:
    """Labels that a `bra` or `brx` may go to."""
    operand = instruction.operands[-1]
    if not isinstance(operand, Symbol):
        raise CompileError(f"PTX line {instruction.line}: {instruction.mnemonic} without a label")
    if instruction.opcode == "brx":
        return function.branch_tables[operand.name]
    return (operand.name,)


def _successors(
    index: int, body: list[Instruction], labels: dict[str, int], function: Function, count: int
) -> tuple[int, ...]:
    following = (index + 1,) if index + 1 < count else ()
    last = body[-1] if body else None
    if last is None or last.opcode not in ENDS_FLOW | {"bra", "brx"}:
        return following
    targets: tuple[int, ...] = ()
    if last.opcode in ("bra", "brx"):
        for name in branch_targets(last, function):
            if name not in labels:
                raise CompileError(f"PTX line {last.line}: there is no label {name!r}", ptx_line=last.line)
        targets = tuple(dict.fromkeys(labels[n] for n in branch_targets(last, function)))
    return targets + (following if last.guard is not None else ())


def reads(instruction: Instruction) -> set[str]:
    """Registers that `instruction` may read, its guard included."""
    found = {instruction.guard.name} if instruction.guard else set()
    written = _destination_count(instruction)
    for position, operand in enumerate(instruction.operands):
        if position >= written or isinstance(operand, Address):
            found |= set(_names(operand))
    return found


def writes(instruction: Instruction) -> set[str]:
    """Registers that `instruction` may write."""
    count = _destination_count(instruction)
    return {n for op in instruction.operands[:count] if not isinstance(op, Address) for n in _names(op)} - {
        "_"
    }


def _destination_count(instruction: Instruction) -> int:
    opcode, modifiers = instruction.opcode, instruction.modifiers
    if not instruction.operands or opcode == "call":
        return 1 if opcode == "call" and _has_results(instruction) else 0
    if opcode in ("bar", "barrier"):
        return int("red" in modifiers)
    if opcode in NO_RESULT or isinstance(instruction.operands[0], Address):
        return 0
    if opcode == "cp" or (opcode == "wgmma" and "mma_async" not in modifiers):
        return 0
    if opcode == "mbarrier":
        return int(isinstance(instruction.operands[0], Register))
    return 1


def _has_results(instruction: Instruction) -> bool:
    # call (results), function, (arguments);
    return len(instruction.operands) >= 2 and isinstance(instruction.operands[0], ParamList)


def _names(operand: Operand) -> Iterator[str]:
    match operand:
        case Register(name):
            yield name
        case Negated(register):
            yield register.name
        case Pair(first, second):
            yield first.name
            yield second.name
        case Vector(elements) | ParamList(elements):
            for element in elements:
                yield from _names(element)
        case Address(base=base, coordinates=coordinates):
            yield from _names(base)
            if coordinates is not None:
                yield from _names(coordinates)
        case _:
            return


def _liveness(
    bodies: list[list[Instruction]], successors: list[tuple[int, ...]]
) -> tuple[list[frozenset[str]], list[frozenset[str]]]:
    uses: list[set[str]] = []
    kills: list[set[str]] = []
    for body in bodies:
        used: set[str] = set()
        killed: set[str] = set()
        for instruction in body:
            used |= reads(instruction) - killed
            if instruction.opcode == "wgmma":
                # Its result may be added to what was there.
                used |= writes(instruction) - killed
            if instruction.guard is None:
                killed |= writes(instruction)
            else:
                # A guarded write may leave the old value in place, so the old value is read.
                used |= writes(instruction) - killed
        uses.append(used)
        kills.append(killed)
    live_in = [set(u) for u in uses]
    live_out: list[set[str]] = [set() for _ in bodies]
    changed = True
    while changed:
        changed = False
        for i in reversed(range(len(bodies))):
            out = set().union(*(live_in[s] for s in successors[i])) if successors[i] else set()
            into = uses[i] | (out - kills[i])
            if out != live_out[i] or into != live_in[i]:
                live_out[i], live_in[i], changed = out, into, True
    return [frozenset(s) for s in live_in], [frozenset(s) for s in live_out]
