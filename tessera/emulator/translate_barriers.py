"""`mbarrier`, and what reports to one, in LLVM IR; addresses in the shared memory of a cluster.

Source: PTX ISA 8.8, sections 9.7.13.15 (mbarrier), 9.7.9.12 (`st.async`), 9.7.9.22 (`mapa`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tessera.emulator.emit_ir import Value, constant
from tessera.emulator.geometry import RANK_SHIFT
from tessera.emulator.layout import BLOCK
from tessera.emulator.mbarriers_ir import COUNT, V32, V64
from tessera.emulator.ptx import TYPE_BYTES, Address, Instruction, Operand, Vector
from tessera.emulator.registers import SHARED_WINDOW
from tessera.emulator.translate import BITS, unsupported
from tessera.emulator.translate_atomics import atomic
from tessera.emulator.translate_control import be_polite
from tessera.emulator.translate_memory import PLACES, check, hosts, load_from, space_of, store, store_to

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator


def update(
    t: Translator, instruction: Instruction, place: Operand, count: Value, drop: Value, more: Value,
    space: str = "",
) -> Value:  # fmt: skip
    """Change the barriers that lanes name, one after the other; their values before.

    Args:
        t: The translator.
        instruction: Whose doing it is.
        place: The barrier.
        count: Arrivals.
        drop: Of these, such as take no part in later phases.
        more: Bytes that are now to come, or, negative, have come.
        space: Its state space, if the instruction does not say.
    """
    addresses, mask = hosts(t, instruction, place, PLACES[space or space_of(instruction)], 8)
    return update_at(t, instruction, addresses, mask, count, drop, more)


def update_at(
    t: Translator, instruction: Instruction, addresses: str, mask: str, count: Value, drop: Value, more: Value
) -> Value:
    """The same at checked host addresses."""
    t.helpers.add("mbarrier")
    numbers = ", ".join(f"{V32} {t.spread(v).text}" for v in (count, drop, more))
    found = t.let(
        f"call {{ {V64}, i1 }} @mbarrier(ptr %blk, ptr %warp, i32 {t.site(instruction)}, i32 {mask}, "
        f"{V64} {addresses}, {numbers})"
    )
    check(t, t.let(f"extractvalue {{ {V64}, i1 }} {found}, 1"))
    return Value(t.let(f"extractvalue {{ {V64}, i1 }} {found}, 0"), 64, vector=True)


def barrier(t: Translator, instruction: Instruction) -> None:
    """`mbarrier`."""
    operation, operands = instruction.modifiers[0], instruction.operands
    if operation == "pending_count":
        state = t.read(operands[1], "u64")
        t.write(operands[0], t.resize(t.binary("and", state, constant(COUNT, 64)), 32))
        return
    place = next((o for o in operands if isinstance(o, Address)), None)
    if place is None:
        raise unsupported(instruction)
    if operation == "init":
        count = t.resize(t.read(operands[1], "u32"), 64)
        twice = t.binary("or", count, t.binary("shl", count, constant(20, 64)))
        store_to(t, instruction, place, PLACES[space_of(instruction)], [twice])
    elif operation in ("arrive", "arrive_drop"):
        _arrive(t, instruction, place)
    elif operation in ("expect_tx", "complete_tx"):
        amount = t.read(operands[1], "u32")
        if operation == "complete_tx":
            amount = t.binary("sub", constant(0, 32), amount)
        update(t, instruction, place, constant(0, 32), constant(0, 32), amount)
    elif operation in ("test_wait", "try_wait"):
        _wait(t, instruction, place)
    elif operation != "inval":
        raise unsupported(instruction)


def _arrive(t: Translator, instruction: Instruction, place: Address) -> None:
    operands, modifiers = instruction.operands, instruction.modifiers
    position = next(i for i, o in enumerate(operands) if o is place)
    rest = operands[position + 1 :]
    given = t.read(rest[0], "u32") if rest else constant(1, 32)
    expects = "expect_tx" in modifiers
    count = constant(1, 32) if expects else given
    drop = count if "arrive_drop" in modifiers else constant(0, 32)
    before = update(t, instruction, place, count, drop, given if expects else constant(0, 32))
    if position:
        t.write(operands[0], before)


def _wait(t: Translator, instruction: Instruction, place: Address) -> None:
    """Whether the phase that a token or a parity names is over; lanes told no let others go first."""
    (state,) = load_from(t, instruction, place, PLACES[space_of(instruction)], 64, 1)
    phase = t.resize(t.binary("lshr", state, constant(63, 64)), 32)
    if "parity" in instruction.modifiers:
        asked = t.binary("and", t.read(instruction.operands[2], "u32"), constant(1, 32))
    else:
        token = t.read(instruction.operands[2], "u64")
        asked = t.resize(t.binary("lshr", token, constant(63, 64)), 32)
    over = t.compare("ne", phase, asked)
    late = t.let(f"and i32 {t.active()}, {t.let(f'xor i32 {t.lane_bits(over)}, -1')}", "m")
    polite = t.let("load i32, ptr %polite.at")
    told = t.let(f"icmp eq i32 {late}, 0")
    t.raw(f"  store i32 {t.let(f'select i1 {told}, i32 {polite}, i32 1')}, ptr %polite.at")
    t.write(instruction.operands[0], over)


def _bytes_of(instruction: Instruction) -> int:
    value = instruction.operands[1]
    return TYPE_BYTES[instruction.modifiers[-1]] * (len(value.elements) if isinstance(value, Vector) else 1)


def report_bytes(
    t: Translator, instruction: Instruction, place: Operand, amount: Value, space: str = ""
) -> None:
    """Tell a barrier that bytes have come."""
    minus = t.binary("sub", constant(0, 32), amount)
    update(t, instruction, place, constant(0, 32), constant(0, 32), minus, space)


def store_async(t: Translator, instruction: Instruction) -> None:
    """`st`, and `st.async`, which reports to a barrier in the block where it stores."""
    store(t, instruction)
    if "async" in instruction.modifiers:
        report_bytes(t, instruction, instruction.operands[2], constant(_bytes_of(instruction), 32))


def reduce_async(t: Translator, instruction: Instruction) -> None:
    """`red` and `red.async`."""
    if "async" not in instruction.modifiers:
        atomic(t, instruction)
        return
    modifiers = tuple(m for m in instruction.modifiers if m != "async")
    atomic(t, replace(instruction, modifiers=modifiers, operands=instruction.operands[:2]))
    report_bytes(t, instruction, instruction.operands[2], constant(_bytes_of(instruction), 32))


def sleep(t: Translator, _instruction: Instruction) -> None:
    """`nanosleep`: lanes that sleep in a loop let others go first."""
    be_polite(t, 2)


def map_address(t: Translator, instruction: Instruction) -> None:
    """`mapa`: an address of this block's shared memory as one of another block's."""
    kind = instruction.modifiers[-1]
    bits = BITS[kind]
    rank = t.resize(t.read(instruction.operands[2], "u32"), bits)
    high = t.binary("shl", t.binary("add", rank, constant(1, bits)), constant(RANK_SHIFT, bits))
    offset = t.read(instruction.operands[1], kind)
    there = t.binary("or", t.binary("and", offset, constant((1 << RANK_SHIFT) - 1, bits)), high)
    if not any(m.startswith("shared") for m in instruction.modifiers):
        there = t.binary("or", there, constant(SHARED_WINDOW, bits))
    t.write(instruction.operands[0], there)


def rank_of(t: Translator, instruction: Instruction) -> None:
    """`getctarank`: the rank of the block whose shared memory an address names."""
    generic = not any(m.startswith("shared") for m in instruction.modifiers)
    address = t.resize(t.read(instruction.operands[1], "u64" if generic else "u32"), 32)
    high = t.binary("lshr", address, constant(RANK_SHIFT, 32))
    own = t.resize(t.header("blk", BLOCK["rank"]), 32)
    named = t.compare("ne", high, constant(0, 32))
    t.write(instruction.operands[0], t.select(named, t.binary("sub", high, constant(1, 32)), own))


TABLE = {
    "mbarrier": barrier, "st": store_async, "red": reduce_async, "nanosleep": sleep, "mapa": map_address,
    "getctarank": rank_of,
}  # fmt: skip
"""What each opcode is in LLVM IR."""
