"""What debug information says: functions with their variables, and how the variables lie in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MARK = "// every scalar variable is followed by a byte that says whether it was assigned"
"""Line in PTX whose scalars carry that byte."""


@dataclass(frozen=True, slots=True)
class ScalarType:
    """A number."""

    name: str
    dtype: np.dtype[np.generic]

    @property
    def size(self) -> int:
        """Bytes."""
        return self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class ArrayType:
    """An array descriptor as Numba lays it out: pointer, shape and strides are members of it."""

    element: ScalarType
    ndim: int
    data: int
    """Offset of the pointer."""
    shape: int
    """Offset of the shape, `ndim` int64."""
    strides: int
    """Offset of the strides in bytes, `ndim` int64."""
    size: int
    """Bytes of the descriptor."""


@dataclass(frozen=True, slots=True)
class RecordType:
    """A tuple or another structure of numbers."""

    name: str
    members: tuple[tuple[str, int, ScalarType], ...]
    """Name, offset and type of each."""
    size: int


@dataclass(frozen=True, slots=True)
class OtherType:
    """Something that is not shown."""

    name: str
    size: int


Type = ScalarType | ArrayType | RecordType | OtherType


@dataclass(frozen=True, slots=True)
class SourceVariable:
    """A variable of the source, and its place."""

    name: str
    type: Type
    line: int
    """Where it is first assigned."""
    depot: str
    """The PTX variable in local memory that it lies in."""
    offset: int
    """Bytes into that."""
    flagged: bool
    """Whether the byte behind it says that it was assigned."""
    argument: bool = False


@dataclass(frozen=True, slots=True)
class SourceFunction:
    """A function of the source."""

    name: str
    symbol: str
    """Its name in PTX."""
    line: int
    """Of its `def`."""
    variables: tuple[SourceVariable, ...]
