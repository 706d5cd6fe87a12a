"""Sizes as a person writes them in an annotation: `"n"`, `"2*n + 1"`, `"cdiv(n, 256)"`.

The inverse of `format_dim`. Text is parsed as Python and walked, never evaluated.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from tessera.program.dim import (
    INT64_MAX,
    MAX_DEPTH,
    MAX_TERMS,
    Dim,
    Expr,
    ceildiv,
    maximum,
    minimum,
    symbol,
)
from tessera.program.errors import SpecError

MAX_LENGTH = 200
"""Longest text of a size, in characters: what a person writes on a line."""

_OPERATORS: dict[type[ast.operator], Callable[[Dim, Dim], Dim]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
}
_FUNCTIONS: dict[str, Callable[[Dim, Dim], Dim]] = {"cdiv": ceildiv, "min": minimum, "max": maximum}


def parse_size(text: str) -> Dim:
    """The size that `text` says.

    Args:
        text: A name, a number, or an expression of both with `+ - * // %`, `cdiv`, `min` and `max`.

    Raises:
        SpecError: It is none of these, divides by a number below 1, or is negative.
    """
    if text.isidentifier():
        return symbol(text)
    if len(text) > MAX_LENGTH:
        raise _no_size(f"{text[:40]}…")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _no_size(text) from None
    size = _walk(tree, text, 0)
    if isinstance(size, int) and not 0 <= size <= INT64_MAX:
        raise SpecError(f"the size {text!r} is {size}", hint="a size is 0 or more, in 64 bits")
    return size


def _walk(node: ast.expr, text: str, depth: int) -> Dim:
    if depth > MAX_DEPTH:
        raise _no_size(text)
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name):
        return symbol(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return 0 - _walk(node.operand, text, depth + 1)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _apply(_OPERATORS[type(node.op)], node.left, node.right, text, depth)
    if isinstance(node, ast.Call) and len(node.args) == 2 and not node.keywords:
        function = _FUNCTIONS.get(ast.unparse(node.func).rpartition(".")[2])
        if function is not None:
            return _apply(function, node.args[0], node.args[1], text, depth)
    raise _no_size(text)


def _apply(
    function: Callable[[Dim, Dim], Dim], left: ast.expr, right: ast.expr, text: str, depth: int
) -> Dim:
    lhs, rhs = _walk(left, text, depth + 1), _walk(right, text, depth + 1)
    divides = function is ceildiv or function in (_OPERATORS[ast.FloorDiv], _OPERATORS[ast.Mod])
    if divides and not isinstance(rhs, Expr) and rhs <= 0:
        raise SpecError(f"the size {text!r} divides by {rhs}", hint="divide by a positive number")
    # A product of sums multiplies out: 30 of them on one line would be 2**30 terms.
    if isinstance(lhs, Expr) and isinstance(rhs, Expr) and len(lhs.terms) * len(rhs.terms) > MAX_TERMS:
        raise _no_size(text)
    return function(lhs, rhs)


def _no_size(text: str) -> SpecError:
    return SpecError(
        f"{text!r} is no size",
        hint="a number, a name such as 'batch', or an expression such as '2*n + 1' or 'cdiv(n, 256)'",
    )
