"""The live screen as text: what stands where, at every size."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.profiler.live.figures import (
    Device,
    Figures,
    Machine,
    Mark,
    MigInstance,
    Process,
    Reading,
    Sample,
)
from tessera.workbench.live.braille import area_chart, bar
from tessera.workbench.live.screen import View, draw

BUSY = Figures(
    utilization_percent=87,
    memory_used_bytes=12 << 30,
    memory_total_bytes=141 << 30,
    power_mw=612_000,
    power_limit_mw=700_000,
    temperature_c=61,
    sm_clock_mhz=1755,
    throttle_reasons=0x4,
    pcie_generation=5,
    pcie_width=16,
    pcie_rx_bytes_per_s=55_000_000_000,
    ecc_corrected=0,
    ecc_uncorrected=3,
)


class Still:
    """A feed that stands still."""

    def __init__(self, *readings: Reading, marks: tuple[Mark, ...] = (), mig: bool = False) -> None:
        device = Device(0, "NVIDIA H200", None, None, (9, 0), mig, 1980, 5, 16)
        self.machine = Machine(
            "580.82.07", (13, 0), tuple(replace(device, index=i) for i in range(len(readings)))
        )
        launched = (("matmul", 50),)
        self._samples = tuple(Sample(int((i + 1) * 1e8), readings, launched) for i in range(100))
        self.marks = marks

    @property
    def latest(self) -> Sample:
        return self._samples[-1]

    def history(self, seconds: float) -> tuple[Sample, ...]:
        oldest = self.latest.time_ns - seconds * 1e9
        return tuple(s for s in self._samples if s.time_ns >= oldest)


def shown(feed: Still, width: int = 80, height: int = 24, **view: object) -> list[str]:
    return [line.plain for line in draw(feed, View("live", **view), width, height)]  # type: ignore[arg-type]


def test_one_gpu_at_80_by_24_shows_all_that_matters() -> None:
    python = Process(4242, "python3", 1 << 30, "compute")
    lines = shown(Still(Reading(BUSY, (python,)), marks=(Mark(5 * 10**9, "warm"),)), window_s=10.0)
    assert len(lines) <= 24
    assert lines[0].startswith("tessera top · driver 580.82.07 · CUDA 13.0")
    assert lines[0].endswith("live")
    row = lines[2]
    assert "NVIDIA H200" in row
    for part in ("87 %", "12.0/141 G", "612/700 W", "61 °C", "1755", "power cap"):
        assert part in row
    text = "\n".join(lines)
    assert "51.2 GiB/s in" in text
    assert "ECC 0 corrected, 3 not" in " ".join(text.split())
    assert "matmul 500/s" in text
    assert "utilization 87 %" in text
    assert "▴warm" in text
    assert any(line.split() == ["4242", "1.0", "GiB", "compute", "python3"] for line in lines)


def test_full_utilization_fills_the_chart_instead_of_leaving_it_empty() -> None:
    full = Reading(BUSY._replace(utilization_percent=100), ())
    assert "⣿⣿⣿⣿⣿⣿" in "\n".join(shown(Still(full), window_s=5.0))


def test_unknown_figures_are_not_available_and_never_zero() -> None:
    missing = dict.fromkeys(("utilization_percent", "power_mw"), "this GPU does not report it")
    lines = shown(Still(Reading(Figures(), None, (), {**missing, "processes": "no permission: ask"})))
    text = "\n".join(lines)
    assert lines[2].count("N/A") >= 5
    assert " 0 %" not in text
    assert "N/A: GPU utilization, Power (this GPU does not report it)" in text
    assert "processes N/A: no permission" in text


def test_mig_shows_its_parts_and_no_utilization() -> None:
    part = MigInstance(0, 1, "NVIDIA H200 MIG 3g.71gb", 1 << 30, 70 << 30)
    figures = BUSY._replace(utilization_percent=None)
    reading = Reading(figures, (Process(9, "train", 1 << 30, "compute", 1),), (part,))
    text = "\n".join(shown(Still(reading, mig=True)))
    assert "MIG 0 (GPU instance 1) NVIDIA H200 MIG 3g.71gb: 1.0 GiB of 70.0 GiB" in text
    assert "········ MIG " in text.splitlines()[2]
    assert "train (MIG instance 1)" in text


def test_eight_gpus_with_a_lost_one_fit_80_by_24() -> None:
    lost = Reading(Figures(), fault="the GPU is lost: it fell off the bus; reboot")
    lines = shown(Still(*[Reading(BUSY, ())] * 3, lost, *[Reading(BUSY, ())] * 4), selected=3)
    assert len(lines) <= 24
    assert "▸ 3 NVIDIA H200 the GPU is lost" in lines[5]
    assert sum("87 %" in line for line in lines[2:10]) == 7
    assert "GPU 3 does not answer" in "\n".join(lines)


def test_sixteen_gpus_scroll_around_the_selected_one() -> None:
    feed = Still(*[Reading(BUSY, ())] * 16)
    lines = shown(feed, selected=15)
    assert "more" in lines[1]
    assert any(line.startswith(" ▸15") for line in lines)


def test_wide_screen_shows_six_charts() -> None:
    text = "\n".join(shown(Still(Reading(BUSY, ())), 160, 50))
    for title in (
        "utilization 87 %",
        "power 612 W",
        "memory 12.0 GiB",
        "SM clock 1755 MHz",
        "temperature 61 °C",
    ):
        assert title in text
    assert "PCIe received 51.2 GiB/s" in text


def test_names_with_control_characters_are_spelled_out() -> None:
    evil = Process(7, "a\x1b[31m[red]b", 1, "compute")
    text = "\n".join(shown(Still(Reading(BUSY, (evil,)))))
    assert "\x1b" not in text
    assert "[red]b" in text


@settings(deadline=None, max_examples=60)
@given(st.integers(40, 200), st.integers(8, 70), st.integers(1, 12), st.integers(0, 20), st.booleans())
def test_drawing_stays_within_any_size(
    width: int, height: int, gpus: int, selected: int, marks: bool
) -> None:
    some = (Mark(5 * 10**9, "a long mark that does not fit"),) if marks else ()
    feed = Still(*[Reading(BUSY, (Process(1, "p", 1, "compute"),))] * gpus, marks=some)
    lines = shown(feed, width, height, selected=selected)
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width


@given(
    st.lists(st.none() | st.floats(0, 100), min_size=1, max_size=50), st.integers(1, 8), st.floats(0.1, 100)
)
def test_area_grows_with_its_values(values: list[float | None], height: int, top: float) -> None:
    rows = area_chart(values, height, top)
    assert len(rows) == height
    assert {len(row) for row in rows} == {-(-len(values) // 2)}
    dots = [
        sum((ord(row[i // 2]) - 0x2800 & (0x47 if i % 2 == 0 else 0xB8)).bit_count() for row in rows)
        for i in range(len(values))
    ]
    for value, count in zip(values, dots, strict=True):
        assert (count == 0) == (not value)
        assert value is None or value < top or count == 4 * height


@pytest.mark.parametrize(("share", "text"), [(0.0, "    "), (1.0, "████"), (0.5, "██  "), (None, "····")])
def test_bar_of_a_share(share: float | None, text: str) -> None:
    assert bar(share, 4) == text
