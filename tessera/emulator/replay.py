"""Blocks looked at closely: run by the interpreter, under the sanitizer, in the memory they began with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tessera.emulator.arguments import Sizes
from tessera.emulator.checked_memory import HostView
from tessera.emulator.findings import Findings
from tessera.emulator.geometry import Geometry
from tessera.emulator.grid_run import GridRun
from tessera.emulator.interpreter import leave_block
from tessera.emulator.loaded import LoadedModule
from tessera.emulator.lockstep import BlockRun
from tessera.emulator.lockstep_module import bound_params
from tessera.emulator.machine import Machine
from tessera.emulator.ptx import Function
from tessera.emulator.sanitizer import Sanitizer


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch, as it was asked for."""

    module: LoadedModule
    function: Function
    grid: Sizes
    block: Sizes
    params: Sequence[bytes]
    shared_bytes: int
    cluster: Sizes
    """Blocks of a cluster by axis."""
    explicit: bool
    """Whether anybody asked for clusters."""
    resident: int
    """Blocks that the GPU holds at once."""

    @property
    def together(self) -> int:
        """Blocks of a cluster."""
        return self.cluster[0] * self.cluster[1] * self.cluster[2]

    @property
    def blocks(self) -> int:
        """Blocks of the grid."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.block[0] * self.block[1] * self.block[2]


def run_blocks(
    launch: Launch,
    view: HostView,
    sanitizer: Sanitizer,
    only: Sequence[int] | None = None,
    *,
    printed: list[str] | None = None,
) -> None:
    """Run a launch, or some of its clusters, by number; what is wrong goes to the sanitizer.

    Args:
        launch: What to run.
        view: Its memory.
        sanitizer: Gets the findings.
        only: The clusters; None: all.
        printed: Gets what `printf` writes, call by call.

    Raises:
        CompileError: An instruction that the interpreter does not know; names the line.
        TooManyFindingsError: The sanitizer's limit is reached.
    """
    machine = Machine(launch.module.module, view, sanitizer, symbols=launch.module.symbols)
    machine.printed = [] if printed is None else printed
    params = bound_params(launch.function, launch.params)
    first = Geometry(launch.grid, launch.block, (0, 0, 0), launch.cluster, launch.explicit)

    def begin(where: Geometry) -> BlockRun:
        return BlockRun(machine, launch.function, params, where, launch.shared_bytes)

    GridRun(begin, first, resident=launch.resident, failed=leave_block, only=only).run()


def findings_of_blocks(
    launch: Launch, view: HostView, sanitizer: Sanitizer, only: Sequence[int], checks: frozenset[str]
) -> None:
    """The same for some clusters out of many. They miss what others do: some checkers alone count.

    Raises:
        CompileError: An instruction that the interpreter does not know; names the line.
        TooManyFindingsError: The sanitizer's limit is reached.
    """
    found, sanitizer.found = sanitizer.found, Findings(sanitizer.found.limit)
    try:
        run_blocks(launch, view, sanitizer, only)
    finally:
        new, sanitizer.found = sanitizer.found, found
        for finding in new.all():
            if finding.check in checks:
                found.merge(finding)
