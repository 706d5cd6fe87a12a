"""What a compiler hands over: programs, kernel binaries and weights, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from tessera.program.program import Program

if TYPE_CHECKING:
    import numpy as np


BinaryFormat = Literal["cubin", "ptx", "so"]
"""A GPU's machine code, text for its driver to compile, a CPU's shared library."""


class Resources(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one GPU kernel needs, as the assembler reports it. Unknown is None, never 0."""

    registers: int | None = None
    """32-bit registers per thread."""
    spill_bytes: int | None = None
    """Bytes of spill stores and spill loads per thread."""
    shared_bytes: int | None = None
    """Static shared memory per block."""
    stack_bytes: int | None = None
    """Stack frame per thread."""
    threads: int | None = None
    """Threads per block that the plan launches."""
    dynamic_shared_bytes: int | None = None
    """Dynamic shared memory per block that the plan asks for, if fixed."""
    occupancy: float | None = None
    """Predicted resident warps over the most possible, 0 to 1."""


@dataclass(frozen=True, slots=True)
class KernelBinary:
    """Machine code of one or more kernels for one target."""

    program: str
    """Name of the program whose plan launches it."""
    name: str
    """File stem: the kernel's name, or the program's for a CPU library."""
    kernels: tuple[str, ...]
    """Entry names inside, as `Launch.kernel` gives them."""
    target: str
    """`sm_90a`, `cpu-x86_64-v3`; for PTX the architecture it was made for."""
    format: BinaryFormat
    data: bytes = field(repr=False)
    resources: Resources | None = None
    cached: bool = False
    """Whether it came from the compile cache. Not stored in packages."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """Everything that belongs in one package."""

    programs: tuple[Program, ...]
    binaries: tuple[KernelBinary, ...]
    constants: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    """Weights by constant name, C-contiguous, shared by the programs."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """JSON data: source digests, toolchain versions, options. No paths, no times."""
    notes: tuple[str, ...] = ()
    """What the compiler wants the user to know, in words."""
