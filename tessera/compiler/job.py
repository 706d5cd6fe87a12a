"""One kernel to build: what it is called, what it is, and how to load it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tessera.compiler.cache import entry_key
from tessera.compiler.options import ToolOptions
from tessera.program.errors import SourceLocation


@dataclass(frozen=True, slots=True)
class Job:
    """One kernel to build for one kind of target."""

    name: str
    """Entry name."""
    kind: Literal["cuda", "cpu"]
    parts: Mapping[str, Any] | None
    """JSON data that says what the kernel is, for the cache; None if nothing says it fully."""
    load: Callable[[], Any] = field(repr=False)
    """Makes the `CudaKernel` or `CpuKernel`; called only when the cache has no answer."""
    threads: int | None = None
    dynamic_shared_bytes: int | None = None
    """Dynamic shared memory of a launch, if it is fixed."""
    targets: frozenset[str] | None = None
    """Full names of the targets it is for; None for all of its kind."""
    locations: Mapping[int, SourceLocation] = field(default_factory=dict, repr=False)

    def is_for(self, options: ToolOptions) -> bool:
        """Whether a target needs it."""
        return self.targets is None or options.target in self.targets

    def key(self, options: ToolOptions, **more: Any) -> str | None:
        """Cache key of this kernel for one target."""
        return None if self.parts is None else entry_key(options, {**self.parts, **more})
