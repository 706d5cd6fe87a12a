"""Where a runtime finds programs, machine code and weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from tessera.program.artifact import Artifact, BinaryFormat, KernelBinary
from tessera.program.errors import PackageError
from tessera.program.program import Program

if TYPE_CHECKING:
    import numpy as np


class ProgramSource(Protocol):
    """Programs with their code and weights: a package, or an artifact in memory."""

    @property
    def programs(self) -> Mapping[str, Program]:
        """Every program, by name."""

    def binary(
        self,
        program: str,
        kernel: str,
        target: str,
        format: BinaryFormat | None = None,  # noqa: A002 - as binaries call it
    ) -> KernelBinary | None:
        """The machine code that holds entry `kernel` of `program` for `target`, if there is any."""

    def constant(self, name: str) -> np.ndarray[Any, Any]:
        """The weight called `name`, C-contiguous. It is not written to."""


class ArtifactSource:
    """An `Artifact` that was never saved, as a source of programs."""

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self.programs: dict[str, Program] = {p.name: p for p in artifact.programs}
        self._binaries: dict[tuple[str, str, str], list[KernelBinary]] = {}
        for binary in artifact.binaries:
            for kernel in binary.kernels:
                key = (binary.program, kernel, binary.target)
                self._binaries.setdefault(key, []).append(binary)

    def binary(
        self,
        program: str,
        kernel: str,
        target: str,
        format: BinaryFormat | None = None,  # noqa: A002 - as binaries call it
    ) -> KernelBinary | None:
        """The machine code that holds entry `kernel` of `program` for `target`, if there is any."""
        found = self._binaries.get((program, kernel, target), [])
        return next((b for b in found if format in (None, b.format)), None)

    def constant(self, name: str) -> np.ndarray[Any, Any]:
        """The weight called `name`.

        Raises:
            PackageError: The artifact has no such weight.
        """
        constants = self._artifact.constants
        if name not in constants:
            raise PackageError(
                f"there is no weight called {name!r}",
                hint="compile with include_weights=True, or pass the weight as an input",
            )
        return constants[name]
