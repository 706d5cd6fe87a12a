"""Device memory, and a module loaded into it, for the lockstep interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tessera.emulator.cfg import ControlFlow, control_flow
from tessera.emulator.device_runtime import add_device_runtime
from tessera.emulator.instructions import GLOBAL_BASE
from tessera.emulator.lanes import BITS, Array
from tessera.emulator.ptx import FUNCTION_BASE, FUNCTION_STEP, TYPE_BYTES, Function, Module, Symbol, Variable
from tessera.program.errors import DeviceError

if TYPE_CHECKING:
    from tessera.emulator.recorder import Recorder
    from tessera.emulator.sanitizer import Sanitizer

RED_ZONE = 256


class Memory:
    """Device memory: one growing array of bytes, with gaps between allocations."""

    def __init__(self) -> None:
        self.data = np.zeros(1 << 16, np.uint8)
        self.top = RED_ZONE
        self.ranges: list[tuple[int, int]] = []

    def allocate(self, size: int) -> int:
        """Device address of `size` fresh bytes, 256-byte aligned."""
        address = self.top
        self.top = -(-(address + max(size, 1) + RED_ZONE) // 256) * 256
        if self.top > len(self.data):
            self.data = np.concatenate([self.data, np.zeros(max(self.top, len(self.data)), np.uint8)])
        self.ranges.append((address, address + size))
        return GLOBAL_BASE + address

    def free(self, address: int) -> None:
        """Make an allocation unusable; its addresses are not given out again.

        Raises:
            DeviceError: No allocation begins there.
        """
        start = address - GLOBAL_BASE
        if address == 0:
            return
        if all(r[0] != start for r in self.ranges):
            raise DeviceError(f"free of {address:#x}, where no allocation begins")
        self.ranges = [r for r in self.ranges if r[0] != start]

    def store(self, address: int, values: Array) -> None:
        """Copy an array to device memory."""
        raw = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.data[address - GLOBAL_BASE :][: raw.size] = raw

    def load(self, address: int, like: Array) -> Array:
        """Copy of device memory, in the shape and dtype of `like`."""
        raw = self.data[address - GLOBAL_BASE :][: like.nbytes]
        return raw.view(like.dtype).reshape(like.shape).copy()

    def allocated(self, offsets: Array, size: int) -> Array:
        """Whether each range of `size` bytes lies inside one allocation."""
        starts = np.array([r[0] for r in self.ranges], np.int64)
        ends = np.array([r[1] for r in self.ranges], np.int64)
        if not starts.size:
            return np.zeros(offsets.shape, np.bool_)
        index = np.searchsorted(starts, offsets, side="right") - 1
        return (index >= 0) & (offsets + size <= ends[np.maximum(index, 0)])


class Machine:
    """A module loaded into memory: its variables have addresses.

    Args:
        module: The module.
        memory: Where it lies; None: memory of its own.
        sanitizer: Watches every block, if there is one.
        symbols: Addresses of its variables, where it is in memory already.
    """

    def __init__(
        self,
        module: Module,
        memory: Memory | None = None,
        sanitizer: Sanitizer | None = None,
        symbols: Mapping[str, int] | None = None,
    ) -> None:
        add_device_runtime(module)
        self.module = module
        self.recorder: Recorder | None = None
        """Counts what blocks do, if there is one."""
        self.memory = Memory() if memory is None else memory
        self.sanitizer = sanitizer
        """Watches every block, if there is one."""
        self.step_budget: int | None = None
        """Basic blocks that a block of threads may execute; None: any number."""
        self.flows: dict[str, ControlFlow] = {}
        self.symbols: dict[str, int] = dict(symbols or {})
        """Addresses of variables and functions."""
        for variable in module.variables.values() if symbols is None else ():
            if variable.space in ("global", "const") and not variable.external:
                self.symbols[variable.name] = self.memory.allocate(size_of(variable))
        for name, address in module.function_addresses().items():
            self.symbols.setdefault(name, address)
        self.printed: list[str] = []
        """What `printf` wrote, call by call."""
        for variable in module.variables.values():
            if variable.initial and symbols is None:
                self.initialize(variable)

    def initialize(self, variable: Variable) -> None:
        """Write the initial value of a module variable."""
        kind = np.dtype(BITS[variable.type])
        values = np.zeros(variable.count, kind)
        for i, item in enumerate(variable.initial):
            if isinstance(item, Symbol):
                values[i] = self.symbols[item.name] + item.offset
            elif item.bits is not None:
                values.view(np.dtype(f"u{kind.itemsize}"))[i] = item.bits
            else:
                values[i] = np.array(item.value).astype(kind)
        self.memory.store(self.symbols[variable.name], values)

    def bind(
        self, function: Function, args: Sequence[Array | np.generic]
    ) -> tuple[dict[str, bytes], list[tuple[int, Array]]]:
        """Parameter bytes by name, and the device copies of arrays."""
        params: dict[str, bytes] = {}
        arrays: list[tuple[int, Array]] = []
        for variable, value in zip(function.params, args, strict=True):
            if isinstance(value, np.ndarray):
                address = self.memory.allocate(value.nbytes)
                self.memory.store(address, value)
                arrays.append((address, value))
                params[variable.name] = np.uint64(address).tobytes()
            else:
                params[variable.name] = np.asarray(value).tobytes()
            if len(params[variable.name]) != size_of(variable):
                raise DeviceError(
                    f"parameter {variable.name} has {size_of(variable)} bytes, the argument "
                    f"{len(params[variable.name])}"
                )
        return params, arrays

    def function_at(self, pointer: int) -> str:
        """Name of the function at an address; empty if there is none."""
        index, rest = divmod(pointer - FUNCTION_BASE, FUNCTION_STEP)
        names = list(self.module.functions)
        return names[index] if rest == 0 and 0 <= index < len(names) else ""

    def flow(self, function: Function) -> ControlFlow:
        """The control flow of a function, computed once."""
        if function.name not in self.flows:
            self.flows[function.name] = control_flow(function)
        return self.flows[function.name]


def size_of(variable: Variable) -> int:
    """Bytes of a variable."""
    return TYPE_BYTES[variable.type] * variable.count
