"""Which arrays a kernel may write: parameters and variables that the addresses of its stores come from."""

from __future__ import annotations

from collections.abc import Iterator

from tessera.emulator.cfg import writes
from tessera.emulator.ptx import (
    TYPE_BYTES,
    Address,
    Function,
    Immediate,
    Instruction,
    Negated,
    Operand,
    Pair,
    ParamList,
    Register,
    Symbol,
    Vector,
)

ANYTHING = "*"
"""An address that came from memory: it may be that of any array."""
LOADS = frozenset({"ld", "ldu"})
NOT_STORES = frozenset({"ld", "ldu", "ldmatrix", "prefetch", "prefetchu", "mbarrier", "cp"})
"""Opcodes with addresses that device memory is not written through. `cp.async.bulk` is another matter."""
OWN_SPACES = frozenset({"shared", "local", "param"})


def store_targets(function: Function) -> frozenset[str] | None:
    """Names of parameters and variables through which a kernel may write device memory; None: any array.

    Args:
        function: A kernel with its calls expanded.
    """
    body = [i for i in function.body if isinstance(i, Instruction)]
    sources = _sources(body)
    found: set[str] = set()
    for instruction in body:
        for address in _stored(instruction):
            found |= _of(address.base, sources)
    return None if ANYTHING in found else frozenset(found)


def _sources(body: list[Instruction]) -> dict[str, set[str]]:
    """By register: the parameters and variables that its value is made from."""
    sources: dict[str, set[str]] = {}
    changed = True
    while changed:
        changed = False
        for instruction in body:
            new = _made_from(instruction, sources)
            for name in writes(instruction) if new else ():
                known = sources.setdefault(name, set())
                if not new <= known:
                    known |= new
                    changed = True
    return sources


def _made_from(instruction: Instruction, sources: dict[str, set[str]]) -> set[str]:
    if instruction.opcode in LOADS | {"atom"}:
        place = next((o for o in instruction.operands if isinstance(o, Address)), None)
        if _names_space(instruction, {"param"}) and place is not None and isinstance(place.base, Symbol):
            return {place.base.name}
        # Nothing narrower is an address.
        return {ANYTHING} if TYPE_BYTES.get(instruction.modifiers[-1], 8) >= 8 else set()
    if instruction.opcode == "mov" and isinstance(instruction.operands[1], Vector):
        return {ANYTHING}
    found: set[str] = set()
    for operand in instruction.operands:
        found |= _of(operand, sources)
    return found


def _of(operand: Operand, sources: dict[str, set[str]]) -> set[str]:
    return {name for leaf in _leaves(operand) for name in _leaf(leaf, sources)}


def _leaf(operand: Operand, sources: dict[str, set[str]]) -> set[str]:
    if isinstance(operand, Symbol):
        return {operand.name}
    return sources.get(operand.name, set()) if isinstance(operand, Register) else set()


def _leaves(operand: Operand) -> Iterator[Operand]:
    match operand:
        case Vector(elements) | ParamList(elements):
            for element in elements:
                yield from _leaves(element)
        case Pair(first, second):
            yield first
            yield second
        case Negated(register):
            yield register
        case Address(base=base):
            yield base
        case Immediate():
            return
        case _:
            yield operand


def _stored(instruction: Instruction) -> list[Address]:
    """Addresses that an instruction may write device memory through."""
    bulk = instruction.opcode == "cp" and "bulk" in instruction.modifiers
    if (instruction.opcode in NOT_STORES and not bulk) or (
        _names_space(instruction, OWN_SPACES) and not bulk
    ):
        return []
    return [o for o in instruction.operands if isinstance(o, Address)]


def _names_space(instruction: Instruction, spaces: frozenset[str] | set[str]) -> bool:
    return bool({m.split("::")[0] for m in instruction.modifiers} & spaces)
