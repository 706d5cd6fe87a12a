"""Every command of the debugger, in a table."""

from __future__ import annotations

from tessera.workbench.debug.look import (
    arrays,
    backtrace,
    display,
    down,
    findings,
    info,
    lanes,
    list_source,
    local_variables,
    print_value,
    ptx,
    registers,
    shared,
    undisplay,
    up,
    warps,
)
from tessera.workbench.debug.move import (
    back,
    back_next,
    backi,
    block,
    continue_,
    finish,
    focus,
    goto,
    lane,
    next_,
    restart,
    reverse_continue,
    reverse_finish,
    step,
    stepi,
    until,
    warp,
)
from tessera.workbench.debug.points import (
    awatch,
    break_,
    delete,
    disable,
    enable,
    rwatch,
    set_,
    tbreak,
    watch,
)
from tessera.workbench.debug.shell import Command, Reply, Shell
from tessera.workbench.failure import UsageError

_FORWARD, _BACK, _POINTS, _LOOK, _WHERE = "Forwards", "Backwards", "Stopping", "Looking", "Thread"
_EXPRESSION = (
    "An expression is written as in Python: variables, numbers, arithmetic, comparisons, and/or/not, x[i], "
    "slices, .shape, threadIdx.x, blockIdx, blockDim, gridDim, cuda.grid(1), lane, warp, block, thread, and "
    "PTX registers such as %rd4."
)
_THREADS = (
    "Without more it is for the block and warp in focus. `any` means every thread; `block 2`, `block 1,0,0`, "
    "`block any`, `warp 3`, `warp any` and `lane 5` say which. With `if EXPRESSION` it stops for the first "
    "thread for which that holds, whichever it is, and the focus goes there.\n  break 17\n  break 17 any\n"
    "  break 17 if i == 40 and lane == 8\n  break smooth warp 1"
)


def help_(shell: Shell, argument: str) -> Reply:
    """All commands, or one."""
    if argument:
        command = shell.find(argument)
        lines = [f"{command.names[0]} {command.usage}".rstrip(), f"  {command.summary}"]
        if command.names[1:]:
            lines.append(f"  also: {', '.join(command.names[1:])}")
        return Reply([*lines, *(f"  {line}" for line in command.detail.splitlines())])
    lines = []
    for section in dict.fromkeys(c.section for c in shell.commands):
        lines.append(f"{section}:")
        for command in shell.commands:
            if command.section == section:
                short = f" ({command.names[1]})" if command.names[1:] else ""
                lines.append(f"  {command.names[0] + short:<24} {command.summary}")
    return Reply([*lines, "help NAME says more; an empty line repeats a step"])


def quit_(_shell: Shell, argument: str) -> Reply:
    """The end."""
    if argument:
        raise UsageError("quit takes nothing")
    return Reply(quit=True)


COMMANDS: tuple[Command, ...] = (
    Command(("step", "s"), "[N]", "to the next line, into functions", _FORWARD, step, repeats=True),
    Command(("next", "n"), "[N]", "to the next line, over functions", _FORWARD, next_, repeats=True),
    Command(("stepi", "si"), "[N]", "to the next PTX instruction", _FORWARD, stepi, repeats=True),
    Command(("continue", "c"), "", "to the next breakpoint or finding", _FORWARD, continue_, repeats=True),
    Command(("until", "u"), "[FILE:]LINE", "to a line of the warp in focus", _FORWARD, until),
    Command(("finish", "fin"), "", "until this function has returned", _FORWARD, finish),
    Command(("back", "bs", "reverse-step", "rs"), "[N]", "to the line before", _BACK, back, repeats=True),
    Command(("back-next", "bn", "reverse-next", "rn"), "[N]", "to the line before, over functions", _BACK,
            back_next, repeats=True),
    Command(("backi", "bi", "reverse-stepi", "rsi"), "[N]", "to the PTX instruction before", _BACK, backi,
            repeats=True),
    Command(("reverse-continue", "rc"), "", "back to the last breakpoint or finding", _BACK, reverse_continue,
            repeats=True),
    Command(("reverse-finish", "rfin"), "", "back to the call of this function", _BACK, reverse_finish),
    Command(("goto",), "MOMENT", "to any moment, as stops count them", _BACK, goto),
    Command(("restart", "run"), "", "to the beginning; breakpoints stay", _BACK, restart),
    Command(("break", "b"), "[FILE:]LINE|FUNCTION [any|block B|warp W|lane L]… [if EXPRESSION]",
            "stop before a line", _POINTS, break_, _THREADS),
    Command(("tbreak", "tb"), "…", "the same, once", _POINTS, tbreak, _THREADS),
    Command(("watch",), "ELEMENT [if EXPRESSION]", "stop before a write of memory", _POINTS, watch,
            "An element or an array: watch out[17], watch tile. Or an address.\n"
            "Any thread of any block counts."),
    Command(("rwatch",), "ELEMENT [if EXPRESSION]", "stop before a read", _POINTS, rwatch),
    Command(("awatch",), "ELEMENT [if EXPRESSION]", "stop before either", _POINTS, awatch),
    Command(("delete", "d"), "[NUMBER]…", "remove breakpoints; all without a number", _POINTS, delete),
    Command(("disable",), "NUMBER…", "leave breakpoints out", _POINTS, disable),
    Command(("enable",), "NUMBER…", "and in again", _POINTS, enable),
    Command(("set",), "follow warp|lane, findings on|off", "how to step, and whether findings stop", _POINTS,
            set_, "follow warp: a step goes to the next line that any lane of the warp begins.\n"
            "follow lane: to the next line of the lane in focus.\n"
            "findings off: what the sanitizer finds no longer stops the program."),
    Command(("print", "p"), "[/x] EXPRESSION", "a value of the thread in focus", _LOOK, print_value,
            _EXPRESSION),
    Command(("lanes", "v"), "EXPRESSION", "a value in every lane of the warp", _LOOK, lanes,
            f"(in parentheses: inactive lanes; *: changed since the last stop; ·: no value)\n{_EXPRESSION}"),
    Command(("locals",), "", "the variables of the function", _LOOK, local_variables),
    Command(("arrays",), "", "arrays by name: type and memory", _LOOK, arrays),
    Command(("shared",), "[NAME]", "shared arrays as grids", _LOOK, shared),
    Command(("registers", "reg"), "[all|NAME…]", "PTX registers whose values still matter", _LOOK, registers),
    Command(("display",), "[EXPRESSION]", "show a value at every stop", _LOOK, display, _EXPRESSION),
    Command(("undisplay",), "[NUMBER]", "no longer", _LOOK, undisplay),
    Command(("list", "l"), "[LINE]", "source around a line; again: further on", _LOOK, list_source,
            repeats=True),
    Command(("ptx", "disassemble"), "", "PTX around the next instruction", _LOOK, ptx),
    Command(("findings",), "", "what the sanitizer has found so far", _LOOK, findings),
    Command(("focus",), "", "which thread is looked at", _WHERE, focus),
    Command(("block",), "X[,Y[,Z]]", "go to the beginning of a block", _WHERE, block),
    Command(("warp",), "W", "look at another warp", _WHERE, warp),
    Command(("lane",), "L", "look at another lane", _WHERE, lane),
    Command(("warps", "w"), "", "where the lanes of every warp are", _WHERE, warps),
    Command(("backtrace", "bt", "where"), "", "the calls of the thread", _WHERE, backtrace),
    Command(("up",), "", "look at the caller", _WHERE, up),
    Command(("down",), "", "and back", _WHERE, down),
    Command(("info",), "breakpoints|locals|warps|…", "the same, as gdb has it", _LOOK, info),
    Command(("help", "h"), "[NAME]", "this, or more about one", _LOOK, help_),
    Command(("quit", "q", "exit"), "", "the end", _LOOK, quit_),
)  # fmt: skip
"""Every command, in the order of `help`."""
