"""`tessera profile --device cuda:0`, on a GPU that a stand-in plays and without one."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.stand_in import IdleGpu
from tests.workbench.test_profile import SOURCE

from .conftest import Tessera


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "slow.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU of sm_80 on which every piece takes a microsecond."""
    for room in ("cuda_driver", "cuda"):
        monkeypatch.setattr(f"tessera.runtime.{room}.open_driver", lambda index: IdleGpu())


def test_every_copy_and_launch_is_timed_in_order(tessera: Tessera, folder: Path, gpu: None) -> None:
    said = tessera("profile", "slow.py:scores", "--size", "batch=8", "--device", "cuda:0", "--json")
    assert said.status == 0, said.err
    times = said.json["times"]
    assert [(p["kind"], p["step"]) for p in times["pieces"]] == [
        ("allocate", None), ("upload", None), ("upload", None), ("kernel", 0), ("kernel", 1),
        ("download", None),
    ]  # fmt: skip
    assert times["label"] == "CUDA events"
    assert (times["kernels_ms"], times["copies_ms"], times["empty_ms"]) == (0.002, 0.003, 0.001)
    assert times["overhead_ms"] == pytest.approx(times["whole_ms"] - 0.005)
    upload = times["pieces"][1]
    assert (upload["name"], upload["size_bytes"], upload["calls"]) == ("x", 8 * 20 * 4, 20)
    assert upload["gbps"] == pytest.approx(0.64)
    assert all(step["median_ms"] == 0.001 for step in said.json["steps"])


@pytest.mark.parametrize("width", [80, 160])
def test_table_says_what_is_overhead(
    tessera: Tessera, folder: Path, gpu: None, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    said = tessera("profile", "slow.py:saxpy", "--device", "cuda:0", "--repeat", "3")
    assert said.status == 0
    text = " ".join(said.out.split())
    assert "saxpy on idle GPU, compute capability 8.0: measured by CUDA events, 3 executions" in text
    assert "the kernels take 1 µs and the copies 4 µs" in text
    assert "size n = 65536" in said.err
    assert max(map(len, said.out.splitlines())) <= width
    (row,) = [line for line in said.out.splitlines() if line.split()[:2] == ["0", "saxpy"]]
    assert row.split()[2:6] == ["1", "µs", "1", "µs"]


def test_csv_has_the_median_of_each_step(tessera: Tessera, folder: Path, gpu: None) -> None:
    said = tessera("profile", "slow.py:saxpy", "--device", "cuda:0", "--csv")
    (row,) = csv.DictReader(io.StringIO(said.out))
    assert (row["name"], row["calls"], row["median_ms"]) == ("saxpy", "20", "0.001")


def test_missing_gpu_is_an_error_that_says_what_works(tessera: Tessera, folder: Path) -> None:
    said = tessera("profile", "slow.py:saxpy", "--device", "cuda:7")
    assert said.status == 1
    assert "cuda:7 cannot be measured: there is no" in said.err
    hint = " ".join(said.err.split())
    assert "tessera profile slow.py:saxpy counts each line in the emulator" in hint
    assert "--device cpu" in hint
    # Nothing was compiled for a CPU that nobody asked for.
    assert said.out == ""


def test_missing_cupy_is_named_with_its_extra(
    tessera: Tessera, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr("tessera.runtime.cuda_driver.gpu_count", lambda: 1)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cupy" else find(name))
    said = tessera("profile", "slow.py:saxpy", "--device", "cuda:0")
    assert said.status == 1
    assert "pip install 'tessera[cuda]'" in said.err


ENDLESS = """\
from numba import cuda
import tessera as ts


@ts.kernel(grid=lambda n: 1, block=32)
def endless(x: ts.Array[ts.i32, "n"]):
    while x[0] == x[0]:
        x[1] += 1
"""


def test_kernel_that_does_not_end_is_stopped_by_its_steps(tessera: Tessera, folder: Path) -> None:
    (folder / "endless.py").write_text(ENDLESS)
    np.save(folder / "x.npy", np.zeros(8, np.int32))
    said = tessera("profile", "endless.py", "--input", "x.npy", "--steps", "500", "--arch", "sm_80")
    assert said.status == 1
    assert "endless" in said.err
    assert "profile takes it too" in " ".join(said.err.split())
    assert (
        tessera("profile", "slow.py:saxpy", "--size", "n=64", "--steps", "500", "--arch", "sm_80").status == 0
    )
    refused = tessera("profile", "slow.py:saxpy", "--device", "cpu", "--steps", "5")
    assert (refused.status, "--steps: cpu does not count them" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "cpu", "--nvtx"], "--nvtx: cpu has no launches to mark"),
        (["--nvtx"], "--nvtx: emulator has no launches to mark"),
        (["--device", "cuda:0", "--arch", "sm_90"], "--arch: cuda:0 runs code for what it is"),
        (["--device", "cuda:0", "--steps", "5"], "--steps: cuda:0 does not count them"),
        (["--device", "cuda:x"], "--device: unknown device 'cuda:x'"),
        (["--flame", "out", "--trace", "out"], "--flame and --trace name one file"),
        (["--flame", "."], "--flame .: it is a folder"),
        (["--repeat", "0"], "--repeat"),
    ],
)
def test_options_that_do_not_fit_the_device_are_refused(
    tessera: Tessera, folder: Path, gpu: None, options: list[str], message: str
) -> None:
    said = tessera("profile", "slow.py:saxpy", *options)
    assert said.status == 2
    assert message in " ".join(said.err.split())
    assert said.out == ""
