"""What the code generator hands to the toolchain: one kernel as Python text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tessera.program.errors import SourceLocation

POINTERS: dict[str, str] = {
    "f64*": "float64",
    "f32*": "float32",
    "f16*": "uint16",
    "bf16*": "uint16",
    "f8e4m3*": "uint8",
    "f8e5m2*": "uint8",
    "i64*": "int64",
    "i32*": "int32",
    "i16*": "int16",
    "i8*": "int8",
    "u64*": "uint64",
    "u32*": "uint32",
    "u16*": "uint16",
    "u8*": "uint8",
    "bool*": "uint8",
}
"""Numba element type behind each kind of pointer argument. Floats of 16 and 8 bits are passed as
their bits: the kernel converts them, in one defined way on every target."""

SCALARS: dict[str, str] = {
    "f64": "float64",
    "f32": "float32",
    "i64": "int64",
    "i32": "int32",
    "i16": "int16",
    "i8": "int8",
    "u64": "uint64",
    "u32": "uint32",
    "u16": "uint16",
    "u8": "uint8",
    "bool": "uint8",
    "tensor_map": "uint64",
}
"""Numba type of each kind of argument passed by value; a tensor map as its address: see `map_parameters`."""


@dataclass(frozen=True, slots=True)
class KernelSource:
    """One kernel: a Python module's text with one function, to be compiled by Numba.

    A cuda kernel's parameters are `args` in order. A cpu kernel has two more
    after them, `begin` and `end` (int64): the work items it is to do.
    """

    name: str
    """Entry name: a C identifier, unique among a plan's kernels; also the function's name in `source`."""
    target: Literal["cuda", "cpu"]
    source: str = field(repr=False)
    """Text of a Python module that defines `name`; it imports what it needs."""
    args: tuple[str, ...]
    """Kind of each argument: a key of `POINTERS` or of `SCALARS`."""
    noalias_const: tuple[bool, ...] = ()
    """For each argument, whether it is a pointer that the kernel only reads, and whose memory it
    does not write by another name either: such loads may go through the read-only cache."""
    threads: int | None = None
    """Threads per block of every launch; None for the cpu."""
    shared_bytes: int = 0
    """Static shared memory per block, in bytes."""
    dynamic_shared_bytes: int = 0
    """Shared memory per block that each launch asks for, in bytes."""
    least_cc: tuple[int | str, ...] = (7, 0)
    """Lowest architecture that has the kernel's instructions: capability, and the suffix it must have."""
    note: str = ""
    """What was chosen for it, in words."""
    cc_dependent: bool = False
    """Whether the PTX depends on the compute capability it is compiled for."""
    locations: dict[int, SourceLocation] = field(default_factory=dict, hash=False, compare=False, repr=False)
    """The user's line behind each 1-based line of `source`, where there is one."""
