"""Attention, and products named by their axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tessera.language import shapes
from tessera.language.builder import GraphBuilder
from tessera.language.promotion import float_of
from tessera.language.rules.operand import Operand, Rule, checked_number, common_dtype
from tessera.language.rules.value import Value
from tessera.language.shapes import Shape, Side
from tessera.program.dim import Dim, format_dim, format_shape, product
from tessera.program.dtype import bool_
from tessera.program.errors import ShapeError, TraceError


def _attention(
    builder: GraphBuilder, operands: Sequence[Operand], *, causal: bool, scale: float | None
) -> int:
    q, k, v, *masks = operands
    _check_shapes(q, k, v)
    dtype = float_of(common_dtype((q, k, v)))
    shape = (*q.shape[:-1], v.shape[-1])
    if scale is None and not isinstance(q.shape[-1], int):
        raise ShapeError(
            f"attention: {q.side('query')} has a width that is known only when it runs",
            hint="give the TensorSpec a fixed last size, or pass scale",
        )
    factor = 1 / math.sqrt(max(int(str(q.shape[-1])), 1)) if scale is None else scale
    values = [Value(builder, operand.node(builder, dtype)) for operand in (q, k, v)]
    flat = len(q.shape) == 2
    if flat:
        values = [value.reshape(1, *value.shape) for value in values]
    whole: Shape = (*q.shape[:-1], k.shape[-2])
    for mask in masks:
        _check_mask(mask, whole)
        kind = bool_ if mask.dtype == bool_ else dtype
        values.append(Value(builder, mask.node(builder, kind)))
    result = values[0].make(
        "attention", values[1:], (1, *shape) if flat else shape,
        causal=bool(causal), scale=checked_number("attention", "scale", factor),
    )  # fmt: skip
    return result.reshape(*shape).index


def _check_shapes(q: Operand, k: Operand, v: Operand) -> None:
    rank = len(q.shape)
    if rank < 2 or len(k.shape) != rank or len(v.shape) != rank:
        raise ShapeError(
            f"attention: {q.side('query')}, {k.side('key')} and {v.side('value')} must have as many axes",
            hint="(batch, heads, length, width)",
        )
    if q.shape[-1] != k.shape[-1]:
        raise ShapeError(
            f"attention: {k.side('key')} does not fit {q.side('query')}: their widths differ",
            hint=shapes.equal_hint(q.shape[-1], k.shape[-1]) or "the last sizes must be equal",
        )
    if k.shape[:-1] != v.shape[:-1]:
        raise ShapeError(
            f"attention: {v.side('value')} does not fit {k.side('key')}",
            hint="all sizes but the last must be equal",
        )
    if rank > 2 and q.shape[:-3] != k.shape[:-3]:
        raise ShapeError(
            f"attention: {k.side('key')} does not fit {q.side('query')}: their batches differ",
            hint="the sizes before the heads must be equal",
        )
    if rank > 2 and q.shape[-3] != k.shape[-3]:
        heads, few = q.shape[-3], k.shape[-3]
        if not (isinstance(heads, int) and isinstance(few, int) and few and heads % few == 0):
            raise ShapeError(
                f"attention: {format_dim(heads)} heads of {q.side('query')} cannot share "
                f"{format_dim(few)} of {k.side('key')}",
                hint="the query's heads must be a multiple of the key's",
            )


def _check_mask(mask: Operand, whole: Shape) -> None:
    if not mask.dtype.is_float and mask.dtype != bool_:
        raise TraceError(
            f"attention: {mask.side('mask')} is {mask.dtype}",
            hint="bool says which keys are seen, a float is added to the scores",
        )
    missing = len(whole) - len(mask.shape)
    fits = missing >= 0 and all(
        size == wanted or (isinstance(size, int) and size == 1)
        for size, wanted in zip(mask.shape, whole[max(missing, 0) :], strict=False)
    )
    if not fits:
        raise ShapeError(
            f"attention: {mask.side('mask')} does not broadcast to the scores, {format_shape(whole)}",
            hint="(batch, heads, queries, keys), with 1 where it is the same for all",
        )


def _einsum(builder: GraphBuilder, operands: Sequence[Operand], *, equation: str) -> int:
    inputs, output = _parsed(equation, operands)
    dtype = common_dtype(operands)
    if dtype == bool_:
        raise TraceError("einsum has no meaning for bool", hint="cast first: ts.cast(x, ts.i32)")
    terms = [
        _diagonal_free(Value(builder, operand.node(builder, dtype)), letters, operand)
        for operand, letters in zip(operands, inputs, strict=True)
    ]
    letters, value = inputs[0], terms[0]
    for position in range(1, len(terms)):
        later = set(output).union(*inputs[position + 1 :])
        letters, value = _contracted(letters, value, inputs[position], terms[position], later)
    extra = [axis for axis, letter in enumerate(letters) if letter not in output]
    if extra:
        value = value.reduce("sum", extra)
        letters = "".join(letter for letter in letters if letter in output)
    return value.transpose(*(letters.index(letter) for letter in output)).index


def _parsed(equation: object, operands: Sequence[Operand]) -> tuple[list[str], str]:
    if not isinstance(equation, str):
        raise TraceError(f"einsum: {equation!r} is no equation", hint="ts.einsum('ij,jk->ik', a, b)")
    left, arrow, output = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    if not arrow:
        output = "".join(sorted(letter for letter in set(left) - {","} if left.count(letter) == 1))
    wrong = [c for c in left + output if not (c.isalpha() or c == ",")]
    if wrong or len(inputs) != len(operands) or len(set(output)) != len(output) or set(output) - set(left):
        raise TraceError(
            f"einsum: {equation!r} does not name the axes of {len(operands)} operands by letters",
            hint="one letter for each axis, as in 'bij,bjk->bik'",
        )
    sizes: dict[str, tuple[object, Side]] = {}
    for operand, letters in zip(operands, inputs, strict=True):
        if len(letters) != len(operand.shape):
            raise ShapeError(
                f"einsum: {letters!r} names {len(letters)} axes, {operand.side()} has {len(operand.shape)}",
                hint="one letter for each axis",
            )
        for letter, size in zip(letters, operand.shape, strict=True):
            known, first = sizes.setdefault(letter, (size, operand.side()))
            if known != size:
                raise ShapeError(
                    f"einsum: axis {letter!r} is {known} in {first} but {size} in {operand.side()}",
                    hint="axes of one letter must have one size",
                )
    return inputs, output


def _diagonal_free(value: Value, letters: str, operand: Operand) -> Value:
    if len(set(letters)) != len(letters):
        raise TraceError(
            f"einsum: {letters!r} takes a diagonal of {operand.side()}",
            hint="multiply by ts.one_hot(ts.arange(n), n) and sum",
        )
    return value


def _contracted(left: str, a: Value, right: str, b: Value, later: set[str]) -> tuple[str, Value]:
    """Two operands multiplied, and summed over what nobody after them names: one matrix product."""
    a, left = _summed(a, left, later | set(right))
    b, right = _summed(b, right, later | set(left))
    shared = [c for c in left if c in right and c in later]
    inner = [c for c in left if c in right and c not in later]
    rows, columns = [c for c in left if c not in right], [c for c in right if c not in left]
    size = {**dict(zip(left, a.shape, strict=True)), **dict(zip(right, b.shape, strict=True))}
    a = a.transpose(*(left.index(c) for c in (*shared, *rows, *inner)))
    b = b.transpose(*(right.index(c) for c in (*shared, *inner, *columns)))
    batch = [size[c] for c in shared]
    if not inner:
        across = a.reshape(*batch, *(size[c] for c in rows), *(1 for _ in columns))
        return "".join((*shared, *rows, *columns)), across * b.reshape(
            *batch, *(1 for _ in rows), *(size[c] for c in columns)
        )
    m, n, k = (_count(size, names) for names in (rows, columns, inner))
    letters = "".join((*shared, *rows, *columns))
    shape = [size[c] for c in letters]
    return letters, a.reshape(*batch, m, k).matmul(b.reshape(*batch, k, n)).reshape(*shape)


def _count(size: dict[str, Dim], names: Sequence[str]) -> Dim:
    return product(size[name] for name in names)


def _summed(value: Value, letters: str, needed: set[str]) -> tuple[Value, str]:
    extra = [axis for axis, letter in enumerate(letters) if letter not in needed]
    if not extra:
        return value, letters
    kept = "".join(letter for letter in letters if letter in needed)
    return value.reduce("sum", extra), kept


ATTENTION: dict[str, Rule] = {"attention": _attention, "einsum": _einsum}
"""Rules by operator."""
