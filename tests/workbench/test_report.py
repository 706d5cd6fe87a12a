"""`tessera report`: what it finds of a kernel, and what it says where something is wrong."""

from __future__ import annotations

import json
import linecache
import re
from pathlib import Path

import pytest

pytest.importorskip("jinja2")

TUNED = """\
from numba import cuda

import tessera as ts

BLOCK = 128


@ts.kernel(
    tune={"BLOCK": [64, 128, 256]},
    grid=lambda n, BLOCK: ts.cdiv(n, BLOCK),
    block=lambda BLOCK: BLOCK,
)
def scale(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = 2 * x[i] + BLOCK
"""


def report(tessera, *words: str) -> dict:
    """The data of a report of what `words` name."""
    said = tessera("report", *words, "--no-diagnostics", "--data", "data.json", "--json")
    assert said.status == 0, said.err
    return json.loads(Path("data.json").read_text())


def test_report_counts_lines_and_folds_their_code(tessera, project: Path) -> None:
    data = report(tessera, "kernels.py:saxpy", "--arch", "sm_80", "--size", "n=4096")
    (listing,) = data["sources"]
    assert (listing["kernel"], listing["file"], listing["sizes"]) == ("saxpy", "kernels.py", {"n": 4096})
    line = next(each for each in listing["lines"] if "y[i] = a" in each["text"])
    assert any("ld.global" in row["text"] and row["executed"] == 128 for row in line["ptx"])
    assert any("LDG" in row["text"] for row in line["sass"])
    assert sum(each["share"] or 0 for each in listing["lines"]) == pytest.approx(1, abs=0.05)
    (roof,) = data["rooflines"]
    assert roof["gpu"] == "A100 SXM 80 GB"
    (point,) = roof["points"]
    assert point["operations"] == 2 * 4096
    (trace,) = data["traces"]
    assert (trace["origin"], [span["name"] for span in trace["spans"]]) == ("emulated", ["saxpy"])
    page = (project / "report.html").read_text()
    assert "y[i] = a * x[i] + y[i]" in page
    assert "data:" not in json.dumps(data)


@pytest.mark.parametrize("name", ["saxpy", "linear_relu"])
def test_report_of_the_same_source_has_the_same_bytes_whatever_the_cache_knows(
    tessera, project: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = []
    monkeypatch.setenv("TESSERA_CACHE_DIR", str(project / "cache"))
    words = ("report", f"kernels.py:{name}", "--arch", "sm_80", "--no-diagnostics", "-o", "page.html")
    for _ in range(2):
        # A process that compiled before knows the lines of what the compiler wrote.
        linecache.clearcache()
        assert tessera(*words).status == 0
        pages.append((project / "page.html").read_bytes())
    assert pages[0] == pages[1]
    written = b"written by the compiler" in pages[0]
    assert written == (name == "linear_relu")


def test_report_measures_an_execution_where_it_is_told_to(tessera, project: Path) -> None:
    data = report(tessera, "kernels.py:linear_relu", "--arch", "cpu", "--device", "cpu", "--no-count")
    (trace,) = data["traces"]
    assert trace["origin"] == "measured"
    assert all(span["length"] >= 0 for span in trace["spans"])
    assert len(trace["spans"]) >= 2
    assert data["sources"] == []


def test_report_shows_sweeps_on_record_in_the_order_of_trying(tessera, project: Path) -> None:
    (project / "tuned.py").write_text(TUNED)
    assert tessera("tune", "tuned.py", "--arch", "sm_80", "--size", "n=4096").status == 0
    data = report(tessera, "tuned.py", "--arch", "sm_80", "--no-count")
    (sweep,) = data["sweeps"]
    assert [t["number"] for t in sweep["trials"]] == [1, 2, 3]
    assert sweep["trials"][0]["configuration"] == {"BLOCK": 128}
    assert sweep["origin"] == "predicted"
    page = (project / "report.html").read_text()
    assert re.search(r"Best so far.*predicted", page, re.DOTALL)


def test_report_of_a_function_shows_the_sweeps_of_its_steps(tessera, project: Path) -> None:
    source = '@ts.jit\ndef scaled(x: ts.Tensor[ts.f32, "n"]):\n    return ts.exp(x) * 2\n'
    (project / "layers.py").write_text(f"import tessera as ts\n\n\n{source}")
    for arch in ("sm_80", "sm_90"):
        tuned = tessera("tune", "layers.py", "--arch", arch, "--size", "n=3000", "--budget", "2")
        assert tuned.status == 0
    data = report(tessera, "layers.py", "--arch", "sm_90", "--no-count")
    assert [(s["kernel"], s["target"]) for s in data["sweeps"]] == [
        ("scaled.0_exp_mul", "sm_80"),
        ("scaled.0_exp_mul", "sm_90"),
    ]
    # What stands at the top is of the architecture that the report is about.
    page = (project / "report.html").read_text()
    assert "best of 2 for H100" in page
    assert "best of 2 for A100" not in page
    assert "none in 1 cubin<" in page


def test_report_of_a_package_shows_its_code_without_lines(tessera, project: Path) -> None:
    assert tessera("compile", "kernels.py:saxpy", "--arch", "sm_80", "-o", "saxpy.tsc").status == 0
    data = report(tessera, "saxpy.tsc", "--recording", "demo", "--gpu", "H200")
    (listing,) = data["sources"]
    assert listing["lines"][-1]["number"] == 0
    assert len(listing["lines"][-1]["ptx"]) > 5
    assert data["recordings"][0]["gpus"] == ["NVIDIA H200"]
    assert [roof["gpu"] for roof in data["rooflines"]] == ["H200 SXM"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recording", "nothing.tslive"], "there is no such file"),
        (["--recording", "torn.tslive"], "torn.tslive is not a recording"),
        (["--tuning", "nothing.json"], "there is no such file"),
        (["--tuning", "torn.json"], "torn.json is damaged"),
        (["--gpu", "H2000"], "H2000"),
        (["--size", "rows=5"], "there is no size called 'rows'"),
        (["--device", "toaster"], "toaster"),
    ],
)
def test_report_of_what_is_not_there_says_so(tessera, project: Path, words: list[str], said: str) -> None:
    (project / "torn.tslive").write_bytes(b"TSL")
    (project / "torn.json").write_text('{"format": "tessera autotune", "version": 1, "records": [{')
    answer = tessera("report", "kernels.py:saxpy", "--arch", "sm_80", "--no-diagnostics", *words)
    assert answer.status in (1, 2)
    assert said in answer.err
    assert "hint: " in answer.err
    assert not (project / "report.html").exists()


def test_report_of_a_kernel_that_cannot_be_counted_says_why(tessera, project: Path) -> None:
    (project / "bad.py").write_text(TUNED.replace("x[i] +", "x[i + 1_000_000_000] +"))
    data = report(tessera, "bad.py", "--arch", "sm_80", "--size", "n=4096")
    assert any(note.startswith("scale was not counted: ") for note in data["notes"])
    (listing,) = data["sources"]
    assert listing["device"] is None
    assert any(line["sass"] for line in listing["lines"])
