"""Which arrays a kernel writes, read from its source."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_PLAIN_CALLS = frozenset({"len", "range", "min", "max", "abs", "int", "float", "bool", "round", "print"})
"""Builtins that never write to an array."""

_NOT_VIEWS = frozenset({"size", "shape", "ndim", "dtype", "strides", "itemsize", "nbytes"})
"""Attributes of an array that are not arrays."""


@dataclass(frozen=True, slots=True)
class Written:
    """What the source says about writes."""

    certain: frozenset[str]
    """Arrays that a subscript or an atomic stores to."""
    possible: frozenset[str]
    """Arrays handed to another function, which may store to them."""


def function_tree(fn: Callable[..., Any]) -> ast.FunctionDef | None:
    """The syntax tree of a function, with the lines and columns of its file; None without source."""
    code = fn.__code__
    # An editor may have saved the file since its lines were last read.
    linecache.checkcache(code.co_filename)
    try:
        tree = _parsed("".join(linecache.getlines(code.co_filename, fn.__globals__)))
    except (SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if first == code.co_firstlineno:
                return node
    return None


@lru_cache(maxsize=4)  # a file of many kernels is read once
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def written_arrays(tree: ast.FunctionDef, arrays: Mapping[str, int]) -> Written:
    """The arrays that the body of a kernel writes.

    Args:
        tree: The kernel.
        arrays: Number of axes by array parameter.
    """
    visitor = _Writes(arrays)
    # Aliases (`row = y[i]`) may come after their use in a loop: a second pass sees them all.
    for _ in range(2):
        for statement in tree.body:
            visitor.visit(statement)
    return Written(frozenset(visitor.certain), frozenset(visitor.possible - visitor.certain))


class _Writes(ast.NodeVisitor):
    def __init__(self, arrays: Mapping[str, int]) -> None:
        self.arrays = arrays
        self.aliases: dict[str, set[str]] = {name: {name} for name in arrays}
        self.certain: set[str] = set()
        self.possible: set[str] = set()

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.ctx, ast.Store):
            self.certain |= self._roots(node.value)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._alias(target, node.value)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._alias(node.target, node.value)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            # `y += 1` on a whole array stores to it.
            self.certain |= {a for a in self._views(node.target) if self.arrays[a] > 0}
        self.generic_visit(node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._alias(node.target, node.value)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        arguments = [*node.args, *(k.value for k in node.keywords)]
        if _is_atomic(node.func):
            if arguments:
                self.certain |= self._roots(arguments[0])
        elif not (isinstance(node.func, ast.Name) and node.func.id in _PLAIN_CALLS):
            for argument in arguments:
                inner = argument.value if isinstance(argument, ast.Starred) else argument
                self.possible |= self._views(inner)
        self.generic_visit(node)

    def _alias(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, (ast.Tuple, ast.List)) and isinstance(value, (ast.Tuple, ast.List)):
            for inner, source in zip(target.elts, value.elts, strict=False):
                self._alias(inner, source)
        elif isinstance(target, ast.Name):
            views = self._views(value)
            if views:
                self.aliases.setdefault(target.id, set()).update(views)

    def _roots(self, node: ast.expr) -> set[str]:
        """The arrays that a store through `node` reaches."""
        if isinstance(node, ast.Name):
            return set(self.aliases.get(node.id, ()))
        if isinstance(node, (ast.Subscript, ast.Attribute, ast.Starred)):
            return self._roots(node.value)
        if isinstance(node, ast.Call):
            return self._roots(node.func)
        if isinstance(node, ast.IfExp):
            return self._roots(node.body) | self._roots(node.orelse)
        return set()

    def _views(self, node: ast.expr) -> set[str]:
        """The arrays whose memory the value of `node` shares: not single elements of them."""
        if isinstance(node, (ast.Tuple, ast.List)):
            return set().union(*(self._views(e) for e in node.elts)) if node.elts else set()
        if isinstance(node, ast.Attribute):
            return set() if node.attr in _NOT_VIEWS else self._views(node.value)
        if isinstance(node, ast.Subscript):
            roots = self._roots(node.value)
            return {r for r in roots if not self._is_element(node, r)}
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Attribute):
            return set()
        return self._roots(node)

    def _is_element(self, node: ast.Subscript, array: str) -> bool:
        if not isinstance(node.value, ast.Name):
            return False
        indices = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        single = not any(isinstance(i, (ast.Slice, ast.Starred)) for i in indices)
        return single and len(indices) >= self.arrays[array]


def _is_atomic(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and (
        (isinstance(function.value, ast.Attribute) and function.value.attr == "atomic")
        or (isinstance(function.value, ast.Name) and function.value.id == "atomic")
    )
