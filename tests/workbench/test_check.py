"""`tessera check`, and `tessera run --device emulator`."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from .conftest import Tessera

SOURCE = """\
from numba import cuda, float32

import tessera as ts


@ts.kernel(grid=lambda n: ts.cdiv(n, 64), block=64)
def unguarded(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n", 3]):
    i = cuda.grid(1)
    y[i, 2] = x[i]


@ts.kernel(grid=1, block=64)
def reverse(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array(shape=64, dtype=float32)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    y[t] = tile[63 - t]


@ts.kernel(grid=lambda n: ts.cdiv(n, 64), block=64)
def double(x: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        x[i] *= 2


@ts.jit
def scores(x: ts.Tensor[ts.f32, "batch", 20], w: ts.Tensor[ts.f32, 20, 30]):
    return ts.softmax(ts.matmul(x, w), axis=-1)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with bugs.py, which is the current one."""
    (tmp_path / "bugs.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_clean_kernel_is_status_0(tessera: Tessera, folder: Path) -> None:
    said = tessera("check", "bugs.py:double")
    assert said.status == 0
    assert said.out.startswith("double: nothing found (sm_80 ptx")
    # One block and a part of another.
    assert "sizes assumed: n=101" in said.err
    assert "drawn at random (--seed 0): x" in said.err


def test_function_is_checked_with_all_its_kernels(tessera: Tessera, folder: Path) -> None:
    said = tessera("check", "bugs.py:scores", "--json", "--size", "batch=5")
    assert said.status == 0
    (program,) = said.json["programs"]
    assert program["inputs"] == {"x": [5, 20], "w": [20, 30]}
    assert program["findings"] == []
    assert program["complete"]


def test_finding_is_shown_with_its_source(tessera: Tessera, folder: Path) -> None:
    said = tessera("check", "bugs.py:unguarded", "--size", "n=100")
    assert said.status == 1
    expected = """\
error: out-of-bounds: reads x[100], but x has 100 elements
  --> bugs.py:9, in unguarded
  |
7 | def unguarded(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n", 3]):
8 |     i = cuda.grid(1)
9 |     y[i, 2] = x[i]
  |     ^^^^^^^^^^^^^^
where: block (1, 0, 0), thread (36, 0, 0), the first of 56 times;"""
    assert said.out.startswith(expected), said.out
    assert "hint: compare the index" in said.out
    assert "unguarded: 1 finding" in said.out


def test_race_shows_both_sides(tessera: Tessera, folder: Path) -> None:
    said = tessera("check", "bugs.py:reverse")
    assert said.status == 1
    assert "race: reads tile[63], which thread (63, 0, 0) writes in line 16" in said.out
    assert "other: block (0, 0, 0), thread (63, 0, 0): write in line 16" in said.out


def test_json_is_one_object(tessera: Tessera, folder: Path) -> None:
    said = tessera("check", "bugs.py", "--json", "--seed", "3")
    assert said.status == 1
    data = said.json
    assert data["ok"] is False
    assert data["seed"] == 3
    found = {p["name"]: [f["kind"] for f in p["findings"]] for p in data["programs"]}
    assert found == {"unguarded": ["out-of-bounds"], "reverse": ["race"], "double": [], "scores": []}
    (race,) = data["programs"][1]["findings"]
    assert Path(race["file"]) == folder / "bugs.py"
    assert (race["line"], race["array"], race["index"], race["shape"]) == (17, "tile", [63], [64])
    assert (race["check"], race["count"]) == ("racecheck", 64)
    assert (race["other"]["thread"], race["other"]["line"]) == ([63, 0, 0], 16)


def test_sarif_names_rules_files_and_lines(tessera: Tessera, folder: Path) -> None:
    assert tessera("check", "bugs.py", "--sarif", "out.sarif").status == 1
    log = json.loads((folder / "out.sarif").read_text())
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "tessera check"
    rules = [rule["id"] for rule in driver["rules"]]
    assert rules == ["out-of-bounds", "race"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["message"]["text"]
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == "bugs.py"
    lines = [r["locations"][0]["physicalLocation"]["region"]["startLine"] for r in run["results"]]
    assert lines == [9, 17]
    related = run["results"][1]["relatedLocations"][0]
    assert related["physicalLocation"]["region"]["startLine"] == 16


def test_sarif_where_it_cannot_be_written_is_refused_before_any_work(tessera: Tessera, folder: Path) -> None:
    done = tessera("check", "missing.py", "--sarif", "bugs.py/out.sarif")
    assert done.status == 1
    assert "--sarif bugs.py/out.sarif: " in done.err
    assert "bugs.py is no folder" in done.err


def test_sarif_makes_its_folder(tessera: Tessera, folder: Path) -> None:
    assert tessera("check", "bugs.py:double", "--sarif", "new/out.sarif").status == 0
    assert (folder / "new" / "out.sarif").is_file()


def test_sarif_of_a_clean_file_has_no_results(tessera: Tessera, folder: Path) -> None:
    assert tessera("check", "bugs.py:double", "--sarif", "out.sarif").status == 0
    assert json.loads((folder / "out.sarif").read_text())["runs"][0]["results"] == []


def test_inputs_come_from_files(tessera: Tessera, folder: Path) -> None:
    np.save("x.npy", np.zeros(64, np.float32))
    said = tessera("check", "bugs.py:unguarded", "--input", "x.npy", "--json")
    assert said.status == 0
    assert said.json["programs"][0]["inputs"] == {"x": [64], "y": [64, 3]}


def test_limit_ends_the_run(tessera: Tessera, folder: Path) -> None:
    said = tessera("check", "bugs.py:unguarded", "--limit", "1")
    assert said.status == 1
    assert "stopped there, see --limit" in said.out


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["no.py"], 2, "no.py"),
        (["model.tsd"], 2, "model.tsd is a package"),
        (["bugs.py:nothing"], 2, "nothing"),
        (["bugs.py", "--input", "x.npy"], 2, "4 things to check"),
        (["bugs.py:double", "--arch", "cpu"], 2, "check runs GPU code"),
        (["bugs.py:double", "--arch", "sm_1"], 2, "sm_1"),
        (["bugs.py:double", "--limit", "0"], 2, "--limit"),
        (["bugs.py:double", "--size", "m=3"], 2, "no size called 'm'"),
    ],
)
def test_wrong_call_is_refused(
    words: list[str], status: int, message: str, tessera: Tessera, folder: Path
) -> None:
    said = tessera("check", *words)
    assert said.status == status
    assert message in said.err


def test_run_on_the_emulator_equals_the_cpu(tessera: Tessera, folder: Path) -> None:
    words = ("run", "bugs.py:scores", "--size", "batch=3", "--json")
    cpu, emulator = tessera(*words).json, tessera(*words, "--device", "emulator").json
    assert emulator["device"] == "emulator"
    values = [np.array(r["outputs"]["output"]["values"]) for r in (cpu, emulator)]
    np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-6)


def test_manual_shows_what_is_said(tessera: Tessera, folder: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    source = next(block for block in blocks if "def reverse_tiles" in block)
    command, shown = re.findall(r"```text\n\$ tessera (check.*?)\n(.*?)```", page, re.DOTALL)[0]
    Path("tiles.py").write_text(source)
    said = tessera(*command.split())
    # PTX lines depend on the toolchain.
    plain = [re.sub(r"PTX line \d+", "PTX line", text) for text in (said.out, shown)]
    assert plain[0].startswith(plain[1]), said.out


def test_endless_kernel_ends_after_as_many_steps_as_asked_for(tessera: Tessera, project: Path) -> None:
    (project / "endless.py").write_text(
        "from numba import cuda\n\nimport tessera as ts\n\n\n"
        "@ts.kernel(grid=1, block=32)\n"
        'def endless(x: ts.Array[ts.i32, "n"]):\n'
        "    k = x[0] & 1\n"
        "    while k < 5:\n"
        "        k = (k + 1) % 3\n"
        "    x[0] = k\n"
    )
    said = tessera("check", "endless.py", "--steps", "700", "--json")
    assert said.status == 1
    (result,) = said.json["programs"]
    (finding,) = result["findings"]
    assert (finding["kind"], "after 700 basic blocks" in finding["message"]) == ("runaway", True)
    assert "--steps" in finding["hint"]


MIXED = (
    SOURCE
    + """

@ts.kernel(grid=1, block=32)
def speaks(x: ts.Array[ts.f32, 32]):
    i = cuda.grid(1)
    if i < 2:
        print("lane", i)
    x[i] = 1


@ts.kernel(grid=1, block=32)
def broken(x: ts.Array[ts.f32, 32]):
    x[0] = x[1].colour
"""
)


def test_kernel_that_does_not_compile_leaves_the_others_checked(tessera: Tessera, folder: Path) -> None:
    (folder / "bugs.py").write_text(MIXED)
    said = tessera("check", "bugs.py")
    assert said.status == 1
    assert "broken: float32 has no attribute 'colour'" in said.err
    assert "lane 0\nlane 1\n" in said.out
    assert "reverse: 1 finding" in said.out
    assert "double: nothing found" in said.out
    data = tessera("check", "bugs.py", "--json").json
    assert [(f["name"], f["location"]["line"]) for f in data["not_compiled"]] == [("broken", 42)]
    assert data["ok"] is False
    assert {p["name"] for p in data["programs"]} == {"unguarded", "reverse", "double", "scores", "speaks"}
    alone = tessera("check", "bugs.py:broken")
    assert alone.status == 1
    assert alone.out == ""
