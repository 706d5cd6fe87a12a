"""Names of a generated kernel that are values, not variables: assigned once, and read only after that."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any


def assigned_once(tree: ast.FunctionDef) -> frozenset[str]:
    """Names with one assignment that every read of them comes after, in its own block or one within.

    Such a name needs no stack slot: its value dominates every use (as SSA form wants it), and of slots NVVM
    has to read, resolve and forget every store and load.
    """
    scan = _Scan()
    scan.block(tree.body)
    return frozenset(
        name
        for name, (place, end) in scan.assigned.items()
        if scan.stores[name] == 1 and all(place < read <= end for read in scan.reads.get(name, ()))
    )


class _Scan:
    """Statements numbered in their order; where names are assigned and read."""

    def __init__(self) -> None:
        self.number = 0
        self.stores: dict[str, int] = {}
        self.reads: dict[str, list[int]] = {}
        self.assigned: dict[str, tuple[int, int]] = {}
        """By name the assignment's number, and that of the last statement of its block."""

    def block(self, statements: Sequence[ast.stmt]) -> None:
        found: list[tuple[str, int]] = []
        for statement in statements:
            self.number += 1
            self._names(statement)
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                found.append((statement.targets[0].id, self.number))
            elif isinstance(statement, ast.If | ast.For | ast.While):
                self.block(statement.body)
                self.block(statement.orelse)
        for name, place in found:
            self.assigned[name] = place, self.number

    def _names(self, statement: ast.stmt) -> None:
        # `ast.walk` takes three times as long, and this goes over all of a large kernel.
        nodes: list[Any] = [statement]
        while nodes:
            node = nodes.pop()
            if isinstance(node, ast.Name):
                if isinstance(node.ctx, ast.Load):
                    self.reads.setdefault(node.id, []).append(self.number)
                else:
                    self.stores[node.id] = self.stores.get(node.id, 0) + 1
            elif isinstance(node, list):
                nodes += [part for part in node if isinstance(part, ast.expr)]
            else:
                nodes += [part for part in vars(node).values() if isinstance(part, ast.expr | list)]
