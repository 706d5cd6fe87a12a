"""How large tensors may be: in a body, in shared memory, or sized by a number that a request holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.program.dim import evaluate
from tessera.program.errors import InputError
from tessera.program.program import Port, Program
from tessera.serve.config import ServerConfig


@dataclass(frozen=True, slots=True)
class TensorLimits:
    """Most of one request's tensors."""

    elements: int
    """Of one tensor, input or output."""
    tensor_bytes: int
    """Of one tensor, input or output."""
    request_bytes: int
    """Of all inputs together, and of all outputs together."""


class SizeCheck:
    """Compares a program's tensors with limits, before anything is allocated for its outputs.

    Args:
        program: Says how outputs follow from inputs.
        limits: Most of them.
    """

    def __init__(self, program: Program, limits: TensorLimits) -> None:
        self._limits = limits
        self._outputs = [(p, _fixed(p), _symbolic(p)) for p in program.outputs]

    def check(self, arrays: Mapping[str, np.ndarray[Any, Any]], symbols: Mapping[str, int]) -> None:
        """Refuse what is over a limit.

        Args:
            arrays: Inputs by name.
            symbols: The value of every symbol of the program.

        Raises:
            InputError: An input, an output or all of them are too large; the message names it.
        """
        limits, total = self._limits, 0
        for name, array in arrays.items():
            # A tensor without elements may have an axis of 2**60 that sizes an output.
            count = array.size or max(array.shape, default=0)
            if count > limits.elements or array.nbytes > limits.tensor_bytes:
                raise self._refusal(f"input {name!r}", array.shape, count, array.nbytes, name)
            total += array.nbytes
        if total > limits.request_bytes:
            raise self._refusal_of_all("inputs", total)
        total = 0
        for port, fixed, dims in self._outputs:
            count = fixed
            for dim in dims:
                count *= evaluate(dim, symbols)
            size = count * port.dtype.itemsize
            if count > limits.elements or size > limits.tensor_bytes:
                shape = tuple(evaluate(dim, symbols) for dim in port.shape)
                raise self._refusal(f"output {port.name!r}", shape, count, size, None)
            total += size
        if total > limits.request_bytes:
            raise self._refusal_of_all("outputs", total)

    def _refusal(
        self, what: str, shape: tuple[int, ...], count: int, size: int, name: str | None
    ) -> InputError:
        limits = self._limits
        key, measured, limit = (
            ("max_tensor_elements", f"{count} elements", limits.elements)
            if count > limits.elements
            else ("max_tensor_bytes", f"{size} bytes", limits.tensor_bytes)
        )
        return InputError(
            f"{what} of shape {str(shape)[:80]} has {measured}; the limit is {limit}",
            hint=f"send fewer rows at once, or raise {key}",
            input=name,
        )

    def _refusal_of_all(self, what: str, size: int) -> InputError:
        return InputError(
            f"all {what} together have {size} bytes; the limit is {self._limits.request_bytes}",
            hint="send fewer rows at once, or raise max_request_bytes",
        )


def tensor_limits_of(config: ServerConfig) -> TensorLimits:
    """The limits that `config` sets."""
    return TensorLimits(config.max_tensor_elements, config.max_tensor_bytes, config.max_request_bytes)


def _fixed(port: Port) -> int:
    return math.prod(d for d in port.shape if isinstance(d, int))


def _symbolic(port: Port) -> tuple[Any, ...]:
    return tuple(d for d in port.shape if not isinstance(d, int))
