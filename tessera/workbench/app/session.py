"""What the app knows: compiled kernels by what they were compiled from, and which of them is looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tessera.workbench.app.compile_job import CompiledKernel, Failure, Outcome
from tessera.workbench.app.project_tree import Place

Key = tuple[Path, str | None]


@dataclass(slots=True)
class Result:
    """The last compilation of one file or of one thing in it."""

    outcome: Outcome
    stamp: int
    """Modification time of the source, in nanoseconds."""


@dataclass(slots=True)
class Session:
    """Selection and results. Knows nothing of widgets."""

    arches: tuple[str, ...]
    """GPU architectures to compile for and to choose among."""
    arch: str
    """The one shown."""
    place: Place | None = None
    """What is selected in the tree."""
    results: dict[Key, Result] = field(default_factory=dict)
    kernel_index: int = 0
    """Which of several kernels is shown."""

    def turn_arch(self, step: int) -> None:
        """Go to another architecture."""
        self.arch = self.arches[(self.arches.index(self.arch) + step) % len(self.arches)]

    def record(self, key: Key, outcome: Outcome, stamp: int) -> None:
        """Keep an outcome; a new one replaces what is known about the same file."""
        path, name = key
        if name is None:
            self.results = {k: r for k, r in self.results.items() if k[0] != path}
        self.results[key] = Result(outcome, stamp)

    def result(self) -> Result | None:
        """What is known about the selection: its own compilation, else that of its whole file."""
        if self.place is None:
            return None
        path, name = self.place.key
        own = self.results.get((path, name))
        whole = self.results.get((path, None))
        if own is None or name is None:
            return own or whole
        return own

    def kernels(self) -> list[CompiledKernel]:
        """The compiled kernels of the selection on the architecture shown."""
        result = self.result()
        if result is None or isinstance(result.outcome, Failure) or self.place is None:
            return []
        name = self.place.definition.name if self.place.definition else None
        return [k for k in result.outcome if k.arch == self.arch and name in (None, k.program)]

    def kernel(self) -> CompiledKernel | None:
        """The one that is looked at."""
        found = self.kernels()
        return found[self.kernel_index % len(found)] if found else None

    def is_stale(self, stamp: int) -> bool:
        """Whether the source has changed since it was compiled."""
        result = self.result()
        return result is not None and result.stamp != stamp
