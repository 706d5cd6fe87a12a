"""A step debugger for kernels, forwards and backwards, on the lockstep interpreter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tessera.emulator.debugging.breakpoints import Breakpoint, Threads
from tessera.emulator.debugging.changes import Changes
from tessera.emulator.debugging.expression import NoValueError
from tessera.emulator.debugging.launches import LaunchList
from tessera.emulator.debugging.memory_watch import MemoryWatch
from tessera.emulator.debugging.point_table import PointTable
from tessera.emulator.debugging.raises import threads_that_raise
from tessera.emulator.debugging.source import SourceFile
from tessera.emulator.debugging.stop import WARP, Focus, Reason, Stop
from tessera.emulator.debugging.timeline import INTERVAL
from tessera.emulator.debugging.values import ArrayValue
from tessera.emulator.debugging.view import Lane, Row, bits_of, lanes_of, place_of
from tessera.emulator.findings import Finding, Point
from tessera.emulator.lanes import Array
from tessera.program.errors import DeviceError, InputError

Event = tuple[Reason, str, dict[str, Any]]
"""Why to stop, in a word and in words, and further fields of the `Stop`."""


class Debugger(PointTable):
    """Stops launches where asked, steps them by line or instruction, and back.

    Blocks run one after the other, all warps of one in lockstep. A thread of one block is in focus.

    Args:
        program: What runs.
        sources: Source files by the name that the PTX has for them.
        interval: Instructions between two snapshots of the state.

    Raises:
        DeviceError: There is nothing to run.
    """

    def __init__(
        self, program: LaunchList, sources: Mapping[str, SourceFile], *, interval: int = INTERVAL
    ) -> None:
        if not program.launches:
            raise DeviceError("there is no launch to debug")
        super().__init__(program, sources, interval=interval)
        self.stop_on_findings = True
        """Whether what the sanitizer finds stops the program."""
        self.follow_lane = False
        """Whether steps follow the lane of the focus alone, rather than its warp."""
        self._lane = 0
        self._changes = Changes()
        self._watch = MemoryWatch(self.timeline, self.watchpoints)
        self._focus_launch = 0
        self.timeline.prepare()
        self.stop = self._to_first_line("start", "")
        """Where it stands, and why."""

    # -- the focus --------------------------------------------------------------------------------

    def set_focus(
        self, *, block: Point | None = None, warp: int | None = None, lane: int | None = None
    ) -> Stop:
        """Look at another thread; with a block the program goes to the beginning of that one.

        Raises:
            InputError: There is no such block, warp or lane.
        """
        launch = self.timeline.launch
        if block is not None and any(not 0 <= b < g for b, g in zip(block, launch.grid, strict=True)):
            raise InputError(f"there is no block {block}: the grid has {_times(launch.grid)} blocks")
        threads = launch.block[0] * launch.block[1] * launch.block[2]
        chosen = self._focus.warp if warp is None else warp
        if not 0 <= chosen * WARP < threads:
            raise InputError(f"there is no warp {warp}: a block has {-(-threads // WARP)} warps")
        wanted = self._lane if lane is None else lane
        if not 0 <= wanted < min(WARP, threads - chosen * WARP):
            if lane is not None:
                raise InputError(f"there is no lane {lane}: warp {chosen} has {min(WARP, threads)} lanes")
            wanted = 0
        self.frame, self._lane = 0, wanted
        if block is not None:
            self._focus = Focus(block, chosen, wanted)
            self._go_to_block(block)
            return self._to_first_line("moved", f"block {_point(block)} begins")
        self._focus = replace(self._focus, warp=chosen, lane=wanted)
        return self._stopped(("moved", "", {}), keep=True)

    def _go_to_block(self, block: Point) -> None:
        x, y, z = block
        grid, launch = (
            self.timeline.launch.grid,
            min(self.timeline.state.launch, len(self.program.launches) - 1),
        )
        number = x + grid[0] * (y + grid[1] * z)
        start = self.timeline.starts.get((launch, number))
        if start is not None:
            self.timeline.seek(start)
            return
        self.timeline.forward(lambda: (launch, number) in self.timeline.starts)

    def _to_first_line(self, reason: Reason, message: str) -> Stop:
        """Go on to the first line of the focus, past what the compiler puts before it."""
        run = self.timeline.run
        if not self._in_focus() or self._left():
            self._move_focus(None)
        if run is not None and not self.timeline.entering()[self._own()].any():
            begun = run
            self.timeline.forward(
                lambda: self.timeline.run is not begun or bool(self.timeline.entering()[self._own()].any())
            )
        return self._stopped((reason, message, {}))

    def _own(self) -> slice:
        """The threads of the focused warp; or the lane alone, if steps follow it."""
        first = self._focus.warp * WARP
        if self.follow_lane:
            return slice(first + self._lane, first + self._lane + 1)
        return slice(first, first + WARP)

    def _in_focus(self) -> bool:
        """Whether the block of the focus is the one under way."""
        run = self.timeline.run
        return (
            run is not None
            and run.geometry.index == self._focus.block
            and self.timeline.state.launch == self._focus_launch
        )

    # -- forwards ---------------------------------------------------------------------------------

    def step(self, count: int = 1) -> Stop:
        """To the next line of the focused warp, into functions that it calls."""
        return self._repeat(count, lambda: self._line_event())

    def next(self, count: int = 1) -> Stop:
        """To the next line of the focused warp, over the functions that it calls."""

        def once() -> Event | None:
            return self._line_event(depth)

        depth = 0
        for _ in range(count):
            depth = self.stop.depth
            if self._forward(once).reason != "step":
                break
        return self.stop

    def stepi(self, count: int = 1) -> Stop:
        """To the next PTX instruction of the focused warp."""
        return self._repeat(count, lambda: self._issue_event())

    def continue_(self) -> Stop:
        """To the next breakpoint, watchpoint or finding, or to the end."""
        return self._forward(lambda: None, leave=False)

    def run_to(self, line: int, file: str | None = None) -> Stop:
        """To a line of the focused warp.

        Raises:
            InputError: The line has no code.
        """
        self.breakpoints[0] = Breakpoint(0, self._place(line, file), line, Threads(), once=True)
        try:
            return self._forward(lambda: None, leave=False)
        finally:
            self.breakpoints.pop(0, None)

    def finish(self) -> Stop:
        """Until the function that the focus is in has returned; in the kernel itself, until the warp has."""
        depth = self.stop.depth
        return self._forward(lambda: self._issue_event(depth - 1) if depth else None)

    def _repeat(self, count: int, event: Callable[[], Event | None]) -> Stop:
        for _ in range(count):
            if self._forward(event).reason != "step":
                break
        return self.stop

    def _forward(self, event: Callable[[], Event | None], *, leave: bool = True) -> Stop:
        timeline = self.timeline
        announced = self.stop.clock if self.stop.reason in ("finding", "watchpoint") else -1
        timeline.interrupted = False
        while not timeline.ended:
            before = timeline.clock
            self._watch.begin()
            timeline.execute()
            done = self._done(before)
            if done is not None and before != announced:
                timeline.seek(before)
                return self._stopped(done)
            if timeline.interrupted:
                return self._stopped(("interrupted", "interrupted", {}))
            here = self._here() or event()
            if here is not None:
                return self._stopped(here)
            if leave and self._left():
                who = f"warp {self._focus.warp} of block {_point(self._focus.block)} has returned"
                return self._to_first_line("step", who)
        return self._stopped(("end", "the program has ended", {}))

    # -- backwards --------------------------------------------------------------------------------

    def back(self, count: int = 1) -> Stop:
        """To the previous line of the focused warp, into functions too."""
        for _ in range(count):
            self._backward(lambda: self._line_event(across=True))
        return self.stop

    def back_next(self, count: int = 1) -> Stop:
        """To the previous line of the focused warp, over functions that it called."""
        for _ in range(count):
            depth = self.stop.depth
            self._backward(lambda depth=depth: self._line_event(depth, across=True))  # type: ignore[misc]
        return self.stop

    def backi(self, count: int = 1) -> Stop:
        """To the previous PTX instruction of the focused warp."""
        for _ in range(count):
            self._backward(lambda: self._issue_event(across=True))
        return self.stop

    def reverse_continue(self) -> Stop:
        """Back to the last breakpoint, watchpoint or finding, or to the beginning."""
        if not self.breakpoints and not self.watchpoints and not self.timeline.found:
            self.timeline.seek(0)
            return self._to_first_line("start", "the beginning of the program")
        return self._backward(lambda: None, points=True)

    def reverse_finish(self) -> Stop:
        """Back to the call of the function that the focus is in."""
        depth = self.stop.depth
        return self._backward(lambda: self._issue_event(depth - 1) if depth else None)

    def restart(self) -> Stop:
        """To the first line of the focus again; breakpoints stay."""
        self.timeline.seek(0)
        return self._to_first_line("start", "")

    def goto(self, clock: int) -> Stop:
        """To any moment, as `Stop.clock` counts them."""
        self.timeline.interrupted = False
        if clock <= self.timeline.frontier:
            self.timeline.seek(max(clock, 0))
        else:
            while self.timeline.clock < clock and not self.timeline.ended and not self.timeline.interrupted:
                self.timeline.execute()
        return self._stopped(("moved", "", {}))

    def _backward(self, event: Callable[[], Event | None], *, points: bool = False) -> Stop:
        timeline, upper = self.timeline, self.timeline.clock
        timeline.interrupted = False
        while upper > 0:
            found: tuple[int, Event] | None = None
            timeline.rewind(upper - 1)
            lower = timeline.clock
            while timeline.clock < upper:
                before = timeline.clock
                here = event() or (self._here() if points else None)
                found = (before, here) if here is not None else found
                self._watch.begin()
                timeline.execute()
                done = self._done(before) if points else None
                found = (before, done) if done is not None else found
                if timeline.interrupted:
                    return self._stopped(("interrupted", "interrupted", {}))
            if found is not None:
                timeline.seek(found[0])
                return self._stopped(found[1])
            upper = lower
        timeline.seek(0)
        return self._to_first_line("start", "the beginning of the program")

    # -- events -----------------------------------------------------------------------------------

    def _line_event(self, depth: int | None = None, *, across: bool = False) -> Event | None:
        """The focused warp is about to begin a line.

        Args:
            depth: Of a call no deeper than that.
            across: Or the warp of that number in another block.
        """
        timeline, run = self.timeline, self.timeline.run
        if run is None or not (across or self._in_focus()) or not timeline.entering()[self._own()].any():
            return None
        deep = len(run.stack) - 1 if self._in_focus() else 0
        return ("step", "", {}) if depth is None or deep <= depth else None

    def _issue_event(self, depth: int | None = None, *, across: bool = False) -> Event | None:
        """The focused warp is about to execute an instruction; arguments as above."""
        top, run = self.timeline.top, self.timeline.run
        if top is None or run is None or self.timeline.instruction is None:
            return None
        if not (across or self._in_focus()) or (depth is not None and len(run.stack) - 1 > depth):
            return None
        return ("step", "", {}) if top.going[self._own()].any() else None

    def _left(self) -> bool:
        """Whether the focused warp has returned, or its block is over."""
        run = self.timeline.run
        if not self._in_focus() or run is None:
            return not self.timeline.is_alive(self._focus_launch, self._focus.block) and run is not None
        return all(place_of(run, t).doing == "returned" for t in lanes_of(run, self._focus.warp))

    def _here(self) -> Event | None:
        """A breakpoint, or a block that cannot go on."""
        timeline, run = self.timeline, self.timeline.run
        if timeline.state.failure is not None:
            found = timeline.found.get(timeline.clock)
            return self._finding_event(found[0]) if found and self.stop_on_findings else None
        item = timeline.instruction
        if run is None or item is None or not item.source_line:
            return None
        if item.opcode == "call" and self.stop_on_findings:
            raising = threads_that_raise(run.stack[-1], item)
            if raising.size:
                text = (
                    f"a Python exception, such as a division by zero, is about to end {_count(raising.size)}"
                )
                return "exception", text, {"thread": int(raising[0])}
        if not self.breakpoints:
            return None
        entering = timeline.entering()
        if not entering.any():
            return None
        file = timeline.launch.code.file_of(item)
        for point in list(self.breakpoints.values()):
            if point.enabled and point.line == item.source_line and point.file == file:
                thread = self._first_of(point, entering)
                if thread is not None:
                    if point.once:
                        self.breakpoints.pop(point.number, None)
                    if not point.number:
                        return "step", "", {"thread": thread}
                    return "breakpoint", f"breakpoint {point.number}", {
                        "breakpoint": point.number, "thread": thread,
                    }  # fmt: skip
        return None

    def _first_of(self, point: Breakpoint, entering: Any) -> int | None:
        """The first thread that a breakpoint is for, the focus before others."""
        run, threads = self.timeline.run, point.threads
        if run is None:
            return None
        block = self._focus.block if threads.block is None else threads.block
        if block != "any" and run.geometry.index != block:
            return None
        if threads.block is None and self.timeline.state.launch != self._focus_launch:
            return None
        warp = self._focus.warp if threads.warp is None else threads.warp
        chosen = [
            t for t in range(run.threads)
            if entering[t] and warp in ("any", t // WARP) and threads.lane in (None, t % WARP)
        ]  # fmt: skip
        own = self._focus.warp * WARP + self._lane
        chosen.sort(key=lambda t: (t != own, t // WARP != self._focus.warp, t))
        condition = point.condition
        return next((t for t in chosen if condition is None or self._holds(condition, t)), None)

    def _holds(self, condition: Any, thread: int) -> bool:
        try:
            return bool(condition.value(self.inspector.scope(thread)))
        except NoValueError:
            return False

    def _done(self, before: int) -> Event | None:
        """What the instruction of a moment did: an access that is watched, or a finding."""
        access = self._watch.hit(before, self._holds)
        if access is not None:
            return "watchpoint", f"watchpoint {access.number}", {"access": access, "thread": access.thread}
        found = self.timeline.found.get(before)
        if found and self.stop_on_findings and self.timeline.state.failure is None:
            return self._finding_event(found[0])
        if found and self.stop_on_findings and self.timeline.clock - 1 == before:
            return self._finding_event(found[0])
        return None

    def _finding_event(self, finding: Finding) -> Event:
        x, y, z = finding.thread
        bx, by, _ = self.timeline.launch.block
        return "finding", f"{finding.kind}: {finding.message}", {
            "finding": finding, "thread": x + bx * (y + by * z), "block": finding.block,
        }  # fmt: skip

    # -- stops ------------------------------------------------------------------------------------

    def _stopped(self, event: Event, *, keep: bool = False) -> Stop:
        """The stop at this moment; the focus moves to where it happens."""
        reason, message, fields = event
        number: int = fields["access"].number if "access" in fields else fields.get("breakpoint", 0)
        point = self.breakpoints.get(number) or self.watchpoints.get(number)
        if point is not None:
            point.hits += 1
        timeline, run = self.timeline, self.timeline.run
        thread = fields.pop("thread", None)
        fields.pop("block", None)
        if not keep:
            self.frame = 0
            self._move_focus(thread)
        item, top = timeline.instruction, timeline.top
        place = place_of(run, self._focus.thread) if run is not None else None
        if place is not None and place.instruction is not None and not (item and self._issue_event()):
            item = place.instruction
        symbol = place.top if place is not None and place.top is not None else top
        name = symbol.frame.function.name if symbol is not None else ""
        code = timeline.launch.code
        known = code.functions.get(name)
        going = top.going if top is not None and timeline.instruction is not None else ()
        self.stop = Stop(
            reason=reason, message=message, clock=timeline.clock, kernel=timeline.launch.function.name,
            launch=timeline.state.launch, function=known.name if known is not None else name,
            file=code.file_of(item) if item is not None else "",
            line=item.source_line if item is not None else 0,
            ptx_line=item.line if item is not None else 0,
            instruction=code.text.splitlines()[item.line - 1].strip() if item is not None else "",
            focus=self._focus, active=bits_of(going, self._focus.warp) if len(going) else 0,
            depth=place.depth if place is not None and place.depth > 0 else 0, **fields,
        )  # fmt: skip
        self.current_file = self.stop.file or self.current_file
        if not keep:
            self._note_values()
        return self.stop

    def _move_focus(self, thread: int | None) -> None:
        run, top = self.timeline.run, self.timeline.top
        if run is None:
            return
        block, own = run.geometry.index, self._focus.warp * WARP + self._lane
        self._focus_launch = self.timeline.state.launch
        if thread is None:
            going = (
                [] if top is None or self.timeline.instruction is None else top.going.nonzero()[0].tolist()
            )
            near = [t for t in going if t // WARP == self._focus.warp]
            alive = own < run.threads and place_of(run, own).doing != "returned"
            moved = block != self._focus.block
            thread = own if own in near or (alive and not near and not moved) else (near or going or [0])[0]
            if not near and not alive and going:
                thread = going[0]
        else:
            self._lane = thread % WARP
        self._focus = Focus(block, thread // WARP, thread % WARP)

    # -- looking ----------------------------------------------------------------------------------

    def evaluate(self, text: str) -> Any:
        """An expression for the thread in focus.

        Raises:
            InputError: It is no expression, or has no value there.
        """
        return self.inspector.value(text, self._focus.thread, self.frame)

    def lanes(self, text: str) -> tuple[Lane, ...]:
        """An expression for every lane of the focused warp."""
        return self.inspector.lanes(text, self._focus.warp, self.frame, self._focus)

    def rows(self) -> list[Row]:
        """The variables of the focused warp; values that differ from the stop before are marked."""
        return self._changes.mark(self.inspector.rows(self._focus.warp, self.frame, self._focus))

    def changed_elements(self, array: ArrayValue) -> Array:
        """Bool in the shape of a shared array: the elements that differ from the stop before."""
        size = array.dtype.itemsize
        start = array.address & ((1 << 56) - 1)
        offsets = np.zeros(array.shape, np.int64)
        for axis, (count, stride) in enumerate(zip(array.shape, array.strides, strict=True)):
            steps = np.arange(count).reshape([-1 if a == axis else 1 for a in range(len(array.shape))])
            offsets = offsets + steps * stride
        index = np.minimum((start + offsets)[..., None] + np.arange(size), len(self._changes.shared) - 1)
        found: Array = self._changes.shared[index].any(axis=-1)
        return found

    def _note_values(self) -> None:
        run = self.timeline.run
        if run is not None:
            place = (self._focus_launch, self._focus.block, self._focus.warp, self.stop.function)
            rows = self.inspector.rows(self._focus.warp, 0, self._focus)
            self._changes.note(place, rows, run.shared)


def _count(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def _point(point: Point) -> str:
    return "(" + ", ".join(map(str, point)) + ")"


def _times(sizes: Point) -> str:
    return " × ".join(map(str, sizes))
