"""`tessera tune`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tessera.workbench.cli import main

from .conftest import Tessera

SOURCE = """\
from numba import cuda

import tessera as ts

BLOCK = 128


@ts.kernel(
    tune={"UNROLL": [1, 2], "BLOCK": [32, 128, 256]},
    where="BLOCK * UNROLL <= 256",
    grid=lambda n, BLOCK, UNROLL: ts.cdiv(n, BLOCK * UNROLL),
    block=lambda BLOCK: BLOCK,
)
def scale(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    first = cuda.blockIdx.x * BLOCK * UNROLL + cuda.threadIdx.x
    for k in range(UNROLL):
        i = first + k * BLOCK
        if i < x.shape[0]:
            y[i] = x[i] * 3


@ts.kernel(grid=1, block=32)
def plain(x: ts.Array[ts.f32, "n"]):
    x[cuda.threadIdx.x] = 1
"""


@pytest.fixture
def file(project: Path) -> str:
    (project / "tuned.py").write_text(SOURCE)
    return "tuned.py"


def test_a_sweep_is_a_table_of_80_columns(tessera: Tessera, file: str, project: Path) -> None:
    said = tessera("tune", f"{file}:scale", "--arch", "sm_90", "--size", "n=5000")
    assert said.status == 0
    lines = said.out.splitlines()
    assert lines[0] == "scale for sm_90, n=5000: predicted for H100 SXM (cost model 1)"
    assert max(map(len, lines)) <= 80
    assert "UNROLL=1 BLOCK=128 (own)" in said.out
    assert sum("BLOCK=" in line for line in lines) == 6
    assert lines[-1].startswith("best: UNROLL=")
    assert "5 of 5 configurations, 0 of them on record before" in said.err
    shown = tessera("tune", file, "--arch", "sm_90", "--show")
    assert shown.out == said.out
    assert (project / "autotune_cache.json").is_file()


def test_json_is_one_object_with_every_record(tessera: Tessera, file: str) -> None:
    sweep = tessera("tune", file, "--size", "n=300", "--budget", "3", "--json").json["sweeps"][0]
    assert (sweep["kernel"], sweep["target"], sweep["configurations"]) == ("scale", "sm_80", 5)
    assert sweep["reference"] == {"BLOCK": 128, "UNROLL": 1}
    assert len(sweep["records"]) == 3
    assert sweep["best"] == sweep["records"][0]
    assert sweep["best"]["bucket"] == {"n": 512}


def test_records_travel_as_t4(tessera: Tessera, file: str, project: Path) -> None:
    first = tessera("tune", file, "--size", "n=300", "--export", "t4.json", "--json").json
    results = json.loads((project / "t4.json").read_text())["results"]
    assert {r["invalidity"] for r in results} == {"correct"}
    for result in results:
        del result["tessera"]
    (project / "measured.json").write_text(json.dumps({"schema_version": "1.0.0", "results": results}))
    said = tessera("tune", file, "--import", "measured.json", "--show", "--cache", "other.json", "--json")
    (sweep,) = said.json["sweeps"]
    assert {r["kind"] for r in sweep["records"]} == {"measured"}
    assert sweep["best"]["cost_ms"] == first["sweeps"][0]["best"]["cost_ms"]


def test_a_lock_holds_the_choice(tessera: Tessera, file: str, project: Path) -> None:
    assert tessera("tune", file, "--size", "n=300", "--lock", "tessera.lock").status == 0
    data = (project / "tessera.lock").read_bytes()
    (pick,) = json.loads(data)["picks"]
    assert pick["kernel"] == "scale"
    assert tessera("tune", file, "--size", "n=300", "--lock", "tessera.lock").status == 0
    assert (project / "tessera.lock").read_bytes() == data


LAYERS = """\
import tessera as ts


@ts.jit
def scaled(x: ts.Tensor[ts.f32, "n"]):
    return ts.exp(x) * 2


@ts.jit
def squared(x: ts.Tensor[ts.f32, 8, 8]):
    return ts.matmul(x, x)
"""


def test_a_function_is_tuned_over_its_tiles(tessera: Tessera, project: Path) -> None:
    (project / "layers.py").write_text(LAYERS)
    words = ("layers.py:scaled", "--size", "n=5000", "--budget", "5")
    said = tessera("tune", *words, "--lock", "tessera.lock")
    assert said.status == 0
    assert said.out.splitlines()[0].startswith("scaled.0_exp_mul for sm_80, n=5000: predicted for A100")
    assert max(map(len, said.out.splitlines())) <= 80
    assert "the compiler's own" in said.out
    assert "THREADS=" in said.out
    assert "5 of 21 configurations, 0 of them on record before" in said.err
    sweep = tessera("tune", *words, "--json").json["sweeps"][0]
    assert sweep["recalled"] == 5
    assert sweep["reference"] == {"THREADS": "auto", "PER_THREAD": "auto"}
    (pick,) = json.loads((project / "tessera.lock").read_bytes())["picks"]
    assert (pick["kernel"], pick["bucket"]) == ("scaled.0_exp_mul", {"n": 8192})
    assert tessera("tune", "layers.py", "--show").out == said.out
    nothing = tessera("tune", "layers.py:squared")
    assert nothing.status == 2
    assert "no step of a function has tiles to choose" in " ".join(nothing.err.split())


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["kernels.py"], 2, "no kernel names values to tune"),
        (["tuned.py", "--strategy", "annealing"], 2, "no strategy 'annealing'"),
        (["tuned.py", "--arch", "cpu"], 2, "tuned for a GPU"),
        (["tuned.py", "--arch", "sm_87"], 2, "no datasheet"),
        (["tuned.py", "--device", "cpu"], 2, "emulator or cuda:N"),
        (["tuned.py", "--device", "cuda:0"], 1, "cuda:0: "),
        (["tuned.py", "--show"], 2, "there is no file autotune_cache.json: no records of scale"),
        (["tuned.py", "--size", "m=3"], 2, "no size called 'm'"),
        (["tuned.py", "--cache", "."], 2, "--cache .: it is a folder"),
        (["tuned.py", "--lock", "."], 2, "--lock .: it is a folder"),
        (["tuned.py", "--lock", "one", "--export", "one"], 2, "name one file"),
        (["tuned.py", "--show", "--cache", "."], 2, "cannot read .: Is a directory"),
        (["tuned.py", "--export", "kernels.py/t4.json"], 1, "kernels.py is no folder"),
        (["tuned.py", "--import", "away.json"], 2, "--import away.json: there is no such file"),
        (["tuned.py", "--cache", "kernels.py"], 2, "kernels.py is damaged"),
        (["tuned.py", "--import", "kernels.py"], 2, "no T4 results file"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(
    tessera: Tessera, file: str, words: list[str], status: int, message: str
) -> None:
    said = tessera("tune", *words)
    assert message in " ".join(said.err.split())
    assert said.status == status
    assert "hint:" in said.err


def test_sizes_that_launch_nothing_have_no_best(tessera: Tessera, file: str) -> None:
    said = tessera("tune", file, "--size", "n=0", "--budget", "2")
    assert said.status == 0
    assert "best:" not in said.out
    assert "with these sizes no kernel is launched: nothing was judged" in said.err


def test_missing_folders_of_files_that_are_written_are_made(
    tessera: Tessera, file: str, project: Path
) -> None:
    said = tessera("tune", file, "--size", "n=300", "--cache", "a/b/cache.json", "--lock", "c/tessera.lock",
                   "--export", "d/t4.json", "--budget", "2")  # fmt: skip
    assert said.status == 0
    for name in ("a/b/cache.json", "c/tessera.lock", "d/t4.json"):
        assert json.loads((project / name).read_text())


@pytest.mark.parametrize("option", ["--cache", "--lock", "--export"])
def test_a_full_disk_is_work_that_failed_not_a_wrong_call(file: str, project: Path, option: str) -> None:
    # The limit stands for the disk: no file of this process grows beyond it.
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "from tessera.workbench.cli import main; import tessera.workbench.tuning; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200)); sys.exit(main(sys.argv[1:]))"
    )
    assert main(["tune", file, "--size", "n=300", "--budget", "2"]) == 0
    command = [sys.executable, "-c", code, "tune", file, "--size", "n=300", "--budget", "2", "--show"]
    if option == "--cache":
        command[-1:] = []
    said = subprocess.run([*command, option, "new.json"], capture_output=True, text=True, check=False)
    assert said.returncode == 1, said.stderr
    assert "error: cannot write new.json: File too large" in said.stderr
    assert "hint:" in said.stderr
    assert not (project / "new.json").exists()
