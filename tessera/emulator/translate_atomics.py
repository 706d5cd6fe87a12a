"""`atom` and `red` in LLVM IR: one lane after the other.

Every operation is done in sequential order, which all of `.relaxed`, `.acquire`, `.release` and `.acq_rel`
allow, and is seen by all threads, which every scope allows.

Source: PTX ISA 8.8, sections 9.7.13.5 (`atom`) and 9.7.13.6 (`red`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tessera.emulator.emit_ir import WARP, Value, constant, lanes_of
from tessera.emulator.ptx import Address, Instruction, Operand, Vector
from tessera.emulator.translate import BITS, unsupported
from tessera.emulator.translate_memory import PLACES, hosts, space_of

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator

ATOMIC = {
    "and": "and", "or": "or", "xor": "xor", "exch": "xchg", "inc": "uincwrap", "dec": "udecwrap",
    "add": "add",
}  # fmt: skip
"""LLVM's names of operations."""
HALVES = ("f16", "bf16", "f16x2", "bf16x2")
V64 = f"<{WARP} x i64>"


def atomic(t: Translator, instruction: Instruction) -> None:
    """`atom`, `red`, also of several elements side by side."""
    kind, modifiers = instruction.modifiers[-1], instruction.modifiers
    returns = instruction.opcode == "atom"
    place, *values = instruction.operands[1 if returns else 0 :]
    bits = BITS.get(kind, 0)
    operation = next((m for m in modifiers if m in (*ATOMIC, "min", "max", "cas")), "")
    if bits not in (16, 32, 64, 128) or not isinstance(place, Address) or "async" in modifiers:
        raise unsupported(instruction)
    # What follows the operands may be a cache policy.
    data = [_elements(v) for v in values[: 2 if operation == "cas" else 1]]
    count = len(data[0])
    addresses, mask = hosts(t, instruction, place, PLACES[space_of(instruction)], count * bits // 8)
    targets = _elements(instruction.operands[0]) if returns else (None,) * count
    found = []
    for k in range(count):
        operands = [t.spread(t.read(v[k], kind)) for v in data]
        at = addresses
        if k:
            step = lanes_of([k * bits // 8] * WARP, 64)
            at = t.binary("add", Value(addresses, 64, vector=True), step).text
        found.append(_element(t, instruction, operation, at, mask, operands, place))
    for target, old in zip(targets, found, strict=True):
        if target is not None:
            t.write(target, old)


def _elements(operand: Operand) -> tuple[Operand, ...]:
    return operand.elements if isinstance(operand, Vector) else (operand,)


def _element(
    t: Translator, instruction: Instruction, operation: str, at: str, mask: str, operands: list[Value],
    place: Address,
) -> Value:  # fmt: skip
    """The old values of one element per lane."""
    kind = instruction.modifiers[-1]
    bits = operands[0].bits
    space = space_of(instruction)
    if kind == "f32" and operation == "add" and space not in ("shared", "local"):
        flushed = _call(t, f"rmw_flushed_f32_{bits}", at, operands)
        if space != "generic":
            return flushed(mask)
        # Of generic addresses, those of device memory take subnormals for zeros.
        top = t.binary("lshr", t.spread(t.address(place)), constant(56, 64))
        device = t.lane_bits(t.compare("eq", top, constant(0, 64)))
        others = t.let(f"and i32 {mask}, {t.let(f'xor i32 {device}, -1')}", "m")
        both = flushed(t.let(f"and i32 {mask}, {device}", "m"))
        plain = _call(t, f"rmw_add_f32_{bits}", at, operands)(others)
        return t.binary("or", both, plain)
    return _call(t, _helper(instruction, operation, kind, bits), at, operands)(mask)


def _helper(instruction: Instruction, operation: str, kind: str, bits: int) -> str:
    """The name of the function that does it lane by lane."""
    if operation == "cas":
        return f"cas_{bits}"
    if kind == "f32" and operation == "add":
        return f"rmw_add_f32_{bits}"
    if kind in HALVES and operation in ("add", "min", "max"):
        return f"rmw_{operation}_{kind}_{bits}"
    if kind.startswith(("f", "bf")) and operation not in ("add", "exch"):
        raise unsupported(instruction)
    if kind == "f64" and operation == "add":
        return f"atom_fadd_{bits}"
    if operation in ("min", "max"):
        return f"atom_{'u' if kind.startswith('u') else ''}{operation}_{bits}"
    if operation not in ATOMIC:
        raise unsupported(instruction)
    return f"atom_{ATOMIC[operation]}_{bits}"


def _call(t: Translator, name: str, at: str, operands: list[Value]) -> Callable[[str], Value]:
    """A function of the lanes that does it for them; 0 for all others."""
    t.helpers.add(name)
    data = "".join(f", {v.type} {v.text}" for v in operands)
    bits = operands[0].bits

    def call(mask: str) -> Value:
        text = t.let(f"call <{WARP} x i{bits}> @{name}({V64} {at}, i32 {mask}{data})")
        return Value(text, bits, vector=True)

    return call


TABLE = {"atom": atomic, "red": atomic}
"""What each opcode is in LLVM IR."""
