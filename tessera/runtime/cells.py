"""Kernel arguments in memory, in the form that C takes them: an array of pointers to values.

A CPU kernel's `args` and the driver's `kernelParams` are the same thing. All
values of a schedule lie in one array of 8-byte cells; equal arguments share
one. Cells that hold addresses of inputs, outputs or the arena come first and
are written anew for each call by one vector addition. Tensor maps have 128
bytes each in an array of their own, encoded anew where their address changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tessera.program.program import ScalarInput
from tessera.program.tensor_map import MAP_BYTES, TensorMap
from tessera.runtime.schedule import Address, Argument, LaunchCall, MapValue, Schedule, Value

CELL_BYTES = 8
MAP_ALIGNMENT = 64
"""Where tensor maps begin in memory. Source: CUDA Driver API, `cuTensorMapEncodeTiled`."""


class ArgumentCells:
    """The arguments of every launch of one schedule; one call uses them at a time.

    Args:
        schedule: Whose launches.
        bases: Where call-dependent addresses start: (space, name) of each input, output
            and the arena, in the order in which `bind` gets their addresses.
        fixed: The address of everything else (constants, persistent memory).
        scalars: Index among the inputs of each scalar.
        encode: The device's bytes of a tensor map.
    """

    def __init__(
        self,
        schedule: Schedule,
        bases: Sequence[tuple[str, str]],
        fixed: Callable[[Address], int],
        scalars: dict[str, int],
        encode: Callable[[TensorMap], bytes],
    ) -> None:
        launches = [call for call in schedule.calls if isinstance(call, LaunchCall)]
        base_index = {key: i for i, key in enumerate(bases)}
        moving, settled = _split(launches, base_index)
        cells: dict[Argument, int] = {arg: i for i, arg in enumerate([*moving, *settled])}
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
        self._maps = _Maps(launches, base_index, fixed, encode)
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
        self._maps.bind(addresses)
        for index, start in self._scalars:
            data = inputs[index].tobytes()
            self._bytes[start : start + len(data)] = data

    def _pointers(
        self, launches: Sequence[LaunchCall], cells: dict[Argument, int]
    ) -> tuple[np.ndarray[Any, Any], list[int]]:
        first = self._cells.ctypes.data
        pointers = [
            self._maps.address(arg) if isinstance(arg, MapValue) else first + CELL_BYTES * cells[arg]
            for call in launches
            for arg in call.args
        ]
        params = np.array(pointers or [0], np.uint64)
        addresses, position = [], params.ctypes.data
        for call in launches:
            addresses.append(position)
            position += CELL_BYTES * len(call.args)
        return params, addresses


def _split(
    launches: Iterable[LaunchCall], base_index: dict[tuple[str, str], int]
) -> tuple[list[Address], list[Address | Value | ScalarInput]]:
    """Distinct arguments of 8 bytes: those relative to a base, and the others."""
    moving: dict[Address, None] = {}
    settled: dict[Address | Value | ScalarInput, None] = {}
    for call in launches:
        for arg in call.args:
            if isinstance(arg, MapValue):
                continue
            if isinstance(arg, Address) and (arg.space, arg.name) in base_index:
                moving[arg] = None
            else:
                settled[arg] = None
    return list(moving), list(settled)


class _Maps:
    """The tensor maps of a schedule's launches."""

    def __init__(
        self,
        launches: Iterable[LaunchCall],
        base_index: dict[tuple[str, str], int],
        fixed: Callable[[Address], int],
        encode: Callable[[TensorMap], bytes],
    ) -> None:
        found = dict.fromkeys(arg for call in launches for arg in call.args if isinstance(arg, MapValue))
        self._memory = np.zeros(len(found) * MAP_BYTES + MAP_ALIGNMENT, np.uint8)
        start = -self._memory.ctypes.data % MAP_ALIGNMENT
        self._places = {arg: start + i * MAP_BYTES for i, arg in enumerate(found)}
        self._base_index, self._fixed, self._encode = base_index, fixed, encode
        self._encoded: dict[MapValue, int] = {}
        """The address that a map was last encoded with."""

    def address(self, arg: MapValue) -> int:
        """Host address of a map's bytes."""
        return self._memory.ctypes.data + self._places[arg]

    def bind(self, addresses: Sequence[int]) -> None:
        """Encode the maps whose tensors have moved."""
        for arg, place in self._places.items():
            tensor = arg.tensor
            base = self._base_index.get((tensor.space, tensor.name))
            at = self._fixed(tensor) if base is None else addresses[base] + tensor.offset_bytes
            if self._encoded.get(arg) != at:
                self._memory[place : place + MAP_BYTES] = np.frombuffer(self._encode(arg.at(at)), np.uint8)
                self._encoded[arg] = at
