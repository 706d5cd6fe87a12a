"""`tessera profile --device cuda:0` with an `ncu` that replays, on a GPU that a stand-in plays."""

import sys
from pathlib import Path

import pytest

from tessera.compiler.sass import disassemble
from tessera.profiler.ncu import NcuProfile
from tessera.profiler.ncu_csv import NcuLaunch
from tessera.profiler.ncu_details import NcuFinding
from tessera.profiler.ncu_rules import advise_measured
from tessera.profiler.source_lines import SourceFiles
from tessera.workbench.profile_ncu import HardwareCounts, counters_data, print_counters
from tests.runtime.stand_in import IdleGpu
from tests.workbench.test_profile import SOURCE

from .conftest import Tessera

sys.path.append(str(Path(__file__).parents[1] / "profiler"))
from ncu_replay import install, sass_page, source_page


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with slow.py, an idle GPU, and an ncu on the path that answers for saxpy."""
    (tmp_path / "slow.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    for room in ("cuda_driver", "cuda"):
        monkeypatch.setattr(f"tessera.runtime.{room}.open_driver", lambda index: IdleGpu())
    lines = {
        (8, "    i = cuda.grid(1)"): [(10, 2048)],
        (10, "        y[i] = float32(2.5) * x[i] + y[i]"): [(400, 2048), (1200, 2048)],
    }
    page = source_page("saxpy", str(tmp_path / "slow.py"), lines)
    ncu = install(tmp_path / "bin", {"saxpy": "copied_4"}, page, cc="8.0")
    monkeypatch.setenv("PATH", f"{ncu.parent}:/usr/bin:/bin")
    return tmp_path


@pytest.mark.parametrize("width", [80, 160])
def test_counters_and_lines_stand_below_the_times(
    tessera: Tessera, folder: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    said = tessera("profile", "slow.py:saxpy", "--device", "cuda:0")
    assert said.status == 0, said.err
    assert "counted by Nsight Compute 2025.1.1.0, clocks as they are, one execution" in said.out
    (launch,) = [line for line in said.out.splitlines() if line.split()[:2] == ["0", "saxpy"]][1:]
    assert launch.split()[2:] == ["2.85", "µs", "14", "%", "N/A", "1000", "KiB", "N/A", "N/A", "N/A"]
    assert "where the work is, by samples" in said.out
    (line,) = [line for line in said.out.splitlines() if "slow.py:10" in line]
    assert line.split()[:4] == ["99", "%", "99", "%"]
    assert "of 1,610 samples warps waited for long_sb 50 %, wait 50 %" in " ".join(said.out.split())
    assert max(map(len, said.out.splitlines())) <= width


def test_json_and_folded_stacks_have_the_samples(tessera: Tessera, folder: Path) -> None:
    said = tessera("profile", "slow.py:saxpy", "--device", "cuda:0", "--json", "--flame", "out.folded")
    found = said.json["ncu"]
    assert (found["label"], found["version"], found["unknown"]) == (
        "counted by Nsight Compute",
        "2025.1.1.0",
        [],
    )
    assert found["launches"][0]["metrics"]["gpu__time_duration.sum"] == 2848
    assert [(line["line"], line["samples"], line["executed"]) for line in found["lines"]] == [
        (8, 10, 2048),
        (10, 1600, 4096),
    ]
    assert (folder / "out.folded").read_text() == ("saxpy;saxpy;slow.py:10 1600\nsaxpy;saxpy;slow.py:8 10\n")


def test_the_same_program_runs_on_the_same_inputs_below_ncu(
    tessera: Tessera, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCU_REPLAY", "run")
    # A file of the user's called like a module is not imported for it.
    (folder / "statistics.py").write_text("raise RuntimeError('the wrong module')")
    (folder / "inspect.py").write_text("raise RuntimeError('the wrong module')")
    # The replay runs what ncu would run, in the emulator: the package, its program and its inputs are whole.
    said = tessera("profile", "slow.py:saxpy", "--size", "n=300", "--device", "cuda:0", "--ncu", "--json")
    assert said.status == 0, said.err
    assert said.json["ncu"]["launches"]


def test_without_permission_the_times_remain_and_the_reason_is_said(
    tessera: Tessera, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCU_REPLAY", "permission")
    said = tessera("profile", "slow.py:saxpy", "--device", "cuda:0")
    assert said.status == 0
    assert "measured by CUDA events" in said.out
    assert "warning: no counters: ncu may not read this GPU's counters (ERR_NVGPUCTRPERM)" in said.err
    assert "NVreg_RestrictProfilingToAdminUsers=0" in said.err
    asked = tessera("profile", "slow.py:saxpy", "--device", "cuda:0", "--ncu")
    assert asked.status == 1
    assert "ERR_NVGPUCTRPERM" in asked.err


def test_no_ncu_is_not_called_when_nobody_wants_it(
    tessera: Tessera, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tessera("profile", "slow.py:saxpy", "--device", "cuda:0", "--no-ncu", "--json")
    assert said.json["ncu"] is None
    assert not (folder / "bin" / "calls").exists()
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    quiet = tessera("profile", "slow.py:saxpy", "--device", "cuda:0")
    assert (quiet.status, "ncu" in quiet.err) == (0, False)
    asked = tessera("profile", "slow.py:saxpy", "--device", "cuda:0", "--ncu")
    assert asked.status == 1
    assert "ncu is not on the path" in asked.err


def test_ncu_away_from_a_gpu_is_refused(tessera: Tessera, folder: Path) -> None:
    for device in ("emulator", "cpu"):
        said = tessera("profile", "slow.py:saxpy", "--device", device, "--ncu")
        assert said.status == 2
        assert f"--ncu: {device} has no hardware counters" in said.err


def test_flame_of_the_emulator_is_a_table_and_a_file(tessera: Tessera, folder: Path) -> None:
    command = ("profile", "slow.py:columns", "--size", "n=64", "--arch", "sm_80")
    said = tessera(*command, "--flame", "out.folded")
    assert said.status == 0
    assert "where the work is, by instructions" in said.out
    (row,) = [line for line in said.out.splitlines() if "slow.py:19  " in line]
    # The share is that of the table of lines.
    assert row.split()[:4] == ["39", "%", "39", "%"]
    stacks = dict(line.rsplit(" ", 1) for line in (folder / "out.folded").read_text().splitlines())
    program = tessera(*command, "--json").json["programs"][0]
    assert sum(map(int, stacks.values())) == program["kernels"][0]["executed"]
    line = next(each for each in program["kernels"][0]["lines"] if each["line"] == 19)
    assert int(stacks["columns;columns;slow.py:19"]) == line["executed"]
    assert tessera(*command, "--flame", "no/such/out.folded").status == 0
    assert (folder / "no" / "such" / "out.folded").read_bytes() == (folder / "out.folded").read_bytes()


def test_rules_speak_of_lines_that_the_machine_code_names(tessera: Tessera, folder: Path) -> None:
    """The page is of the code that runs, with numbers of threads that walk down columns."""
    assert tessera("compile", "slow.py:columns", "--arch", "sm_80", "--lineinfo", "-o", "out").status == 0
    code = disassemble((folder / "out" / "sm_80" / "columns.cubin").read_bytes(), "columns")
    page = []
    for each in code:
        numbers = {"# Samples": 1, "Instructions Executed": 128, "Thread Instructions Executed": 4096,
                   "Predicated-On Thread Instructions Executed": 4096}  # fmt: skip
        if each.opcode.startswith("LDG"):
            numbers |= {"# Samples": 900, "L1 Tag Requests Global": 128, "stall_long_sb": 800}
            numbers |= {"L2 Theoretical Sectors Global": 4096, "L2 Theoretical Sectors Global Ideal": 512}
        page.append((each.offset, each.text, numbers))
    install(folder / "bin", {"columns": "copied_4"}, "", cc="8.0")
    (folder / "bin" / "sass.csv").write_text(sass_page("columns", page))
    command = ("profile", "slow.py:columns", "--size", "n=64", "--device", "cuda:0")
    said = tessera(*command)
    assert said.status == 0, said.err
    assert "line 19: x[i, j] loads 32 sectors per request" in " ".join(said.out.split())
    (row,) = [line for line in said.out.splitlines() if "slow.py:19  " in line]
    assert float(row.split()[0]) > 90
    found = tessera("profile", "slow.py:columns", "--size", "n=64", "--device", "cuda:0", "--json").json[
        "ncu"
    ]
    advice = found["advice"][0]
    assert (advice["line"], advice["label"]) == (
        19,
        "counted by Nsight Compute on idle GPU, compute capability 8.0",
    )
    assert Path(advice["file"]) == folder / "slow.py"
    line = next(each for each in found["lines"] if each["line"] == 19)
    assert line["source"].strip() == "tile[tx, ty] = x[i, j]"
    assert sum(each["instructions"] for each in found["lines"]) == len(code)


@pytest.mark.parametrize("width", [80, 160])
def test_rules_of_nsight_compute_stand_beside_ours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    executed = {"smsp__inst_executed.sum": 4e6, "sm__inst_executed_pipe_tensor.sum": 0.0}
    launch = NcuLaunch(0, "scale", "(64, 1, 1)", "(100, 1, 1)", executed, "9.0")
    text = "The theoretical occupancy (12.5 %) is limited by the registers of the kernel"
    findings = (
        NcuFinding("scale", "Occupancy", "TheoreticalOccupancy", "OPT", text, 87.5, "local"),
        NcuFinding("scale", "Launch", "Words", "INF", "explains what is meant"),
    )
    profile = NcuProfile("2025.1", (launch,), (), (), findings)
    files = SourceFiles()
    counts = HardwareCounts(profile, files, advise_measured((), files, "on a stub", profile.launches))
    print_counters(counts)
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= width
    words = " ".join(said.split())
    # Ours first, from the launch alone: 64 blocks for 132 multiprocessors, of 100 threads.
    assert "no line known: " in words
    assert "multiple of 32" in words
    assert f"1. Occupancy: {text} (estimated speedup: 87.5 %, local)" in words
    assert "explains" not in words
    data = counters_data(counts)
    assert data is not None
    assert [(each["rule"], each["kind"]) for each in data["rules"]] == [
        ("TheoreticalOccupancy", "OPT"), ("Words", "INF"),
    ]  # fmt: skip
    assert {each["kind"] for each in data["advice"]} == {"partial-warps", "few-blocks"}
