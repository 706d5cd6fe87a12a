"""What both kinds of source become before machine code is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tessera.compiler.job import Job
from tessera.compiler.options import ToolOptions
from tessera.program.program import Program

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Unit:
    """One program with all its plans, and the jobs that build the code they launch."""

    program: Program
    jobs: tuple[Job, ...]
    gpu: tuple[ToolOptions, ...]
    """GPU targets that code is made for."""
    cpu: tuple[ToolOptions, ...]
    """CPU targets that code is made for."""
    constants: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tuned: bool = False
    """Whether its kernels are compiled as tuning has chosen."""

    def jobs_for(self, kind: Literal["cuda", "cpu"]) -> list[Job]:
        """The jobs for one kind of target."""
        return [job for job in self.jobs if job.kind == kind]

    @property
    def steps(self) -> int:
        """How many kernels are built, counting each target."""
        by_kind = {"cuda": self.gpu, "cpu": self.cpu}
        return sum(job.is_for(options) for job in self.jobs for options in by_kind[job.kind])
