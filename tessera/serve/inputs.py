"""What a caller sends, as arrays that a program takes.

Everything is checked here, before a request is queued: what passes cannot fail the
requests that it is batched with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.program.bind import bind_symbols
from tessera.program.dtype import as_dtype, u64
from tessera.program.errors import InputError, SpecError
from tessera.program.program import Port, Program
from tessera.runtime.inputs import whole_numbers

Arrays = dict[str, np.ndarray[Any, Any]]
Shapes = tuple[tuple[int, ...], ...]

_NUMPY_KINDS = {"b": "bool", "i": "int", "u": "uint", "f": "float"}

_ACCEPTED: dict[str, frozenset[str]] = {
    "float": frozenset({"float", "int", "uint"}),
    "int": frozenset({"int", "uint"}),
    "uint": frozenset({"int", "uint"}),
    "bool": frozenset({"bool"}),
}
"""Kinds of values that a port of each kind takes. Nothing is rounded to an integer in silence."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Checked inputs of one request."""

    arrays: Arrays
    """By port name: the port's dtype, C-contiguous."""
    symbols: Mapping[str, int]
    """The value of every symbol of the program."""
    shapes: Shapes = ()
    """The inputs' shapes, in the program's order; empty where sizes depend on values of inputs, too."""


def prepare(program: Program, data: Any) -> Prepared:
    """Check `data` against the inputs of `program`.

    Args:
        program: Says what inputs there are.
        data: A value for the only input, or a mapping by name. A value is a number, nested
            lists of numbers, or anything that NumPy takes for an array.

    Raises:
        InputError: A name, shape or type does not fit; the message names the input.
    """
    values = _by_name(program, data)
    arrays = {port.name: as_array(values[port.name], port) for port in program.inputs}
    shapes = {p.name: arrays[p.name].shape for p in program.inputs if p.kind == "tensor"}
    scalars = {
        p.name: int(arrays[p.name])
        for p in program.inputs
        if p.kind == "scalar" and p.dtype.kind in ("int", "uint")
    }
    return Prepared(arrays, bind_symbols(program, shapes, scalars))


class Preparer:
    """`prepare` for one program, with what it found of shapes that came before.

    Args:
        program: Says what inputs there are.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._ports = [(p.name, p.dtype.numpy, p) for p in program.inputs]
        self._has_scalars = any(p.kind == "scalar" for p in program.inputs)
        self._symbols: dict[Shapes, Mapping[str, int]] = {}

    def prepare(self, data: Any) -> Prepared:
        """Check `data`; see `prepare`.

        Raises:
            InputError: A name, shape or type does not fit; the message names the input.
        """
        if self._has_scalars:
            return prepare(self._program, data)
        values = _by_name(self._program, data)
        arrays: Arrays = {}
        for name, dtype, port in self._ports:
            value = values[name]
            is_ready = type(value) is np.ndarray and value.dtype is dtype and value.flags.c_contiguous
            arrays[name] = value if is_ready else as_array(value, port)
        shapes = tuple([array.shape for array in arrays.values()])
        symbols = self._symbols.get(shapes)
        if symbols is None:
            by_name = {name: array.shape for name, array in arrays.items()}
            symbols = bind_symbols(self._program, by_name, {})
            if len(self._symbols) >= _MAX_SHAPES:
                self._symbols.clear()
            self._symbols[shapes] = symbols
        return Prepared(arrays, symbols, shapes)


_MAX_SHAPES = 1024
"""Shapes that are remembered; clients that send ever new ones only empty the table."""


def describe(program: Program) -> str:
    """The inputs of `program`, as a person reads them."""
    return ", ".join(map(str, program.inputs)) or "none"


def _by_name(program: Program, data: Any) -> Mapping[str, Any]:
    names = [p.name for p in program.inputs]
    if type(data) is dict and list(data) == names:
        return data
    if not isinstance(data, Mapping):
        if len(names) == 1:
            return {names[0]: data}
        raise InputError(
            f"the program takes {len(names)} inputs, but one value was given",
            hint=f"give them by name: {describe(program)}",
        )
    for name in names:
        if name not in data:
            raise InputError(f"input {name!r} is missing", hint=f"inputs: {describe(program)}", input=name)
    for name in data:
        if name not in names:
            raise InputError(
                f"there is no input {str(name)[:80]!r}", hint=f"inputs: {describe(program)}", input=str(name)
            )
    return data


def as_array(value: Any, port: Port) -> np.ndarray[Any, Any]:
    """`value` in the dtype of `port`, C-contiguous; its shape is not checked, except that a scalar has none.

    Raises:
        InputError: It is not made of numbers, is ragged, or holds a number that the dtype cannot.
    """
    array = _plain_array(value, port)
    kind = _kind_of(array)
    if kind != "bool" and port.dtype.kind != "bool" and _holds_bool(value):
        raise _wrong(port, f"holds values of type bool, which {port.dtype} does not take")
    if array.size and (kind is None or kind not in _ACCEPTED[port.dtype.kind]):
        raise _wrong(port, f"holds values of type {array.dtype}, which {port.dtype} does not take")
    if port.kind == "scalar" and array.shape != ():
        raise _wrong(port, f"is a scalar, but has the shape {array.shape}")
    target = port.dtype.numpy
    if array.dtype == target:
        return np.ascontiguousarray(array).reshape(array.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        result = array.astype(target, order="C")
    if port.dtype.is_float:
        _check_finite(array, result, port)
    elif port.dtype.kind in ("int", "uint"):
        _check_range(array, port)
    return result


def _holds_bool(value: Any) -> bool:
    """Whether a `true` hides among the numbers of a list: NumPy would take it for 1."""
    if not isinstance(value, list):
        return False
    kinds = set(map(type, value))
    return bool in kinds or any(map(_holds_bool, value)) if kinds - {float, int} else False


def _plain_array(value: Any, port: Port) -> np.ndarray[Any, Any]:
    if isinstance(value, str | bytes | Mapping) or value is None:
        raise _wrong(port, f"is {_json_name(value)}")
    try:
        array = np.asarray(value)
        if port.dtype is u64:
            array = whole_numbers(value, array)
    except (ValueError, TypeError, OverflowError) as error:
        raise _wrong(port, _first_flaw(value) or "cannot be made an array") from error
    if array.dtype.kind in "OUSmM":
        raise _wrong(port, _first_flaw(value) or f"holds values of type {array.dtype}")
    return array


def _kind_of(array: np.ndarray[Any, Any]) -> str | None:
    kind = _NUMPY_KINDS.get(array.dtype.kind)
    if kind is not None:
        return kind
    try:
        return as_dtype(array.dtype).kind
    except SpecError:
        return None


def _check_finite(array: np.ndarray[Any, Any], result: np.ndarray[Any, Any], port: Port) -> None:
    finite = np.isfinite(result)
    if finite.all():
        return
    overflowed = ~finite & np.isfinite(array)
    if overflowed.any():
        index = np.unravel_index(int(np.argmax(overflowed)), array.shape)
        raise _wrong(port, f"holds {array[index]} at {_place(index)}, which {port.dtype} cannot hold")


def _check_range(array: np.ndarray[Any, Any], port: Port) -> None:
    if not array.size:
        return
    limits = np.iinfo(port.dtype.numpy)
    for value in (array.min(), array.max()):
        if not limits.min <= int(value) <= limits.max:
            raise _wrong(port, f"holds {value}; {port.dtype} holds {limits.min} to {limits.max}")


def _place(index: tuple[Any, ...]) -> str:
    return "".join(f"[{int(i)}]" for i in index) or "the top"


_JSON_NAMES: dict[type, str] = {
    str: "a string",
    bytes: "bytes",
    dict: "an object",
    bool: "a boolean",
    type(None): "null",
}


def _json_name(value: Any) -> str:
    return next((name for kind, name in _JSON_NAMES.items() if isinstance(value, kind)), type(value).__name__)


def _first_flaw(value: Any) -> str | None:
    """What is wrong with nested lists, and where: the first element that is no number, or a ragged row.

    None if nothing is. The search is slow, and a client that sends millions must not hold up the others:
    it ends after `_SEARCHED` elements.
    """
    levels: list[Iterator[tuple[int, Any]]] = [iter([(-1, value)])]
    path: list[int] = []
    lengths: dict[int, int] = {}
    leaf_depth: int | None = None
    for _ in range(_SEARCHED):
        index, item = next(levels[-1], (0, _END))
        if item is _END:
            levels.pop()
            if not levels:
                return None
            if path:
                path.pop()
            continue
        here = (*path, index)[1:]
        if isinstance(item, list | tuple):
            if leaf_depth is not None and len(here) >= leaf_depth:
                return f"is ragged: a list at {_place(here)} where others have a number"
            expected = lengths.setdefault(len(here), len(item))
            if len(item) != expected:
                return f"is ragged: {len(item)} values at {_place(here)}, {expected} in the rows before"
            levels.append(enumerate(item))
            path.append(index)
        elif isinstance(item, int) and not -(2**63) <= item < 2**64:
            return f"holds an integer of more than 64 bits at {_place(here)}"
        elif isinstance(item, int | float | np.ndarray | np.generic):
            if len(here) in lengths:
                return f"is ragged: a number at {_place(here)} where others have a list"
            leaf_depth = len(here)
        else:
            return f"holds {_json_name(item)} at {_place(here)}"
    return f"is ragged or holds no numbers somewhere behind its first {_SEARCHED} elements"


_SEARCHED = 100_000
_END = object()


def _wrong(port: Port, text: str) -> InputError:
    return InputError(
        f"input {port.name!r} {text}",
        hint=f"it takes {port.type_text}",
        input=port.name,
    )
