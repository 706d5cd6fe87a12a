"""Writing the text of one kernel: lines, blocks, names, and which user line each came from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tessera.program.dim import Dim
from tessera.program.errors import SourceLocation


class Name(str):
    """An expression in the kernel's text that may be used wherever its block is open."""

    __slots__ = ("depth",)
    depth: int
    """How many blocks are open where its value is known; 0: the whole function."""

    def __new__(cls, text: str, depth: int = 0) -> Name:
        """The text and the depth."""
        name = super().__new__(cls, text)
        name.depth = depth
        return name


ZERO = Name("0")


@dataclass(slots=True)
class _Block:
    lines: list[tuple[str, SourceLocation | None]] = field(default_factory=list)
    known: dict[object, Name] = field(default_factory=dict)


class Writer:
    """The body of one kernel in the making.

    Sizes become literals, or int64 parameters where they are symbolic. An
    integer expression is written in the outermost block that knows its
    operands, once.
    """

    def __init__(self) -> None:
        self.sizes: dict[Dim, Name] = {}
        """Parameter of every symbolic size used so far, in order."""
        self.location: SourceLocation | None = None
        """The user's line that lines written now belong to."""
        self.divisions = 0
        """How many divisions of sizes were asked for."""
        self._blocks = [_Block()]
        self._counts: dict[str, int] = {}

    @property
    def depth(self) -> int:
        """How many blocks are open."""
        return len(self._blocks) - 1

    def line(self, text: str) -> None:
        """Write one line in the innermost block."""
        self._blocks[-1].lines.append((text, self.location))

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        """Write `header` (a `for`, `while` or `if`), with what is written meanwhile inside."""
        location = self.location
        self._blocks.append(_Block())
        yield
        inner = self._blocks.pop()
        outer = self._blocks[-1]
        outer.lines.append((header, location))
        outer.lines.extend((f"    {text}", where) for text, where in inner.lines or [("pass", location)])

    def fresh(self, prefix: str) -> Name:
        """A name not used before, known in the innermost block."""
        count = self._counts.get(prefix, 0)
        self._counts[prefix] = count + 1
        return Name(f"{prefix}{count}", self.depth)

    def let(self, prefix: str, text: str) -> Name:
        """Give the value of `text` a name in the innermost block."""
        name = self.fresh(prefix)
        self.line(f"{name} = {text}")
        return name

    def declare(self, prefix: str, text: str) -> Name:
        """Give the value of `text` a name in the whole function."""
        name = Name(self.fresh(prefix))
        self._blocks[0].lines.append((f"{name} = {text}", self.location))
        return name

    def size(self, dim: Dim) -> Name:
        """A size as an operand."""
        if isinstance(dim, int):
            return Name(str(dim))
        if dim not in self.sizes:
            self.sizes[dim] = Name(f"n{len(self.sizes)}")
        return self.sizes[dim]

    def parameter(self, value: int) -> Name:
        """A parameter for a number that is known: kernels that differ in it alone are one kernel."""
        self.sizes[value] = Name(f"n{len(self.sizes)}")
        return self.sizes[value]

    def integer(self, prefix: str, text: str, *operands: Name) -> Name:
        """Name an integer expression without side effects, in the outermost block that can."""
        for block in self._blocks:
            if text in block.known:
                return block.known[text]
        depth = max((operand.depth for operand in operands), default=0)
        name = Name(self.fresh(prefix), depth)
        self._blocks[depth].lines.append((f"{name} = {text}", self.location))
        self._blocks[depth].known[text] = name
        return name

    def recall(self, key: object) -> Name | None:
        """What `remember` kept for `key` in a block still open."""
        return next((block.known[key] for block in self._blocks if key in block.known), None)

    def remember(self, key: object, name: Name) -> None:
        """Keep a name while the innermost block is open."""
        self._blocks[-1].known[key] = name

    def add(self, a: Name, b: Name) -> Name:
        """`a + b` of integers."""
        if a == "0" or b == "0":
            return b if a == "0" else a
        return Name(f"{a} + {b}", max(a.depth, b.depth))

    def mul(self, a: Name, b: Name) -> Name:
        """`a * b` of integers."""
        if "0" in (a, b):
            return ZERO
        if "1" in (a, b):
            return b if a == "1" else a
        return Name(f"{_operand(a)} * {_operand(b)}", max(a.depth, b.depth))

    def div(self, a: Name, b: Name) -> Name:
        """`a // b` of sizes."""
        if a == "0" or b == "1":
            return a
        self.divisions += 1
        return self.integer("q", f"udiv({a}, {b})", a, b)

    def mod(self, a: Name, b: Name) -> Name:
        """`a % b` of sizes."""
        if a == "0" or b == "1":
            return ZERO
        self.divisions += 1
        return self.integer("m", f"urem({a}, {b})", a, b)

    def finish(self) -> list[tuple[str, SourceLocation | None]]:
        """The lines of the body."""
        return self._blocks[0].lines


_ATOM = re.compile(r"\w+\Z")


def _operand(text: Name) -> str:
    return text if _ATOM.match(text) else f"({text})"
