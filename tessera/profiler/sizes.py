"""Numbers for the symbolic sizes of a Program, and random inputs of those sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tessera.program.dim import as_symbol, evaluate
from tessera.program.errors import SizeError
from tessera.program.program import Program
from tessera.program.validate import bound_symbols

if TYPE_CHECKING:
    import numpy as np

ASSUMED_SIZE = 256
"""Value of a symbol that nobody gave one."""


def batch_symbol(program: Program) -> str | None:
    """The symbol that is the batch: the first axis of the first input that begins with a symbol."""
    first_axes = (p.shape[0] for p in program.inputs if p.kind == "tensor" and p.shape)
    return next((name for axis in first_axes if (name := as_symbol(axis))), None)


def is_vector(program: Program) -> bool:
    """Whether the batch axis is the only axis: a batch of one is then a vector of one element."""
    tensors = [p for p in program.inputs if p.kind == "tensor"]
    return bool(tensors) and all(len(p.shape) <= 1 for p in tensors)


def choose_sizes(
    program: Program, *, batch: int | None, given: Mapping[str, int]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """A value for every symbol, and the names of those that were assumed.

    Raises:
        SizeError: `given` names a symbol that the program has not, or a size below 0.
    """
    symbols = sorted(bound_symbols(program))
    for name, value in given.items():
        if name not in symbols:
            hint = "sizes: " + (", ".join(symbols) or "none; every size is fixed")
            raise SizeError(f"{program.name} has no size called {name!r}", hint=hint)
        if value < 0:
            raise SizeError(f"size {name!r} is {value}; it cannot be negative", hint=f"{name}=1000")
    values = dict(given)
    batched = batch_symbol(program)
    if batched is not None and batch is not None:
        values.setdefault(batched, batch)
    assumed = tuple(name for name in symbols if name not in values)
    return {**values, **dict.fromkeys(assumed, ASSUMED_SIZE)}, assumed


def random_inputs(
    program: Program, sizes: Mapping[str, int], *, seed: int = 0
) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs by name: floats normal with variance 1, integers 0 to 9, a size's scalar its size.

    Arrays have the ports' shapes and dtypes; scalars are arrays of rank 0.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    made: dict[str, np.ndarray[Any, Any]] = {}
    for port in program.inputs:
        shape = tuple(evaluate(dim, sizes) for dim in port.shape)
        if port.kind == "scalar" and port.name in sizes:
            value: np.ndarray[Any, Any] = np.asarray(sizes[port.name])
        elif port.dtype.is_float:
            value = np.asarray(rng.standard_normal(shape))
        else:
            value = np.asarray(rng.integers(0, 2 if port.dtype.kind == "bool" else 10, shape))
        made[port.name] = value.astype(port.dtype.numpy)
    return made
