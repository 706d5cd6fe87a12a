"""One kernel with a seeded bug, and the same kernel without it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tessera as ts

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """A pair of kernels that differ in one bug."""

    kind: str
    """What is found: a key of `KINDS`."""
    wrong: ts.Kernel
    """The line of the finding carries the comment `# BUG`."""
    right: ts.Kernel
    sizes: Mapping[str, int] = field(default_factory=dict)
    inputs: Mapping[str, Array] = field(default_factory=dict)
    """Values that matter; the others are drawn at random."""
    index: tuple[int, ...] | None = None
    """Index into the array, where it is always the same."""

    @property
    def lines(self) -> set[int]:
        """Lines on which the bug may be reported."""
        return bug_lines(self.wrong.fn)


def bug_lines(fn: Callable[..., Any]) -> set[int]:
    """Lines of a function that are marked."""
    source, first = inspect.getsourcelines(fn)
    return {first + i for i, text in enumerate(source) if "# BUG" in text}
