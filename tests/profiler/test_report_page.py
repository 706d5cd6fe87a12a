"""The HTML report: whole, safe, reproducible, and right in a real browser."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from chromium import Browser, find_chromium
from profiled_programs import linear_artifact, planned
from report_samples import bench, everything, full_report, kernels, listing, recorded, rows, sweep

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
from tessera.program.dim import symbol
from tessera.program.errors import ConfigError, MissingDependencyError, PackageError
from tessera.program.program import Choice, Compare, Launch, Option

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
    base = everything(HOSTILE, HOSTILE)
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
    browser.open(write_report(everything(), tmp_path / "report.html"), width=width, dark=dark)
    assert browser.complaints() == []
    assert browser.requests() == []
    marks = browser.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.chart')].map(c => [c.id.slice(6), "
        "c.querySelectorAll('.point path, path.point, .trace .js-line, .hm image, .annotation').length]))"
    )
    # Marks that each chart has at the least: bars, curves, the picture of a heatmap, values at axes.
    assert marks == {key: marks[key] for key in DRAWN}
    assert {key: marks[key] for key, least in DRAWN.items() if marks[key] < least} == {}
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert is_dark(browser) == dark
    assert browser.colours() > 40


@pytest.mark.parametrize("width", [1280, 390])
def test_no_title_of_an_axis_is_cut_where_kernels_have_long_names(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    names = tuple(f"digits_bf16_{i}_matmul_add_gelu_mma64x64_any" for i in range(3))
    page = write_report(dataclasses.replace(everything(), kernels=kernels(names)), tmp_path / "report.html")
    browser.open(page, width=width)
    cut = browser.evaluate(
        "[...document.querySelectorAll('.chart')].flatMap(c => { const box = c.getBoundingClientRect(); "
        "const inside = r => r.left > box.left - 1 && r.right < box.right + 1 && r.bottom < box.bottom + 1; "
        "return [...c.querySelectorAll('.xtitle, .ytitle')].filter(t => !inside(t.getBoundingClientRect())) "
        ".map(t => c.id + ': ' + t.textContent) })"
    )
    assert cut == []


def test_the_share_of_a_line_is_drawn_below_its_digits(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_report(everything(), tmp_path / "report.html"), width=390)
    place, size = browser.evaluate(
        "(s => [s.backgroundPosition, s.backgroundSize])"
        "(getComputedStyle(document.querySelector('table.source tr[style] .hot')))"
    )
    # Digits end at about 1.5 em of the cell.
    assert float(place.split()[1].removesuffix("px")) >= 18
    assert float(size.split()[1].removesuffix("px")) <= 4


def is_dark(browser: Browser) -> bool:
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    return max(int(n) for n in re.findall(r"\d+", background)[:3]) < 64


DRAWN = {
    "occupancy": 6,
    "stages": 6,
    "memory-0": 7,
    "bench-0-latency": 2,
    "bench-0-throughput": 2,
    "roofline-0": 4,
    "sweep-0-heat": 1,
    "sweep-0-parallel": 10,
    "sweep-0-best": 20,
    "trace-0": 3,
    "nvml-0-0": 2,
    "nvml-0-1": 2,
    "section-0-1": 1,
    "section-0-2": 3,
}

SECTIONS = {
    "summary": "97.2 %",
    "section-0": "360 of 360",
    "kernels": "linear_softmax_2",
    "roofline": "memory-bound: 100 MB take 30 µs: move less",
    "sweeps": "no block fits a multiprocessor",
    "source": "80.0 %",
    "memory": "without reuse",
    "trace": "upload, 8 KiB",
    "plan": "cdiv(batch, 16)",
    "nvml": "power cap",
    "stages": "serve 360 images",
    "benchmarks": "NumPy",
    "package": "manifest.json",
    "diagnostics": "TESSERA_CACHE_DIR",
    "environment": "Example CPU @ 2.4 GHz",
}
"""Each section and something that stands in no other."""


def test_report_has_every_section_with_its_data(browser: Browser, tmp_path: Path) -> None:
    data = dataclasses.replace(
        everything(), summary=(Fact("accuracy", "97.2 %", "measured", "350 of 360 images"),)
    )
    browser.open(write_report(data, tmp_path / "report.html"), width=1280)
    found = browser.evaluate(
        "Object.fromEntries([...document.querySelectorAll('main > section')].map(s => [s.id, s.textContent]))"
    )
    assert {key: text for key, text in SECTIONS.items() if text not in found.get(key, "")} == {}
    linked = browser.evaluate("[...document.querySelectorAll('nav a')].map(a => a.hash.slice(1))")
    assert set(linked) == set(SECTIONS) - {"summary"}


def test_report_folds_ptx_and_sass_beside_their_line(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_report(everything(), tmp_path / "report.html"), width=1280)
    row = "[...document.querySelectorAll('table.source tr')].find(r => r.textContent.includes('80.0 %'))"
    assert browser.evaluate(f"{row}.querySelector('summary').textContent") == "7 PTX · 9 SASS"
    assert browser.evaluate(f"{row}.querySelector('pre').checkVisibility()") is False
    browser.evaluate(f"{row}.querySelector('summary').click()")
    assert browser.evaluate(f"{row}.querySelector('pre').checkVisibility()") is True
    text = browser.evaluate(f"[...{row}.querySelectorAll('pre')].map(p => p.innerText)")
    assert "99 st.global.f32 [%rd9], %f4;  2,048" in text[0]
    assert text[1].startswith("0028 add.s64")
    assert browser.evaluate("document.documentElement.scrollWidth") == 1280


def test_theme_switch_overrides_the_readers_setting_and_redraws(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_report(everything(), tmp_path / "report.html"), width=1280, dark=False)
    fill = "getComputedStyle(document.querySelector('#chart-stages .point path')).fill"
    before = browser.evaluate(fill)
    browser.evaluate("document.getElementById('theme-dark').click()")
    browser.drawn()
    assert is_dark(browser)
    assert browser.evaluate(fill) != before
    browser.evaluate("document.getElementById('theme-light').click()")
    browser.drawn()
    assert not is_dark(browser)
    assert browser.evaluate(fill) == before
    assert browser.complaints() == []


def test_report_is_read_aloud_and_reached_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_report(everything(), tmp_path / "report.html"), width=390)
    levels = browser.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert browser.evaluate("[...document.querySelectorAll('th')].every(th => th.scope)")
    assert browser.evaluate(
        "[...document.querySelectorAll('.chart')].every(c => c.getAttribute('role') === 'img' && "
        "c.getAttribute('aria-label').length > 12)"
    )
    wide = browser.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth)"
        ".map(s => s.tabIndex === 0 && !!s.getAttribute('aria-label'))"
    )
    assert len(wide) >= 5
    assert all(wide)


@pytest.mark.slow
def test_report_of_much_stays_small_and_opens(browser: Browser, tmp_path: Path) -> None:
    path = write_report(large_report(), tmp_path / "large.html")
    assert path.stat().st_size < 8_000_000
    browser.open(path, width=1280)
    assert browser.complaints() == []
    text = browser.evaluate("document.querySelector('main').textContent")
    assert "20,000 of 100,0" in text
    assert "The table has the best 50." in text
    assert "configurations are drawn" in text
    assert browser.evaluate("document.querySelectorAll('.chart .main-svg').length") > 0


def large_report() -> ReportData:
    """5,000 configurations, 100,000 lines of PTX, an hour of eight GPUs as a recording is thinned to."""
    base = listing()
    hot = dataclasses.replace(base.lines[2], ptx=rows(100_000), sass=())
    return ReportData(
        "much",
        sweeps=(sweep(configurations=5000),),
        sources=(dataclasses.replace(base, lines=(base.lines[0], hot)),),
        recordings=(recorded(gpus=8, seconds=600),),
    )


def test_report_with_hostile_names_runs_nothing_of_theirs(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_report(hostile_report(), tmp_path / "report.html"), width=1280)
    assert browser.complaints() == []
    assert browser.requests() == []
    assert browser.evaluate("typeof window.broken") == "undefined"
    assert browser.evaluate("document.querySelectorAll('main img').length") == 0
    assert browser.evaluate("document.querySelectorAll('.chart .main-svg').length") > 0


def test_report_prints_to_paper_of_light_pages(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_report(everything(), tmp_path / "report.html"), width=1280, dark=True)
    browser.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    # What the page does before it is printed: light, and charts no wider than paper.
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not is_dark(browser)
    widest = "Math.max(...[...document.querySelectorAll('.chart .main-svg')].map(s => s.clientWidth))"
    assert 500 < browser.evaluate(widest) <= 688
    assert browser.evaluate("[...document.querySelectorAll('details:not(.fold)')].every(d => d.open)")
    browser.evaluate("dispatchEvent(new Event('afterprint'))")
    assert is_dark(browser)
    assert browser.evaluate(widest) > 688
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
    first = write_report(everything(), tmp_path / "a.html").read_bytes()
    second = write_report(everything(), tmp_path / "b.html").read_bytes()
    assert first == second


def test_report_labels_every_figure_with_its_origin() -> None:
    page = render_report(everything())
    figures = re.findall(r"<figure.*?</figcaption>", page, re.DOTALL)
    assert len(figures) == len(DRAWN)
    assert all(
        re.search(r'class="badge (measured|emulated|predicted|datasheet|recorded)"', f) for f in figures
    )


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


def test_every_variant_of_a_step_has_a_row_with_its_guard() -> None:
    program = planned()
    plan = program.plans[0]
    (kernel,) = (step for step in plan.steps[:1] if isinstance(step, Launch))
    variants = [
        Option(steps=(kernel,), guard=(Compare(lhs=symbol("batch"), op="<", rhs=n),)) for n in range(1, 30)
    ]
    step = Choice(options=(*variants, Option(steps=(kernel,))))
    many = msgspec.structs.replace(plan, steps=(step, *plan.steps[1:]))
    changed = msgspec.structs.replace(program, plans=(many,))
    rows = report_from_artifact(Artifact(programs=(changed,), binaries=()), title="x").launches[0].rows
    assert len(rows) == 30 + len(plan.steps) - 1
    assert len({row.index for row in rows}) == len(rows)
    assert [row.index for row in rows[24:30]] == ["0y.0", "0z.0", "0aa.0", "0ab.0", "0ac.0", "0ad.0"]
    assert (rows[28].guard, rows[29].guard) == ("batch < 29", "otherwise")


def test_memory_plan_leaves_out_buffers_that_no_step_uses() -> None:
    program = planned()
    plan = program.plans[0]
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
