"""Short forms in hand-written LLVM IR for what it does most: fields of the launch, the block and the warp.

In a template,

- `%x = get ctx.warps` loads a field, `%x = poll ctx.stop` loads it anew each time,
- `set blk.alive, %x` stores one,
- `%p = at warp.RESUME` is the address of an area, `%p = warp %w` that of a warp's state,
- `@NAME@` is a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tessera.emulator.layout import (
    ALIVE,
    BLOCK,
    CLUSTER,
    CONTEXT,
    COPIES_BUSY,
    COPIES_GROUPS,
    COPIES_SETTLED,
    FIRST_MASK,
    LOCAL_BASE,
    PARITY,
    TURN,
    WAITS,
    WARP_FLOOR,
    WARP_ID,
    WATCH,
)

FIELDS: dict[str, tuple[str, int]] = {
    **{f"ctx.{name}": ("i64", offset) for name, offset in CONTEXT.items()},
    **{f"blk.{name}": ("i64", offset) for name, offset in BLOCK.items()},
    "state.alive": ("i64", BLOCK["alive"]),
    **{f"cluster.{name}": ("i64", offset) for name, offset in CLUSTER.items()},
    "warp.alive": ("i32", ALIVE), "warp.id": ("i32", WARP_ID), "warp.first": ("i32", FIRST_MASK),
    "warp.local": ("i64", LOCAL_BASE), "warp.turn": ("i32", TURN), "warp.waits": ("i32", WAITS),
    "warp.parity": ("i32", PARITY),
    "warp.floor": ("i32", WARP_FLOOR), "warp.settled": ("i32", COPIES_SETTLED),
    "warp.groups": ("i32", COPIES_GROUPS), "warp.copies": ("i32", COPIES_BUSY),
    **{f"blk.{name}": ("i64", offset) for name, offset in WATCH.items()},
}  # fmt: skip
"""LLVM type and offset of each field."""
_FORMS = re.compile(
    r"^  (?:(?P<name>%[\w.]+) = )?(?P<form>get|poll|set|at|warp) (?P<what>[\w.%]+)(?:, (?P<value>\S+))?$",
    re.MULTILINE,
)


def expand(template: str, numbers: Mapping[str, int]) -> str:
    """LLVM IR from a template with short forms.

    Args:
        template: Definitions of functions.
        numbers: Values of the `@NAME@`s.
    """
    count = 0

    def write(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return _write(match, f"%at{count}", numbers)

    text = _FORMS.sub(write, template)
    return re.sub(r"@([A-Z_]+)@", lambda m: str(numbers[m[1]]), text)


def _write(match: re.Match[str], place: str, numbers: Mapping[str, int]) -> str:
    name, form, what, value = match["name"], match["form"], match["what"], match["value"]
    if form == "warp":
        return (
            f"  {place}.skip = mul i64 {what}, {numbers['WARP_BYTES']}\n"
            f"  {place} = add i64 {place}.skip, {numbers['WARPS_AT']}\n"
            f"  {name} = getelementptr i8, ptr %blk, i64 {place}"
        )
    base, _, area = what.partition(".")
    if form == "at":
        return f"  {name} = getelementptr i8, ptr %{base}, i64 {numbers[area]}"
    kind, offset = FIELDS[what]
    pointer = f"  {place} = getelementptr i8, ptr %{base}, i64 {offset}\n"
    if form == "set":
        return f"{pointer}  store {kind} {value}, ptr {place}"
    return f"{pointer}  {name} = load {'volatile ' if form == 'poll' else ''}{kind}, ptr {place}"
