"""Commands that say where to stop."""

from __future__ import annotations

from typing import Any, Literal

from tessera.workbench.debug.move import place_of, point_of
from tessera.workbench.debug.shell import Reply, Shell, words_of
from tessera.workbench.failure import UsageError


def break_(shell: Shell, argument: str) -> Reply:
    """Stop before a line."""
    return _break(shell, argument, once=False)


def tbreak(shell: Shell, argument: str) -> Reply:
    """Stop before a line, once."""
    return _break(shell, argument, once=True)


def _break(shell: Shell, argument: str, *, once: bool) -> Reply:
    text, condition = _condition(argument)
    words = words_of(text)
    debugger = shell.debugger
    place = words.pop(0) if words and words[0] not in ("any", "block", "warp", "lane") else ""
    threads = _threads(words)
    if place.isidentifier():
        point = debugger.break_in(place, condition=condition, threads=threads, once=once)
    else:
        file, line = place_of(place, "break") if place else (None, debugger.stop.line)
        point = debugger.break_at(line, file, condition=condition, threads=threads, once=once)
    line_text = f"breakpoint {point.number}: {point}  ({point.threads})"
    return Reply([line_text], {"breakpoint": point.number, "file": point.file, "line": point.line})


def _condition(argument: str) -> tuple[str, str | None]:
    if argument.startswith("if "):
        return "", argument[3:].strip()
    text, found, condition = argument.partition(" if ")
    return text, condition.strip() if found else None


def _threads(words: list[str]) -> Any:
    from tessera.emulator.debugging.breakpoints import ANY, Threads

    if not words:
        return None
    found: dict[str, Any] = {}
    while words:
        word = words.pop(0)
        if word == "any" and not found and not words:
            return ANY
        if word not in ("block", "warp", "lane") or not words:
            raise UsageError(
                f"break: {word!r} says no thread",
                hint="any, block B, warp W, lane L; or: break 17 if lane == 3",
            )
        value = words.pop(0)
        if value == "any" and word != "lane":
            found[word] = "any"
        elif word == "block":
            found[word] = point_of(value)
        elif value.isdigit():
            found[word] = int(value)
        else:
            raise UsageError(f"break: {word} takes a number, not {value!r}")
    return Threads(**found)


def watch(shell: Shell, argument: str) -> Reply:
    """Stop before a write."""
    return _watch(shell, argument, "write")


def rwatch(shell: Shell, argument: str) -> Reply:
    """Stop before a read."""
    return _watch(shell, argument, "read")


def awatch(shell: Shell, argument: str) -> Reply:
    """Stop before either."""
    return _watch(shell, argument, "access")


def _watch(shell: Shell, argument: str, kind: Literal["write", "read", "access"]) -> Reply:
    text, condition = _condition(argument)
    if not text:
        raise UsageError("what is to be watched?", hint="such as: watch out[17]")
    point = shell.debugger.watch(text, kind, condition=condition)
    return Reply([f"watchpoint {point.number}: {point}"], {"watchpoint": point.number, "bytes": point.size})


def delete(shell: Shell, argument: str) -> Reply:
    """Remove breakpoints."""
    if not argument:
        shell.debugger.delete()
    for number in _numbers(argument):
        shell.debugger.delete(number)
    return Reply()


def disable(shell: Shell, argument: str) -> Reply:
    """Leave breakpoints out."""
    return _switch(shell, argument, on=False)


def enable(shell: Shell, argument: str) -> Reply:
    """And in again."""
    return _switch(shell, argument, on=True)


def _switch(shell: Shell, argument: str, *, on: bool) -> Reply:
    for number in _numbers(argument):
        shell.debugger.point(number).enabled = on
    return Reply()


def _numbers(argument: str) -> list[int]:
    words = argument.replace(",", " ").split()
    bad = next((w for w in words if not w.isdigit()), None)
    if bad is not None:
        raise UsageError(f"{bad!r} is no number of a breakpoint", hint="info breakpoints lists them")
    return [int(w) for w in words]


def set_(shell: Shell, argument: str) -> Reply:
    """How to step, and whether findings stop."""
    words = words_of(argument)
    if words in (["follow", "warp"], ["follow", "lane"]):
        shell.debugger.follow_lane = words[1] == "lane"
    elif words in (["findings", "on"], ["findings", "off"]):
        shell.debugger.stop_on_findings = words[1] == "on"
    else:
        raise UsageError(
            f"set {argument}: there is no such setting", hint="set follow warp|lane, set findings on|off"
        )
    return Reply()
