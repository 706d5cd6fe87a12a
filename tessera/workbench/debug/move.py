"""Commands that move the program, forwards and backwards, and the focus."""

from __future__ import annotations

from tessera.workbench.debug.shell import Reply, Shell, count_of
from tessera.workbench.debug.stop_text import where_line
from tessera.workbench.failure import UsageError


def step(shell: Shell, argument: str) -> Reply:
    """To the next line."""
    return shell.stopped(shell.debugger.step(count_of(argument)))


def next_(shell: Shell, argument: str) -> Reply:
    """To the next line, over functions."""
    return shell.stopped(shell.debugger.next(count_of(argument)))


def stepi(shell: Shell, argument: str) -> Reply:
    """To the next PTX instruction."""
    return _with_ptx(shell.stopped(shell.debugger.stepi(count_of(argument))))


def continue_(shell: Shell, argument: str) -> Reply:
    """To the next breakpoint."""
    _nothing("continue", argument)
    return shell.stopped(shell.debugger.continue_())


def until(shell: Shell, argument: str) -> Reply:
    """To a line."""
    file, line = place_of(argument, "until")
    return shell.stopped(shell.debugger.run_to(line, file))


def finish(shell: Shell, argument: str) -> Reply:
    """Until the function has returned."""
    _nothing("finish", argument)
    return shell.stopped(shell.debugger.finish())


def back(shell: Shell, argument: str) -> Reply:
    """To the line before."""
    return shell.stopped(shell.debugger.back(count_of(argument)))


def back_next(shell: Shell, argument: str) -> Reply:
    """To the line before, over functions."""
    return shell.stopped(shell.debugger.back_next(count_of(argument)))


def backi(shell: Shell, argument: str) -> Reply:
    """To the PTX instruction before."""
    return _with_ptx(shell.stopped(shell.debugger.backi(count_of(argument))))


def reverse_continue(shell: Shell, argument: str) -> Reply:
    """Back to the last breakpoint."""
    _nothing("reverse-continue", argument)
    return shell.stopped(shell.debugger.reverse_continue())


def reverse_finish(shell: Shell, argument: str) -> Reply:
    """Back to the call."""
    _nothing("reverse-finish", argument)
    return shell.stopped(shell.debugger.reverse_finish())


def goto(shell: Shell, argument: str) -> Reply:
    """To a moment."""
    if not argument.isdigit():
        raise UsageError("goto takes a moment: a number that a stop showed", hint="such as: goto 1105")
    return shell.stopped(shell.debugger.goto(int(argument)))


def restart(shell: Shell, argument: str) -> Reply:
    """To the beginning."""
    _nothing("restart", argument)
    return shell.stopped(shell.debugger.restart())


def focus(shell: Shell, argument: str) -> Reply:
    """Which thread is looked at."""
    _nothing("focus", argument)
    return Reply([where_line(shell.debugger.stop)], {"stop": shell.debugger.stop.data()})


def block(shell: Shell, argument: str) -> Reply:
    """Go to the beginning of a block."""
    return shell.stopped(shell.debugger.set_focus(block=point_of(argument)))


def warp(shell: Shell, argument: str) -> Reply:
    """Look at another warp."""
    return shell.stopped(shell.debugger.set_focus(warp=_number("warp", argument)))


def lane(shell: Shell, argument: str) -> Reply:
    """Look at another lane."""
    return shell.stopped(shell.debugger.set_focus(lane=_number("lane", argument)))


def place_of(text: str, command: str) -> tuple[str | None, int]:
    """File and line of `[FILE:]LINE`.

    Raises:
        UsageError: It is no such place.
    """
    file, colon, line = text.rpartition(":")
    if not line.isdigit():
        raise UsageError(
            f"{command} takes a line: {text or 'nothing'!r} is none", hint=f"such as: {command} 17"
        )
    return (file if colon else None), int(line)


def point_of(text: str) -> tuple[int, int, int]:
    """A block's index: `2`, `1,0`, `(1, 0, 0)`.

    Raises:
        UsageError: It is none.
    """
    parts = [part.strip() for part in text.strip("() ").split(",")]
    if not 1 <= len(parts) <= 3 or not all(part.isdigit() for part in parts):
        raise UsageError(
            f"{text or 'nothing'!r} is no index of a block", hint="such as: block 2, block 1,0,0"
        )
    x, y, z = (*map(int, parts), 0, 0)[:3]
    return x, y, z


def _number(command: str, text: str) -> int:
    if not text.isdigit():
        raise UsageError(f"{command} takes a number", hint=f"such as: {command} 1")
    return int(text)


def _nothing(command: str, argument: str) -> None:
    if argument:
        raise UsageError(f"{command} takes nothing; {argument!r} is given")


def _with_ptx(reply: Reply) -> Reply:
    stop = reply.stop
    if stop is not None and stop.instruction and stop.line:
        reply.lines.append(f"      PTX {stop.ptx_line}: {stop.instruction}")
    return reply
