"""One of several ways to compute a group of operators."""

from __future__ import annotations

from dataclasses import dataclass

from tessera.compiler.codegen import LoweredGroup
from tessera.program.dim import Dim
from tessera.program.program import Compare


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to compute a group, and when."""

    kernels: tuple[LoweredGroup, ...]
    """In the order they run; all but the last write the workspace."""
    guard: tuple[Compare, ...] = ()
    """What must hold of the sizes."""
    workspace_bytes: Dim = 0
    """Memory between the kernels."""
    text: str = ""
    """What it is, in words."""
    second_bytes: Dim = 0
    """More memory between them, for kernels that read the one and write the other."""
