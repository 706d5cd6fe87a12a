"""What callers pass, as the arrays a program takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from tessera.program.dim import format_shape
from tessera.program.dtype import DType, as_dtype, u64
from tessera.program.errors import InputError, SpecError
from tessera.program.program import Port, Program
from tessera.reference.rounding import round_to

Array = np.ndarray[Any, Any]


class InputReader:
    """Converts the inputs of one program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        # Looking a dtype up costs a microsecond, as much as the rest of a call.
        self._ports = [(port, port.dtype.numpy) for port in program.inputs]

    def read(self, given: Sequence[Any]) -> list[Array]:
        """The arguments of an `execute` call in the order of `program.inputs`, converted.

        Takes one value per input; one mapping from input names to values; or one list
        of values, where that cannot be read as the value of a single input.

        Raises:
            InputError: Not the inputs that the program takes; the message names the input.
        """
        values = self._values(given) if len(given) == 1 else given
        if len(values) != len(self._ports):
            raise InputError(
                f"program {self.program.name!r} takes {_count(len(self._ports))}, got {len(values)}",
                hint=describe_inputs(self.program),
            )
        return [
            as_input(port, value, dtype) for (port, dtype), value in zip(self._ports, values, strict=True)
        ]

    def _values(self, given: Sequence[Any]) -> Sequence[Any]:
        value = given[0]
        if isinstance(value, Mapping):
            return self._by_name(value)
        if isinstance(value, (list, tuple)) and _is_list_of_inputs(self.program.inputs, value):
            return value
        return given

    def _by_name(self, values: Mapping[str, Any]) -> list[Any]:
        names = [port.name for port in self.program.inputs]
        for name in values:
            if name not in names:
                raise InputError(
                    f"program {self.program.name!r} has no input called {name!r}",
                    hint=describe_inputs(self.program),
                    input=str(name),
                )
        for name in names:
            if name not in values:
                raise InputError(f"input {name!r} is missing", hint=describe_inputs(self.program), input=name)
        return [values[name] for name in names]


def describe_inputs(program: Program) -> str:
    """`inputs: x: f32(batch, 64), n: i64`."""
    return "inputs: " + ", ".join(map(str, program.inputs))


def _count(inputs: int) -> str:
    return "1 input" if inputs == 1 else f"{inputs} inputs"


def _is_list_of_inputs(ports: Sequence[Port], values: Sequence[Any]) -> bool:
    """Whether a list holds the inputs, rather than being the nested list of a single one."""
    if len(ports) != 1:
        return True
    # [x] for a single input is a list of inputs if x is already an array of that rank.
    return len(values) == 1 and getattr(values[0], "ndim", None) == len(ports[0].shape)


def as_input(port: Port, value: Any, dtype: np.dtype[Any]) -> Array:
    """`value` as a C-contiguous array of `dtype`, the port's, without a copy where possible.

    Raises:
        InputError: It is no array, or of a dtype that does not convert.
    """
    array = value if type(value) is np.ndarray else _to_array(port, value)
    if array.dtype != dtype:
        array = _cast(port, array, dtype, weak=not hasattr(value, "dtype"))
    if port.kind == "scalar":
        if array.size != 1:
            _fail(port, f"is a scalar, got shape {format_shape(array.shape)}")
        return array.reshape(())
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        # ascontiguousarray alone would leave a misaligned array as it is.
        array = np.array(array, order="C", copy=True)
    return array


def _to_array(port: Port, value: Any) -> Array:
    if value is None or isinstance(value, (str, bytes)):
        _fail(port, f"cannot be {'None' if value is None else 'a ' + type(value).__name__}")
    try:
        array = np.asarray(value)
        return whole_numbers(value, array) if port.dtype is u64 else array
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(
            f"input {port.name!r}: this {type(value).__name__} cannot become an array: {error}",
            hint=f"it takes {port.type_text}",
            input=port.name,
        ) from None


def whole_numbers(value: Any, array: Array) -> Array:
    """`array`, made of the list `value`; as uint64 where NumPy took integers beyond int64 for floats."""
    if array.dtype.kind != "f" or hasattr(value, "dtype"):
        return array
    each = np.asarray(value, dtype=object)
    if not all(isinstance(number, int) and 0 <= number < 1 << 64 for number in each.flat):
        return array
    return each.astype(np.uint64)


def _cast(port: Port, array: Array, dtype: np.dtype[Any], *, weak: bool) -> Array:
    """Convert: floats to floats, integers to floats, integers that fit; nothing else."""
    kind = _kind(array.dtype)
    if not array.size and weak:
        # [] has no dtype of its own.
        return array.astype(dtype)
    if kind is None or (kind == "float" and not port.dtype.is_float):
        _fail(port, f"holds {array.dtype} values, which do not convert to {port.dtype} without loss")
    if not port.dtype.is_float:
        _check_range(port, array)
    # As a cast within the program would: 8-bit floats saturate.
    return round_to(array, port.dtype)


def _kind(dtype: np.dtype[Any]) -> str | None:
    try:
        return as_dtype(dtype).kind
    except SpecError:
        return {"f": "float", "i": "int", "u": "uint"}.get(dtype.kind)


def _check_range(port: Port, array: Array) -> None:
    if not array.size:
        return
    low, high = int(array.min()), int(array.max())
    least, most = _range(port.dtype)
    if low < least or high > most:
        _fail(port, f"holds {low if low < least else high}, but {port.dtype} holds {least} to {most}")


def _range(dtype: DType) -> tuple[int, int]:
    if dtype.kind == "bool":
        return 0, 1
    if dtype.kind == "uint":
        return 0, (1 << dtype.bits) - 1
    return -(1 << dtype.bits - 1), (1 << dtype.bits - 1) - 1


def _fail(port: Port, text: str) -> NoReturn:
    raise InputError(f"input {port.name!r} {text}", hint=f"it takes {port.type_text}", input=port.name)
