"""Accesses of a hand-written kernel in which threads side by side touch distant elements, from its source.

For each index the derivative by `threadIdx.x` is followed through assignments: 1 for `cuda.grid(1)`, 0 for
what all threads of a row have alike. What cannot be told is left alone: there are no guesses.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tessera.language.written import function_tree

SECTOR_ELEMENTS = 2
"""Elements between neighbouring threads from which on an access counts as strided."""
_AXES = {"x": 1, "y": 0, "z": 0}


@dataclass(frozen=True, slots=True)
class StridedAccess:
    """An access whose addresses lie apart within a warp."""

    line: int
    """1-based, in the kernel's file."""
    text: str
    """`x[i, j]`."""
    array: str
    writes: bool
    stride: int | None
    """Elements between neighbouring threads; None: a row of the array or more."""

    def __str__(self) -> str:
        verb = "writes" if self.writes else "reads"
        if self.stride is None:
            return (
                f"line {self.line}: {self.text} {verb} another row of {self.array} in each thread of a warp "
                "(uncoalesced): let the last index follow threadIdx.x, or go through shared memory"
            )
        return (
            f"line {self.line}: {self.text} {verb} one of {self.stride} elements of {self.array} "
            "(uncoalesced): let neighbouring threads take neighbouring elements"
        )


def strided_accesses(fn: Any, arrays: Mapping[str, int]) -> list[StridedAccess]:
    """The strided accesses of a kernel to its array parameters, each line and text once.

    Args:
        fn: The kernel as a plain Python function.
        arrays: Number of axes by array parameter; all in C order.
    """
    tree = function_tree(fn)
    if tree is None:
        return []
    derivatives = _Derivatives(tree)
    found: dict[tuple[int, str], StridedAccess] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in arrays:
            access = _access(node, node.value.id, arrays[node.value.id], derivatives)
            if access is not None:
                found.setdefault((access.line, access.text), access)
    return sorted(found.values(), key=lambda a: (a.line, a.text))


def _access(node: ast.Subscript, array: str, rank: int, derivatives: _Derivatives) -> StridedAccess | None:
    indices = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if len(indices) != rank:
        return None
    steps = [derivatives.of(index) for index in indices]
    if any(step is None for step in steps):
        return None
    *outer, inner = (abs(step) for step in steps if step is not None)
    stride = None if any(outer) else inner
    if stride is not None and stride < SECTOR_ELEMENTS:
        return None
    if stride is None and inner:
        # Both follow the thread, as along a diagonal.
        return None
    writes = isinstance(node.ctx, ast.Store)
    return StridedAccess(node.lineno, ast.unparse(node), array, writes, stride)


class _Derivatives:
    """By how much a value grows from one thread of a row to the next; None: not known."""

    def __init__(self, tree: ast.FunctionDef) -> None:
        parameters = {a.arg for a in tree.args.args}
        self._known: dict[str, int | None] = dict.fromkeys(parameters, 0)
        assignments = list(_assignments(tree))
        # A name may be assigned from one that is assigned further down, in a loop.
        for _ in range(len(assignments) + 1):
            before = dict(self._known)
            for name, value in assignments:
                self._join(name, value)
            if before == self._known:
                break

    def _join(self, name: str, value: ast.expr | int | None) -> None:
        step = self.of(value) if isinstance(value, ast.expr) else value
        if name in self._known and self._known[name] != step:
            step = None
        self._known[name] = step

    def of(self, node: ast.expr) -> int | None:
        match node:
            case ast.Constant():
                return 0
            case ast.Name(id=name):
                # Globals and closures are alike for all threads.
                return self._known.get(name, 0)
            case ast.Attribute():
                return self._attribute(ast.unparse(node))
            case ast.Call():
                return self._call(node)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                step = self.of(operand)
                return None if step is None else -step
            case ast.BinOp():
                return self._binary(node)
            case ast.Subscript():
                # Element of `a.shape`, or data: only the first is alike for all.
                return 0 if ast.unparse(node.value).endswith(".shape") else None
        return None

    def _attribute(self, text: str) -> int | None:
        if ".threadIdx." in f".{text}":
            return _AXES.get(text[-1])
        if text.endswith((".laneid", "laneid")):
            return 1
        return 0

    def _call(self, node: ast.Call) -> int | None:
        name = ast.unparse(node.func).rpartition(".")[2]
        if name == "grid" and len(node.args) == 1 and ast.unparse(node.args[0]) == "1":
            return 1
        if name == "gridsize":
            return 0
        if name in ("int32", "int64", "uint32", "uint64", "int", "intp", "uintp") and len(node.args) == 1:
            return self.of(node.args[0])
        steps = [self.of(argument) for argument in node.args]
        return 0 if all(step == 0 for step in steps) else None

    def _binary(self, node: ast.BinOp) -> int | None:
        left, right = self.of(node.left), self.of(node.right)
        if left is None or right is None:
            return None
        if left == 0 and right == 0:
            return 0
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            for step, factor in ((left, node.right), (right, node.left)):
                if step and isinstance(factor, ast.Constant) and isinstance(factor.value, int):
                    return step * factor.value
        if isinstance(node.op, ast.LShift) and isinstance(node.right, ast.Constant):
            return left << int(node.right.value) if isinstance(node.right.value, int) else None
        return None


def _assignments(tree: ast.FunctionDef) -> Iterator[tuple[str, ast.expr | int | None]]:
    """Every name and what it is set to; a number where that is its step itself."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=value):
                yield from _unpacked(names, value)
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                yield name, ast.BinOp(ast.Name(name, ast.Load()), op, value)
            case ast.For(target=ast.Name(id=name), iter=ast.Call(args=arguments)):
                yield name, arguments[0] if len(arguments) > 1 else 0
            case ast.For(target=ast.Name(id=name)):
                yield name, None


def _unpacked(names: list[ast.expr], value: ast.expr) -> Iterator[tuple[str, ast.expr | int | None]]:
    plain = [name.id for name in names if isinstance(name, ast.Name)]
    if isinstance(value, ast.Tuple) and len(value.elts) == len(names) == len(plain):
        yield from zip(plain, value.elts, strict=True)
        return
    called = ast.unparse(value.func).rpartition(".")[2] if isinstance(value, ast.Call) else ""
    shape = ast.unparse(value).endswith(".shape")
    for position, name in enumerate(plain):
        yield name, 0 if shape else (int(position == 0) if called == "grid" else None)
