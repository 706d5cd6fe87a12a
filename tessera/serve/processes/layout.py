"""Where the tensors of a request lie in its block: inputs first, then room for the outputs.

The sizes of the outputs are known before the model runs, from the program's symbols. So a block
is taken once, the owner writes its answer where the front will look for it, and a request whose
owner died is still whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from mmap import mmap
from typing import Any

import numpy as np

from tessera.program.dim import evaluate
from tessera.program.dtype import as_dtype
from tessera.program.program import Port, Program
from tessera.serve.inputs import Arrays
from tessera.serve.processes.arena import ALIGNMENT
from tessera.serve.processes.frames import LayoutFrame, PartFrame

Buffer = mmap | memoryview


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor of a block."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    """Bytes from the block's start."""

    def at(self, memory: Buffer, block: int) -> np.ndarray[Any, Any]:
        """The tensor in the block that starts at `block`. Read-only if `memory` is."""
        return np.ndarray(self.shape, self.dtype, memory, block + self.offset)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The tensors of requests whose symbols have the same values. Each equals only itself, which is cheap."""

    inputs: tuple[Part, ...]
    outputs: tuple[Part, ...]
    scalars: tuple[str, ...]
    """Names of the inputs without axes."""
    rows: int
    stacked: bool
    """Whether such requests may be stacked."""
    size_bytes: int

    def write(self, memory: Buffer, block: int, arrays: Arrays) -> None:
        """Copy a request's inputs into its block."""
        for part in self.inputs:
            part.at(memory, block)[...] = arrays[part.name]

    def outputs_at(self, memory: Buffer, block: int) -> Arrays:
        """Copies of the outputs in a block."""
        return {part.name: part.at(memory, block).copy() for part in self.outputs}

    def framed(self, number: int) -> LayoutFrame:
        """As it is sent to an owner."""
        return LayoutFrame(
            number, self.rows, _framed(self.inputs), _framed(self.outputs), self.scalars, self.stacked
        )


def layout_of(program: Program, symbols: Mapping[str, int], rows: str | None) -> Layout:
    """The layout of a request.

    Args:
        program: Says what tensors there are.
        symbols: The value of every symbol.
        rows: The symbol that counts rows; None: requests are not stacked.

    Raises:
        InputError: An output cannot have the size that these symbols give it.
    """
    inputs, size_bytes = _parts(program.inputs, symbols, 0)
    outputs, size_bytes = _parts(program.outputs, symbols, size_bytes)
    scalars = tuple(port.name for port in program.inputs if port.kind == "scalar")
    return Layout(
        inputs, outputs, scalars, symbols[rows] if rows else 1, rows is not None, max(1, size_bytes)
    )


def layout_from(sent: LayoutFrame) -> Layout:
    """The layout that a front sent."""
    return Layout(
        _unframed(sent.inputs), _unframed(sent.outputs), sent.scalars, sent.rows, sent.stacked, size_bytes=0
    )


def _parts(ports: Sequence[Port], symbols: Mapping[str, int], start: int) -> tuple[tuple[Part, ...], int]:
    """The tensors from byte `start` on, and where the next one may begin."""
    parts = []
    for port in ports:
        shape = tuple(evaluate(dim, symbols) for dim in port.shape)
        parts.append(Part(port.name, port.dtype.numpy, shape, start))
        start += -(-math.prod(shape) * port.dtype.itemsize // ALIGNMENT) * ALIGNMENT
    return tuple(parts), start


def _framed(parts: Sequence[Part]) -> tuple[PartFrame, ...]:
    return tuple(PartFrame(p.name, as_dtype(p.dtype).name, p.shape, p.offset) for p in parts)


def _unframed(parts: Sequence[PartFrame]) -> tuple[Part, ...]:
    return tuple(Part(p.name, as_dtype(p.dtype).numpy, tuple(p.shape), p.offset) for p in parts)
