"""Loads that are no part of a race although nothing orders them."""

from __future__ import annotations

from tessera.emulator.ptx import Address, Function, Instruction, Module, Register


def optimistic_loads(module: Module) -> frozenset[int]:
    """Identities of loads from places that the same function updates by compare-and-swap.

    A loop of `cas` begins with a plain read of the old value. Should the read be out of date, then the swap
    fails and the loop goes round again.

    Source: CUDA C++ Programming Guide 13.0, "Atomic Functions": `atomicAdd` made of `atomicCAS`.
    """
    return frozenset(id(load) for function in module.functions.values() for load in _loads(function))


def optimistic_in(function: Function) -> frozenset[int]:
    """The same of one function."""
    return frozenset(id(load) for load in _loads(function))


def _loads(function: Function) -> list[Instruction]:
    body = [item for item in function.body if isinstance(item, Instruction)]
    swapped = {_place(i, 1) for i in body if i.opcode == "atom" and "cas" in i.modifiers}
    return [i for i in body if i.opcode == "ld" and _place(i, 1) in swapped - {None}]


def _place(instruction: Instruction, position: int) -> tuple[str, int] | None:
    operand = instruction.operands[position] if len(instruction.operands) > position else None
    if isinstance(operand, Address) and isinstance(operand.base, Register):
        return operand.base.name, operand.offset
    return None
