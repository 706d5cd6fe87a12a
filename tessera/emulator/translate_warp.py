"""Instructions that act on a whole warp, in LLVM IR: barriers, shuffles, votes, matches, reductions.

Lanes that reach one wait there until all the lanes that it names, and that have not returned, are there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tessera.emulator import translate_floats as floats
from tessera.emulator import warpgroups
from tessera.emulator.cfg import Block
from tessera.emulator.emit_ir import WARP, Value, constant, lanes_of
from tessera.emulator.layout import ALIVE, RESULTS
from tessera.emulator.ptx import Instruction, Pair
from tessera.emulator.translate import unsupported
from tessera.emulator.translate_checks import check_members, check_sources, met
from tessera.emulator.translate_control import defer, go_on
from tessera.emulator.translate_counts import count_collective, count_skipped

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator

V64 = f"<{WARP} x i64>"
MATRIX = ("mma", "ldmatrix", "stmatrix", "movmatrix", "wmma", "wgmma", "setmaxnreg")


def write_collective(t: Translator, block: Block, instruction: Instruction) -> None:
    """The code of a basic block that is one warp-wide instruction."""
    if instruction.guard is not None:
        _skip_unguarded(t, block, instruction)
    if instruction.opcode in ("bar", "barrier") and "warp" not in instruction.modifiers:
        if "wait" not in instruction.modifiers:
            count_collective(t, block)
        write = _cluster_barrier if "cluster" in instruction.modifiers else _block_barrier
        write(t, block, instruction)
        return
    if _needs_others(instruction):
        _gather_lanes(t, block, instruction)
    if warpgroups.meets(instruction):
        _meet_warps(t, block)
    count_collective(t, block)
    emitter = COLLECTIVES.get(instruction.opcode)
    if emitter is None:
        raise unsupported(instruction)
    t.mask_vector = None
    emitter(t, instruction)
    t.end_block(block)
    go_on(t, block.index + 1, t.mask)


def _needs_others(instruction: Instruction) -> bool:
    if instruction.opcode in MATRIX:
        return True
    return "sync" in instruction.modifiers or "warp" in instruction.modifiers


def _skip_unguarded(t: Translator, block: Block, instruction: Instruction) -> None:
    """Lanes whose guard is off go on without waiting."""
    if instruction.guard is None:
        return
    guard = t.read(instruction.guard, "pred")
    guard = t.invert(guard) if instruction.guard_negated else guard
    here = t.let(f"and i32 {t.mask}, {t.lane_bits(guard)}", "m")
    past = t.let(f"xor i32 {t.mask}, {here}", "m")
    count_skipped(t, block, here, past)
    t.current, t.splats = {}, dict(t.splats_at_top)
    if block.index + 1 < t.layout.blocks:
        defer(t, block.index + 1, past)
    else:
        t.raw(f"  call void @retire(ptr %blk, ptr %warp, i32 {past})")
    some, none = t.name("some")[1:], t.name("none")[1:]
    t.raw(f"  br i1 {t.let(f'icmp eq i32 {here}, 0')}, label %{none}, label %{some}")
    t.label(none)
    t.raw("  store i32 1, ptr %progress.at")
    t.raw("  br label %sched")
    t.label(some)
    t.mask = here


def _gather_lanes(t: Translator, block: Block, instruction: Instruction) -> None:
    """Go on with lanes that all stand here and name the same partners; the rest waits."""
    waited = t.let(f"call i32 @take_stalled(ptr %warp, i32 {block.index})", "m")
    present = t.let(f"or i32 {t.mask}, {waited}", "m")
    alive_at = t.let(f"getelementptr i8, ptr %warp, i64 {ALIVE}")
    alive = t.let(f"load i32, ptr {alive_at}", "m")
    members = _members(t, instruction)
    absent = t.let(f"and i32 {alive}, {t.let(f'xor i32 {present}, -1')}", "m")
    if members.vector:
        missing = t.binary("and", members, Value(absent, 32, vector=False))
        bad = t.lane_bits(t.compare("ne", missing, constant(0, 32)))
        ready = t.let(f"and i32 {present}, {t.let(f'xor i32 {bad}, -1')}", "m")
        first = t.let(f"call i32 @llvm.cttz.i32(i32 {ready}, i1 false)")
        index = t.let(f"and i32 {first}, 31")
        named = t.let(f"extractelement {members.type} {members.text}, i32 {index}")
        alike = t.lane_bits(t.compare("eq", members, Value(named, 32, vector=False)))
        ready = t.let(f"and i32 {ready}, {alike}", "m")
    else:
        named = t.let(f"and i32 {members.text}, {absent}")
        complete = t.let(f"icmp eq i32 {named}, 0")
        ready = t.let(f"select i1 {complete}, i32 {present}, i32 0", "m")
    rest = t.let(f"xor i32 {present}, {ready}", "m")
    some, none = t.name("some")[1:], t.name("none")[1:]
    t.raw(f"  call void @stall(ptr %warp, i32 {block.index}, i32 {rest})")
    t.raw(f"  br i1 {t.let(f'icmp eq i32 {ready}, 0')}, label %{none}, label %{some}")
    t.label(none)
    t.raw("  br label %sched")
    t.label(some)
    t.splats = dict(t.splats_at_top)
    t.mask = ready
    if instruction.opcode not in MATRIX:
        check_members(t, instruction, members)
    met(t)
    # The lanes left behind try again, as others with another mask may be complete.
    t.raw("  store i32 1, ptr %progress.at")


def _meet_warps(t: Translator, block: Block) -> None:
    """Go on if the four warps of the warpgroup are here; they try again when the last one has come."""
    all_here = t.let("call i1 @meet(ptr %ctx, ptr %blk, ptr %warp)")
    some, none = t.name("some")[1:], t.name("none")[1:]
    t.raw(f"  br i1 {all_here}, label %{some}, label %{none}")
    t.label(none)
    t.raw(f"  call void @stall(ptr %warp, i32 {block.index}, i32 {t.mask})")
    # No other lane of the warp is anywhere else: nothing that it does helps.
    t.raw("  store i32 0, ptr %progress.at")
    t.raw("  br label %sched")
    t.label(some)


def _members(t: Translator, instruction: Instruction) -> Value:
    if instruction.opcode in MATRIX:
        return constant(-1, 32)
    operands = instruction.operands
    position = {"bar": 0, "barrier": 0, "elect": 1}.get(instruction.opcode, len(operands) - 1)
    return t.read(operands[position], "u32")


def _cluster_barrier(t: Translator, block: Block, instruction: Instruction) -> None:
    """`barrier.cluster.arrive` and `barrier.cluster.wait`."""
    if "arrive" in instruction.modifiers:
        t.raw(f"  call void @cluster_arrive(ptr %blk, ptr %warp, i32 {t.mask})")
        t.end_block(block)
        go_on(t, block.index + 1, t.mask)
        return
    passed = t.let(f"call i32 @cluster_passed(ptr %blk, ptr %warp, i32 {t.mask})", "m")
    rest = t.let(f"xor i32 {t.mask}, {passed}", "m")
    t.raw(f"  call void @stall(ptr %warp, i32 {block.index}, i32 {rest})")
    late, on, some, none = (t.name(n)[1:] for n in ("late", "on", "some", "none"))
    t.raw(f"  br i1 {t.let(f'icmp eq i32 {rest}, 0')}, label %{on}, label %{late}")
    t.label(late)
    t.raw("  store i32 1, ptr %outside.at")
    t.raw(f"  br label %{on}")
    t.label(on)
    t.raw(f"  br i1 {t.let(f'icmp eq i32 {passed}, 0')}, label %{none}, label %{some}")
    t.label(none)
    t.raw("  br label %sched")
    t.label(some)
    t.mask = passed
    count_collective(t, block)
    t.end_block(block)
    go_on(t, block.index + 1, t.mask)


def _block_barrier(t: Translator, block: Block, instruction: Instruction) -> None:
    """`bar.sync`, `bar.arrive`, and the arrival half of `bar.red`."""
    operands = list(instruction.operands)
    votes = "0"
    if "vote" in instruction.modifiers:
        votes = t.lane_bits(t.read(operands.pop(), "pred"))
    number = _single(t, t.read(operands[0], "u32"))
    needed = _single(t, t.read(operands[1], "u32")) if len(operands) > 1 else "0"
    waits = "arrive" not in instruction.modifiers
    following = block.index + 1
    number = t.let(f"and i32 {number}, 15")
    t.raw(
        f"  call void @arrive(ptr %blk, ptr %warp, i32 {number}, i32 {needed}, i32 {t.mask}, i32 {votes}, "
        f"i32 {following}, i1 {'true' if waits else 'false'})"
    )
    t.raw("  store i32 1, ptr %progress.at")
    t.end_block(block)
    if waits:
        t.raw("  br label %sched")
    else:
        go_on(t, following, t.mask)


def _single(t: Translator, value: Value) -> str:
    """The number that the active lanes have in common."""
    if not value.vector:
        return value.text
    first = t.let(f"call i32 @llvm.cttz.i32(i32 {t.mask}, i1 false)")
    index = t.let(f"and i32 {first}, 31")
    return t.let(f"extractelement {value.type} {value.text}, i32 {index}")


def barrier_result(t: Translator, instruction: Instruction) -> None:
    """What `bar.red` gives once all have come."""
    number = _single(t, t.read(instruction.operands[1], "u32"))
    base = t.let(f"getelementptr i8, ptr %blk, i64 {RESULTS}")
    place = t.let(f"getelementptr [2 x i32], ptr {base}, i32 {number}")
    yes = Value(t.let(f"load i32, ptr {place}"), 32, vector=False)
    total = Value(t.let(f"load i32, ptr {t.let(f'getelementptr i32, ptr {place}, i32 1')}"), 32, vector=False)
    if "popc" in instruction.modifiers:
        t.write(instruction.operands[0], yes)
    elif "and" in instruction.modifiers:
        t.write(instruction.operands[0], t.compare("eq", yes, total))
    else:
        t.write(instruction.operands[0], t.compare("ne", yes, constant(0, 32)))


# -- shuffles -----------------------------------------------------------------------------------


def _shuffle(t: Translator, instruction: Instruction) -> None:
    mode = next(m for m in instruction.modifiers if m in ("up", "down", "bfly", "idx"))
    source = t.spread(t.read(instruction.operands[1], "b32"))
    offset, control = t.read(instruction.operands[2], "u32"), t.read(instruction.operands[3], "u32")
    if offset.number is not None and control.number is not None:
        picks = [_pick(mode, lane, offset.number & 31, control.number) for lane in range(WARP)]
        check_sources(t, instruction, lanes_of([p if ok else i for i, (p, ok) in enumerate(picks)], 32))
        order = ", ".join(f"i32 {p if ok else lane}" for lane, (p, ok) in enumerate(picks))
        text = t.let(
            f"shufflevector {source.type} {source.text}, {source.type} poison, <{WARP} x i32> <{order}>"
        )
        t.write_pair(
            instruction.operands[0], Value(text, 32, vector=True), lanes_of([int(ok) for _, ok in picks], 1)
        )
        return
    lane = t.lanes()
    offset = t.binary("and", offset, constant(31, 32))
    clamp = t.binary("and", control, constant(31, 32))
    segment = t.binary("and", t.binary("lshr", control, constant(8, 32)), constant(31, 32))
    lowest = t.binary("and", lane, segment)
    outside = t.invert(segment)
    highest = t.binary("or", lowest, t.binary("and", clamp, outside))
    picked: dict[str, Callable[[], Value]] = {
        "up": lambda: t.binary("sub", lane, offset),
        "down": lambda: t.binary("add", lane, offset),
        "bfly": lambda: t.binary("xor", lane, offset),
        "idx": lambda: t.binary("or", lowest, t.binary("and", offset, outside)),
    }
    place = picked[mode]()
    valid = t.compare("sge" if mode == "up" else "sle", place, highest)
    place = t.binary("and", t.select(valid, place, lane), constant(31, 32))
    check_sources(t, instruction, place)
    place = t.resize(place, 64)
    t.helpers.add("permute_32")
    text = t.let(
        f"call {source.type} @permute_32({V64} {place.text}, i32 {t.mask}, {source.type} {source.text})"
    )
    t.write_pair(instruction.operands[0], Value(text, 32, vector=True), valid)


def _pick(mode: str, lane: int, offset: int, control: int) -> tuple[int, bool]:
    """Lane that a lane reads from, and whether it lies in the segment."""
    clamp, segment = control & 31, control >> 8 & 31
    lowest = lane & segment
    highest = lowest | (clamp & ~segment)
    place = {
        "up": lane - offset, "down": lane + offset, "bfly": lane ^ offset,
        "idx": lowest | (offset & ~segment),
    }[mode]  # fmt: skip
    valid = place >= highest if mode == "up" else place <= highest
    return place & 31, valid


# -- votes and reductions -----------------------------------------------------------------------


def _vote(t: Translator, instruction: Instruction) -> None:
    mode = next(m for m in instruction.modifiers if m in ("all", "any", "uni", "ballot"))
    said = t.let(f"and i32 {t.lane_bits(t.read(instruction.operands[1], 'pred'))}, {t.mask}", "m")
    if mode == "ballot":
        t.write(instruction.operands[0], Value(said, 32, vector=False))
        return
    everyone = t.let(f"icmp eq i32 {said}, {t.mask}")
    someone = t.let(f"icmp ne i32 {said}, 0")
    uniform = t.let(f"or i1 {everyone}, {t.let(f'xor i1 {someone}, true')}")
    answer = {"all": everyone, "any": someone, "uni": uniform}[mode]
    t.write(instruction.operands[0], Value(answer, 1, vector=False))


def _match(t: Translator, instruction: Instruction) -> None:
    kind = instruction.modifiers[-1]
    values = t.spread(t.read(instruction.operands[1], kind))
    found = lanes_of([0] * WARP, 32)
    for lane in range(WARP):
        one = t.let(f"extractelement {values.type} {values.text}, i32 {lane}")
        equal = t.compare("eq", values, Value(one, values.bits, vector=False))
        bit = t.let(f"and i32 {t.mask}, {1 << lane}")
        here = t.select(equal, t.spread(Value(bit, 32, vector=False)), constant(0, 32))
        found = t.binary("or", found, here)
    whole = t.compare("eq", found, Value(t.mask, 32, vector=False))
    if "all" in instruction.modifiers:
        found = t.select(whole, found, constant(0, 32))
    t.write_pair(instruction.operands[0], found, whole)


def _redux(t: Translator, instruction: Instruction) -> None:
    kind = instruction.modifiers[-1]
    name = next((m for m in instruction.modifiers if m in ("add", "min", "max", "and", "or", "xor")), "")
    if kind == "f32" and name in ("min", "max"):
        _redux_floats(t, instruction, name)
        return
    if kind not in ("u32", "s32", "b32") or not name:
        raise unsupported(instruction)
    is_signed = kind.startswith("s")
    neutral = {
        "add": 0, "or": 0, "xor": 0, "and": -1, "min": 0x7FFFFFFF if is_signed else -1,
        "max": 0x80000000 if is_signed else 0,
    }[name]  # fmt: skip
    values = t.spread(t.read(instruction.operands[1], kind))
    active = t.lane_predicate(t.mask)
    values = t.select(active, values, constant(neutral, 32))
    function = name if name not in ("min", "max") else f"{'s' if is_signed else 'u'}{name}"
    t.declared.add(f"declare i32 @llvm.vector.reduce.{function}.v{WARP}i32(<{WARP} x i32>)")
    text = t.let(f"call i32 @llvm.vector.reduce.{function}.v{WARP}i32({values.type} {values.text})")
    t.write(instruction.operands[0], Value(text, 32, vector=False))


def _redux_floats(t: Translator, instruction: Instruction, name: str) -> None:
    """`redux.sync.min.f32`, `.max`: pairs of lanes, then pairs of pairs."""
    values = t.spread(t.read(instruction.operands[1], "f32"))
    if "abs" in instruction.modifiers:
        values = t.binary("and", values, constant(0x7FFFFFFF, 32))
    # What changes no result: a NaN gives way to numbers, unless it is to win over them.
    infinity = 0x7F800000 if name == "min" else 0xFF800000
    neutral = infinity if "NaN" in instruction.modifiers else floats.NAN["f32"]
    values = t.select(t.lane_predicate(t.mask), values, constant(neutral, 32))
    kept = tuple(m for m in instruction.modifiers if m == "NaN")
    operation = Instruction(name, kept, (), instruction.line)
    for step in (16, 8, 4, 2, 1):
        order = ", ".join(f"i32 {lane ^ step}" for lane in range(WARP))
        other = t.let(
            f"shufflevector {values.type} {values.text}, {values.type} poison, <{WARP} x i32> <{order}>"
        )
        values = floats.extremum(t, operation, "f32", values, Value(other, 32, vector=True))
    t.write(instruction.operands[0], values)


def _active_mask(t: Translator, instruction: Instruction) -> None:
    t.write(instruction.operands[0], Value(t.mask, 32, vector=False))


def _elect(t: Translator, instruction: Instruction) -> None:
    first = Value(t.let(f"call i32 @llvm.cttz.i32(i32 {t.mask}, i1 false)"), 32, vector=False)
    target = instruction.operands[0]
    chosen = t.compare("eq", t.lanes(), first)
    if isinstance(target, Pair):
        t.write(target.first, first)
        t.write(target.second, chosen)
    else:
        t.write(target, first)


def _warp_barrier(_t: Translator, _instruction: Instruction) -> None:
    """`bar.warp.sync`: to have come together is all there is to it."""


def _matrices(t: Translator, instruction: Instruction) -> None:
    from tessera.emulator import translate_matrix, translate_rows, translate_wgmma, translate_wmma

    tables = {
        **translate_matrix.TABLE,
        **translate_rows.TABLE,
        **translate_wmma.TABLE,
        **translate_wgmma.TABLE,
    }
    emitter = tables.get(instruction.opcode)
    if emitter is None:
        raise unsupported(instruction)
    emitter(t, instruction)


COLLECTIVES: dict[str, Callable[[Translator, Instruction], None]] = {
    "shfl": _shuffle, "vote": _vote, "match": _match, "redux": _redux, "activemask": _active_mask,
    "elect": _elect, "bar": _warp_barrier, "barrier": _warp_barrier, **dict.fromkeys(MATRIX, _matrices),
}  # fmt: skip
TABLE = {"barresult": barrier_result}
