"""`tessera profile`."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from .conftest import Tessera

SOURCE = """\
from numba import cuda, float32

import tessera as ts


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def saxpy(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = float32(2.5) * x[i] + y[i]


@ts.kernel(grid=lambda n: (ts.cdiv(n, 32), ts.cdiv(n, 32)), block=(32, 32))
def columns(x: ts.Array[ts.f32, "n", "n"], y: ts.Array[ts.f32, "n", "n"]):
    tile = cuda.shared.array((32, 32), float32)
    i, j = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    if i < x.shape[0] and j < x.shape[1]:
        tile[tx, ty] = x[i, j]
        cuda.syncthreads()
        if tx < 8:
            y[i, j] = tile[tx, ty] * float32(0.5)


@ts.jit
def scores(x: ts.Tensor[ts.f32, "batch", 20], w: ts.Tensor[ts.f32, 20, 30]):
    return ts.softmax(ts.matmul(x, w), axis=-1)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with slow.py, which is the current one."""
    (tmp_path / "slow.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_worst_lines_come_first_in_plain_words(tessera: Tessera, folder: Path) -> None:
    said = tessera("profile", "slow.py:columns", "--size", "n=64", "--arch", "sm_80")
    assert said.status == 0
    assert said.out.startswith("columns: emulated, PTX level (sm_80 ptx, n = 64)")
    assert (
        "1. line 19: x[i, j] loads 32 sectors per request where 4 suffice\n"
        "   threads of a warp walk down a column; make the fastest index threadIdx.x, or\n"
        "   transpose through shared memory\n"
        "   predicted: at most 70 % of the kernel's sectors of global memory would go\n"
    ) in said.out
    assert "line 19: tile[tx, ty] stores in 32 wavefronts per request where 1 suffices\n" in said.out
    assert "line 22: tile[tx, ty] loads in 8 wavefronts per request where 1 suffices" in said.out
    assert "drawn at random (--seed 0): x, y" in said.err


def test_kernel_without_faults_has_nothing_said_of_it(tessera: Tessera, folder: Path) -> None:
    said = tessera("profile", "slow.py:saxpy", "--arch", "sm_80")
    assert "no line stands out" in said.out
    assert "no line known: " not in said.out
    assert "size n = 65536" in said.err
    # One kernel of 256 blocks, at 4 sectors per request, and its full occupancy.
    assert "saxpy   sm_80" in said.out
    assert "100 %  warps" in said.out


MERGED = """\
from numba import cuda, float32

import tessera as ts


@ts.kernel(grid=lambda n: ts.cdiv(n, 128), block=128)
def sides(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        j = (i * 33) % x.size
        if i % 2 == 0:
            y[i] = x[j] * float32(2.0)
        else:
            y[i] = x[j] / float32(3.0)
"""


def test_scattered_access_merged_from_two_lines_is_told_without_a_line(
    tessera: Tessera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "merged.py").write_text(MERGED)
    monkeypatch.chdir(tmp_path)
    said = tessera("profile", "merged.py", "--size", "n=4096", "--arch", "sm_80")
    # LLVM loads x[j] once, in front of both sides, and gives the load line 0.
    words = " ".join(said.out.split())
    assert (
        "line 7: accesses that no one line is known of take 32 sectors per request where 4 suffice" in words
    )
    assert "the compiler merged them from several lines, such as both sides of an if" in words
    assert "predicted: at most 70 % of the kernel's sectors of global memory would go" in words
    found = tessera("profile", "merged.py", "--size", "n=4096", "--arch", "sm_80", "--json").json
    (one,) = found["programs"][0]["advice"]
    assert (one["kind"], one["line"], Path(one["file"]).name) == ("merged-accesses", 7, "merged.py")
    said = tessera("report", "merged.py", "--size", "n=4096", "--arch", "sm_80", "--no-diagnostics", "-o",
                   "merged.html")  # fmt: skip
    assert said.status == 0
    assert "accesses that no one line is known of take 32 sectors" in Path("merged.html").read_text()


def test_findings_of_code_without_lines_name_none(
    tessera: Tessera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "merged.py").write_text(MERGED)
    monkeypatch.chdir(tmp_path)
    assert tessera("package", "build", "merged.py:sides", "--arch", "sm_80", "-o", "merged.tsd").status == 0
    said = tessera("profile", "merged.tsd", "--size", "n=4096")
    words = " ".join(said.out.split())
    assert "no line known: accesses that no one line is known of take" in words
    assert "compile it with them (lineinfo), or profile its source" in words
    report = tessera("report", "merged.tsd", "--size", "n=4096", "--no-diagnostics", "-o", "m.html")
    assert report.status == 0
    assert "accesses that no one line is known of take" in Path("m.html").read_text()


@pytest.mark.parametrize("width", [80, 160])
def test_tables_fit_the_terminal(
    tessera: Tessera, folder: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = tessera("profile", "slow.py:columns", "--size", "n=64", "--arch", "sm_80").out.splitlines()
    assert max(map(len, lines)) <= width
    (row,) = [line for line in lines if line.lstrip().startswith("19 ")]
    # Numbers stay whole where the source is cut.
    assert row.split()[:6] == ["19", "39", "%", "32.0", "32/4", "3,968"]
    assert ("tile[tx, ty] = x[i, j]" in row) == (width == 160)


@pytest.mark.parametrize("width", [80, 160])
def test_kernels_with_long_names_keep_their_numbers(
    tessera: Tessera, folder: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "slow.py").write_text(SOURCE.replace("columns", "columns_of_a_matrix_that_is_read_by_threads"))
    monkeypatch.setenv("COLUMNS", str(width))
    said = tessera("profile", "slow.py:columns_of_a_matrix_that_is_read_by_threads", "--size", "n=64",
                   "--arch", "sm_80")  # fmt: skip
    lines = said.out.splitlines()
    assert max(map(len, lines)) <= width
    heads = " ".join(line for line in lines if line.startswith(" Kernel"))
    assert "…" not in heads
    for title in ("Launches", "Instructions", "Barriers", "Sectors/req.", "FLOP/B", "Limited by"):
        assert title in heads


def test_sizes_that_launch_nothing_are_said_to(tessera: Tessera, folder: Path) -> None:
    said = tessera("profile", "slow.py:saxpy", "--size", "n=0", "--arch", "sm_80")
    assert said.status == 0
    words = " ".join(said.out.split())
    assert "no kernel is launched: there is nothing to count and nothing to judge" in words
    assert "no line stands out" not in words
    assert "what limits it" not in words
    silent = tessera("profile", "slow.py:saxpy", "--size", "n=0", "--arch", "sm_80", "--json")
    assert silent.json["programs"][0]["kernels"] == []
    assert "saxpy: with these sizes no kernel is launched" in silent.err


def test_the_two_predictions_say_what_is_in_them(tessera: Tessera, folder: Path) -> None:
    (folder / "copy.py").write_text(COPY)
    words = " ".join(tessera("profile", "copy.py", "--size", "n=4096", "--arch", "sm_90").out.split())
    assert "least time at full rates, from datasheets, without launches and latency" in words
    assert "with 2 µs a launch and the blocks and warps that it has" in words
    # What computes nothing takes no time for it: that is not a time.
    assert "H100 SXM – 9.78 ns" in words
    assert " 0 ns" not in words


COPY = """\
from numba import cuda

import tessera as ts


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def copy(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = x[i]
"""


def test_json_has_every_line_and_every_metric(tessera: Tessera, folder: Path) -> None:
    said = tessera("profile", "slow.py:saxpy", "--size", "n=4096", "--arch", "sm_80", "--json")
    (program,) = said.json["programs"]
    assert (program["name"], program["label"], program["target"]) == (
        "saxpy",
        "emulated, PTX level",
        "sm_80 ptx",
    )
    (kernel,) = program["kernels"]
    assert kernel["launches"] == [{"grid": [16, 1, 1], "block": [256, 1, 1], "shared_bytes": 0}]
    assert kernel["flops"] == {"fp32": 8192}
    assert kernel["metrics"]["l1tex__average_t_sectors_per_request_pipe_lsu_mem_global_op_ld.ratio"] == 4
    line = next(line for line in kernel["lines"] if line["line"] == 10)
    assert line["source"].strip() == "y[i] = float32(2.5) * x[i] + y[i]"
    assert Path(line["file"]) == folder / "slow.py"
    assert line["memory"]["global"]["requests"] == 3 * 4096 // 32
    assert sum(each["executed"] for each in kernel["lines"]) <= kernel["executed"]
    (held,) = program["occupancy"]
    assert (held["target"], held["occupancy"]["ratio"]) == ("sm_80", 1.0)
    h100 = next(p for p in program["predicted"] if p["gpu"] == "H100 SXM")
    # Three times 16 KiB at 3.35 TB/s.
    assert h100["worst_memory_ms"] == pytest.approx(3 * 16384 / 3.35e12 * 1e3)
    assert (h100["bound"], h100["label"]) == ("memory", "predicted from the datasheet")


def test_csv_has_one_row_per_line(tessera: Tessera, folder: Path) -> None:
    said = tessera("profile", "slow.py:saxpy", "--size", "n=1000", "--arch", "sm_80", "--csv")
    rows = list(csv.DictReader(io.StringIO(said.out)))
    work = next(row for row in rows if row["line"] == "10")
    assert (work["kernel"], work["flops"], work["source"]) == (
        "saxpy",
        "2000",
        "y[i] = float32(2.5) * x[i] + y[i]",
    )
    assert int(work["global_requests"]) == 3 * 32


def test_function_is_counted_kernel_by_kernel(tessera: Tessera, folder: Path) -> None:
    said = tessera("profile", "slow.py:scores", "--size", "batch=8", "--arch", "sm_80", "--json")
    (program,) = said.json["programs"]
    assert [k["name"].rsplit("_", 1)[1] for k in program["kernels"]] == ["matmul", "softmax"]
    assert program["kernels"][0]["flops"]["fp32"] >= 2 * 8 * 20 * 30
    text = tessera("profile", "slow.py:scores", "--size", "batch=8", "--arch", "sm_80").out
    assert "of its instructions are in code that the compiler wrote" in text


def test_package_is_counted_without_its_source(tessera: Tessera, folder: Path) -> None:
    assert tessera("package", "build", "slow.py:saxpy", "--arch", "sm_80", "-o", "slow.tsd").status == 0
    said = tessera("profile", "slow.tsd", "--size", "n=512")
    assert said.status == 0
    assert "saxpy: emulated, PTX level (sm_80 ptx, n = 512)" in said.out
    assert "saxpy has no line information" in said.out


def test_steps_on_the_cpu_are_measured(tessera: Tessera, folder: Path) -> None:
    said = tessera("profile", "slow.py:scores", "--device", "cpu", "--repeat", "3", "--json")
    assert said.status == 0
    assert (said.json["label"], said.json["executions"]) == ("measured", 3)
    assert all(step["calls"] == 3 and step["mean_ms"] > 0 for step in said.json["steps"])
    text = tessera("profile", "slow.py:scores", "--device", "cpu", "--repeat", "2").out
    assert "measured, 2 executions, median" in " ".join(text.split())
    rows = list(csv.DictReader(io.StringIO(
        tessera("profile", "slow.py:scores", "--device", "cpu", "--repeat", "2", "--csv").out
    )))  # fmt: skip
    assert {row["calls"] for row in rows} == {"2"}


@pytest.mark.parametrize("width", [80, 160])
def test_rules_are_listed_with_their_sources(
    tessera: Tessera, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    said = tessera("profile", "--rules")
    assert said.status == 0
    assert max(map(len, said.out.splitlines())) <= width
    assert "needless-barriers" in said.out
    assert "Best Practices Guide" in said.out
    rules = tessera("profile", "--rules", "--json").json["rules"]
    assert said.out.startswith(f"{len(rules)} rules")
    first = rules[0]
    assert (first["name"], first["resource"]) == ("uncoalesced-loads", "sectors of global memory")
    assert first["source"]["url"].startswith("https://docs.nvidia.com/")
    assert "global_ld_sectors" in first["needs"]


@pytest.mark.parametrize(
    ("arguments", "status", "message", "hint"),
    [
        (["slow.py:saxpi"], 2, "'saxpi' is not there in slow.py", "did you mean 'saxpy'?"),
        (["missing.py"], 2, "there is no file missing.py", ""),
        (["slow.py:saxpy", "--size", "m=3"], 2, "there is no size called 'm'", "sizes: n"),
        (["slow.py:saxpy", "--arch", "cpu"], 2, "the emulator runs GPU code", "--arch sm_80"),
        (["slow.py", "--input", "x.npy"], 2, "slow.py has 3 things to check", "name one"),
        (["slow.py:saxpy", "--input", "x.npy"], 1, "input 'x' of shape (3, 3): has 2 axes", "f32(n)"),
        (["slow.py:saxpy", "--json", "--csv"], 2, "--json and --csv cannot be written to one stream", "one"),
        (["slow.py:saxpy", "--device", "tpu"], 2, "--device", "cpu"),
        ([], 2, "Missing argument 'FILE[:NAME]|PKG'", "tessera profile kernels.py:saxpy"),
        (["--rules", "--csv"], 2, "--rules has no form as CSV", "--json"),
        (["slow.py", "--rules"], 2, "--rules profiles nothing", "tessera profile --rules"),
    ],
)  # fmt: skip
def test_calls_that_cannot_be_meant_say_so(
    tessera: Tessera, folder: Path, arguments: list[str], status: int, message: str, hint: str
) -> None:
    np.save(folder / "x.npy", np.zeros((3, 3), np.float32))
    said = tessera("profile", *arguments)
    assert said.status == status
    text = said.err if "--json" not in arguments else said.out + said.err
    assert message in text
    assert hint in text


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--roofline", "slow.py:scores"], "missing argument 'TARGET'",
         "--roofline took slow.py:scores for its value; give it one: --roofline GPU slow.py:scores"),
        (["slow.py:scores", "--roofline"], "'--roofline' requires an argument", "tessera inspect --help"),
        (["--arch", "sm_80"], "missing argument 'TARGET'", "hint: tessera inspect --help"),
    ],
)  # fmt: skip
def test_option_without_its_value_is_told_from_a_target_left_out(
    tessera: Tessera, folder: Path, arguments: list[str], message: str, hint: str
) -> None:
    said = tessera("inspect", *arguments)
    assert said.status == 2
    assert message in said.err
    assert hint in " ".join(said.err.split())


def test_package_for_the_cpu_alone_says_how_to_measure_it(tessera: Tessera, folder: Path) -> None:
    assert tessera("package", "build", "slow.py:scores", "--arch", "cpu", "-o", "cpu.tsd").status == 0
    said = tessera("profile", "cpu.tsd")
    assert said.status == 1
    assert "program 'scores' has no PTX to emulate; it has code for: cpu" in said.err
    assert "or measure it: --device cpu" in said.err
    assert tessera("profile", "cpu.tsd", "--device", "cpu", "--repeat", "1").status == 0
    assert "leave --arch out" in tessera("profile", "cpu.tsd", "--arch", "sm_80").err


SERIES = """\
from numba import cuda, float32

import tessera as ts


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def series(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        total = float32(0)
        for _ in range(2000):
            total = total * x[i] + float32(1)
        y[i] = total
"""


def test_launches_are_judged_for_the_architecture_that_was_counted(tessera: Tessera, folder: Path) -> None:
    (folder / "series.py").write_text(SERIES)
    said = tessera("profile", "series.py", "--size", "n=2048", "--arch", "sm_80", "--arch", "sm_90")
    words = " ".join(said.out.split())
    assert "series: emulated, PTX level (sm_90 ptx" in words
    assert "8 blocks keep 8 of the 132 multiprocessors of sm_90 busy" in words
