"""Statistics of measured times."""

from __future__ import annotations

import gc
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.profiler.timing import (
    MIN_REPETITIONS,
    block_medians,
    measure,
    median_interval,
    quantile,
    summarize,
    within_fences,
)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200), st.floats(0, 1))
def test_quantile_of_any_values_equals_numpy(values: list[int], fraction: float) -> None:
    expected = float(np.quantile(np.array(values, dtype=np.float64), fraction))
    assert quantile(sorted(values), fraction) == pytest.approx(expected, rel=1e-9, abs=1e-6)


@given(st.integers(6, 1000))
def test_median_interval_covers_95_percent_and_no_narrower_one_does(count: int) -> None:
    low, high = median_interval(count)
    assert low is not None
    assert high == count - 1 - low

    def coverage(rank: int) -> float:
        return 1 - 2 * sum(math.comb(count, i) for i in range(rank + 1)) / 2**count

    assert coverage(low) >= 0.95 - 1e-12
    assert coverage(low + 1) < 0.95


def test_median_interval_of_many_samples_meets_the_exact_one() -> None:
    exact, _ = median_interval(1000)
    approximate, _ = median_interval(1002)
    assert exact is not None
    assert approximate is not None
    assert 0 <= exact - approximate <= 2


def test_median_interval_of_five_samples_does_not_exist() -> None:
    assert median_interval(5) == (None, None)
    timing = summarize("call", [3, 1, 2, 5, 4])
    assert (timing.ci_low_ms, timing.ci_high_ms) == (None, None)
    assert timing.median_ms == 3e-6


def test_median_interval_of_skewed_times_holds_the_true_median(rng: np.random.Generator) -> None:
    held = 0
    for _ in range(400):
        timing = summarize("call", [int(t) for t in 1e6 * rng.lognormal(0, 1, size=101)])
        assert timing.ci_low_ms is not None
        assert timing.ci_high_ms is not None
        held += timing.ci_low_ms <= 1.0 <= timing.ci_high_ms
    # 95 % of 400 is 380; four standard deviations below is 363.
    assert held >= 363


def test_measure_two_calls_interleaves_them_and_restores_the_collector() -> None:
    order: list[str] = []
    timings = measure(
        {"first": lambda: order.append("a"), "second": lambda: order.append("b")},
        seconds=0.02,
        warmup_seconds=0,
    )
    assert gc.isenabled()
    assert timings["first"].repetitions >= MIN_REPETITIONS
    changes = sum(1 for x, y in itertools.pairwise(order) if x != y)
    assert changes >= 2 * MIN_REPETITIONS / 50
    assert timings["first"].p5_ms <= timings["first"].median_ms <= timings["first"].p95_ms


def test_measure_slow_call_is_called_often_enough_past_the_time() -> None:
    import time

    timings = measure({"nap": lambda: time.sleep(0.002)}, seconds=0.001, warmup_seconds=0)
    assert timings["nap"].repetitions == MIN_REPETITIONS
    assert timings["nap"].median_ms >= 2.0


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=300))
def test_outliers_are_those_beyond_tukeys_fences(values: list[int]) -> None:
    low, high = np.quantile(values, (0.25, 0.75))
    reach = 1.5 * (high - low)
    kept = [v for v in sorted(values) if low - reach - 1e-6 <= v <= high + reach + 1e-6]
    assert list(within_fences(sorted(values))) == kept


def test_outliers_count_in_percentiles_but_not_in_the_mean() -> None:
    timing = summarize("call", [1_000_000 + k for k in range(96)] + [50_000_000] * 4)
    assert timing.outliers == 4
    assert timing.mean_ms == pytest.approx(1.0, rel=1e-4)
    assert timing.median_ms == pytest.approx(1.0, rel=1e-4)
    assert quantile(sorted([1.0] * 96 + [50.0] * 4), 0.99) == 50.0


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_block_medians_keep_the_order_and_every_value_counts_once(values: list[float]) -> None:
    blocks = block_medians(values)
    assert len(blocks) == min(20, len(values))
    assert min(values) <= min(blocks) <= max(blocks) <= max(values)
    if len(values) <= 20:
        assert blocks == values
