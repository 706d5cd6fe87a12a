"""What a report shows, as data. A caller fills only what it has; the rest is left out of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tessera.profiler.bench_result import BenchResult
from tessera.profiler.check import Check
from tessera.profiler.report_runs import (
    ExecutionTrace,
    Origin,
    RecordedRun,
    SourceListing,
    TunedSweep,
)
from tessera.profiler.roof import RooflineChart
from tessera.program.errors import ConfigError

Cell = str | int | float | None
"""One value of a table. None shows as N/A."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure of the summary."""

    label: str
    value: str
    origin: Origin | None = None
    """None for what is no figure, such as a name."""
    detail: str | None = None
    """A few words below the value."""


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One kernel on one target. Unknown is None and shows as N/A."""

    program: str
    kernel: str
    target: str
    registers: int | None = None
    spill_bytes: int | None = None
    shared_bytes: int | None = None
    """Static and dynamic shared memory of a block."""
    threads: int | None = None
    occupancy: float | None = None
    """Predicted, 0 to 1."""
    limiter: str | None = None
    """What allows no higher occupancy."""
    binary_bytes: int | None = None
    """Size of the cubin (for a CPU target: of the library that holds it)."""
    cached: bool | None = None
    """Whether the binary came from the compile cache."""


@dataclass(frozen=True, slots=True)
class StageTime:
    """How long one stage of the work took."""

    name: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PackageEntry:
    """One file inside a package."""

    path: str
    bytes: int
    sha256: str | None = None
    """Hexadecimal; None for the manifest, which holds the others'."""


@dataclass(frozen=True, slots=True)
class BufferLife:
    """A range of the arena and the steps between which it is alive, both inclusive."""

    name: str
    offset_bytes: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The arena of one plan, for one set of sizes."""

    program: str
    target: str
    sizes: Mapping[str, int]
    """Value given to each symbol."""
    steps: tuple[str, ...]
    """Name of each step, in order."""
    arena_bytes: int
    buffers: tuple[BufferLife, ...]
    persistent_bytes: int = 0
    """What setup makes once and keeps."""


@dataclass(frozen=True, slots=True)
class LaunchRow:
    """One step of a launch plan, as text: sizes may be symbolic."""

    index: str
    """`3`, `3.1a` for an option of a choice, `setup 0`."""
    kind: str
    """`kernel` or `gemm`."""
    name: str
    grid: str
    block: str
    shared: str
    arguments: str
    guard: str = ""


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """What one program does on some targets, in order."""

    program: str
    targets: tuple[str, ...]
    rows: tuple[LaunchRow, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """A few figures in a row."""

    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; numbers are aligned right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class Heatmap:
    """A matrix in colour, such as a confusion matrix."""

    title: str
    x_label: str
    y_label: str
    x: tuple[str, ...]
    y: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    """`values[row][column]`, rows as `y`."""
    origin: Origin


@dataclass(frozen=True, slots=True)
class Bars:
    """Horizontal bars from 0."""

    title: str
    unit: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    origin: Origin


Block = Text | Facts | Table | Heatmap | Bars
"""One piece of a section of the caller's own."""


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything that one page shows."""

    title: str
    subtitle: str = ""
    summary: tuple[Fact, ...] = ()
    """Figures at the top. Empty: taken from the sections below."""
    kernels: tuple[KernelRow, ...] = ()
    rooflines: tuple[RooflineChart, ...] = ()
    """One for each GPU."""
    sweeps: tuple[TunedSweep, ...] = ()
    sources: tuple[SourceListing, ...] = ()
    """One for each kernel and file."""
    stages: tuple[StageTime, ...] = ()
    package: str | None = None
    """Name and version of the package that `entries` lists."""
    entries: tuple[PackageEntry, ...] = ()
    memory: tuple[MemoryPlan, ...] = ()
    launches: tuple[LaunchPlan, ...] = ()
    traces: tuple[ExecutionTrace, ...] = ()
    recordings: tuple[RecordedRun, ...] = ()
    benchmarks: tuple[BenchResult, ...] = ()
    sections: Mapping[str, Sequence[Block]] = field(default_factory=dict)
    """The caller's own sections by title, such as accuracy and served results."""
    checks: tuple[Check, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """Versions and machine. No times, unless the caller wants the page to differ by them."""
    notes: tuple[str, ...] = ()


def check_heatmap(heatmap: Heatmap) -> None:
    """Whether the matrix has the shape that its labels say.

    Raises:
        ConfigError: It has not.
    """
    widths = {len(row) for row in heatmap.values}
    if len(heatmap.values) != len(heatmap.y) or widths - {len(heatmap.x)}:
        raise ConfigError(
            f"heatmap {heatmap.title!r}: {len(heatmap.values)} rows of {sorted(widths)} values "
            f"for {len(heatmap.y)} × {len(heatmap.x)} labels"
        )
