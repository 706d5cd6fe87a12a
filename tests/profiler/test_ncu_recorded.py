"""Pages that Nsight Compute 2025.3.1 printed on an H200, of a product and a softmax, as they came."""

from __future__ import annotations

from pathlib import Path

import pytest

from tessera.profiler.ncu_csv import read_launches
from tessera.profiler.ncu_details import read_findings
from tessera.profiler.ncu_source import read_instructions
from tessera.program.errors import RecordingError

RECORDED = Path(__file__).parent / "recorded"
PRODUCT, SOFTMAX = "scores_0_matmul_tma128x256", "scores_1_softmax"


def page(name: str) -> str:
    return (RECORDED / f"h200_ncu_{name}.csv").read_text()


def test_launches_have_what_the_raw_page_says() -> None:
    product, softmax = read_launches(page("raw"))
    assert (product.kernel, softmax.kernel) == (PRODUCT, SOFTMAX)
    assert (product.grid, product.block) == ("(128, 1, 1)", "(384, 1, 1)")
    assert softmax.metrics["device__attribute_multiprocessor_count"] == 132
    limits = [softmax.metrics[f"launch__occupancy_limit_{w}"] for w in ("registers", "shared_mem", "warps")]
    assert limits == [24, 56, 32]
    assert 14_000 < product.metrics["gpu__time_duration.sum"] < 18_000
    assert softmax.metrics["smsp__inst_executed.sum"] == 2_416_640


def test_instructions_of_the_source_page_add_up_to_the_launch() -> None:
    found = [i for i in read_instructions(page("source")) if i.kernel == SOFTMAX]
    _, softmax = read_launches(page("raw"))
    executed = sum(i.metrics["Instructions Executed"] for i in found)
    assert executed == softmax.metrics["smsp__inst_executed.sum"]
    assert any("LDG.E.128" in i.sass for i in found)


def test_its_own_rules_are_read_beside_rows_that_hold_none() -> None:
    found = read_findings(page("details"))
    assert [(f.kernel, f.rule) for f in found] == [
        (PRODUCT, "TheoreticalOccupancy"),
        (SOFTMAX, "LaunchConfiguration"),
        (SOFTMAX, "AchievedOccupancy"),
        (SOFTMAX, "TheoreticalOccupancy"),
        (PRODUCT, "LaunchConfiguration"),
    ]
    tail = found[1]
    assert (tail.kind, tail.section, tail.speedup_percent, tail.speedup_scope) == (
        "OPT",
        "LaunchStats",
        50,
        "global",
    )
    assert "1 full waves and a partial wave of 929 thread blocks" in tail.text


@pytest.mark.parametrize("cut", [1, 5, 40, 300])
def test_a_page_of_rules_that_ends_early_is_torn(cut: int) -> None:
    text = page("details").rstrip("\n")
    with pytest.raises(RecordingError, match="torn"):
        read_findings(text[: -cut - (1 if text.endswith(",") else 0)])
