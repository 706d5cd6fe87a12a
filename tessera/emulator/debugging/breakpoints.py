"""Where and when a debugger stops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tessera.emulator.debugging.expression import Expression
from tessera.emulator.findings import Point

Access = Literal["write", "read", "access"]


@dataclass(frozen=True, slots=True)
class Threads:
    """Which threads a breakpoint is for. None: those of the focus; "any": all."""

    block: Point | Literal["any"] | None = None
    warp: int | Literal["any"] | None = None
    lane: int | None = None
    """None: any lane."""

    def __str__(self) -> str:
        words = []
        if self.block is not None:
            words.append(f"block {_point(self.block)}" if self.block != "any" else "any block")
        if self.warp is not None:
            words.append(f"warp {self.warp}" if self.warp != "any" else "any warp")
        if self.lane is not None:
            words.append(f"lane {self.lane}")
        return ", ".join(words) or "block and warp of the focus"


ANY = Threads("any", "any")


@dataclass(slots=True)
class Breakpoint:
    """Stops before a line, for some threads."""

    number: int
    file: str
    """As the PTX names it."""
    line: int
    threads: Threads
    condition: Expression | None = None
    function: str = ""
    """The function that was asked for, rather than a line."""
    once: bool = False
    """Whether it goes away when it has stopped."""
    enabled: bool = True
    hits: int = 0

    def __str__(self) -> str:
        text = f"{self.file}:{self.line}" + (f", in {self.function}" if self.function else "")
        return text + (f" if {self.condition.text}" if self.condition else "")


@dataclass(slots=True)
class Watchpoint:
    """Stops before an instruction that accesses some bytes."""

    number: int
    expression: Expression
    kind: Access
    space: str
    """`global`, `shared` or `local`."""
    start: int
    """Generic address of the first byte."""
    size: int
    dtype: np.dtype[Any] | None = None
    """Of the elements, where known."""
    block: Point | None = None
    """The block whose shared or local memory it is; None: global memory."""
    thread: int | None = None
    """Whose local memory it is."""
    condition: Expression | None = None
    enabled: bool = True
    hits: int = 0

    def __str__(self) -> str:
        word = {"write": "write to", "read": "read of", "access": "access to"}[self.kind]
        text = f"{word} {self.expression.text}"
        return text + (f" if {self.condition.text}" if self.condition else "")


def _point(point: Point) -> str:
    return "(" + ", ".join(map(str, point)) + ")"
