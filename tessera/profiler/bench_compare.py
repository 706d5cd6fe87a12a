"""Whether a benchmark is slower than one that was saved, or only the machine noisier."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from tessera.profiler.bench_busy import BUSY
from tessera.profiler.timing import quantile
from tessera.program.errors import ConfigError

if TYPE_CHECKING:
    from tessera.profiler.bench_history import SavedRun
    from tessera.profiler.bench_result import BatchResult, BenchResult
    from tessera.profiler.timing import Timing

ALPHA = 0.01
"""Chance of calling noise a change, over all rows of a comparison."""
LEAST_CHANGE = 0.05
"""Smallest change of the median that counts, whatever the test says: two runs of the same code on the same
machine lie as far apart, by where the processes lie in memory. Source: Mytkowicz et al., "Producing Wrong
Data Without Doing Anything Obviously Wrong!", ASPLOS 2009."""
PERMUTATIONS = 9999
METHOD = (
    "permutation test of the medians of blocks (Good, Permutation Tests; p = (b + 1) / (m + 1), Phipson and "
    "Smyth 2010), Holm's correction, and a least change"
)

Verdict = Literal["slower", "faster", "same", "busy"]
"""`busy`: different, while other processes were at work and no baseline shows that they changed nothing."""


@dataclass(frozen=True, slots=True)
class Change:
    """One row of a benchmark beside the same row of a saved run."""

    target: str
    batch: int | None
    concurrency: int | None
    """Clients, for a server."""
    before_ms: float
    """Median of the saved run."""
    now_ms: float
    """Median of this run."""
    ratio: float
    """`now_ms / before_ms`: above 1 is slower."""
    drift: float | None
    """The same ratio of the baseline, which did not change: what the machine did; None without one."""
    adjusted: float | None
    """`ratio / drift`."""
    p: float
    """Chance of such a difference, or a larger one, if nothing has changed; corrected for the rows."""
    threshold: float
    """Least change that counted: 0.05 is 5 %; larger where earlier runs differed by more."""
    others: float | None
    """Share of the processors that other processes took, in that of the two runs where it was more."""
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """A benchmark beside a saved run."""

    run: int
    """Number of the saved run."""
    name: str
    made_at: str
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()
    """Rows that only one of the two has."""
    method: str = METHOD

    @property
    def regressions(self) -> list[Change]:
        """Rows that are slower."""
        return [change for change in self.changes if change.verdict == "slower"]


def compare(
    results: Sequence[BenchResult],
    saved: SavedRun,
    *,
    earlier: Sequence[SavedRun] = (),
    least_change: float = LEAST_CHANGE,
    alpha: float = ALPHA,
) -> Comparison:
    """`results` beside `saved`, row by row.

    A row is slower only if the difference is no chance, larger than the least change and than what
    earlier runs differed by, and also so after the baseline's own change is taken out: a machine that
    has become slow makes the baseline slow, too. Of rows that were measured while other processes took a
    fifth of the machine or more nothing is said, unless the baseline shows that it made no difference.

    Args:
        results: What was measured now.
        saved: What it is compared with.
        earlier: Further saved runs of the same code, such as all of one name: where there are three or
            more of a row, the spread of their medians widens the least change.
        least_change: Smallest change that counts; 0.05 is 5 %.
        alpha: Chance of calling noise a change, over all rows.

    Raises:
        ConfigError: No row is in both, or they were measured on different hardware.
    """
    pairs, notes = _paired(results, saved)
    tests = [
        _tested((result, other), now, before, _threshold(result, now, saved, earlier, least_change))
        for result, now, other, before in pairs
    ]
    ordered = sorted(range(len(tests)), key=lambda i: tests[i].p)
    corrected, floor = dict.fromkeys(ordered, 1.0), 0.0
    for place, index in enumerate(ordered):
        # Holm: the smallest of m is multiplied by m, the next by m - 1.
        floor = max(floor, min(1.0, tests[index].p * (len(tests) - place)))
        corrected[index] = floor
    changes = tuple(_judged(test, corrected[i], alpha) for i, test in enumerate(tests))
    return Comparison(saved.id, saved.name, saved.made_at.isoformat(), changes, tuple(notes))


def _key(result: BenchResult, row: BatchResult) -> tuple[object, ...]:
    clients = row.load.concurrency if row.load else None
    return result.target, result.program, row.batch, tuple(sorted(row.sizes.items())), clients


def _rows(results: Sequence[BenchResult]) -> Iterator[tuple[tuple[object, ...], BenchResult, BatchResult]]:
    for result in results:
        for row in result.batches:
            yield _key(result, row), result, row


def _paired(
    results: Sequence[BenchResult], saved: SavedRun
) -> tuple[list[tuple[BenchResult, BatchResult, BenchResult, BatchResult]], list[str]]:
    before = {key: (result, row) for key, result, row in _rows(saved.results)}
    pairs: list[tuple[BenchResult, BatchResult, BenchResult, BatchResult]] = []
    notes = []
    for key, result, row in _rows(results):
        if key not in before:
            notes.append(f"{result.target}, {_row_text(row)}: not in run {saved.id}.")
            continue
        other, old = before[key]
        if (other.device, other.hardware) != (result.device, result.hardware):
            raise ConfigError(
                f"run {saved.id} was measured on {other.device} ({other.hardware}), this one on "
                f"{result.device} ({result.hardware}): their times say nothing about the code",
                hint="compare with a run of this machine: tessera bench --history",
            )
        pairs.append((result, row, other, old))
    if not pairs:
        names = ", ".join(dict.fromkeys(r.target for r in saved.results)) or "nothing"
        raise ConfigError(
            f"run {saved.id} has none of the rows that were measured: it measured {names}",
            hint="measure the same targets, batch sizes and sizes, or name another run",
        )
    return pairs, notes


def _row_text(row: BatchResult) -> str:
    clients = f", {row.load.concurrency} clients" if row.load else ""
    return f"batch {'N/A' if row.batch is None else row.batch}{clients}"


def _threshold(
    result: BenchResult, row: BatchResult, saved: SavedRun, earlier: Sequence[SavedRun], least: float
) -> float:
    """The least change, or three standard deviations between runs of one name where that is more."""
    key = _key(result, row)
    runs = {run.id: run for run in (*earlier, saved)}.values()
    medians = [
        math.log(old.best.median_ms)
        for run in runs
        for found, other, old in _rows(run.results)
        if found == key and (other.device, other.hardware) == (result.device, result.hardware)
    ]
    if len(medians) < 3:
        return least
    middle = quantile(sorted(medians), 0.5)
    # 1.4826 times the median deviation estimates the standard deviation of normal numbers.
    spread = 1.4826 * quantile(sorted(abs(m - middle) for m in medians), 0.5)
    return max(least, math.expm1(3 * spread))


@dataclass(frozen=True, slots=True)
class _Test:
    change: Change
    p: float


def _tested(
    results: tuple[BenchResult, BenchResult], now: BatchResult, before: BatchResult, threshold: float
) -> _Test:
    new, old = _timings(now, before)
    ratio = new.median_ms / old.median_ms
    p = permutation_p(_logs(old), _logs(new))
    drift = adjusted = None
    control = _control(now, before)
    if control is not None:
        base_new, base_old = control
        drift = base_new.median_ms / base_old.median_ms
        adjusted = ratio / drift
        if _in_step(old, base_old) and _in_step(new, base_new):
            p = max(p, permutation_p(_logs(old, base_old), _logs(new, base_new)))
    change = Change(
        target=results[0].target,
        batch=now.batch,
        concurrency=now.load.concurrency if now.load else None,
        before_ms=old.median_ms,
        now_ms=new.median_ms,
        ratio=ratio,
        drift=drift,
        adjusted=adjusted,
        p=p,
        threshold=threshold,
        others=max((r.others for r in results if r.others is not None), default=None),
        verdict="same",
    )
    return _Test(change, p)


def _timings(now: BatchResult, before: BatchResult) -> tuple[Timing, Timing]:
    """What is compared: times on the device where both runs have them, else of whole calls."""
    if now.device_timing is not None and before.device_timing is not None:
        return now.device_timing, before.device_timing
    return now.timing, before.timing


def _control(now: BatchResult, before: BatchResult) -> tuple[Timing, Timing] | None:
    """The baselines of both, if they are the same and run where the target does."""
    if now.device_timing is not None or now.baseline is None or before.baseline is None:
        return None
    if now.baseline.name != before.baseline.name:
        return None
    return now.baseline, before.baseline


def _in_step(timing: Timing, control: Timing) -> bool:
    """Whether the blocks of two contenders are of the same moments; a slow one may have had too few calls."""
    return len(timing.blocks_ms) == len(control.blocks_ms) > 1


def _logs(timing: Timing, control: Timing | None = None) -> list[float]:
    """Logarithms of the blocks, those of the same moments of a control taken off."""
    blocks = [math.log(max(block, 1e-9)) for block in timing.blocks_ms or (timing.median_ms,)]
    if control is None:
        return blocks
    return [b - math.log(max(c, 1e-9)) for b, c in zip(blocks, control.blocks_ms, strict=True)]


def permutation_p(before: Sequence[float], now: Sequence[float]) -> float:
    """Chance that medians lie as far apart as these if both came from the same.

    9999 ways to deal the numbers out are drawn, the same ones each time.

    Source: Good, Permutation Tests, 2nd edition, chapter 3; Phipson and Smyth, "Permutation P-values
    Should Never Be Zero", 2010.
    """
    import numpy as np

    together = np.array([*before, *now])
    split = len(before)
    observed = abs(float(np.median(together[split:]) - np.median(together[:split])))
    rng = np.random.default_rng(20090307)
    dealt = rng.permuted(np.broadcast_to(together, (PERMUTATIONS, len(together))), axis=1)
    gaps = np.abs(np.median(dealt[:, split:], axis=1) - np.median(dealt[:, :split], axis=1))
    beyond = int(np.count_nonzero(gaps >= observed - 1e-12))
    return (beyond + 1) / (PERMUTATIONS + 1)


def _is_steady(change: Change) -> bool:
    """Whether the baseline took the same time in both runs: then the machine was the same, busy or not."""
    return change.drift is not None and abs(math.log(change.drift)) < math.log1p(change.threshold)


def _judged(test: _Test, p: float, alpha: float) -> Change:
    change = test.change
    ratios = [change.ratio] if change.adjusted is None else [change.ratio, change.adjusted]
    verdict: Verdict = "same"
    if p < alpha and all(ratio > 1 + change.threshold for ratio in ratios):
        verdict = "slower"
    elif p < alpha and all(ratio < 1 / (1 + change.threshold) for ratio in ratios):
        verdict = "faster"
    if verdict != "same" and (change.others or 0) > BUSY and not _is_steady(change):
        verdict = "busy"
    return replace(change, p=p, verdict=verdict)
