"""Stops, warps, calls, source and PTX as lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tessera.workbench.debug.number_text import number_text
from tessera.workbench.failure import paint, visible

if TYPE_CHECKING:
    from tessera.emulator.debugging import Debugger, Stop
    from tessera.emulator.debugging.view import Call, Group, Warp

DOING = {
    "running": "next",
    "ready": "ready",
    "barrier": "at barrier",
    "lanes": "waits for lanes",
    "calling": "in a call",
    "returned": "returned",
}
"""What a group of lanes does, in few words."""


def stop_lines(debugger: Debugger, stop: Stop, *, color: bool = False, brief: bool = False) -> list[str]:
    """Why and where the program stands: one line of words, one of source."""
    lines = [] if brief else reason_lines(stop, color=color)
    if stop.reason == "end":
        return lines
    lines.append(where_line(stop, color=color))
    source = debugger.sources.get(stop.file)
    if source is not None and stop.line:
        lines.append(f"{paint(f'{stop.line:>5}', 'blue', color)} {visible(source.line(stop.line).rstrip())}")
    elif stop.instruction:
        lines.append(f"  PTX {stop.ptx_line}: {visible(stop.instruction)}")
    return lines


def reason_lines(stop: Stop, *, color: bool = False) -> list[str]:
    """Why it stopped."""
    lines = []
    if stop.finding is not None:
        finding = stop.finding
        lines.append(f"{paint('finding:', 'red', color)} {visible(stop.message)}")
        if finding.other is not None:
            other = finding.other
            place = f"line {other.line}" if other.line else f"PTX line {other.ptx_line}"
            lines.append(f"  other: block {other.block}, thread {other.thread}: {other.access} in {place}")
        lines.append(f"  hint: {visible(finding.hint)}")
    elif stop.access is not None:
        access = stop.access
        change = f"{access.before} -> {access.after}" if access.write else access.before
        verb = "is about to write" if access.write else "is about to read"
        head = paint(f"watchpoint {access.number}:", "yellow", color)
        lines.append(f"{head} lane {access.thread % 32} {verb} {access.expression}: {change}")
    elif stop.message:
        lines.append(paint(f"{stop.message}", "yellow", color))
    return lines


def where_line(stop: Stop, *, color: bool = False) -> str:
    """`smooth, kern.py:24 · block (0, 0, 0) warp 1 lane 8 · 32 lanes active · moment 1105`."""
    focus = stop.focus
    place = f"{stop.file}:{stop.line}" if stop.line else f"PTX line {stop.ptx_line}"
    block = ", ".join(map(str, focus.block))
    active = stop.active.bit_count()
    some = f"lane{'s' if active != 1 else ''} {lanes_of(stop.active)}"
    lanes = "all lanes" if active == 32 else some if active else "no lane"
    return (
        f"{paint(visible(stop.function), 'green', color)} at {visible(place)}  "
        f"block ({block}) warp {focus.warp} lane {focus.lane}  {lanes} active  moment {stop.clock}"
    )


def lanes_of(bits: int) -> str:
    """`0-7,9` for the lanes that bits stand for; `even` and `odd` for those."""
    if bits == 0x55555555:
        return "even"
    if bits == 0xAAAAAAAA:
        return "odd"
    lanes = [i for i in range(32) if bits >> i & 1]
    parts: list[list[int]] = []
    for lane in lanes:
        if parts and parts[-1][-1] == lane - 1:
            parts[-1].append(lane)
        else:
            parts.append([lane])
    return ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)


def warp_lines(warps: Sequence[Warp], focus: int) -> list[str]:
    """One line for each place that lanes of a warp are at."""
    lines = []
    for warp in warps:
        for i, group in enumerate(warp.groups):
            head = f"{'>' if warp.number == focus else ' '} warp {warp.number:<3}" if i == 0 else " " * 10
            lines.append(f"{head} {group_text(group)}")
    return lines


def group_text(group: Group) -> str:
    """`lanes 0-15  next  kern.py:24`."""
    doing = DOING[group.doing] + (f" {group.barrier}" if group.barrier is not None else "")
    lanes = (
        "all lanes" if group.count == 32 else f"lane{'s' if group.count != 1 else ''} {lanes_of(group.lanes)}"
    )
    place = f"{group.file}:{group.line}" if group.line else f"PTX line {group.ptx_line}"
    return f"{lanes:<18} {doing:<13} {visible(place) if group.doing != 'returned' else ''}".rstrip()


def call_lines(calls: Sequence[Call], frame: int) -> list[str]:
    """The calls of a thread, the innermost first."""
    return [
        f"{'>' if i == frame else ' '} #{i} {visible(call.function)} at {visible(call.file)}:{call.line}"
        for i, call in enumerate(calls)
    ]


def source_lines(debugger: Debugger, stop: Stop, around: int | None = None, context: int = 5) -> list[str]:
    """Source around a line, with the current line and breakpoints marked."""
    source = debugger.sources.get(stop.file)
    if source is None:
        return ["the source of this code is not there; ptx shows what runs"]
    center = around or stop.line or 1
    points = {p.line for p in debugger.breakpoints.values() if p.file == stop.file}
    first, last = max(1, center - context), min(len(source.lines), center + context)
    return [
        f"{'●' if n in points else ' '}{'→' if n == stop.line else ' '}{n:>4} "
        f"{visible(source.line(n).rstrip())}".rstrip()
        for n in range(first, last + 1)
    ]


def ptx_lines(debugger: Debugger, stop: Stop, context: int = 4) -> list[str]:
    """PTX around the next instruction, and what the registers of that hold."""
    text = debugger.timeline.launch.code.text.splitlines()
    first, last = max(1, stop.ptx_line - context), min(len(text), stop.ptx_line + context)
    lines = [
        f"{'→' if n == stop.ptx_line else ' '}{n:>5} {visible(text[n - 1].expandtabs(4).rstrip())}".rstrip()
        for n in range(first, last + 1)
    ]
    held = debugger.inspector.operands(stop.focus.thread) if debugger.timeline.run is not None else []
    if held:
        lines.append("  " + "  ".join(f"{name}={number_text(value)}" for name, value in held))
    return lines
