"""Values of the source's variables, thread by thread, out of registers and memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.emulator.activation import Activation
from tessera.emulator.debugging.launches import GlobalArray
from tessera.emulator.debugging.symbols import (
    ArrayType,
    OtherType,
    RecordType,
    ScalarType,
    SourceFunction,
    SourceVariable,
)
from tessera.emulator.instructions import GLOBAL_BASE, LOCAL_WINDOW, SHARED_WINDOW
from tessera.emulator.lanes import Array
from tessera.emulator.lockstep import BlockRun
from tessera.emulator.special import SPECIAL
from tessera.program.errors import InputError

_WINDOW = (1 << 56) - 1
MOST_ELEMENTS = 1 << 20
"""Elements of an array that are read at once."""


class NoValueError(InputError):
    """A variable has no value there: not assigned yet, or the thread is elsewhere."""


@dataclass(frozen=True, slots=True)
class ArrayValue:
    """An array of the program, read when it is looked at."""

    memory: Storage
    address: int
    """Generic address of the first element."""
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """Bytes."""

    @property
    def space(self) -> str:
        """`global`, `shared` or `local`."""
        return space_of(self.address)

    @property
    def type_name(self) -> str:
        """`float32[4, 16]`."""
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"

    @property
    def count(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    def address_of(self, index: tuple[int, ...]) -> int:
        """Address of an element.

        Raises:
            InputError: The index is outside of the array.
        """
        if len(index) != len(self.shape):
            raise InputError(f"{len(index)} indices for an array of shape {self.shape}")
        for at, size in zip(index, self.shape, strict=True):
            if not -size <= at < size:
                raise InputError(f"index {at} is outside of an array of shape {self.shape}")
        steps = zip(index, self.shape, self.strides, strict=True)
        return self.address + sum((at + size if at < 0 else at) * stride for at, size, stride in steps)

    def part(self, index: tuple[int | slice, ...]) -> Any:
        """One element, or an array of those that slices name.

        Raises:
            InputError: An index is outside of the array, or too many.
        """
        index = (*index, *(slice(None) for _ in range(len(self.shape) - len(index))))
        if all(isinstance(i, int) for i in index):
            place = self.address_of(tuple(int(i) for i in index if isinstance(i, int)))
            return plain(self.memory.read(place, self.dtype))
        if len(index) > len(self.shape):
            raise InputError(f"{len(index)} indices for an array of shape {self.shape}")
        axes = []
        for i, size in zip(index, self.shape, strict=True):
            if isinstance(i, slice):
                axes.append(np.arange(*i.indices(size)))
            else:
                self.address_of(tuple(i if s is size else 0 for s in self.shape)) if size else None
                axes.append(np.array([i % size]))
        kept = tuple(len(a) for a, i in zip(axes, index, strict=True) if isinstance(i, slice))
        return self.elements(axes).reshape(kept)

    def elements(self, axes: list[Array]) -> Array:
        """The elements at every combination of indices by axis."""
        count = math.prod(len(a) for a in axes)
        if count > MOST_ELEMENTS:
            raise InputError(f"{count} elements are too many to show", hint="take a part: x[0:100]")
        grids = np.meshgrid(*axes, indexing="ij") if axes else []
        offsets = sum(g.astype(np.int64) * s for g, s in zip(grids, self.strides, strict=True))
        flat = np.asarray(offsets, np.int64).reshape(-1) + np.int64(0)
        return self.memory.read_many(self.address, flat, self.dtype).reshape([len(a) for a in axes])

    def all(self) -> Array:
        """The whole array."""
        return self.elements([np.arange(n) for n in self.shape])


@dataclass(frozen=True, slots=True)
class Record:
    """A tuple or structure."""

    members: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        return "(" + ", ".join(str(value) for _, value in self.members) + ")"


def space_of(address: int) -> str:
    """The state space of a generic address."""
    window = address >> 56
    return {SHARED_WINDOW >> 56: "shared", LOCAL_WINDOW >> 56: "local"}.get(window, "global")


def plain(value: Any) -> Any:
    """A NumPy scalar as Python calculates with it: integers are exact, floats keep their width."""
    if isinstance(value, np.bool_):
        return bool(value)
    return int(value) if isinstance(value, np.integer) else value


@dataclass(frozen=True, slots=True)
class Storage:
    """The memory that one thread sees."""

    run: BlockRun
    thread: int

    def bytes_of(self, address: int) -> tuple[Array, int]:
        """The memory that an address is in, and the offset there."""
        space = space_of(address)
        if space == "shared":
            return self.run.shared, address & _WINDOW
        if space == "local":
            return self.run.local[self.thread], address & _WINDOW
        return self.run.machine.memory.data, address - GLOBAL_BASE

    def read(self, address: int, dtype: np.dtype[Any]) -> Any:
        """The number at a generic address.

        Raises:
            InputError: Nothing is there.
        """
        return self.read_many(address, np.zeros(1, np.int64), dtype)[0]

    def read_many(self, address: int, offsets: Array, dtype: np.dtype[Any]) -> Array:
        """The numbers at byte offsets from an address.

        Raises:
            InputError: Nothing is there.
        """
        memory, start = self.bytes_of(address)
        places = start + offsets
        if offsets.size and (int(places.min()) < 0 or int(places.max()) + dtype.itemsize > len(memory)):
            raise InputError(f"there is no memory at {address + int(offsets.max()):#x}")
        raw = memory[places[:, None] + np.arange(dtype.itemsize)]
        return np.ascontiguousarray(raw).view(dtype).reshape(-1)


@dataclass(frozen=True, slots=True)
class Scope:
    """What names mean to one thread, in one function call.

    `constants` are the numbers that the source's names have outside of the function.
    """

    run: BlockRun
    top: Activation
    function: SourceFunction | None
    thread: int
    arrays: Mapping[str, GlobalArray]
    constants: Mapping[str, Any]
    names: frozenset[str] | None = None
    """Variables that the source has; None: nobody knows. The compiler's own are left out."""

    @property
    def storage(self) -> Storage:
        """The memory that the thread sees."""
        return Storage(self.run, self.thread)

    @property
    def inside(self) -> bool:
        """Whether the thread takes part in this call, and has not returned from it."""
        return bool(self.top.mask[self.thread] and self.top.alive[self.thread])

    def variables(self) -> Iterator[SourceVariable]:
        """Variables of the source by their first line; several may have one name, of different types."""
        found = self.function.variables if self.function is not None else ()
        shown = [v for v in found if self.names is None or v.name in self.names]
        return iter(sorted(shown, key=lambda v: (not v.argument, v.line)))

    def value(self, name: str) -> Any:
        """What a name means: a number, an `ArrayValue`, or a `Record`.

        Raises:
            NoValueError: It has no value yet.
            KeyError: There is no such name.
        """
        missing: NoValueError | None = None
        for variable in self.variables():
            if variable.name == name:
                try:
                    return self.read(variable)
                except NoValueError as error:
                    missing = error
        if missing is not None:
            raise missing
        if name in self.arrays:
            array = self.arrays[name]
            return ArrayValue(
                self.storage, array.address, array.dtype, array.shape, contiguous(array.shape, array.dtype)
            )
        return self.constants[name]

    def read(self, variable: SourceVariable) -> Any:
        """The value of a variable.

        Raises:
            NoValueError: It has none yet, or is of a kind that is not shown.
        """
        if not self.inside:
            raise NoValueError(f"{variable.name}: this thread is not in {self.top.frame.function.name}")
        start = self.top.frame.local_at.get(variable.depot)
        if start is None:
            raise NoValueError(f"{variable.name} is not in memory")
        place, memory = start + variable.offset, self.run.local[self.thread]
        kind = variable.type
        if variable.flagged and not memory[place + kind.size]:
            raise NoValueError(f"{variable.name} is not assigned yet")
        raw = memory[place : place + kind.size].tobytes()
        if isinstance(kind, ScalarType):
            return plain(np.frombuffer(raw, kind.dtype)[0])
        if isinstance(kind, ArrayType):
            return self.array(variable.name, kind, raw)
        if isinstance(kind, RecordType):
            return Record(tuple((n, plain(np.frombuffer(raw, t.dtype, 1, o)[0])) for n, o, t in kind.members))
        assert isinstance(kind, OtherType)  # noqa: S101 - the last there is
        raise NoValueError(f"{variable.name} is a {kind.name}, which is not shown")

    def array(self, name: str, kind: ArrayType, raw: bytes) -> ArrayValue:
        """The array that a descriptor describes.

        Raises:
            NoValueError: It describes none yet.
        """
        (address,) = np.frombuffer(raw, np.uint64, 1, kind.data)
        shape = tuple(map(int, np.frombuffer(raw, np.int64, kind.ndim, kind.shape)))
        strides = tuple(map(int, np.frombuffer(raw, np.int64, kind.ndim, kind.strides)))
        if int(address) == 0 and math.prod(shape) != 0:
            raise NoValueError(f"{name} is not assigned yet")
        if int(address) == 0 and not any(strides):
            raise NoValueError(f"{name} is not assigned yet")
        known = self.arrays.get(name)
        # Numba knows bfloat16 and the like as integers or structures; the host's type says more.
        dtype = kind.element.dtype
        if known is not None and known.address == int(address) and known.dtype.itemsize == dtype.itemsize:
            dtype = known.dtype
        return ArrayValue(self.storage, int(address), dtype, shape, strides)

    def register(self, name: str) -> Any:
        """What a register holds: a float if PTX declares it so, a bool for a predicate, else unsigned bits.

        Raises:
            KeyError: There is no such register.
        """
        if name in SPECIAL:
            return plain(SPECIAL[name](self.run)[self.thread])
        kind = self.top.frame.function.registers[name]
        values = self.top.frame.registers.get(name)
        if values is None:
            return 0
        value = values[self.thread]
        return plain(value.view(f"f{value.itemsize}") if kind in ("f32", "f64") else value)


def contiguous(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """Strides in bytes of an array in the order of C."""
    strides, step = [], dtype.itemsize
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))
