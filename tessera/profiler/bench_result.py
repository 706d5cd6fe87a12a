"""What a benchmark measured, and its JSON document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from tessera.profiler.timing import INTERVAL, Timing
from tessera.program.errors import ConfigError


@dataclass(frozen=True, slots=True)
class StepTime:
    """Time of one step of a program, measured by itself."""

    index: int
    """Place among the steps of the plan."""
    name: str
    """The kernel's name, or `gemm`."""
    median_ms: float


@dataclass(frozen=True, slots=True)
class Load:
    """What a server did under a number of clients that each wait for an answer before they ask again."""

    concurrency: int
    """Clients."""
    requests: int
    """Answers with status 200 while it was measured."""
    seconds: float
    """How long that was."""
    per_second: float
    """Such answers a second."""
    per_second_low: float | None
    """Lower end of the 95 % interval of the median rate of equal stretches; None for fewer than 6."""
    per_second_high: float | None
    """Upper end of it."""
    p99_ms: float
    """Latency that one answer of a hundred exceeds."""
    failures: dict[str, int]
    """Requests that got no such answer, by what came instead: `503`, `hung up`, `no answer in 10 s`."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """The fastest that a device moves data and computes."""

    device: str
    """What it is."""
    origin: Literal["measured", "datasheet"]
    """Measured on this machine, or what its vendor states."""
    gb_per_s: float
    """10^9 bytes a second from and to main memory."""
    gflop_per_s: float
    """10^9 operations a second at the precision below."""
    precision: str
    """Type of the operands, such as `f32`."""
    how: str
    """How it was measured, or where it stands."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """One batch size: the target, its baseline, and the rates that follow."""

    batch: int | None
    """Batch size; None where the program has no symbolic batch."""
    sizes: dict[str, int]
    """Value of every symbolic size."""
    timing: Timing
    baseline: Timing | None
    """Another library computing the same in the same run, interleaved; None where there is none."""
    device_timing: Timing | None
    """Kernels alone on the GPU, by its own events, the L2 cache overwritten before; None on other devices."""
    per_second: float
    """Items per second at the median time: batch size over time; of a server those that it answered."""
    bytes: int | None
    """Least memory traffic of one execution; None for a plain callable."""
    flops: int | None
    """Operations of one execution; None where they are not known."""
    max_difference: float | None
    """Largest absolute difference between the outputs of target and baseline."""
    steps: tuple[StepTime, ...] = ()
    """Time of each step, in a run of its own: measuring steps costs a little."""
    agrees: bool | None = None
    """Whether outputs of target and baseline are equal but for rounding; None: not compared."""
    warm_timing: Timing | None = None
    """The same with the L2 cache as the round before left it."""
    load: Load | None = None
    """For a server: how many clients there were, and what they met."""

    @property
    def best(self) -> Timing:
        """The time that tells most of the program: on the device by its own clock, else of whole calls."""
        return self.device_timing or self.timing

    @property
    def gb_per_s(self) -> float | None:
        """Achieved GB/s: least traffic over the median time on the device."""
        return None if self.bytes is None else self.bytes / (self._seconds * 1e9)

    @property
    def gflop_per_s(self) -> float | None:
        """Achieved GFLOP/s over the median time on the device."""
        return None if self.flops is None else self.flops / (self._seconds * 1e9)

    @property
    def intensity(self) -> float | None:
        """Operations per byte of the least traffic."""
        return self.flops / self.bytes if self.flops is not None and self.bytes else None

    @property
    def speedup(self) -> float | None:
        """How many times faster than the baseline, by medians."""
        return None if self.baseline is None else self.baseline.median_ms / self.timing.median_ms

    @property
    def speedup_interval(self) -> tuple[float, float] | None:
        """The least and the most that `speedup` is where both medians lie in their 95 % intervals.

        Wider than an interval of 95 % of its own would be; None where either has none.
        """
        base, own = self.baseline, self.timing
        if base is None or base.ci_low_ms is None or base.ci_high_ms is None:
            return None
        if not own.ci_low_ms or not own.ci_high_ms:
            return None
        return base.ci_low_ms / own.ci_high_ms, base.ci_high_ms / own.ci_low_ms

    @property
    def _seconds(self) -> float:
        return self.best.median_ms / 1e3

    def roofline_share(self, ceiling: Peaks | None) -> float | None:
        """Time that the roofline allows over the time taken: 1 is as fast as the device can.

        Source: Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009.
        """
        least = self.least_ms(ceiling)
        return None if least is None else least / self.best.median_ms

    def least_ms(self, ceiling: Peaks | None) -> float | None:
        """Time below which a device cannot move the bytes or do the operations; None if unknown."""
        if ceiling is None or self.bytes is None:
            return None
        moving = self.bytes / ceiling.gb_per_s
        return max(moving, (self.flops or 0) / ceiling.gflop_per_s) / 1e6

    def bound(self, ceiling: Peaks | None) -> Literal["memory", "compute"] | None:
        """Which of the two takes longer; None where the operations are not known."""
        if ceiling is None or self.bytes is None or self.flops is None:
            return None
        at_ridge = self.bytes / ceiling.gb_per_s >= self.flops / ceiling.gflop_per_s
        return "memory" if at_ridge else "compute"


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Measured times of one target on one device."""

    target: str
    """What was measured: a package's file name, a function's name."""
    program: str | None
    """Program inside the package; None for a plain callable."""
    device: str
    """Device as it ran, such as `cpu` or `cuda:0`."""
    hardware: str
    """Name of the processor or GPU."""
    batches: tuple[BatchResult, ...]
    kind: Literal["measured"] = "measured"
    notes: tuple[str, ...] = ()
    """What a reader must know: a fallback, a size that was assumed, no baseline."""
    peaks: Peaks | None = None
    """The roofline of the device; None where it is not known."""
    others: float | None = None
    """Share of this machine's processors that other processes took meanwhile; None if unknown."""

    @property
    def disagreements(self) -> list[BatchResult]:
        """Rows whose outputs are not those of the baseline."""
        return [row for row in self.batches if row.agrees is False]

    def to_data(self) -> dict[str, Any]:
        """JSON data, with the rates that follow from the times."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        data["interval"] = INTERVAL
        for row, batch in zip(data["batches"], self.batches, strict=True):
            row["gb_per_s"] = batch.gb_per_s
            row["gflop_per_s"] = batch.gflop_per_s
            row["speedup"] = batch.speedup
            row["speedup_interval"] = batch.speedup_interval
            row["roofline_share"] = batch.roofline_share(self.peaks)
            row["bound"] = batch.bound(self.peaks)
        return data

    def to_json(self) -> bytes:
        """The JSON document; `from_json` reads it back."""
        return msgspec.json.format(msgspec.json.encode(self.to_data()), indent=2)

    @classmethod
    def from_json(cls, data: bytes | str) -> BenchResult:
        """The result that a document holds.

        Raises:
            ConfigError: The document is no benchmark result.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"not a benchmark result: {error}", hint="tessera bench TARGET --json"
            ) from None
