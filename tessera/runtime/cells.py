"""Kernel arguments in memory, in the form that C takes them: an array of pointers to values.

A CPU kernel's `args` and the driver's `kernelParams` are the same thing. All
values of a schedule lie in one array of 8-byte cells; equal arguments share
one. Cells that hold addresses of inputs, outputs or the arena come first and
are written anew for each call by one vector addition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tessera.program.program import ScalarInput
from tessera.runtime.schedule import Address, Argument, LaunchCall, Schedule, Value

CELL_BYTES = 8


class ArgumentCells:
    """The arguments of every launch of one schedule; one call uses them at a time.

    Args:
        schedule: Whose launches.
        bases: Where call-dependent addresses start: (space, name) of each input, output
            and the arena, in the order in which `bind` gets their addresses.
        fixed: The address of everything else (constants, persistent memory).
        scalars: Index among the inputs of each scalar.
    """

    def __init__(
        self,
        schedule: Schedule,
        bases: Sequence[tuple[str, str]],
        fixed: Callable[[Address], int],
        scalars: dict[str, int],
    ) -> None:
        launches = [call for call in schedule.calls if isinstance(call, LaunchCall)]
        base_index = {key: i for i, key in enumerate(bases)}
        moving, settled = _split(launches, base_index)
        cells = {arg: i for i, arg in enumerate([*moving, *settled])}
        self._cells = np.zeros(max(len(cells), 1), np.uint64)
        self._bytes = memoryview(self._cells.data).cast("B")
        self._moving = self._cells[: len(moving)]
        self._base = np.array([base_index[a.space, a.name] for a in moving], np.intp)
        self._offset = np.array([a.offset_bytes for a in moving], np.uint64)
        self._scalars: list[tuple[int, int]] = []
        for arg in settled:
            start = cells[arg] * CELL_BYTES
            if isinstance(arg, ScalarInput):
                self._scalars.append((scalars[arg.name], start))
            else:
                data = arg.data if isinstance(arg, Value) else fixed(arg).to_bytes(CELL_BYTES, "little")
                self._bytes[start : start + len(data)] = data
        self._params, self._addresses = self._pointers(launches, cells)

    def address(self, launch: int) -> int:
        """Address of the argument array of the `launch`-th launch of the schedule."""
        return self._addresses[launch]

    def bind(self, addresses: Sequence[int], inputs: Sequence[np.ndarray[Any, Any]]) -> None:
        """Write what differs from call to call.

        Args:
            addresses: In the order of `bases`.
            inputs: In the order of the program's inputs; scalars are read from here.
        """
        if self._base.size:
            np.add(np.array(addresses, np.uint64)[self._base], self._offset, out=self._moving)
        for index, start in self._scalars:
            data = inputs[index].tobytes()
            self._bytes[start : start + len(data)] = data

    def _pointers(
        self, launches: Sequence[LaunchCall], cells: dict[Argument, int]
    ) -> tuple[np.ndarray[Any, Any], list[int]]:
        first = self._cells.ctypes.data
        pointers = [first + CELL_BYTES * cells[arg] for call in launches for arg in call.args]
        params = np.array(pointers or [0], np.uint64)
        addresses, position = [], params.ctypes.data
        for call in launches:
            addresses.append(position)
            position += CELL_BYTES * len(call.args)
        return params, addresses


def _split(
    launches: Iterable[LaunchCall], base_index: dict[tuple[str, str], int]
) -> tuple[list[Address], list[Argument]]:
    """Distinct arguments: those relative to a base, and the others."""
    moving: dict[Address, None] = {}
    settled: dict[Argument, None] = {}
    for call in launches:
        for arg in call.args:
            if isinstance(arg, Address) and (arg.space, arg.name) in base_index:
                moving[arg] = None
            else:
                settled[arg] = None
    return list(moving), list(settled)
