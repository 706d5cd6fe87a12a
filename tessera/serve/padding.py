"""Requests of different lengths as one array, and the results cut back to each request's own length."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from tessera.program.errors import InputError, ServeError

Array = np.ndarray[Any, Any]
Value = Array | dict[str, Array]
"""One array, or arrays by name."""


def read_request(request: object) -> Value:
    """A request as an array, or as arrays by name: an array, nested lists, a mapping of those.

    Raises:
        InputError: It is not made of numbers, or its arrays differ in length.
    """
    if not isinstance(request, Mapping):
        return _array(request, "the request")
    value = {str(name): _array(part, f"input {str(name)!r}") for name, part in request.items()}
    lengths = {name: len(part) for name, part in value.items() if part.ndim}
    if not value:
        raise InputError("the request has no inputs", hint='add_request({"tokens": [1, 2, 3]})')
    if len(set(lengths.values())) > 1:
        listing = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise InputError(
            f"the inputs of one request have different lengths along axis 0 ({listing})",
            hint="pad them to one length, or send those of a fixed size as part of another array",
        )
    return value


def length_of(value: Value) -> int | None:
    """Elements along axis 0; None for scalars, which have no length."""
    parts = value.values() if isinstance(value, dict) else (value,)
    return next((len(part) for part in parts if part.ndim), None)


def kind_of(value: Value) -> Hashable:
    """Equal for values that can be padded to one array: names, dtypes and all sizes but the length."""
    if isinstance(value, dict):
        return tuple((name, part.dtype, part.ndim, part.shape[1:]) for name, part in sorted(value.items()))
    return (value.dtype, value.ndim, value.shape[1:])


def pad(values: Sequence[Value], strategy: str) -> Value:
    """`values` of one kind stacked along a new axis 0, shorter ones padded at their end.

    Args:
        values: Of equal `kind_of`.
        strategy: Key of `PADDING`.
    """
    first = values[0]
    if isinstance(first, dict):
        return {name: _pad([v[name] for v in values if isinstance(v, dict)], strategy) for name in first}
    return _pad([v for v in values if not isinstance(v, dict)], strategy)


def split(outputs: object, lengths: Sequence[int | None], *, cut: bool) -> list[Value]:
    """The result of each request.

    Args:
        outputs: An array whose axis 0 counts requests, arrays by name, or one result per request.
        lengths: Each request's own length.
        cut: Cut outputs whose axis 1 has the padded length back to the request's own.

    Raises:
        ServeError: There are not as many results as requests.
    """
    if isinstance(outputs, Mapping):
        parts = {str(name): _rows(np.asarray(part), lengths, cut=cut) for name, part in outputs.items()}
        return [{name: rows[i] for name, rows in parts.items()} for i in range(len(lengths))]
    if isinstance(outputs, list | tuple):
        _check_count(len(outputs), lengths)
        padded = max((n for n in lengths if n is not None), default=None)
        return [_cut_result(result, n, padded, cut=cut) for result, n in zip(outputs, lengths, strict=True)]
    return list(_rows(np.asarray(outputs), lengths, cut=cut))


def _array(value: object, name: str) -> Array:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(
            f"{name} cannot be made an array: {error}", hint="send nested lists of numbers"
        ) from error
    if array.dtype.kind in "OUSmM":
        raise InputError(f"{name} holds values of type {array.dtype}", hint="send numbers")
    return array


def _pad(parts: Sequence[Array], strategy: str) -> Array:
    if parts[0].ndim == 0 or len({len(part) for part in parts}) == 1:
        return np.stack(parts)
    longest = max(len(part) for part in parts)
    result = np.zeros((len(parts), longest, *parts[0].shape[1:]), parts[0].dtype)
    for row, part in zip(result, parts, strict=True):
        row[: len(part)] = part
        PADDING[strategy](row, len(part))
    return result


def _leave_zero(row: Array, length: int) -> None:
    """The rest of `row` stays 0."""


def _repeat_last(row: Array, length: int) -> None:
    """The last element fills the rest of `row`; what is empty has none and stays 0."""
    if length:
        row[length:] = row[length - 1]


PADDING: dict[str, Callable[[Array, int], None]] = {
    "efficient": _leave_zero,
    "zero": _leave_zero,
    "replicate": _repeat_last,
}
"""What fills the rest of a row from its own length on, by strategy."""


def _rows(output: Array, lengths: Sequence[int | None], *, cut: bool) -> list[Array]:
    _check_count(len(output) if output.ndim else None, lengths)
    padded = max((n for n in lengths if n is not None), default=None)
    # Copies: a view would keep the whole batch alive as long as one caller holds its result.
    return [_cut(row, n, padded, cut=cut).copy() for row, n in zip(output, lengths, strict=True)]


def _cut_result(result: object, length: int | None, padded: int | None, *, cut: bool) -> Value:
    if isinstance(result, Mapping):
        return {str(k): _cut(np.asarray(v), length, padded, cut=cut) for k, v in result.items()}
    return _cut(np.asarray(result), length, padded, cut=cut)


def _cut(row: Any, length: int | None, padded: int | None, *, cut: bool) -> Array:
    array: Array = np.asarray(row)
    return array[:length] if cut and array.ndim and len(array) == padded else array


def _check_count(found: int | None, lengths: Sequence[int | None]) -> None:
    if found != len(lengths):
        raise ServeError(
            f"the batch has {len(lengths)} requests, but {'no' if found is None else found} results came",
            hint="axis 0 of every output counts the requests of the batch",
        )
