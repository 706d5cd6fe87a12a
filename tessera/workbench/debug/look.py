"""Commands that show something and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tessera.workbench.debug.array_text import GridStyle, array_part, array_text
from tessera.workbench.debug.json_data import jsonable
from tessera.workbench.debug.number_text import number_text
from tessera.workbench.debug.shell import Reply, Shell, words_of
from tessera.workbench.debug.stop_text import call_lines, lanes_of, ptx_lines, source_lines, warp_lines
from tessera.workbench.debug.values_text import (
    lanes_text,
    row_text,
    uniform,
    value_text,
)
from tessera.workbench.failure import UsageError, visible

if TYPE_CHECKING:
    from tessera.emulator.debugging.breakpoints import Breakpoint, Watchpoint
    from tessera.emulator.debugging.view import Lane

_FORMS: dict[str, Callable[[int], str]] = {"x": hex, "t": bin, "o": oct, "d": str}
_MOST_SHARED = 1 << 12
"""Elements of a shared array that are shown as a whole."""


def print_value(shell: Shell, argument: str) -> Reply:
    """A value of the thread in focus."""
    form = ""
    if argument.startswith("/"):
        form, _, argument = argument[1:].partition(" ")
        if form not in _FORMS:
            raise UsageError(f"/{form} is no form", hint="/x hexadecimal, /t binary, /o octal, /d decimal")
    if not argument.strip():
        raise UsageError("print what?", hint="such as: print x[i]")
    value = shell.debugger.evaluate(argument)
    if form and isinstance(value, (int, np.integer)):
        lines = [_FORMS[form](int(value))]
    else:
        lines = value_text(value, shell.width)
    head = f"{argument.strip()} = "
    lines = [head + lines[0], *lines[1:]] if len(lines) == 1 else [head.rstrip(" ="), *lines]
    return Reply(lines, {"expression": argument.strip(), "value": jsonable(value)})


def lanes(shell: Shell, argument: str) -> Reply:
    """A value in every lane."""
    if not argument:
        raise UsageError("lanes of what?", hint="such as: lanes total")
    debugger = shell.debugger
    row = next((r for r in debugger.rows() if r.name == argument), None)
    found = row.lanes if row is not None and row.lanes and not row.space else debugger.lanes(argument)
    active = sum(1 << lane.lane for lane in found if lane.active)
    head = f"{argument}  (warp {debugger.focus.warp}, active: {lanes_of(active) or 'none'})"
    return Reply(
        [head, *lanes_text(found, shell.width, color=shell.color)],
        {"expression": argument, "lanes": [_lane_data(lane) for lane in found]},
    )


def _lane_data(lane: Lane) -> dict[str, Any]:
    return {
        "lane": lane.lane,
        "value": jsonable(lane.value),
        "active": lane.active,
        "changed": lane.changed,
    }


def local_variables(shell: Shell, argument: str) -> Reply:
    """The variables of the function."""
    if argument:
        raise UsageError("locals takes nothing; print shows one", hint=f"print {argument}")
    debugger = shell.debugger
    rows, lane = debugger.rows(), debugger.focus.lane
    if all(not row.lanes for row in rows):
        note = "this code is optimized: no variables are known, only arrays"
        return Reply([note, *(f"  {row.name}: {row.type}" for row in rows)], {"locals": {}})
    name = max((len(row.name) for row in rows), default=0)
    kind = max((len(row.type) for row in rows), default=0)
    lines = []
    for row in rows:
        star = "*" if row.changed else " "
        more = "" if row.space or uniform(row) else "  (differs by lane)"
        lines.append(f"{star} {row.name:<{name}}  {row.type:<{kind}}  {row_text(row, lane)}{more}")
    data = {row.name: jsonable(row.lanes[lane].value, 8) for row in rows if lane < len(row.lanes)}
    return Reply(lines, {"locals": data, "changed": [row.name for row in rows if row.changed]})


def arrays(shell: Shell, argument: str) -> Reply:
    """Arrays by name."""
    if argument:
        raise UsageError("arrays takes nothing; print shows one", hint=f"print {argument}")
    debugger = shell.debugger
    found = debugger.inspector.arrays(debugger.focus.thread, debugger.frame)
    width = max(map(len, found), default=0)
    lines = [f"{name:<{width}}  {a.type_name:<20} {a.space}  {a.address:#x}" for name, a in found.items()]
    data = {n: {"dtype": str(a.dtype), "shape": list(a.shape), "space": a.space} for n, a in found.items()}
    return Reply(lines, {"arrays": data})


def shared(shell: Shell, argument: str) -> Reply:
    """Shared arrays as grids."""
    debugger = shell.debugger
    found = debugger.inspector.shared(debugger.focus.thread)
    if argument:
        if argument not in found:
            listing = ", ".join(found) or "none are assigned yet"
            raise UsageError(f"{argument!r} is no shared array here", hint=f"shared arrays: {listing}")
        found = {argument: found[argument]}
    lines: list[str] = []
    for name, array in found.items():
        whole = array.count <= _MOST_SHARED
        values = array.all() if whole else array_part(array)
        marks = debugger.changed_elements(array) if whole else None
        lines.append(f"{name}  {array.type_name}" + ("" if whole else "  (its beginning)"))
        lines += array_text(values, GridStyle(shell.width, color=shell.color), marks=marks)
    if not lines:
        size = len(debugger.inspector.block().shared)
        lines = [f"no shared array has a name here; the block has {size} bytes of shared memory"]
    return Reply(lines, {"shared": {name: jsonable(array) for name, array in found.items()}})


def registers(shell: Shell, argument: str) -> Reply:
    """PTX registers of the thread."""
    debugger, wanted = shell.debugger, words_of(argument)
    every = wanted == ["all"]
    found = debugger.inspector.registers(debugger.focus.thread, debugger.frame, live=not wanted)
    if wanted and not every:
        names = {w if w.startswith("%") else f"%{w}" for w in wanted}
        values = [(name, "", debugger.evaluate(name)) for name in sorted(names)]
        found = [
            next((r for r in found if r[0] == name), (name, kind, value)) for name, kind, value in values
        ]
    lines = [f"{name:<10} {kind:<5} {_bits(value)}" for name, kind, value in found]
    return Reply(
        lines or ["no register was written yet"], {"registers": {n: jsonable(v) for n, _, v in found}}
    )


def _bits(value: Any) -> str:
    return (
        number_text(value)
        if isinstance(value, bool) or not isinstance(value, int)
        else f"{value:#x}  {value}"
    )


def display(shell: Shell, argument: str) -> Reply:
    """Show a value at every stop."""
    if not argument:
        return Reply([f"{number}: {text}" for number, text in shell.displays.items()])
    value = shell.debugger.evaluate(argument)
    number = max(shell.displays, default=0) + 1
    shell.displays[number] = argument
    lines = value_text(value, shell.width)
    return Reply([f"{number}: {argument} = {lines[0]}", *lines[1:]], {"display": {argument: jsonable(value)}})


def undisplay(shell: Shell, argument: str) -> Reply:
    """No longer show a value."""
    if not argument:
        shell.displays.clear()
    elif not argument.isdigit() or shell.displays.pop(int(argument), None) is None:
        raise UsageError(f"there is no display {argument}", hint="display lists them")
    return Reply()


def list_source(shell: Shell, argument: str) -> Reply:
    """Source around a line."""
    if argument and not argument.isdigit():
        raise UsageError(f"list takes a line, not {argument!r}", hint="such as: list 17")
    stop = shell.debugger.stop
    around = int(argument) if argument else shell.listed + 11 if shell.listed else stop.line
    shell.listed = around
    return Reply(source_lines(shell.debugger, stop, around))


def ptx(shell: Shell, argument: str) -> Reply:
    """PTX around the next instruction."""
    if argument:
        raise UsageError("ptx takes nothing")
    stop = shell.debugger.stop
    return Reply(
        ptx_lines(shell.debugger, stop), {"ptx_line": stop.ptx_line, "instruction": stop.instruction}
    )


def findings(shell: Shell, argument: str) -> Reply:
    """What the sanitizer has found so far."""
    if argument:
        raise UsageError("findings takes nothing")
    moments = sorted(shell.debugger.timeline.found.items())
    found = [(moment, item) for moment, items in moments for item in items]
    lines = [
        f"moment {moment}: {item.kind} at {item.file}:{item.line}: {visible(item.message)}"
        for moment, item in found
    ]
    data = [{"moment": moment, **item.data()} for moment, item in found]
    return Reply(lines or ["nothing so far"], {"findings": data})


def warps(shell: Shell, argument: str) -> Reply:
    """Where the lanes of every warp are."""
    if argument:
        raise UsageError("warps takes nothing")
    found = shell.debugger.inspector.warps()
    data = [
        {"warp": w.number, "groups": [
            {"lanes": g.lanes, "doing": g.doing, "function": g.function, "file": g.file, "line": g.line,
             "ptx_line": g.ptx_line, "barrier": g.barrier} for g in w.groups]}
        for w in found
    ]  # fmt: skip
    return Reply(warp_lines(found, shell.debugger.focus.warp), {"warps": data})


def backtrace(shell: Shell, argument: str) -> Reply:
    """The calls of the thread."""
    if argument:
        raise UsageError("backtrace takes nothing")
    debugger = shell.debugger
    calls = debugger.inspector.calls(debugger.focus.thread)
    data = [{"function": c.function, "file": c.file, "line": c.line} for c in calls]
    return Reply(call_lines(calls, debugger.frame) or ["this thread has returned"], {"calls": data})


def up(shell: Shell, argument: str) -> Reply:
    """Look at the caller."""
    return _frame(shell, argument, 1)


def down(shell: Shell, argument: str) -> Reply:
    """And back."""
    return _frame(shell, argument, -1)


def _frame(shell: Shell, argument: str, by: int) -> Reply:
    if argument:
        raise UsageError("up and down take nothing")
    debugger = shell.debugger
    calls = debugger.inspector.calls(debugger.focus.thread)
    wanted = debugger.frame + by
    if not 0 <= wanted < len(calls):
        raise UsageError("there is no call further " + ("out" if by > 0 else "in"))
    debugger.frame = wanted
    return Reply([call_lines(calls, wanted)[wanted]], {"frame": wanted})


def breakpoints(shell: Shell, argument: str) -> Reply:
    """Breakpoints and watchpoints."""
    if argument:
        raise UsageError("info breakpoints takes nothing")
    debugger = shell.debugger
    points: list[Breakpoint | Watchpoint] = sorted(
        (*debugger.breakpoints.values(), *debugger.watchpoints.values()), key=lambda p: p.number
    )
    lines = []
    for point in points:
        off = "" if point.enabled else "  (off)"
        hits = f"  {point.hits} hit{'s' if point.hits != 1 else ''}" if point.hits else ""
        threads = f"  ({threads_of})" if (threads_of := getattr(point, "threads", None)) else ""
        lines.append(f"{point.number:>3}  {point}{threads}{hits}{off}")
    data = [{"number": p.number, "text": str(p), "enabled": p.enabled, "hits": p.hits} for p in points]
    return Reply(lines or ["no breakpoints"], {"breakpoints": data})


_INFO: dict[str, Callable[[Shell, str], Reply]] = {
    "breakpoints": breakpoints, "watchpoints": breakpoints, "locals": local_variables, "warps": warps,
    "arrays": arrays, "shared": shared, "registers": registers, "findings": findings, "display": display,
    "threads": warps, "source": list_source,
}  # fmt: skip


def info(shell: Shell, argument: str) -> Reply:
    """The same things, as gdb has them."""
    word, _, rest = argument.partition(" ")
    chosen = [name for name in _INFO if word and name.startswith(word)]
    if not chosen:
        raise UsageError(f"info {word}: there is no such thing", hint="info " + "|".join(_INFO))
    return _INFO[chosen[0]](shell, rest.strip())
