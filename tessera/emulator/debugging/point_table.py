"""The breakpoints and watchpoints of a debugger."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from tessera.emulator.debugging.breakpoints import ANY, Access, Breakpoint, Threads, Watchpoint
from tessera.emulator.debugging.expression import parse_expression
from tessera.emulator.debugging.inspector import Inspector
from tessera.emulator.debugging.launches import LaunchList
from tessera.emulator.debugging.source import SourceFile
from tessera.emulator.debugging.stop import Focus
from tessera.emulator.debugging.timeline import Timeline
from tessera.program.errors import InputError


class PointTable:
    """Where a program is to stop.

    Args:
        program: What runs.
        sources: Source files by the name that the PTX has for them.
        interval: Instructions between two snapshots of the state.
    """

    def __init__(self, program: LaunchList, sources: Mapping[str, SourceFile], *, interval: int) -> None:
        self.timeline = Timeline(program, interval=interval, files=frozenset(sources) or None)
        self.inspector = Inspector(program, self.timeline, sources)
        self.program, self.sources = program, sources
        self.breakpoints: dict[int, Breakpoint] = {}
        self.watchpoints: dict[int, Watchpoint] = {}
        self.frame = 0
        """Which call of the focus is looked at: 0 is the innermost."""
        self.current_file = ""
        """The file that a line without one means."""
        self._focus = Focus((0, 0, 0), 0, 0)
        self._numbers = iter(range(1, 1 << 30))

    @property
    def focus(self) -> Focus:
        """The thread that is looked at."""
        return self._focus

    def break_at(
        self,
        line: int,
        file: str | None = None,
        *,
        condition: str | None = None,
        threads: Threads | None = None,
        once: bool = False,
    ) -> Breakpoint:
        """Stop before a line of the source.

        Without `threads` the block and warp of the focus, or with a condition any thread.

        Raises:
            InputError: The line has no code; the hint names the nearest that has. Or the condition is no
                expression.
        """
        return self._add(line, file, condition=condition, threads=threads, once=once)

    def _place(self, line: int, file: str | None) -> str:
        """The file that a line with code is in.

        Raises:
            InputError: The line has no code; the hint names the nearest that has.
        """
        name = self._file(file)
        lines = self.lines_with_code(name)
        if line not in lines:
            near = min(lines, key=lambda n: (abs(n - line), n), default=0)
            hint = f"the nearest line with code: break {near}" if near else "the file has no code"
            raise InputError(f"{name}:{line} has no code", hint=hint)
        return name

    def _add(
        self, line: int, file: str | None, *, condition: str | None, threads: Threads | None, once: bool
    ) -> Breakpoint:
        name = self._place(line, file)
        parsed = parse_expression(condition) if condition else None
        chosen = threads or (ANY if condition else Threads())
        point = Breakpoint(next(self._numbers), name, line, chosen, parsed, once=once)
        self.breakpoints[point.number] = point
        return point

    def break_in(
        self,
        function: str,
        *,
        condition: str | None = None,
        threads: Threads | None = None,
        once: bool = False,
    ) -> Breakpoint:
        """Stop at the first line of a function.

        Raises:
            InputError: There is no such function.
        """
        known = {f.name: f for launch in self.program.launches for f in launch.code.functions.values()}
        if function not in known:
            near = difflib.get_close_matches(function, known, 1)
            listing = "functions: " + (", ".join(known) or "none have debug information")
            raise InputError(
                f"there is no function {function!r}", hint=f"did you mean {near[0]}?" if near else listing
            )
        for launch in self.program.launches:
            for name, item in launch.code.instructions():
                found = launch.code.functions.get(name)
                if found is known[function] and item.source_line not in (0, found.line):
                    point = self.break_at(
                        item.source_line,
                        launch.code.file_of(item),
                        condition=condition,
                        threads=threads,
                        once=once,
                    )
                    point.function = function
                    return point
        raise InputError(f"{function} has no code with source lines")

    def watch(self, text: str, kind: Access = "write", *, condition: str | None = None) -> Watchpoint:
        """Stop before an instruction that writes (or reads, or accesses) an element, an array or an address.

        Raises:
            InputError: The expression names no memory.
        """
        expression = parse_expression(text)
        found = self.inspector.place(expression, self.focus.thread, self.frame)
        point = Watchpoint(
            next(self._numbers), expression, kind, found.space, found.address, found.size, found.dtype,
            None if found.space == "global" else self.focus.block,
            self.focus.thread if found.space == "local" else None,
            parse_expression(condition) if condition else None,
        )  # fmt: skip
        self.watchpoints[point.number] = point
        return point

    def point(self, number: int) -> Breakpoint | Watchpoint:
        """A breakpoint or watchpoint.

        Raises:
            InputError: There is none of that number.
        """
        found = self.breakpoints.get(number) or self.watchpoints.get(number)
        if found is None:
            numbers = sorted((*self.breakpoints, *self.watchpoints))
            listing = ", ".join(map(str, numbers)) or "none"
            raise InputError(f"there is no breakpoint {number}", hint=f"breakpoints: {listing}")
        return found

    def delete(self, number: int | None = None) -> None:
        """Remove a breakpoint or watchpoint; all without a number.

        Raises:
            InputError: There is none of that number.
        """
        if number is None:
            self.breakpoints.clear()
            self.watchpoints.clear()
        else:
            self.point(number)
            self.breakpoints.pop(number, None)
            self.watchpoints.pop(number, None)

    def lines_with_code(self, file: str) -> set[int]:
        """Lines of a file that can be stopped at."""
        found: set[int] = set()
        for launch in self.program.launches:
            found |= launch.code.lines().get(file, set())
            # The `def` line holds what the compiler puts before the first statement.
            files = launch.code.module.files
            if file in files.values():
                found -= {f.line for f in launch.code.functions.values()}
        return found

    def _file(self, file: str | None) -> str:
        known = list(dict.fromkeys(name for launch in self.program.launches for name in launch.code.lines()))
        if file is None:
            return self.current_file or (known or [""])[0]
        name = file.rpartition("/")[2]
        if name not in known:
            raise InputError(f"no code comes from {file}", hint=f"files: {', '.join(known) or 'none'}")
        return name
