"""Whether a benchmark is slower than a saved one, and the forms that benchmarks are written in."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tessera.profiler import BatchResult, BenchResult, SavedRun, compare, export
from tessera.profiler.bench_compare import ALPHA, permutation_p
from tessera.profiler.bench_export import COLUMNS, to_csv, to_data, to_json, to_markdown
from tessera.profiler.bench_result import Peaks
from tessera.profiler.timing import summarize
from tessera.program.errors import ConfigError, OptionError, PackageError


def result_of(
    rng: np.random.Generator,
    milliseconds: float = 1.0,
    base: float | None = 2.0,
    *,
    noise: float = 0.02,
    batches: tuple[int, ...] = (8,),
    hardware: str = "Example CPU",
    target: str = "k.py:f",
    others: float | None = 0.0,
) -> BenchResult:
    rows = []
    for batch in batches:
        machine = rng.lognormal(0, noise, 400)
        times = [int(t) for t in 1e6 * milliseconds * machine * rng.lognormal(0, 0.02, 400)]
        timing = summarize("tessera", times)
        baseline = None if base is None else summarize("base", [int(t) for t in 1e6 * base * machine])
        rows.append(
            BatchResult(
                batch=batch, sizes={"n": batch}, timing=timing, baseline=baseline, device_timing=None,
                per_second=batch / timing.median_ms * 1e3, bytes=10**6, flops=10**7, max_difference=0.0,
                agrees=True,
            )
        )  # fmt: skip
    ceiling = Peaks("Example CPU", "measured", 20.0, 100.0, "f32", "by example")
    return BenchResult(target, "f", "cpu", hardware, tuple(rows), peaks=ceiling, others=others)


def saved(*results: BenchResult, number: int = 1, name: str = "before") -> SavedRun:
    return SavedRun(number, name, datetime(2026, 1, 2, tzinfo=UTC), "0.1.0", results)


@pytest.mark.parametrize(
    ("now", "verdict"), [(1.2, "slower"), (1.0, "same"), (1.02, "same"), (0.8, "faster")]
)
def test_change_of_the_median_is_judged(rng: np.random.Generator, now: float, verdict: str) -> None:
    found = compare([result_of(rng, now)], saved(result_of(rng)))
    (change,) = found.changes
    assert change.verdict == verdict
    assert change.ratio == pytest.approx(now, rel=0.02)
    assert bool(found.regressions) == (verdict == "slower")


def test_machine_that_has_become_slow_is_no_regression(rng: np.random.Generator) -> None:
    found = compare([result_of(rng, 1.3, 2.6)], saved(result_of(rng)))
    (change,) = found.changes
    assert change.drift == pytest.approx(1.3, rel=0.03)
    assert change.adjusted == pytest.approx(1.0, rel=0.03)
    assert change.verdict == "same"


def test_slower_code_on_a_faster_machine_is_left_to_the_times(rng: np.random.Generator) -> None:
    (change,) = compare([result_of(rng, 1.0, 1.5)], saved(result_of(rng))).changes
    assert change.adjusted == pytest.approx(4 / 3, rel=0.03)
    assert change.verdict == "same"


@pytest.mark.parametrize(("base", "verdict"), [(None, "busy"), (2.0, "slower"), (1.2, "busy")])
def test_busy_machine_is_judged_only_by_a_steady_baseline(
    rng: np.random.Generator, base: float | None, verdict: str
) -> None:
    before = result_of(rng, 1.0, None if base is None else 2.0)
    found = compare([result_of(rng, 1.5, base, others=0.7)], saved(before))
    assert [change.verdict for change in found.changes] == [verdict]


def test_same_code_is_seldom_called_changed(rng: np.random.Generator) -> None:
    before = result_of(rng, batches=(1, 2, 3))
    runs = [compare([result_of(rng, batches=(1, 2, 3))], saved(before), least_change=0) for _ in range(60)]
    wrong = sum(any(c.verdict != "same" for c in run.changes) for run in runs)
    # One run in a hundred by design; five of sixty has a chance below 1 in 1000.
    assert wrong < 5


def test_spread_of_earlier_runs_widens_the_least_change(rng: np.random.Generator) -> None:
    earlier = [saved(result_of(rng, ms), number=n) for n, ms in enumerate((0.8, 1.0, 1.25, 0.9, 1.1), 2)]
    (change,) = compare([result_of(rng, 1.2)], saved(result_of(rng)), earlier=earlier).changes
    assert change.threshold > 0.2
    assert change.verdict == "same"
    (alone,) = compare([result_of(rng, 1.2)], saved(result_of(rng))).changes
    assert alone.threshold == 0.05


def test_other_hardware_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match="say nothing about the code"):
        compare([result_of(rng)], saved(result_of(rng, hardware="Other CPU")))


def test_run_without_a_common_row_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match="none of the rows"):
        compare([result_of(rng)], saved(result_of(rng, batches=(9,))))
    with pytest.raises(ConfigError, match="none of the rows"):
        compare([result_of(rng)], saved())


def test_row_that_is_new_is_noted(rng: np.random.Generator) -> None:
    found = compare([result_of(rng, batches=(8, 16))], saved(result_of(rng)))
    assert len(found.changes) == 1
    assert found.notes == ("k.py:f, batch 16: not in run 1.",)


def test_permutation_p_agrees_with_scipy(rng: np.random.Generator) -> None:
    for shift in (0.0, 0.5, 1.0):
        a, b = rng.normal(size=20), rng.normal(shift, size=20)
        expected = stats.permutation_test(
            (a, b), lambda x, y: abs(np.median(y) - np.median(x)), vectorized=False, n_resamples=999,
            alternative="greater", rng=np.random.default_rng(1),
        ).pvalue  # fmt: skip
        # Both are estimates: 999 resamples have a standard error of 0.016 at p = 0.5.
        assert permutation_p(list(a), list(b)) == pytest.approx(expected, abs=0.06)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.lists(st.floats(-5, 5), min_size=1, max_size=20)
)
def test_permutation_p_is_a_chance_whatever_the_numbers(a: list[float], b: list[float]) -> None:
    assert 0 < permutation_p(a, b) <= 1
    assert permutation_p(a, a) == 1.0


def test_few_blocks_cannot_prove_anything() -> None:
    assert permutation_p([0.0, 0.0], [9.0, 9.0]) > ALPHA


def test_json_csv_and_markdown_hold_the_figures(rng: np.random.Generator) -> None:
    results = [result_of(rng, batches=(1, 8), target="a|b.py:f")]
    comparison = compare(results, saved(result_of(rng, batches=(8,), target="a|b.py:f")))
    data = json.loads(to_json(results, comparison))
    assert data == json.loads(json.dumps(to_data(results, comparison)))
    assert data["comparison"]["regressions"] == 0
    assert data["results"][0]["batches"][1]["roofline_share"] == pytest.approx(
        results[0].batches[1].roofline_share(results[0].peaks)
    )
    rows = list(csv.DictReader(io.StringIO(to_csv(results, comparison))))
    assert list(rows[0])[: len(COLUMNS)] == list(COLUMNS)
    assert float(rows[1]["median_ms"]) == results[0].batches[1].timing.median_ms
    assert (rows[0]["verdict"], rows[1]["verdict"]) == ("", "same")
    lines = to_markdown(results, comparison).splitlines()
    assert len({line.replace("\\|", "").count("|") for line in lines[:4]}) == 1
    assert "a\\|b.py:f" in lines[2]


def test_csv_cell_is_no_formula(rng: np.random.Generator) -> None:
    (row,) = csv.DictReader(io.StringIO(to_csv([result_of(rng, target='=HYPERLINK("http://x")')])))
    assert row["target"].startswith("'=")


def test_roofline_of_a_row(rng: np.random.Generator) -> None:
    result = result_of(rng)
    (row,) = result.batches
    # 10^6 bytes at 20 GB/s take 0.05 ms, 10^7 operations at 100 GFLOP/s 0.1 ms.
    assert row.least_ms(result.peaks) == pytest.approx(0.1)
    assert row.bound(result.peaks) == "compute"
    assert row.roofline_share(result.peaks) == pytest.approx(0.1 / row.timing.median_ms)
    assert row.roofline_share(None) is None
    unknown = dataclasses.replace(row, flops=None)
    assert unknown.bound(result.peaks) is None
    assert unknown.least_ms(result.peaks) == pytest.approx(0.05)


def test_export_takes_the_ending_and_refuses_others(rng: np.random.Generator, tmp_path: Path) -> None:
    for ending in ("json", "csv", "md"):
        export(tmp_path / f"x.{ending}", [result_of(rng)])
        assert (tmp_path / f"x.{ending}").stat().st_size > 100
    with pytest.raises(OptionError, match="ends in"):
        export(tmp_path / "x.xlsx", [result_of(rng)])
    with pytest.raises(PackageError, match="cannot write"):
        export(tmp_path / "no" / "x.md", [result_of(rng)])
