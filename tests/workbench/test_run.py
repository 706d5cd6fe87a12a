"""`tessera run`, `bench`, `report` and `diag`."""

from pathlib import Path

import numpy as np
import pytest

from tessera.workbench.values import array_lines

from .conftest import Tessera


def test_run_equals_numpy_and_saves(tessera: Tessera, project: Path, rng: np.random.Generator) -> None:
    x, w = rng.standard_normal((5, 8), np.float32), rng.standard_normal((8, 4), np.float32)
    np.save("x.npy", x)
    np.save("w.npy", w)
    said = tessera(
        "run", "kernels.py:linear_relu", "--input", "x.npy", "--input", "W=w.npy", "-o", "y.npy", "--json"
    )
    assert said.status == 0
    expected = np.maximum(x.astype(np.float64) @ w, 0)
    np.testing.assert_allclose(np.load("y.npy"), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(said.json["outputs"]["output"]["values"], expected, rtol=1e-5, atol=1e-5)
    assert said.json["seed"] is None


def test_outputs_stay_in_the_folder_whatever_they_are_called(tessera: Tessera, project: Path) -> None:
    names = ["../../outside", "/absolute", "..", "", "file", "a/b", "a_b", "語" * 200]
    (project / "named.py").write_text(
        "import tessera as ts\n@ts.jit\n"
        'def f(x: ts.Tensor[ts.f32, "n"]):\n'
        f"    return {{name: x + i for i, name in enumerate({names!r})}}\n"
    )
    for place in ("folder/in", "all.npz"):
        said = tessera("run", "named.py", "--size", "n=2", "-o", place, "--json")
        assert said.status == 0, said.err
        assert list(said.json["outputs"]) == names
    assert len(list((project / "folder/in").iterdir())) == len(names)
    assert sorted(p.name for p in project.iterdir()) == ["all.npz", "folder", "kernels.py", "named.py"]
    with np.load("all.npz") as found:
        first = found[found.files[0]]
        assert [round(float((found[n] - first)[0])) for n in found.files] == list(range(len(names)))


@pytest.mark.parametrize("place", ["kernels.py/y.npz", "kernels.py/folder", "no/folder/y.npy", "f" * 300])
def test_place_that_cannot_be_written_is_named(tessera: Tessera, project: Path, place: str) -> None:
    said = tessera("run", "kernels.py:linear_relu", "-o", place, "--json")
    assert said.status == 1
    assert place[:9] in said.json["error"]["message"]
    assert "--debug to" not in said.json["error"]["message"]


def test_sizes_beyond_memory_say_what_to_do(tessera: Tessera, project: Path) -> None:
    said = tessera("run", "kernels.py:linear_relu", "--size", "batch=9999999999999", "--json")
    assert said.status == 1
    assert "not enough memory: Unable to allocate" in said.json["error"]["message"]
    assert "--size" in said.json["error"]["hint"]


def test_random_inputs_are_said_and_repeat_with_the_seed(tessera: Tessera, project: Path) -> None:
    words = ("run", "kernels.py:linear_relu", "--size", "batch=3")
    said = tessera(*words)
    assert "drawn at random (--seed 0): x, W" in said.err
    assert "output: f32(3, 4)" in said.out
    first, again, other = (
        tessera(*words, "--json", "--seed", seed).json["outputs"]["output"]["values"] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_size_that_nobody_gave_is_said(tessera: Tessera, project: Path) -> None:
    assert "size batch = 256" in tessera("run", "kernels.py:linear_relu").err


def test_several_things_to_run_want_a_name(tessera: Tessera, project: Path) -> None:
    said = tessera("run", "kernels.py")
    assert said.status == 2
    assert "hint: name one: kernels.py:saxpy" in said.err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--input", "no.npy"], 2, "there is no file no.npy"),
        (["--input", "z=x.npy"], 2, "no such input"),
        (["--input", "x=x.npy", "--input", "x=x.npy"], 2, "given twice"),
        (["--input", "text.npy"], 1, "is no .npy file"),
        (["--size", "m=3"], 2, "no size called 'm'"),
        (["--input", "x.npy", "--size", "batch=4"], 2, "--size batch=4, but input 'x' has 5 there"),
        (["--input", "W=x.npy"], 1, "input 'W' of shape (5, 8)"),
        (["--device", "tpu"], 2, "--device: unknown device 'tpu'"),
    ],
)
def test_wrong_inputs_are_named(
    words: list[str], status: int, message: str, tessera: Tessera, project: Path
) -> None:
    np.save("x.npy", np.zeros((5, 8), np.float32))
    Path("text.npy").write_text("hello")
    said = tessera("run", "kernels.py:linear_relu", *words)
    assert (said.status, message in said.err) == (status, True), said.err


SHARED = """\
from numba import cuda, float32

import tessera as ts


@ts.kernel(grid=lambda n: ts.cdiv(n, 32), block=32)
def reverse(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    tile = cuda.shared.array(32, float32)
    tile[cuda.threadIdx.x] = x[cuda.grid(1)]
    cuda.syncthreads()
    y[cuda.grid(1)] = tile[31 - cuda.threadIdx.x]
"""


def test_a_kernel_that_needs_a_gpu_says_which_device_runs_it_here(tessera: Tessera, project: Path) -> None:
    Path("shared.py").write_text(SHARED)
    words = ("run", "shared.py", "--size", "n=64", "--json")
    refused = tessera(*words)
    assert refused.status == 1
    assert "device emulator" in refused.json["error"]["hint"]
    said = tessera(*words, "--device", "emulator").json
    x, y = said["inputs"]["x"]["values"], said["outputs"]["y"]["values"]
    assert y == [*x[31::-1], *x[:31:-1]]


@pytest.mark.parametrize("rank", range(1, 5))
def test_an_output_of_any_rank_fits_a_screen(rank: int) -> None:
    lines = array_lines("y", np.zeros((8,) * rank, np.float32))
    assert lines[0].startswith("y: f32(8")
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in lines)


ENDLESS = """
from numba import cuda

import tessera as ts


@ts.kernel(grid=1, block=32)
def endless(x: ts.Array[ts.i32, 32]):
    count = 0
    while x[0] >= 0:
        count += 1
        x[0] = count & 7
"""


@pytest.mark.parametrize("llvm", [True, False])
def test_endless_kernel_ends_after_as_many_steps_as_asked_for(
    tessera: Tessera, project: Path, monkeypatch: pytest.MonkeyPatch, llvm: bool
) -> None:
    monkeypatch.setattr("tessera.runtime.emulator.has_llvm", lambda: llvm)
    (project / "endless.py").write_text(ENDLESS)
    said = tessera("run", "endless.py", "--device", "emulator", "--steps", "5000", "--json")
    assert said.status == 1
    error = said.json["error"]
    assert "endless does not end: block (0, 0, 0)" in error["message"]
    assert "5000" in error["message"]
    assert "tessera run --steps N" in error["hint"]


def test_steps_are_refused_where_nothing_counts_them(tessera: Tessera, project: Path) -> None:
    said = tessera("run", "kernels.py:linear_relu", "--steps", "10", "--json")
    assert said.status == 2
    assert "--steps: cpu does not count them" in said.json["error"]["message"]


def test_reference_device_runs_the_graph(tessera: Tessera, project: Path) -> None:
    words = ("run", "kernels.py:linear_relu", "--size", "batch=2", "--json")
    cpu, reference = tessera(*words).json, tessera(*words, "--device", "reference").json
    assert reference["device"] == "reference"
    values = [np.array(r["outputs"]["output"]["values"]) for r in (cpu, reference)]
    np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-5)


def test_bench_measures_and_labels(tessera: Tessera, project: Path) -> None:
    words = ("bench", "kernels.py:linear_relu", "--batch", "4", "--seconds", "0.05")
    result = tessera(*words, "--json").json["results"][0]
    assert result["kind"] == "measured"
    assert result["batches"][0]["timing"]["median_ms"] > 0
    said = tessera(*words)
    assert "measured" in said.out
    assert all(len(line) <= 80 for line in said.out.splitlines())


def test_report_is_one_file(tessera: Tessera, project: Path) -> None:
    pytest.importorskip("jinja2")
    said = tessera("report", "kernels.py:saxpy", "--arch", "sm_80", "-o", "page.html", "--json")
    assert said.status == 0
    page = (project / "page.html").read_text()
    assert said.json["bytes"] == len(page.encode())
    assert "saxpy" in page
    assert "sm_80" in page


def test_diag_lists_checks_and_status_follows(tessera: Tessera) -> None:
    said = tessera("diag", "--json")
    checks = said.json["checks"]
    assert {"name", "status", "detail", "fix"} == set(checks[0])
    failed = any(check["status"] == "failure" for check in checks)
    assert said.status == (1 if failed else 0)
    assert said.json["ok"] is not failed
    text = tessera("diag").out
    assert all(check["name"] in text for check in checks)


def test_diag_of_a_package_that_is_damaged_fails(tessera: Tessera, project: Path) -> None:
    (project / "bad.tsd").write_bytes(b"PK nothing")
    said = tessera("diag", "bad.tsd")
    assert said.status == 1
    assert "failure" in said.out
