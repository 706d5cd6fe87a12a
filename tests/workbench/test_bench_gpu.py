"""`tessera bench --device cuda:0` on a GPU that a stand-in plays: every piece takes a microsecond."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.stand_in import IdleGpu

from .conftest import Tessera

QUICK = ("--seconds", "0.02", "--warmup", "0", "--device", "cuda:0", "-b", "4096", "--baseline", "none")


class NamedGpu(IdleGpu):
    """An idle GPU with the name of one whose datasheet is known."""

    name = "NVIDIA A100-SXM4-80GB"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> NamedGpu:
    driver = NamedGpu()
    for room in ("cuda_driver", "cuda"):
        monkeypatch.setattr(f"tessera.runtime.{room}.open_driver", lambda index: driver)
    return driver


def test_kernels_alone_are_timed_by_events_under_the_datasheets_roof(
    tessera: Tessera, project: Path, gpu: NamedGpu
) -> None:
    result = tessera("bench", "kernels.py:saxpy", *QUICK, "--json").json["results"][0]
    (row,) = result["batches"]
    assert row["device_timing"]["name"] == "kernels alone, CUDA events, graph replay, L2 flushed"
    assert row["warm_timing"]["name"].endswith("L2 warm")
    assert row["device_timing"]["median_ms"] == row["warm_timing"]["median_ms"] == 0.001
    # Read x and y, write y; a is a number: 3 × 16 KiB and 4 bytes in a microsecond.
    assert row["gb_per_s"] == pytest.approx((3 * 4 * 4096 + 4) / 1000, rel=1e-6)
    assert result["peaks"]["origin"] == "datasheet"
    assert result["peaks"]["device"] == "A100 SXM 80 GB"
    assert row["roofline_share"] == pytest.approx(row["gb_per_s"] / 2039, rel=1e-3)
    assert gpu.captured == [1]
    assert gpu.filled > 0


def test_table_says_how_the_device_was_timed(tessera: Tessera, project: Path, gpu: NamedGpu) -> None:
    said = tessera("bench", "kernels.py:saxpy", *QUICK)
    text = " ".join(said.out.split())
    assert "On device: kernels alone, CUDA events, graph replay, L2 flushed" in text
    assert "Roof: datasheet" in text
    assert all(len(line) <= 80 for line in said.out.splitlines())


def test_gpu_without_graphs_is_timed_by_launches_and_says_why(
    tessera: Tessera, project: Path, gpu: NamedGpu
) -> None:
    gpu.no_graphs = "operation not permitted"
    said = tessera("bench", "kernels.py:saxpy", *QUICK)
    assert said.status == 0
    assert "No CUDA graph: operation not permitted" in said.err
    assert "CUDA events, launches, L2 flushed" in " ".join(said.out.split())


def test_device_times_are_what_is_compared(tessera: Tessera, project: Path, gpu: NamedGpu) -> None:
    tessera("bench", "kernels.py:saxpy", *QUICK, "--save", "before")
    said = tessera("bench", "kernels.py:saxpy", *QUICK, "--compare", "before", "--json")
    (change,) = said.json["comparison"]["changes"]
    assert (change["before_ms"], change["now_ms"], change["verdict"]) == (0.001, 0.001, "same")
    assert said.status == 0
