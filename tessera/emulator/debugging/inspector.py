"""Reads a block that stands still: variables of every lane, arrays, calls, warps, registers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tessera.emulator.activation import Activation
from tessera.emulator.cfg import reads, writes
from tessera.emulator.debugging.expression import Expression, parse_expression
from tessera.emulator.debugging.launches import LaunchList
from tessera.emulator.debugging.source import SourceFile
from tessera.emulator.debugging.stop import Focus
from tessera.emulator.debugging.symbols import ArrayType, SourceFunction, SourceVariable
from tessera.emulator.debugging.timeline import Timeline
from tessera.emulator.debugging.values import ArrayValue, NoValueError, Scope, space_of
from tessera.emulator.debugging.view import Call, Lane, Row, Warp, calls_of, lanes_of, warps_of
from tessera.emulator.lockstep import BlockRun
from tessera.program.errors import DeviceError, InputError


class Memory(NamedTuple):
    """Some bytes."""

    space: str
    address: int
    """Generic."""
    size: int
    dtype: np.dtype[Any] | None
    """Of its elements, where known."""


class Inspector:
    """Looks at the moment that a timeline stands at.

    Args:
        program: Launches and arrays.
        timeline: Where they are.
        sources: Files by the name that the PTX has for them.
    """

    def __init__(self, program: LaunchList, timeline: Timeline, sources: Mapping[str, SourceFile]) -> None:
        self.program, self.timeline, self.sources = program, timeline, sources

    # -- where ------------------------------------------------------------------------------------

    def block(self) -> BlockRun:
        """The block under way.

        Raises:
            DeviceError: There is none: the program has ended.
        """
        run = self.timeline.run
        if run is None:
            raise DeviceError("the program has ended: no block is under way", hint="back, or restart")
        return run

    def function_of(self, top: Activation) -> SourceFunction | None:
        """The source's function that a call is of."""
        return self.timeline.launch.code.functions.get(top.frame.function.name)

    def scope(self, thread: int, frame: int = 0) -> Scope:
        """What names mean to a thread, in the innermost of its calls or, with `frame`, further out."""
        run = self.block()
        calls = calls_of(run, thread)
        top = calls[min(frame, len(calls) - 1)] if calls else run.stack[-1]
        return self.scope_in(top, thread)

    def scope_in(self, top: Activation, thread: int) -> Scope:
        """What names mean to a thread in a call."""
        function = self.function_of(top)
        file = self._source_of(top)
        names = file.names_in(function.line) if function is not None and file is not None else None
        constants = file.constants if file is not None else {}
        return Scope(self.block(), top, function, thread, self.program.arrays, constants, names)

    def _source_of(self, top: Activation) -> SourceFile | None:
        body = top.frame.function.body
        file = next((getattr(i, "file", 0) for i in body if getattr(i, "source_line", 0)), 0)
        return self.sources.get(self.timeline.launch.code.module.files.get(file, ""))

    def calls(self, thread: int) -> list[Call]:
        """The calls that a thread is in, the innermost first."""
        found = []
        code = self.timeline.launch.code
        for top in calls_of(self.block(), thread):
            item = top.call.instruction if top.call is not None else top.instruction
            symbol, function = top.frame.function.name, self.function_of(top)
            found.append(
                Call(
                    function.name if function is not None else symbol,
                    symbol,
                    code.file_of(item) if item is not None else "",
                    item.source_line if item is not None else 0,
                )
            )
        return found

    def warps(self) -> list[Warp]:
        """Every warp of the block."""
        return list(warps_of(self.timeline.launch, self.block()))

    # -- values -----------------------------------------------------------------------------------

    def value(self, text: str, thread: int, frame: int = 0) -> Any:
        """An expression for one thread.

        Raises:
            InputError: It is no expression, or has no value there.
        """
        return parse_expression(text).value(self.scope(thread, frame))

    def lanes(self, text: str, warp: int, frame: int = 0, focus: Focus | None = None) -> tuple[Lane, ...]:
        """An expression for each lane of a warp.

        Raises:
            InputError: It is no expression, or a name in it is unknown.
        """
        expression = parse_expression(text)
        top = self._call(warp, frame, focus)
        errors: list[InputError] = []
        found = tuple(self._lane(expression, top, thread, errors) for thread in lanes_of(self.block(), warp))
        if errors and all(lane.value is None for lane in found):
            raise errors[0]
        return found

    def _call(self, warp: int, frame: int, focus: Focus | None) -> Activation:
        run = self.block()
        threads = [focus.thread] if focus is not None and focus.warp == warp else []
        for thread in (*threads, *lanes_of(run, warp)):
            calls = calls_of(run, thread) if thread < run.threads else []
            if calls:
                return calls[min(frame, len(calls) - 1)]
        return run.stack[-1]

    def _lane(self, expression: Expression, top: Activation, thread: int, errors: list[InputError]) -> Lane:
        note, value = "", None
        try:
            value = expression.value(self.scope_in(top, thread))
            if isinstance(value, np.ndarray):
                value = tuple(value.reshape(-1).tolist())
        except InputError as error:
            note = error.message
            if not isinstance(error, NoValueError):
                errors.append(error)
        return Lane(thread % 32, value, self._active(thread), note=note)

    def _active(self, thread: int) -> bool:
        run = self.block()
        return bool(run.stack[-1].block is not None and run.stack[-1].going[thread])

    def rows(self, warp: int, frame: int = 0, focus: Focus | None = None) -> list[Row]:
        """The variables of the function that a warp is in, each in every lane; arrays by name."""
        top = self._call(warp, frame, focus)
        threads = lanes_of(self.block(), warp)
        scope = self.scope_in(top, threads[0])
        variables: dict[str, SourceVariable] = {}
        for variable in scope.variables():
            variables.setdefault(variable.name, variable)
        rows = [self._row(v, top, threads) for v in variables.values()]
        if not rows:
            # Optimized code says nothing of variables; the arrays that it was given are known anyway.
            rows = [
                Row(a.name, f"{a.dtype}{list(a.shape)}", "global", ()) for a in self.program.arrays.values()
            ]
        return rows

    def _row(self, variable: SourceVariable, top: Activation, threads: Sequence[int]) -> Row:
        found, space, kind = [], "", variable.type
        name = "" if isinstance(kind, ArrayType) else getattr(kind, "name", "")
        for thread in threads:
            note, value = "", None
            try:
                value = self.scope_in(top, thread).value(variable.name)
            except NoValueError as error:
                note = error.message
            if isinstance(value, ArrayValue):
                space, name = value.space, value.type_name
            found.append(Lane(thread % 32, value, self._active(thread), note=note))
        if isinstance(kind, ArrayType) and not name:
            name = f"{kind.element.dtype}[{', '.join(':' * kind.ndim)}]"
        return Row(variable.name, name, space, tuple(found))

    def arrays(self, thread: int, frame: int = 0) -> dict[str, ArrayValue]:
        """Every array that a thread knows by name."""
        scope = self.scope(thread, frame)
        found: dict[str, ArrayValue] = {}
        for name in (*(v.name for v in scope.variables()), *self.program.arrays):
            try:
                value = scope.value(name)
            except NoValueError:
                continue
            if isinstance(value, ArrayValue):
                found.setdefault(name, value)
        return found

    def shared(self, thread: int) -> dict[str, ArrayValue]:
        """The shared arrays that a thread knows by name, those of its callers too."""
        found: dict[str, ArrayValue] = {}
        for frame in range(len(calls_of(self.block(), thread))):
            for name, value in self.arrays(thread, frame).items():
                if value.space == "shared" and name not in found:
                    found[name] = value
        return found

    def registers(self, thread: int, frame: int = 0, *, live: bool = False) -> list[tuple[str, str, Any]]:
        """Name, type and value of every register that was written, in the call of a thread.

        With `live` those alone whose value may still be read.
        """
        scope = self.scope(thread, frame)
        top, wanted = scope.top, None
        if live and top.block is not None:
            wanted = {
                *top.block.live_in,
                *(n for i in top.block.instructions for n in (reads(i) | writes(i))),
            }
        kinds = top.frame.function.registers
        return [
            (name, kinds[name], scope.register(name))
            for name in top.frame.registers
            if name in kinds and (wanted is None or name in wanted)
        ]

    def operands(self, thread: int) -> list[tuple[str, Any]]:
        """Registers that the next instruction names, and what they hold for a thread."""
        item = self.timeline.instruction
        if item is None:
            return []
        scope = self.scope(thread)
        names = [*sorted(writes(item)), *sorted(reads(item) - writes(item))]
        found = []
        for name in names:
            try:
                found.append((name, scope.register(name)))
            except KeyError:
                continue
        return found

    def place(self, expression: Expression, thread: int, frame: int = 0) -> Memory:
        """The memory that an expression names.

        Raises:
            InputError: It names no memory.
        """
        address, size, dtype = expression.place(self.scope(thread, frame))
        if size <= 0:
            raise InputError(f"{expression.text} has no elements")
        return Memory(space_of(address), address, size, dtype)
