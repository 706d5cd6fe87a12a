"""An engine that writes launches down instead of running them: a debugger runs them later, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tessera.emulator.debugging.code import Code, load_code
from tessera.emulator.geometry import Geometry, Point, cluster_size
from tessera.emulator.interpreter import Interpreter, Sizes, entry_of
from tessera.emulator.lanes import Array
from tessera.emulator.machine import Machine, size_of
from tessera.emulator.ptx import Function
from tessera.emulator.sanitizer import Sanitizer


@dataclass(frozen=True, slots=True)
class GlobalArray:
    """An array in device memory."""

    name: str
    address: int
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch of a kernel."""

    machine: int
    """Which of the modules that were loaded."""
    code: Code
    function: Function
    geometry: Geometry
    """Of its first block."""
    params: dict[str, bytes] = field(repr=False)
    shared_bytes: int

    @property
    def grid(self) -> Point:
        """Blocks by axis."""
        return self.geometry.grid

    @property
    def block(self) -> Point:
        """Threads of a block by axis."""
        return self.geometry.block


class LaunchList(Interpreter):
    """Device memory and modules like the interpreter's; launches are listed."""

    name = "debugger"

    def __init__(self, sanitizer: Sanitizer) -> None:
        super().__init__(sanitizer)
        self.launches: list[Launch] = []
        self.arrays: dict[str, GlobalArray] = {}
        """Arrays that have names, by name."""
        self.machines: list[Machine] = []
        """Modules that were loaded."""
        self.codes: list[Code] = []
        """Their code."""

    def load(self, ptx: str | bytes) -> Machine:
        """A module of one PTX text, or of several parted by NUL characters.

        Raises:
            CompileError: The PTX does not parse; names the line.
        """
        code = load_code(ptx.decode() if isinstance(ptx, bytes) else ptx)
        machine = Machine(code.module, self.memory, self.sanitizer)
        for function in code.module.functions.values():
            if function.body:
                machine.flow(function)
        self.describe_variables(machine)
        self.machines.append(machine)
        self.codes.append(code)
        return machine

    def place(self, name: str, values: Array) -> int:
        """Address of a copy of an array that the debugger knows by a name."""
        address = self.alloc(values.nbytes)
        self.describe(address, name, values.dtype, values.shape)
        self.write(address, values)
        return address

    def describe(self, address: int, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Say what lies at an address."""
        super().describe(address, name, dtype, shape)
        self.arrays[name] = GlobalArray(name, address, dtype, shape)

    def release(self, addresses: Sequence[int]) -> None:
        """Nothing: what the launches need is still to be used."""

    def launch_params(
        self,
        loaded: Machine,
        entry: str,
        grid: Sizes,
        block: Sizes,
        params: Sequence[bytes],
        shared_bytes: int = 0,
        *,
        cluster: Sizes | None = None,
        resident: int = 1 << 30,
    ) -> None:
        """Write a launch down.

        Raises:
            CompileError: The module has no such kernel.
            KernelError: A cluster that the kernel or the grid does not allow.
        """
        del resident
        function = entry_of(loaded, entry)
        named = {v.name: bytes(raw)[: size_of(v)] for v, raw in zip(function.params, params, strict=True)}
        number = self.machines.index(loaded)
        geometry = Geometry(grid, block, (0, 0, 0), *cluster_size(function, grid, cluster))
        self.launches.append(Launch(number, self.codes[number], function, geometry, named, shared_bytes))

    def fixed(self) -> Iterator[object]:
        """Everything that never changes and that the state of a run may refer to."""
        for machine, code in zip(self.machines, self.codes, strict=True):
            module = code.module
            yield module
            yield from module.variables.values()
            for function in module.functions.values():
                yield function
                yield from (*function.body, *function.params, *function.results, *function.variables)
                if function.body:
                    yield machine.flow(function)
                    yield from machine.flow(function).blocks
