"""Python source as a debugger needs it: its text, the names in its functions, its numbers."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class SourceFile:
    """One file of source."""

    name: str
    """As the PTX calls it: without folders."""
    path: str
    text: str = field(repr=False)
    constants: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Numbers by the names that functions know them by."""

    @cached_property
    def lines(self) -> list[str]:
        """The text, line by line."""
        return self.text.splitlines()

    @cached_property
    def _functions(self) -> dict[int, ast.FunctionDef]:
        try:
            tree = ast.parse(self.text)
        except SyntaxError:
            return {}
        return {node.lineno: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}

    def line(self, number: int) -> str:
        """A line by its number from 1; empty if there is none."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""

    def names_in(self, line: int) -> frozenset[str] | None:
        """Arguments and variables of the function whose `def` is on a line; None if there is none."""
        found = self._functions.get(line)
        if found is None:
            return None
        arguments = (*found.args.posonlyargs, *found.args.args, *found.args.kwonlyargs)
        stored = (n.id for n in ast.walk(found) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
        return frozenset((*(a.arg for a in arguments), *stored))

    def function_at(self, line: int) -> str:
        """The innermost function around a line; empty if there is none."""
        around = [f for f in self._functions.values() if f.lineno <= line <= (f.end_lineno or f.lineno)]
        return max(around, key=lambda f: f.lineno).name if around else ""
