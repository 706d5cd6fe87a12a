"""The HTML report: whole, safe, reproducible, and right in a real browser."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from chromium import Browser, find_chromium
from profiled_programs import linear_artifact, planned
from report_samples import bench, full_report, kernels

from tessera.package import Package
from tessera.profiler import ReportData, report_from_artifact, report_from_package, write_report
from tessera.profiler.check import Check
from tessera.profiler.package_tree import tree_rows
from tessera.profiler.report import render_report
from tessera.profiler.report_data import (
    Bars,
    Fact,
    Facts,
    Heatmap,
    KernelRow,
    PackageEntry,
    StageTime,
    Table,
    Text,
)
from tessera.profiler.report_source import kernel_row, memory_plan
from tessera.program.artifact import Artifact, Resources
from tessera.program.errors import ConfigError, MissingDependencyError, PackageError

HOSTILE = (
    "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>"
    " {{ 7*7 }} & $x$ %{x} \u2028"
)


class Elements(HTMLParser):
    """Tag names and attributes of a page, and its text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text = ""
        self._silent = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend((tag, name, value) for name, value in attrs)
        self._silent += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text += data


def hostile_report() -> ReportData:
    base = full_report(HOSTILE)
    kernel = KernelRow(HOSTILE, HOSTILE, "sm_90", registers=40, spill_bytes=4, occupancy=0.5, limiter=HOSTILE)
    return dataclasses.replace(
        base,
        title=HOSTILE,
        subtitle=HOSTILE,
        summary=(Fact(HOSTILE, HOSTILE, "measured", HOSTILE),),
        kernels=(kernel, *kernels((HOSTILE, "b", "c"))),
        stages=(StageTime(HOSTILE, 0.5, HOSTILE),),
        package=HOSTILE,
        entries=(PackageEntry("a/" + HOSTILE.replace("/", ""), 5, "ab" * 32),),
        benchmarks=(dataclasses.replace(bench(HOSTILE), hardware=HOSTILE, notes=(HOSTILE,)),),
        sections={
            HOSTILE: (
                Text(HOSTILE),
                Facts((Fact(HOSTILE, HOSTILE),)),
                Table(HOSTILE, (HOSTILE,), ((HOSTILE,),), "recorded"),
                Heatmap(HOSTILE, HOSTILE, HOSTILE, (HOSTILE,), (HOSTILE,), ((1.0,),), "measured"),
                Bars(HOSTILE, HOSTILE, (HOSTILE,), (1.0,), "predicted"),
            )
        },
        checks=(Check(HOSTILE, "warning", HOSTILE, HOSTILE),),
        environment={HOSTILE: HOSTILE},
        notes=(HOSTILE,),
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium to open the page in: apt-get install chromium")
    with Browser(executable, tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_report_in_chromium_draws_every_chart_without_a_word_or_a_request(
    browser: Browser, tmp_path: Path, width: int, dark: bool
) -> None:
    browser.open(write_report(full_report(), tmp_path / "report.html"), width=width, dark=dark)
    assert browser.complaints() == []
    assert browser.requests() == []
    drawn = browser.evaluate(
        "[...document.querySelectorAll('.chart')].map(c => c.querySelector('.main-svg') !== null)"
    )
    assert len(drawn) == 7
    assert all(drawn)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    channels = [int(n) for n in re.findall(r"\d+", background)[:3]]
    assert (max(channels) < 64) == dark


def test_report_with_hostile_names_runs_nothing_of_theirs(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_report(hostile_report(), tmp_path / "report.html"), width=1280)
    assert browser.complaints() == []
    assert browser.requests() == []
    assert browser.evaluate("typeof window.broken") == "undefined"
    assert browser.evaluate("document.querySelectorAll('main img').length") == 0
    assert browser.evaluate("document.querySelectorAll('.chart .main-svg').length") > 0


def test_report_prints_to_paper_of_light_pages(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_report(full_report(), tmp_path / "report.html"), width=1280, dark=True)
    browser.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert browser.complaints() == []


def test_report_with_hostile_names_escapes_all_of_them() -> None:
    page = render_report(hostile_report())
    elements = Elements(page)
    assert elements.tags.count("script") == 3
    assert "img" not in elements.tags
    assert not [a for a in elements.attributes if a[1].startswith("on")]
    assert "{{ 7*7 }}" in elements.text


def test_report_links_to_nothing_outside_and_its_policy_forbids_it() -> None:
    elements = Elements(render_report(full_report()))
    links = [value for _, name, value in elements.attributes if name in ("href", "src", "action")]
    assert all(link is not None and (link.startswith("#") or link == "data:,") for link in links)
    policy = next(
        value
        for tag, name, value in elements.attributes
        if name == "content" and value and "default-src" in value
    )
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy


def test_report_of_equal_data_has_equal_bytes(tmp_path: Path) -> None:
    first = write_report(full_report(), tmp_path / "a.html").read_bytes()
    second = write_report(full_report(), tmp_path / "b.html").read_bytes()
    assert first == second


def test_report_labels_every_figure_with_its_origin() -> None:
    page = render_report(full_report())
    figures = re.findall(r"<figure.*?</figcaption>", page, re.DOTALL)
    assert len(figures) == 7
    assert all(re.search(r'class="badge (measured|predicted|datasheet|recorded)"', f) for f in figures)


def test_report_of_nothing_but_a_title_carries_no_scripts() -> None:
    page = render_report(ReportData("empty"))
    assert len(page) < 20_000
    assert "<script" not in page
    assert "Kernels" not in Elements(page).text


def test_report_shows_unknown_figures_as_not_available() -> None:
    text = Elements(render_report(ReportData("x", kernels=(KernelRow("p", "k", "sm_80"),)))).text
    assert text.count("N/A") >= 5


def test_report_highlights_spills() -> None:
    page = render_report(full_report())
    assert page.count('class="n spill"') == 1
    assert "48 B" in page


def test_report_heatmap_of_another_shape_than_its_labels_is_refused() -> None:
    wrong = Heatmap("m", "x", "y", ("a", "b"), ("c",), ((1.0,),), "measured")
    with pytest.raises(ConfigError, match="heatmap 'm'"):
        render_report(ReportData("x", sections={"s": (wrong,)}))


def test_report_chart_of_infinite_values_is_refused() -> None:
    wrong = Bars("b", "s", ("a",), (float("inf"),), "measured")
    with pytest.raises(ConfigError, match="not finite"):
        render_report(ReportData("x", sections={"s": (wrong,)}))


def test_report_without_jinja_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingDependencyError) as caught:
        render_report(ReportData("x"))
    assert caught.value.hint == "pip install 'tessera[profile]'"


def test_report_into_a_missing_folder_makes_it_and_into_a_file_is_refused(tmp_path: Path) -> None:
    path = write_report(ReportData("x"), tmp_path / "deep" / "report.html")
    assert path.read_text().startswith("\n<!doctype html>") or "<!doctype html>" in path.read_text()[:200]
    with pytest.raises((ConfigError, PackageError)):
        write_report(ReportData("x"), path / "below.html")


def test_report_of_a_package_shows_its_files_and_digests(tmp_path: Path) -> None:
    path = Package.from_artifact(linear_artifact(), name="linear", version="1.2.3").save(
        tmp_path / "linear.tsd"
    )
    data = report_from_package(path)
    assert data.title == "linear 1.2.3"
    listed = {entry.path: entry for entry in data.entries}
    assert listed["weights/w.bin"].bytes == 64 * 16 * 4
    assert set(listed) == {e.path for e in Package.load(path).entries} | {"manifest.json"}
    page = write_report(path, tmp_path / "report.html").read_text()
    assert (listed["weights/w.bin"].sha256 or "?") in page


def test_report_of_an_artifact_draws_the_arena_over_its_steps() -> None:
    data = report_from_artifact(Artifact(programs=(planned(),), binaries=()), title="planned")
    plan = data.memory[0]
    assert plan.sizes == {"batch": 32}
    assert plan.arena_bytes == 12 * 32
    assert [(b.name, b.offset_bytes, b.bytes, b.first, b.last) for b in plan.buffers] == [
        ("first", 0, 128, 0, 1),
        ("second", 128, 256, 1, 2),
    ]
    rows = data.launches[0].rows
    assert [row.name for row in rows] == ["load", "middle", "store"]
    assert rows[0].grid == "(batch, 1, 1)"
    assert rows[2].arguments == "buffer second, output y + 4*batch"
    assert "Arena of planned" in render_report(data)


def test_memory_plan_leaves_out_buffers_that_no_step_uses() -> None:
    program = planned()
    plan = program.plans[0]
    import msgspec

    shorter = msgspec.structs.replace(plan, steps=plan.steps[:1])
    assert [b.name for b in memory_plan("p", shorter, {"batch": 1}).buffers] == ["first"]


def test_kernel_row_says_what_limits_occupancy() -> None:
    row = kernel_row(
        "p",
        "k",
        "sm_80",
        Resources(registers=128, spill_bytes=0, shared_bytes=1024, threads=256, occupancy=0.25),
        2048,
    )
    assert (row.limiter, row.shared_bytes) == ("registers", 1024)
    assert kernel_row("p", "k", "sm_80", None, 1).occupancy is None


def test_package_tree_sums_folders_before_what_they_hold() -> None:
    rows = tree_rows([PackageEntry("a/b/c", 3), PackageEntry("a/d", 1), PackageEntry("z", 4)])
    assert [(r.name, r.depth, r.bytes, r.folder) for r in rows] == [
        ("a/", 0, 4, True),
        ("b/", 1, 3, True),
        ("c", 2, 3, False),
        ("d", 1, 1, False),
        ("z", 0, 4, False),
    ]
    assert rows[0].share == 0.5
