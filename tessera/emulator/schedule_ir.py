"""The whole LLVM IR module of a kernel: its own function and the fixed part that runs blocks and warps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator import layout as at
from tessera.emulator import memory_ir
from tessera.emulator.barriers_ir import BARRIERS
from tessera.emulator.blocks_ir import BLOCKS, FAULTS
from tessera.emulator.checked_blocks_ir import checked
from tessera.emulator.clusters_ir import CLUSTERS
from tessera.emulator.emit_ir import WARP
from tessera.emulator.ir_forms import expand
from tessera.emulator.waiting_ir import WAITING

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator

PATIENCE = 16
"""Rounds of a block's warps, in which all looked in vain, after which other blocks have their turn."""
TICKS = 4096
"""Jumps backwards after which a warp lets the others of its block run."""


def module_text(t: Translator, zeroed: list[str]) -> str:
    """The whole module: the kernel's function and everything it calls.

    Args:
        t: The translator that has written the kernel's function.
        zeroed: Registers that may be read before they are written: they begin as zero.
    """
    kernel = "\n".join(t.lines)
    template = "\n".join((WAITING, FAULTS, BARRIERS, CLUSTERS, BLOCKS)).replace(
        "  ;ZERO", _zero_slots(t, zeroed)
    )
    if t.checks is not None:
        template = checked(template)
    fixed = expand(template, _numbers(t))
    helpers = memory_ir.helpers_text(t.helpers)
    declared = "\n".join(sorted(t.declared | memory_ir.declarations(helpers + fixed + kernel)))
    tables = [_table(name, numbers) for numbers, name in t.tables.items()]
    return "\n".join((*tables, fixed, helpers, kernel, declared))


def _table(name: str, numbers: tuple[int, ...]) -> str:
    items = ", ".join(f"i32 {n}" for n in numbers)
    return f"@{name} = private unnamed_addr constant [{len(numbers)} x i32] [{items}], align 4"


def _numbers(t: Translator) -> dict[str, int]:
    layout = t.layout
    return {
        "BITS": layout.wait_bits, "STALL_BITS": layout.stall_bits, "WAIT": layout.wait_masks,
        "STALL": layout.stall_masks, "COUNT": layout.blocks, "WORDS": layout.words,
        "WARPS_AT": layout.warps_at, "WARP_BYTES": layout.warp_bytes, "BARRIERS": at.BARRIERS,
        "RESULTS": at.RESULTS, "BAR_LANES": at.BAR_LANES, "BAR_BLOCK": at.BAR_BLOCK, "RESUME": at.RESUME,
        "FAULT": at.FAULT, "YIELD": at.YIELD, "DONE": at.DONE, "DEADLOCK": at.DEADLOCK, "POLL": at.POLL,
        "PATIENCE": PATIENCE, "STATES": at.CLUSTER_STATES,
        "TICK_MASK": TICKS - 1, "LISTS": at.LISTS, "LISTS_BYTES": 16 * layout.words + 8 * layout.blocks,
        "TURN": at.TURN, "LOCAL_BYTES": t.local_bytes, "BARRIERS_BYTES": at.WATCHED - at.BARRIERS,
        "SITE_COUNT": layout.sites, "COPIES_BUSY": at.COPIES_BUSY, "COPIES_SETTLED": at.COPIES_SETTLED,
    }  # fmt: skip


def _zero_slots(t: Translator, names: list[str]) -> str:
    lines = []
    for i, name in enumerate(sorted(names)):
        size = 4 if t.width(name) == 1 else WARP * t.width(name) // 8
        lines.append(f"  %zero{i} = getelementptr i8, ptr %warp, i64 {t.layout.slots[name]}")
        lines.append(f"  call void @llvm.memset.p0.i64(ptr align 64 %zero{i}, i8 0, i64 {size}, i1 false)")
    return "\n".join(lines)
