"""The values that actual inputs give a Program's symbols."""

from __future__ import annotations

from collections.abc import Mapping

from tessera.program.dim import as_symbol, evaluate
from tessera.program.errors import InputError
from tessera.program.program import Port, Program


def bind_symbols(
    program: Program, shapes: Mapping[str, tuple[int, ...]], scalars: Mapping[str, int] | None = None
) -> dict[str, int]:
    """The value of every symbol, from the shapes of tensor inputs and the values of integer scalars.

    Raises:
        InputError: An input is missing or has a shape that the program does not take;
            the message names the input, the axis, and what was expected.
    """
    values: dict[str, int] = dict(scalars or {})
    ports = [p for p in program.inputs if p.kind == "tensor"]
    for port in ports:
        if port.name not in shapes:
            raise InputError(
                f"input {port.name!r} is missing",
                hint="inputs: " + ", ".join(map(str, program.inputs)),
                input=port.name,
            )
        shape = tuple(shapes[port.name])
        if len(shape) != len(port.shape):
            raise _mismatch(port, shape, f"has {len(shape)} axes, expected {len(port.shape)}")
        for axis, dim in enumerate(port.shape):
            name = as_symbol(dim)
            if name is not None and values.setdefault(name, shape[axis]) != shape[axis]:
                raise _mismatch(port, shape, f"axis {axis} is {shape[axis]}, but {name} is {values[name]}")
    for port in ports:
        for axis, dim in enumerate(port.shape):
            expected = evaluate(dim, values)
            if shapes[port.name][axis] != expected:
                raise _mismatch(
                    port, shapes[port.name], f"axis {axis} is {shapes[port.name][axis]}, expected {expected}"
                )
    return values


def _mismatch(port: Port, shape: tuple[int, ...], text: str) -> InputError:
    return InputError(
        f"input {port.name!r} of shape {tuple(shape)}: {text}",
        hint=f"it takes {port.type_text}",
        input=port.name,
    )
