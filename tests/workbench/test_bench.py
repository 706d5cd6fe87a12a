"""`tessera bench`: what is measured, saved, compared and exported."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tessera.profiler import History

FUNCTIONS = """

def plain(x, W):
    import numpy as np

    return np.maximum(x @ W, 0)


def wrong(x, W):
    return x @ W


def slow(x, W):
    import time

    time.sleep(0.005)
    return plain(x, W)


def fails(x, W):
    raise ValueError("no luck")


number = 3
"""
QUICK = ("--seconds", "0.02", "--warmup", "0", "--device", "reference", "-b", "4")
LINEAR = "kernels.py:linear_relu"


@pytest.fixture(autouse=True)
def functions(project: Path) -> Path:
    file = project / "kernels.py"
    file.write_text(file.read_text() + FUNCTIONS)
    return project


def test_bench_saves_and_history_lists(tessera: Any, project: Path) -> None:
    first = tessera("bench", LINEAR, *QUICK, "--save", "before", "--json").json
    assert first["saved"]["id"] == 1
    assert first["results"][0]["target"] == LINEAR
    assert first["results"][0]["interval"].startswith("95 %")
    tessera("bench", LINEAR, *QUICK)
    listed = tessera("bench", "--history", "--json").json
    assert [(run["id"], run["name"]) for run in listed["runs"]] == [(2, ""), (1, "before")]
    assert listed["database"] == first["saved"]["database"]
    said = tessera("bench", "--history", LINEAR)
    assert said.status == 0
    assert "before" in said.out
    assert all(len(line) <= 80 for line in said.out.splitlines())
    assert tessera("bench", "--history", "other.tsd", "--json").json["runs"] == []


def test_bench_shows_every_figure_in_80_columns(tessera: Any) -> None:
    said = tessera("bench", LINEAR, *QUICK)
    assert all(len(line) <= 80 for line in said.out.splitlines())
    for word in ("Median", "p5", "p95", "GB/s", "FLOP/s", "Roof", "Faster", "measured", "NumPy reference"):
        assert word in said.out
    assert "saved: run 1" in said.err.replace("\n", " ")


def test_bench_without_keep_saves_nothing(tessera: Any) -> None:
    assert tessera("bench", LINEAR, *QUICK, "--no-keep", "--json").json["saved"] is None
    said = tessera("bench", "--history")
    assert said.out == ""
    assert "nothing is saved" in said.err


def test_bench_compares_and_a_regression_is_status_1(
    tessera: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The runs compared are those of the history, made as slow as wanted: times of this machine are no test.
    words = ("bench", LINEAR, *QUICK, "--baseline", "none", "--json")
    assert tessera(*words, "--save", "now").status == 0
    database = Path(os.environ["TESSERA_DATA_DIR"]) / "bench.sqlite"
    _rewrite(database, factor=1e-3)
    said = tessera(*words, "--compare", "now")
    comparison = said.json["comparison"]
    assert comparison["run"] == 1
    assert comparison["regressions"] == 1
    assert comparison["changes"][0]["verdict"] == "slower"
    assert said.status == 1
    _rewrite(database, factor=1e6)
    said = tessera(*words, "--compare", "1")
    assert said.json["comparison"]["changes"][0]["verdict"] == "faster"
    assert said.status == 0
    said = tessera(*words[:-1], "--compare", "#1")
    assert "faster" in said.out
    assert all(len(line) <= 80 for line in said.out.splitlines())


def _rewrite(database: Path, factor: float) -> None:
    """Make the times of run 1 `factor` times as long, on a machine that was idle."""
    import sqlite3

    with sqlite3.connect(database) as connection:
        (document,) = connection.execute("SELECT document FROM results WHERE run = 1").fetchone()
        data = json.loads(document)
        data["others"] = 0.0
        for row in data["batches"]:
            timing = row["timing"]
            for name in [n for n in timing if n.endswith("_ms") and timing[n] is not None]:
                value = timing[name]
                timing[name] = [v * factor for v in value] if isinstance(value, list) else value * factor
        connection.execute("UPDATE results SET document = ? WHERE run = 1", (json.dumps(data),))
    connection.close()


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other processes do on this machine is not part of these tests."""
    monkeypatch.setattr("tessera.profiler.bench_program.watch", lambda: None)


def test_bench_against_a_function_of_a_file(tessera: Any) -> None:
    said = tessera("bench", LINEAR, *QUICK, "--baseline", "kernels.py:plain", "--json")
    row = said.json["results"][0]["batches"][0]
    assert row["baseline"]["name"] == "plain"
    assert row["agrees"] is True
    assert said.status == 0


def test_bench_against_a_function_that_computes_something_else_is_status_1(tessera: Any) -> None:
    said = tessera("bench", LINEAR, *QUICK, "--baseline", "kernels.py:wrong")
    assert said.status == 1
    assert "Outputs differ from those of wrong" in said.err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--baseline", "nunpy"), "nunpy"),
        (("--baseline", "kernels.py:nothing"), "'nothing' is not there"),
        (("--baseline", "kernels.py:number"), "'number' is no function"),
        (("--baseline", "missing.py:f"), "missing.py"),
        (("--baseline", "kernels.py:"), "kernels.py"),
        (("--compare", "never"), "no run 'never'"),
        (("--compare", "last"), "no run 'last'"),
        (("--export", "x.xlsx"), "ends in '.xlsx'"),
        (("--save", "12"), "--save '12'"),
        (("--save", "last"), "--save 'last'"),
        (("--save", ""), "--save ''"),
        (("--save", "a", "--no-keep"), "contradict"),
        (("--compare", "torn.json"), "--compare torn.json: it takes the name or number of a saved run"),
        (("--export", "."), "ends in ''"),
        (("--seconds", "nan"), "--seconds nan: not a number that has an end"),
        (("--warmup", "inf"), "--warmup inf"),
        (("--least-change", "nan"), "--least-change nan"),
        (("--size", "batch=16"), "batch sizes 4 contradict batch = 16"),
        (("--size", "m=16"), "linear_relu has no size called 'm'"),
        (("--device", "cup"), "--device"),
        (("--size", "batch"), "--size"),
    ],
)
def test_bench_wrong_call_is_status_2_and_measures_nothing(
    tessera: Any, words: tuple[str, ...], part: str
) -> None:
    said = tessera("bench", LINEAR, *QUICK, *words, "--json")
    assert said.status == 2
    error = said.json["error"]
    assert part in error["message"]
    assert not (Path(os.environ["TESSERA_DATA_DIR"]) / "bench.sqlite").exists()


def test_bench_of_nothing_is_status_2(tessera: Any) -> None:
    said = tessera("bench")
    assert said.status == 2
    assert "nothing to measure" in said.err


def test_bench_baseline_that_raises_is_told(tessera: Any) -> None:
    said = tessera("bench", LINEAR, *QUICK, "--baseline", "kernels.py:fails")
    assert said.status == 1
    assert "no luck" in said.err


def test_bench_exports_each_form(tessera: Any, project: Path) -> None:
    said = tessera("bench", LINEAR, *QUICK, "--export", "x.json", "--export", "x.csv", "--export", "x.md")
    assert said.status == 0
    assert json.loads((project / "x.json").read_text())["results"][0]["target"] == LINEAR
    with (project / "x.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["median_ms"]) > 0
    assert "| median_ms |" in (project / "x.md").read_text()


def test_bench_makes_the_folder_of_an_export(tessera: Any, project: Path) -> None:
    said = tessera("bench", LINEAR, *QUICK, "--export", "no/such/x.md")
    assert said.status == 0
    assert "| median_ms |" in (project / "no" / "such" / "x.md").read_text()


def test_bench_says_what_stands_for_an_option_of_another_command(tessera: Any) -> None:
    said = tessera("bench", LINEAR, "--repeat", "10")
    assert said.status == 2
    assert said.err.splitlines() == [
        "error: no such option: --repeat",
        "hint: --seconds says how long each batch size is measured: --seconds 5",
    ]


def test_bench_of_an_empty_batch_counts_no_items(tessera: Any) -> None:
    said = tessera("bench", LINEAR, *QUICK[:-2], "--size", "batch=0", "--json")
    assert said.status == 0
    (result,) = said.json["results"]
    (row,) = result["batches"]
    assert (row["batch"], row["per_second"], row["flops"]) == (0, 0.0, 0)
    assert "A batch of 0 has nothing to compute: it is the call alone that was measured." in result["notes"]


def test_bench_says_how_far_off_a_ratio_is(tessera: Any) -> None:
    said = tessera("bench", LINEAR, *QUICK, "--json")
    (row,) = said.json["results"][0]["batches"]
    low, high = row["speedup_interval"]
    assert low < row["speedup"] < high
    base, own = row["baseline"], row["timing"]
    assert low == pytest.approx(base["ci_low_ms"] / own["ci_high_ms"])
    assert high == pytest.approx(base["ci_high_ms"] / own["ci_low_ms"])
    assert re.search(r"\d ± \S+×", tessera("bench", LINEAR, *QUICK).out)


def test_bench_database_of_the_project_and_of_the_call(tessera: Any, project: Path) -> None:
    (project / "tessera.toml").write_text('[bench]\nhistory = "times.sqlite"\n')
    tessera("bench", LINEAR, *QUICK)
    assert len(History(project / "times.sqlite").runs()) == 1
    tessera("bench", LINEAR, *QUICK, "--database", "own.sqlite")
    assert len(History(project / "own.sqlite").runs()) == 1
    assert len(History(project / "times.sqlite").runs()) == 1


def test_bench_where_the_history_cannot_be_written_still_measures(tessera: Any, project: Path) -> None:
    (project / "bad.sqlite").write_text("this is no database, though it is long enough for one")
    said = tessera("bench", LINEAR, *QUICK, "--database", "bad.sqlite")
    assert said.status == 0
    assert "Median" in said.out
    assert "not saved" in said.err
    said = tessera("bench", LINEAR, *QUICK, "--database", "bad.sqlite", "--save", "x")
    assert said.status == 1
    assert "Median" in said.out
    assert "not a database" in said.err
    assert tessera("bench", "--history", "--database", "bad.sqlite").status == 1


def test_bench_compare_of_other_rows_shows_what_was_measured(tessera: Any) -> None:
    tessera("bench", LINEAR, *QUICK, "--save", "before")
    said = tessera("bench", LINEAR, *QUICK[:-1], "8", "--compare", "before")
    assert said.status == 2
    assert "Median" in said.out
    assert "none of the rows" in said.err


def test_bench_of_a_running_server(tessera: Any, project: Path) -> None:
    from tessera.serve import ProductionServer

    (project / "model.py").write_text(
        'import tessera as ts\n\n\n@ts.jit\ndef double(x: ts.Tensor[ts.f32, "batch", 4]):\n    return x * 2\n'
    )
    assert tessera("package", "build", "model.py", "--arch", "cpu", "-o", "model.tsd").status == 0
    with ProductionServer(project / "model.tsd", {"port": 0, "device": "reference"}) as server:
        words = ("bench", server.url, "-c", "1", "-c", "2", "--seconds", "0.1", "--warmup", "0")
        said = tessera(*words)
        assert said.status == 0
        assert all(len(line) <= 80 for line in said.out.splitlines())
        assert "Clients" in said.out
        assert "model double" in said.err
        rows = tessera(*words, "--compare", "last", "--json").json["comparison"]["changes"]
        assert [row["concurrency"] for row in rows] == [1, 2]
        assert "server" in tessera("bench", "--history").out
    said = tessera(*words)
    assert said.status == 1
    assert "connection refused" in said.err


SPECS = ("--spec", "x=f32[None,8]", "--spec", "W=f32[8,4]")
TIMES = ("--seconds", "0.02", "--warmup", "0", "-b", "4")


def test_bench_of_a_plain_function_draws_inputs_from_specs(tessera: Any) -> None:
    said = tessera("bench", "kernels.py:plain", *SPECS, *TIMES, "--json")
    assert said.status == 0, said.err
    result = said.json["results"][0]
    assert (result["target"], result["device"]) == ("kernels.py:plain", "python")
    assert result["batches"][0]["timing"]["median_ms"] > 0
    words = ("bench", "kernels.py:plain", *SPECS, *TIMES, "--baseline")
    assert tessera(*words, "kernels.py:slow").status == 0
    said = tessera(*words, "kernels.py:wrong")
    assert said.status == 1
    assert "Outputs differ from those of wrong" in said.err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("kernels.py:plain",), "no spec for argument 'x'"),
        (("kernels.py:plain", *SPECS, "--device", "reference"), "--device reference does not reach it"),
        (("kernels.py:plain", *SPECS, "--baseline", "numpy", "--size", "depth=3"), "no size called 'depth'"),
        (("kernels.py:number", *SPECS), "'number' is neither"),
        (("kernels.py:nothing",), "'nothing' is not there"),
    ],
)
def test_bench_of_what_is_no_target_is_told(tessera: Any, words: tuple[str, ...], part: str) -> None:
    said = tessera("bench", *words, *TIMES)
    assert said.status in (1, 2)
    assert part in said.err


@pytest.mark.parametrize(
    "words",
    [
        ("http://127.0.0.1:1", "--baseline", "numpy"),
        (LINEAR, "-c", "2"),
    ],
)
def test_bench_options_that_do_not_fit_the_target_are_status_2(tessera: Any, words: tuple[str, ...]) -> None:
    said = tessera("bench", *words)
    assert said.status == 2
    assert "server" in said.err


def test_bench_ends_on_ctrl_c_and_saves_nothing(project: Path) -> None:
    words = ["bench", LINEAR, "--seconds", "60", "--device", "reference", "-b", "4"]
    code = (
        "import signal, sys, threading\n"
        "import tessera.profiler.timing as timing\n"
        "from tessera.workbench.cli import main\n"
        "measured = timing.gc.disable\n"
        "def started():\n"
        "    measured()\n"
        "    threading.Timer(0.2, lambda: signal.raise_signal(signal.SIGINT)).start()\n"
        "timing.gc.disable = started\n"
        f"sys.exit(main({words!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert not (Path(os.environ["TESSERA_DATA_DIR"]) / "bench.sqlite").exists()


def test_bench_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom tessera.workbench.cli import main\nmain(['bench', '--help'])\n"
        "assert not {'numpy', 'sqlite3', 'numba', 'tessera.profiler.bench'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tessera bench" in done.stdout
