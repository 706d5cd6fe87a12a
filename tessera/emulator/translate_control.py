"""Control flow of a warp in LLVM IR: which lanes run next, branches, returns, arrival at collectives.

Lanes wait at basic blocks: `wait_masks[b]` says which, a bit map says at which blocks any do. The block in
execution has its lanes in `%mask.at`; `%pend.at` is the lowest block where others wait. A jump to a block
below that goes straight there; any other goes through the scheduler, so that the lanes meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator.cfg import ENDS_FLOW, Block, branch_targets
from tessera.emulator.emit_ir import constant
from tessera.emulator.layout import FAULT, FAULTS, IDLE, POLL
from tessera.emulator.ptx import Instruction
from tessera.emulator.translate_counts import (
    count_block,
    count_divergent,
    count_taken,
    count_targets,
    count_uniform,
    let_others_run,
)

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator

FAULT_CODE = {name: code for code, name in FAULTS.items()}


def write_scheduler(t: Translator) -> None:
    """The dispatch that picks the lowest basic block where lanes wait."""
    layout, count = t.layout, t.layout.blocks
    t.raw(f"""
sched:
  %sched.b = call i32 @take_lowest(ptr %warp)
  %sched.none = icmp eq i32 %sched.b, {count}
  br i1 %sched.none, label %sched.idle, label %sched.go
sched.go:
  %sched.next = call i32 @lowest(ptr %warp, i64 {layout.wait_bits})
  store i32 %sched.next, ptr %pend.at
  %sched.at = getelementptr i8, ptr %warp, i64 {layout.wait_masks}
  %sched.slot = getelementptr i32, ptr %sched.at, i32 %sched.b
  %sched.mask = load i32, ptr %sched.slot
  store i32 0, ptr %sched.slot
  store i32 %sched.mask, ptr %mask.at
  switch i32 %sched.b, label %sched.idle [
{chr(10).join(f"    i32 {b}, label %b{b}" for b in range(count))}
  ]
sched.idle:
  ; Lanes that wait for others of their warp try again if anything has happened since they came.
  %idle.progress = load i32, ptr %progress.at
  %idle.may = icmp ne i32 %idle.progress, 0
  store i32 0, ptr %progress.at
  %idle.some = call i1 @retry(ptr %warp)
  %idle.again = and i1 %idle.may, %idle.some
  br i1 %idle.again, label %sched, label %idle.end
idle.end:
  %idle.outside = load i32, ptr %outside.at
  %idle.looks = icmp ne i32 %idle.outside, 0
  %idle.code = select i1 %idle.looks, i32 {POLL}, i32 {IDLE}
  ret i32 %idle.code
fault:
  ret i32 {FAULT}""")


def write_block(t: Translator, block: Block) -> None:
    """The code of one basic block, and of the way into it."""
    _write_entry(t, block.index)
    t.label(f"b{block.index}")
    t.mask = t.let("load i32, ptr %mask.at", "m")
    t.mask_vector = None
    last = block.instructions[-1] if block.instructions else None
    if block.collective and last is not None and id(last) not in t.hoisted:
        from tessera.emulator.translate_warp import write_collective

        write_collective(t, block, last)
        return
    count_block(t, block)
    for instruction in block.instructions:
        if id(instruction) in t.hoisted or (instruction is last and _ends(instruction)):
            continue
        t.emit(instruction)
    if last is None or not _ends(last):
        t.end_block(block)
        go_on(t, block.index + 1, t.mask)
        return
    _write_end(t, block, last)


def _ends(instruction: Instruction) -> bool:
    return instruction.opcode in ENDS_FLOW or instruction.opcode in ("bra", "brx")


def _write_entry(t: Translator, index: int) -> None:
    """`enter<n>`: where jumps to a block arrive; lets lanes that wait at lower blocks go first."""
    t.label(f"enter{index}")
    t.raw("  store i32 1, ptr %progress.at")
    mask = t.let("load i32, ptr %mask.at", "m")
    if index in t.headers:
        code = _tick(t, index, mask)
        calm = t.let(f"icmp eq i32 {code}, 0")
        t.raw(f"  br i1 {calm}, label %calm{index}, label %pause{index}")
        t.label(f"pause{index}")
        let_others_run(t, index, mask, code)
        t.raw(f"  ret i32 {code}")
        t.label(f"calm{index}")
    pending = t.let("load i32, ptr %pend.at")
    first = t.let(f"icmp ult i32 {index}, {pending}")
    t.raw(f"  br i1 {first}, label %b{index}, label %defer{index}")
    t.label(f"defer{index}")
    t.raw(f"  call void @park(ptr %warp, i32 {index}, i32 {mask})")
    t.raw("  br label %sched")


def _tick(t: Translator, index: int, mask: str) -> str:
    polite = t.let("load i32, ptr %polite.at")
    t.raw("  store i32 0, ptr %polite.at")
    return t.let(f"call i32 @tick(ptr %ctx, ptr %blk, ptr %warp, i32 {index}, i32 {mask}, i32 {polite})")


def be_polite(t: Translator, how: int) -> None:
    """At the next jump backwards, the lanes let others go first (see `tick`)."""
    t.raw(f"  store i32 {how}, ptr %polite.at")


def _look(t: Translator, edge: tuple[int, int]) -> None:
    """Say so if this jump is one of a loop that only looks for what others do."""
    if edge in t.flow.polls:
        be_polite(t, 1)
    elif edge in t.flow.searches:
        be_polite(t, 3)


def go_on(t: Translator, index: int, mask: str) -> None:
    """Jump to a basic block with the lanes in `mask`; beyond the last one lies the return."""
    if index >= t.layout.blocks:
        retire(t, mask)
        return
    t.raw(f"  store i32 {mask}, ptr %mask.at")
    t.raw(f"  br label %enter{index}")


def retire(t: Translator, mask: str) -> None:
    """The lanes in `mask` have returned."""
    t.raw(f"  call void @retire(ptr %blk, ptr %warp, i32 {mask})")
    t.raw("  store i32 1, ptr %progress.at")
    t.raw("  br label %sched")


def _write_end(t: Translator, block: Block, last: Instruction) -> None:
    guard = None
    if last.guard is not None:
        guard = t.read(last.guard, "pred")
        guard = t.invert(guard) if last.guard_negated else guard
    if last.opcode == "brx":
        _indexed_branch(t, block, last, guard is not None)
        return
    if last.opcode == "bra":
        target = t.flow.labels[branch_targets(last, t.function)[0]]
    else:
        target = t.layout.blocks if last.opcode != "trap" else -1
    if guard is None:
        t.end_block(block)
        _look(t, (block.index, target))
        _arrive(t, target, t.mask, last)
        return
    following = block.index + 1
    if not guard.vector:
        count_uniform(t, last, guard.text)
        t.end_block(block)
        yes, no = t.name("yes")[1:], t.name("no")[1:]
        t.raw(f"  br i1 {guard.text}, label %{yes}, label %{no}")
        t.label(yes)
        _look(t, (block.index, target))
        _arrive(t, target, t.mask, last)
        t.label(no)
        go_on(t, following, t.mask)
        return
    taken = t.let(f"and i32 {t.mask}, {t.lane_bits(guard)}", "m")
    left = t.let(f"xor i32 {t.mask}, {taken}", "m")
    count_taken(t, last, taken, left)
    t.end_block(block)
    all_go, some, none, both = (t.name(n)[1:] for n in ("all", "some", "none", "both"))
    t.raw(f"  br i1 {t.let(f'icmp eq i32 {left}, 0')}, label %{all_go}, label %{some}")
    t.label(all_go)
    _look(t, (block.index, target))
    _arrive(t, target, t.mask, last)
    t.label(some)
    t.raw(f"  br i1 {t.let(f'icmp eq i32 {taken}, 0')}, label %{none}, label %{both}")
    t.label(none)
    go_on(t, following, t.mask)
    t.label(both)
    count_divergent(t, last)
    _look(t, (block.index, target))
    if target < 0:
        _arrive(t, target, taken, last)
    elif target >= t.layout.blocks:
        t.raw(f"  call void @retire(ptr %blk, ptr %warp, i32 {taken})")
        go_on(t, following, left)
    else:
        high, low = (following, target) if target < following else (target, following)
        masks = {target: taken, following: left}
        if target == following:
            go_on(t, target, t.mask)
        elif high >= t.layout.blocks:
            t.raw(f"  call void @retire(ptr %blk, ptr %warp, i32 {masks[high]})")
            go_on(t, low, masks[low])
        else:
            defer(t, high, masks[high])
            go_on(t, low, masks[low])


def defer(t: Translator, index: int, mask: str) -> None:
    """Let lanes wait at a basic block."""
    t.raw(f"  call void @park(ptr %warp, i32 {index}, i32 {mask})")
    pending = t.let("load i32, ptr %pend.at")
    lower = t.let(f"icmp ult i32 {index}, {pending}")
    t.raw(f"  store i32 {t.let(f'select i1 {lower}, i32 {index}, i32 {pending}')}, ptr %pend.at")


def _arrive(t: Translator, target: int, mask: str, last: Instruction) -> None:
    if target >= 0:
        go_on(t, target, mask)
        return
    fault(t, last, last.modifiers[0] if last.modifiers else "trap", mask)


def fault(t: Translator, instruction: Instruction, kind: str, mask: str) -> None:
    """End the launch here."""
    site = t.site(instruction)
    t.raw(f"  call void @fault(ptr %blk, ptr %warp, i32 {FAULT_CODE[kind]}, i32 {site}, i32 {mask}, i64 0)")
    t.raw("  br label %fault")


def _indexed_branch(t: Translator, block: Block, last: Instruction, guarded: bool) -> None:
    chosen = t.spread(t.read(last.operands[0], "u32"))
    lanes = t.mask
    following = []
    if guarded and last.guard is not None:
        guard = t.read(last.guard, "pred")
        guard = t.invert(guard) if last.guard_negated else guard
        lanes = t.let(f"and i32 {t.mask}, {t.lane_bits(guard)}", "m")
        following = [(block.index + 1, t.let(f"xor i32 {t.mask}, {lanes}", "m"))]
    masks = []
    for position, name in enumerate(branch_targets(last, t.function)):
        here = t.lane_bits(t.compare("eq", chosen, constant(position, 32)))
        masks.append((t.flow.labels[name], t.let(f"and i32 {lanes}, {here}", "m")))
    count_targets(t, last, masks + following)
    if following:
        count_taken(t, last, lanes, following[0][1])
    t.end_block(block)
    for index, mask in masks + following:
        if index >= t.layout.blocks:
            t.raw(f"  call void @retire(ptr %blk, ptr %warp, i32 {mask})")
        else:
            t.raw(f"  call void @park(ptr %warp, i32 {index}, i32 {mask})")
    t.raw("  store i32 1, ptr %progress.at")
    if any(index <= block.index for index, _ in masks):
        code = _tick(t, block.index, t.mask)
        pause, calm = t.name("pause")[1:], t.name("calm")[1:]
        t.raw(f"  br i1 {t.let(f'icmp eq i32 {code}, 0')}, label %{calm}, label %{pause}")
        t.label(pause)
        t.raw(f"  ret i32 {code}")
        t.label(calm)
    # All lanes wait now, so the scheduler sets the lowest pending block anew.
    t.raw("  br label %sched")
