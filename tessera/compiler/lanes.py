"""Neighbouring elements that one GPU thread computes: those together in memory are accessed at once."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from tessera.compiler.writer import Name, Writer

COUNTS = (2, 4, 8, 16)
"""Elements that may be taken together."""
WIDEST_BYTES = 16
"""What one instruction moves."""


@dataclass(frozen=True, slots=True)
class Lanes:
    """Positions along the last axis, the first a multiple of their number, the others next to it."""

    names: tuple[Name, ...]
    pending: list[tuple[Name, str, Callable[[str], str]]] = field(default_factory=list)
    """Position, value, and the element that is made of it, of what is to be written."""

    def group(self, position: Name) -> tuple[int, Name] | None:
        """The lane of an element's position, and the first lane's position; None if they are not in step."""
        for lane, name in enumerate(self.names):
            before = "" if position == name else position.removesuffix(f" + {name}")
            if before == position or re.search(rf"\b{name}\b", before):
                continue
            if before and not is_multiple(before, len(self.names)):
                return None
            first = f"{before} + {self.names[0]}" if before else self.names[0]
            return lane, Name(first, max(position.depth, self.names[0].depth))
        return None

    def read(self, writer: Writer, pointer: Name, position: Name) -> str | None:
        """The element at `position` of those that are read together; None if they cannot be."""
        found = self.group(position)
        if found is None:
            return None
        lane, first = found
        key = ("lanes", pointer, str(first))
        several = writer.recall(key)
        if several is None:
            several = writer.let("w", f"read_lanes_{len(self.names)}({pointer}, {first})")
            writer.remember(key, several)
        return f"{several}[{lane}]"

    def write(self, writer: Writer, position: Name, value: str, element: Callable[[str], str]) -> None:
        """Write an element, together with its neighbours where they are the next to be written."""
        self.pending.append((position, value, element))
        if len(self.pending) < len(self.names):
            return
        places = [self.group(position) for position, _, _ in self.pending]
        first = places[0]
        if first is not None and places == [(lane, first[1]) for lane in range(len(self.names))]:
            parts = [writer.let("s", element(value)) for _, value, element in self.pending]
            writer.line(f"write_lanes_{len(parts)}(out, {first[1]}, ({', '.join(parts)}))")
        else:
            for position, value, element in self.pending:
                writer.line(f"out[{position}] = {element(value)}")
        self.pending.clear()


def is_multiple(text: str, number: int) -> bool:
    """Whether an integer expression is surely a multiple of `number`."""
    return _is_multiple(ast.parse(text, mode="eval").body, number)


def _is_multiple(node: ast.expr, number: int) -> bool:
    match node:
        case ast.Constant(value=int(value)):
            return value % number == 0
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _is_multiple(left, number) and _is_multiple(right, number)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _is_multiple(left, number) or _is_multiple(right, number)
    return False
