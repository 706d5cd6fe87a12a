"""`tessera profile --trace`, of the emulator, the CPU and a GPU that a stand-in plays."""

import sys
from pathlib import Path

import pytest

from tests.runtime.stand_in import IdleGpu
from tests.workbench.test_profile import SOURCE

from .conftest import Tessera

sys.path.append(str(Path(__file__).parents[1] / "profiler"))
from trace_rules import read_trace


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "slow.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    for room in ("cuda_driver", "cuda"):
        monkeypatch.setattr(f"tessera.runtime.{room}.open_driver", lambda index: IdleGpu())
    return tmp_path


def names_of(data: dict, what: str) -> dict:
    return {(e["pid"], e["tid"]): e["args"]["name"] for e in data["traceEvents"] if e["name"] == what}


def test_emulated_times_and_predictions_are_labelled(tessera: Tessera, folder: Path) -> None:
    command = ("profile", "slow.py:scores", "--size", "batch=8", "--arch", "sm_80")
    said = tessera(*command, "--trace", "out.json", "--json")
    assert said.status == 0, said.err
    assert "wrote out.json" in said.err
    data = read_trace(folder / "out.json")
    assert "emulated, PTX level" in data["otherData"]["label"]
    host, predicted = names_of(data, "process_name").values()
    assert "of no meaning for a GPU" in host
    assert predicted.startswith("predicted from datasheets")
    slices = [e for e in data["traceEvents"] if e["ph"] == "X"]
    runs = [e["name"].split("_")[-1] for e in slices if e["cat"] == "kernel"]
    assert runs == ["matmul", "softmax"]
    rows = names_of(data, "thread_name")
    h100 = next(row for row, name in rows.items() if name == "H100 SXM")
    assert [e["args"]["label"] for e in slices if (e["pid"], e["tid"]) == h100] == ["predicted"] * 2
    # The counter of a launch stands at its time, and its values are those of the tables.
    executed = [e["args"]["executed"] for e in data["traceEvents"] if e["name"].startswith("instructions")]
    kernels = said.json["programs"][0]["kernels"]
    assert [value for value in executed if value] == [kernel["executed"] for kernel in kernels]
    assert all(e["name"].endswith("(emulated, PTX level)") for e in data["traceEvents"] if e["ph"] == "C")


def test_gpu_has_host_and_device_rows(tessera: Tessera, folder: Path) -> None:
    said = tessera(
        "profile", "slow.py:scores", "--size", "batch=8", "--device", "cuda:0", "--repeat", "3", "--no-ncu",
        "--trace", "out.json",
    )  # fmt: skip
    assert said.status == 0, said.err
    data = read_trace(folder / "out.json")
    assert data["otherData"]["label"] == "measured by CUDA events"
    host, device = names_of(data, "process_name").values()
    assert (host, device) == (
        "host: times are measured",
        "idle GPU, compute capability 8.0: measured by CUDA events",
    )
    slices = [e for e in data["traceEvents"] if e["ph"] == "X"]
    phases = [e["name"] for e in slices if e["cat"] == "phase"]
    assert phases == [
        "open slow.py:scores", "load on cuda:0", "first execution, not counted", "measure 3 executions"
    ]  # fmt: skip
    on_gpu = [e for e in slices if e["pid"] == 2]
    assert [e["cat"] for e in on_gpu] == ["upload", "upload", "kernel", "kernel", "download"] * 3
    assert {e["dur"] for e in on_gpu} == {1.0}
    launches = [e for e in slices if e["cat"] == "launch"]
    assert [e["name"] for e in launches[:2]] == ["launch scores_0_matmul", "launch scores_1_softmax"]
    rates = [e["args"]["GB/s"] for e in data["traceEvents"] if e["ph"] == "C"]
    # 640 bytes of x in a microsecond.
    assert rates[:2] == [0.64, 0]


def test_cpu_has_its_steps(tessera: Tessera, folder: Path) -> None:
    said = tessera("profile", "slow.py:scores", "--device", "cpu", "--repeat", "2", "--trace", "out.json")
    assert said.status == 0
    data = read_trace(folder / "out.json")
    assert data["otherData"]["label"] == "measured by the host's clock"
    steps = [e for e in data["traceEvents"] if e["ph"] == "X" and e["cat"] == "kernel"]
    assert [e["args"]["execution"] for e in steps] == [0, 0, 1, 1]


@pytest.mark.parametrize(("place", "status"), [(".", 2), ("slow.py/out.json", 1)])
def test_place_that_cannot_be_written_is_refused_before_any_work(
    tessera: Tessera, folder: Path, place: str, status: int
) -> None:
    said = tessera("profile", "missing.py", "--trace", place)
    assert said.status == status
    assert f"--trace {place}" in said.err


def test_a_call_that_fails_leaves_no_folder_behind(tessera: Tessera, folder: Path) -> None:
    assert tessera("profile", "missing.py", "--trace", "no/such/out.json").status == 2
    assert not (folder / "no").exists()
