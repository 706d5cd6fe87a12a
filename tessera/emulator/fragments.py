"""Which element of a matrix each register of each lane holds, for `mma.sync` and `wmma`.

A layout is a pair of arrays (rows, columns), each (32, elements): where the elements that a lane holds lie,
in the order of its registers and, inside a register, from the low bits up.

Source: PTX ISA 8.8, section 9.7.14.5 (matrix fragments for `mma`).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tessera.emulator.lanes import Array

LANE = np.arange(32)[:, None]
GROUP, MEMBER = LANE >> 2, LANE & 3
"""The `groupID` and `threadID_in_group` of the ISA's tables."""

Layout = tuple[Array, Array]


@cache
def operand_a(m: int, k: int, per_register: int) -> Layout:
    """A of shape (m, k), row by row, with `per_register` elements in a register.

    Registers go over the two halves of 16 rows first, then over the columns.
    """
    halves = m // 8
    count = m * k // 32
    i = np.arange(count)[None, :]
    register, inside = i // per_register, i % per_register
    rows = GROUP + 8 * (register % halves)
    columns = MEMBER * per_register + inside + register // halves * 4 * per_register
    return np.broadcast_to(rows, columns.shape), columns


@cache
def operand_b(k: int, n: int, per_register: int) -> Layout:
    """B of shape (k, n), column by column."""
    columns, rows = operand_a(n, k, per_register)
    return rows, columns


@cache
def accumulator(m: int, n: int) -> Layout:
    """C and D of shape (m, n): pairs of neighbours in a row, the upper eight rows first, then eight
    columns further.
    """
    halves = m // 8
    i = np.arange(m * n // 32)[None, :]
    rows = GROUP + 8 * (i // 2 % halves)
    columns = MEMBER * 2 + (i & 1) + i // (2 * halves) * 8
    return np.broadcast_to(rows, (32, i.size)), np.broadcast_to(columns, (32, i.size))


# m8n8k4 of f16 is four products at once, each by eight lanes: 0-3 and 16-19, 4-7 and 20-23, and so on.
# Rows and columns of the four matrices are told apart by adding 8 for each: A is (32, 4), B is (4, 32).
_QUAD = (LANE & 15) >> 2
_HIGH = (LANE >> 4) * 4


@cache
def quad_a(layout: str) -> Layout:
    """A of the four m8n8k4 products, (32, 4), held `row` or `col` major."""
    i = np.arange(4)[None, :]
    if layout == "row":
        rows, columns = (LANE & 3) + _HIGH + 0 * i, i + 0 * LANE
    else:
        rows, columns = i + _HIGH, (LANE & 3) + 0 * i
    return rows + 8 * _QUAD, columns


@cache
def quad_b(layout: str) -> Layout:
    """B of the four m8n8k4 products, (4, 32)."""
    columns, rows = quad_a("row" if layout == "col" else "col")
    return rows, columns


@cache
def quad_accumulator(kind: str) -> Layout:
    """C and D of the four m8n8k4 products, (32, 8), in f16 or f32."""
    i = np.arange(8)[None, :]
    if kind == "f16":
        rows, columns = (LANE & 3) + _HIGH + 0 * i, i + 0 * LANE
    else:
        rows = (LANE & 1) + (i & 2) + _HIGH
        columns = (i & 4) + (LANE & 2) + (i & 1)
    return rows + 8 * _QUAD, columns


# The ISA leaves open where the elements of a `wmma` fragment are. Here they lie as `mma` has them, tile by
# tile of 16 rows (8 if there are no more) or of 8 columns; fragments with room for more repeat them.


@cache
def wmma(part: str, shape: tuple[int, int, int], per_register: int) -> Layout:
    """Fragment `a`, `b`, `c` or `d` of a `wmma` of shape (m, n, k), without repetitions.

    Args:
        part: Which matrix.
        shape: m, n, k.
        per_register: Elements in a register of A or B.
    """
    m, n, k = shape
    size = min(m, 16)
    if part == "b":
        return _tiles([operand_b(k, 8, per_register)] * (n // 8), (0, 8))
    tile = operand_a(size, k, per_register) if part == "a" else accumulator(size, n)
    return _tiles([tile] * (m // size), (size, 0))


def _tiles(layouts: list[Layout], step: tuple[int, int]) -> Layout:
    """One layout after the other, each further down or to the right."""
    rows = [rows + i * step[0] for i, (rows, _) in enumerate(layouts)]
    columns = [columns + i * step[1] for i, (_, columns) in enumerate(layouts)]
    return np.concatenate(rows, axis=1), np.concatenate(columns, axis=1)


def collect(values: Array, layout: Layout, shape: tuple[int, int]) -> Array:
    """The matrix that lanes hold together.

    Args:
        values: (32, elements), what the lanes hold.
        layout: Where it belongs.
        shape: Of the matrix.
    """
    matrix = np.zeros(shape, values.dtype)
    matrix[layout] = values
    return matrix


def distribute(matrix: Array, layout: Layout) -> Array:
    """(32, elements): what each lane holds of a matrix."""
    found: Array = matrix[layout]
    return found
