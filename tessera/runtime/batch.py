"""Many single examples through a program with a batch axis: stack, run in parts, take apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.program.dim import as_symbol, format_shape, symbols_of
from tessera.program.errors import InputError
from tessera.program.program import Port, Program
from tessera.runtime.inputs import InputReader, as_input

Array = np.ndarray[Any, Any]
Execute = Callable[[Sequence[Array]], list[Array]]


@dataclass(frozen=True, slots=True)
class BatchAxis:
    """Which inputs have a leading batch axis. Every output has one."""

    symbol: str
    """The size of the axis, as the program calls it."""
    inputs: tuple[bool, ...]
    """By input: whether it has the axis. The others are the same for all examples."""


def batch_axis(program: Program) -> BatchAxis:
    """The batch axis of `program`: the symbolic first axis of its inputs.

    Raises:
        InputError: There is none, an output lacks it, or its size matters elsewhere.
    """
    leading = [as_symbol(p.shape[0]) if p.shape else None for p in program.inputs]
    symbol = next((s for s in leading if s is not None), None)
    if symbol is None:
        raise _no_axis(program, "no input has a symbolic first axis")
    for port in program.outputs:
        if not port.shape or as_symbol(port.shape[0]) != symbol:
            shape = format_shape(port.shape)
            raise _no_axis(program, f"output {port.name!r} of shape {shape} does not begin with {symbol!r}")
    for port in (*program.inputs, *program.outputs):
        if symbol in symbols_of(*port.shape[1:]):
            raise _no_axis(
                program, f"{port.name!r} of shape {format_shape(port.shape)} needs {symbol!r} again"
            )
    return BatchAxis(symbol, tuple(name == symbol for name in leading))


def _no_axis(program: Program, why: str) -> InputError:
    return InputError(
        f"program {program.name!r} cannot run a batch in parts: {why}",
        hint="compile it with TensorSpec(shape=(None, …)) for the batch axis, or call execute once per input",
    )


def run_batch(reader: InputReader, execute: Execute, batch: Any, max_batch_size: int) -> Any:
    """`batch` through `execute` in parts of at most `max_batch_size` examples.

    Args:
        reader: Converts the inputs of the program that `execute` runs.
        execute: Takes inputs and gives outputs, in the program's order.
        batch: A list of examples, each without the batch axis (with several inputs: a
            tuple or a mapping per example); or stacked arrays in the forms that
            `Runtime.execute` takes.
        max_batch_size: Most examples of one execution.

    Returns:
        For a list, a list with one result per example; for stacked arrays, stacked results.
        A result is an array, or with several outputs a dict by name.

    Raises:
        InputError: The program has no batch axis, or examples differ in shape.
    """
    program = reader.program
    axis = batch_axis(program)
    if max_batch_size < 1:
        raise InputError(f"max_batch_size is {max_batch_size}, it must be at least 1")
    if isinstance(batch, list):
        if not batch:
            return []
        stacked = _run_parts(axis, execute, _stack(program, axis, batch), max_batch_size)
        return [as_result(program, [output[i] for output in stacked]) for i in range(len(batch))]
    given = batch if isinstance(batch, tuple) else (batch,)
    return as_result(program, _run_parts(axis, execute, reader.read(given), max_batch_size))


def _run_parts(axis: BatchAxis, execute: Execute, inputs: Sequence[Array], size: int) -> list[Array]:
    lengths = {value.shape[0] for value, has in zip(inputs, axis.inputs, strict=True) if has and value.ndim}
    if len(lengths) != 1 or max(lengths) <= size:
        # One part, or inputs that do not fit together, which the program itself reports best.
        return execute(inputs)
    parts = []
    for start in range(0, max(lengths), size):
        part = [v[start : start + size] if has else v for v, has in zip(inputs, axis.inputs, strict=True)]
        parts.append(execute(part))
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _stack(program: Program, axis: BatchAxis, examples: Sequence[Any]) -> list[Array]:
    rows = [_example(program, example, index) for index, example in enumerate(examples)]
    stacked = []
    for column, (port, has_axis) in enumerate(zip(program.inputs, axis.inputs, strict=True)):
        ports = Port(name=port.name, dtype=port.dtype, shape=port.shape[1:]) if has_axis else port
        values = [as_input(ports, row[column], port.dtype.numpy) for row in rows]
        stacked.append(_stack_equal(port, values) if has_axis else _same(port, values))
    return stacked


def _example(program: Program, example: Any, index: int) -> Sequence[Any]:
    ports = program.inputs
    if isinstance(example, Mapping):
        missing = [p.name for p in ports if p.name not in example]
        if missing or len(example) != len(ports):
            raise InputError(
                f"example {index} has inputs {sorted(map(str, example))}, "
                f"the program takes {[p.name for p in ports]}"
            )
        return [example[p.name] for p in ports]
    if len(ports) == 1:
        return [example]
    if isinstance(example, (tuple, list)) and len(example) == len(ports):
        return example
    raise InputError(
        f"example {index} is no tuple of the {len(ports)} inputs that program {program.name!r} takes",
        hint=f"each example: ({', '.join(p.name for p in ports)}), or a dict by name",
    )


def _stack_equal(port: Port, values: Sequence[Array]) -> Array:
    for index, value in enumerate(values):
        if value.shape != values[0].shape:
            raise InputError(
                f"input {port.name!r}: example {index} has shape {format_shape(value.shape)}, "
                f"example 0 has {format_shape(values[0].shape)}; one batch needs one shape",
                input=port.name,
            )
    return np.stack(values)


def _same(port: Port, values: Sequence[Array]) -> Array:
    for index, value in enumerate(values):
        if value is not values[0] and not np.array_equal(value, values[0]):
            raise InputError(
                f"input {port.name!r} has no batch axis, so it must be the same for every example; "
                f"example {index} differs from example 0",
                input=port.name,
            )
    return values[0]


def as_result(program: Program, outputs: Sequence[Array]) -> Array | dict[str, Array]:
    """What a caller gets for outputs in order: the only one, or all of them by name."""
    if len(outputs) == 1:
        return outputs[0]
    return {port.name: value for port, value in zip(program.outputs, outputs, strict=True)}
