"""What runs, sweeps and recordings showed, as the data of a report. Unknown is None and shows as N/A."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Origin = Literal["measured", "emulated", "predicted", "datasheet", "recorded"]
"""Where a figure comes from. `measured` includes what a compiler or a file states about itself; `emulated`
was counted while the software GPU ran the kernel."""

Value = int | float | bool | str


@dataclass(frozen=True, slots=True)
class AssemblyRow:
    """One instruction that a line of source became."""

    place: int
    """Line of the PTX, or bytes from the kernel's start."""
    text: str
    executed: int | None = None
    """How often warps executed it, where that was counted."""


@dataclass(frozen=True, slots=True)
class SourceLine:
    """One line of source with what was counted there and what it became."""

    number: int
    """0 for code that has no line of its own."""
    text: str
    cells: tuple[str, ...] = ()
    """One for each of the listing's columns."""
    share: float | None = None
    """Of the kernel's executed instructions, 0 to 1."""
    advice: tuple[str, ...] = ()
    """What stands out, and the remedy."""
    ptx: tuple[AssemblyRow, ...] = ()
    sass: tuple[AssemblyRow, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceListing:
    """The lines of one file that one kernel comes from."""

    program: str
    kernel: str
    file: str
    columns: tuple[tuple[str, str], ...]
    """Title and meaning of each counter."""
    lines: tuple[SourceLine, ...]
    """Where numbers leave some out, lines without code are not shown."""
    device: str | None = None
    """What counted, such as `emulator, sm_90 ptx`; None: nothing was counted."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Sizes that were counted with."""
    ptx_target: str | None = None
    sass_target: str | None = None
    notes: tuple[str, ...] = ()
    """What is missing, and why."""
    written: bool = False
    """Whether the compiler wrote the file, for operators of the program."""


@dataclass(frozen=True, slots=True)
class TunedTrial:
    """One configuration of a sweep."""

    configuration: Mapping[str, Value]
    status: str
    """`ok`, or why there is no cost."""
    cost_ms: float | None = None
    number: int | None = None
    """Place in the order of trying, from 1; None where that is not on record."""
    reason: str = ""
    registers: int | None = None
    spill_bytes: int | None = None
    occupancy: float | None = None


@dataclass(frozen=True, slots=True)
class TunedSweep:
    """Configurations of one kernel, tried for one GPU and range of sizes."""

    kernel: str
    target: str
    gpu: str
    driver: str
    """Version of the driver, or of the cost model."""
    origin: Origin
    sizes: Mapping[str, int]
    trials: tuple[TunedTrial, ...]


@dataclass(frozen=True, slots=True)
class TraceSpan:
    """One step of an execution."""

    name: str
    start: float
    length: float
    track: str = "steps"
    """Row that it is drawn in: `host`, `device`."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ExecutionTrace:
    """Steps of one execution in their order."""

    program: str
    device: str
    origin: Origin
    unit: str
    """Of starts and lengths: `ms`, or what stands in for time, such as `instructions`."""
    spans: tuple[TraceSpan, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordedSeries:
    """One figure of one GPU over time."""

    gpu: str
    figure: str
    unit: str
    times_s: tuple[float, ...]
    values: tuple[float | None, ...]
    """None where the GPU did not say."""
    least: float | None
    mean: float | None
    """Over all samples, not only those kept."""
    most: float | None


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A recording of GPUs."""

    label: str
    """Where it was recorded."""
    driver: str | None
    gpus: tuple[str, ...]
    duration_s: float
    samples: int
    interval_s: float
    series: tuple[RecordedSeries, ...]
    marks: tuple[tuple[float, str], ...] = ()
    """Second and text."""
    throttling: tuple[tuple[str, str, float], ...] = ()
    """GPU, reason, share of the samples."""
    notes: tuple[str, ...] = ()
