"""Loops that only look: they carry nothing from one turn to the next and change no memory.

Such a loop can end only when another thread changes what it looks at, so whoever takes its jump backwards
may as well let all others go first. Implementations that do so spend no time on spinning, and see a
deadlock when everybody is left looking.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tessera.emulator.ptx import Immediate, Instruction

if TYPE_CHECKING:
    from tessera.emulator.cfg import Block

CHANGING = frozenset(
    {"st", "red", "call", "cp", "bar", "barrier", "barresult", "stmatrix", "wgmma", "setmaxnreg", "discard",
     "multimem", "tensormap"}
)  # fmt: skip
"""Opcodes that change memory, or that wait for others by themselves."""
STRONG = frozenset({"volatile", "relaxed", "acquire", "mmio"})
"""How loads look at what others write."""
Edges = frozenset[tuple[int, int]]
TIMES = ("%clock", "%globaltimer")


def is_wait(instruction: Instruction) -> bool:
    """Whether this asks an mbarrier if a phase is over."""
    return instruction.opcode == "mbarrier" and instruction.modifiers[0] in ("test_wait", "try_wait")


def poll_edges(blocks: Sequence[Block]) -> tuple[Edges, Edges]:
    """Jumps backwards, from block to block, of loops that only look at memory.

    Returns:
        Those of loops that carry nothing from turn to turn; those of loops that carry something, such as a
        count of their turns, but look at global memory in the way one looks at what others write.
    """
    before: dict[int, list[int]] = {block.index: [] for block in blocks}
    for block in blocks:
        for following in block.successors:
            before[following].append(block.index)
    edges = [(b.index, head) for b in blocks for head in b.successors if head <= b.index]
    kinds = {edge: _kind(blocks, _body(edge, before)) for edge in edges}
    plain, carrying = (frozenset(e for e, k in kinds.items() if k == kind) for kind in ("poll", "search"))
    return plain, carrying


def _body(edge: tuple[int, int], before: dict[int, list[int]]) -> set[int]:
    """Blocks from which the jump is reached without its target in between, and the target."""
    tail, head = edge
    body, waiting = {head}, [tail]
    while waiting:
        index = waiting.pop()
        if index not in body:
            body.add(index)
            waiting += before[index]
    return body


def _kind(blocks: Sequence[Block], body: set[int]) -> str:
    from tessera.emulator.cfg import reads, writes  # it imports this module

    head = min(body)
    instructions = [i for index in body for i in blocks[index].instructions]
    written = {name for i in instructions for name in writes(i)}
    read = {name for i in instructions for name in reads(i)}
    if any(_changes(i) for i in instructions):
        return ""
    if not written & blocks[head].live_in and not any(name.startswith(TIMES) for name in read):
        looks = any(i.opcode in ("ld", "ldu", "atom") or is_wait(i) for i in instructions)
        return "poll" if looks else ""
    return "search" if any(_looks_at_others(i) for i in instructions) else ""


def _looks_at_others(instruction: Instruction) -> bool:
    if instruction.opcode not in ("ld", "atom"):
        return False
    spaces = {m.split("::")[0] for m in instruction.modifiers}
    return not spaces & {"shared", "local", "param"} and (
        instruction.opcode == "atom" or bool(spaces & STRONG)
    )


def _changes(instruction: Instruction) -> bool:
    opcode, modifiers = instruction.opcode, instruction.modifiers
    if opcode in ("bar", "barrier"):
        return "warp" not in modifiers
    if opcode == "mbarrier":
        return not is_wait(instruction) and modifiers[0] != "pending_count"
    if opcode == "atom":
        # Taking a lock changes nothing as long as another holds it; adding zero is a way to read.
        last = instruction.operands[-1]
        nothing = isinstance(last, Immediate) and not last.value
        return not (nothing or "cas" in modifiers or "exch" in modifiers)
    return opcode in CHANGING


def waited_at(block: Block) -> Instruction:
    """The instruction of a block that is most likely what its threads wait at."""
    found = [i for i in block.instructions if is_wait(i)]
    found += [i for i in block.instructions if _looks_at_others(i)]
    found += [i for i in block.instructions if i.opcode in ("ld", "ldu", "atom")]
    return (found or list(block.instructions))[0]
