"""`tessera package`, `tessera new` and `tessera serve`."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from tessera.workbench.commands.new import FILES

from .conftest import Tessera


@pytest.fixture
def package(tessera: Tessera, project: Path) -> Path:
    said = tessera(
        "package", "build", "kernels.py:linear_relu", "--arch", "sm_80", "--arch", "cpu", "-o", "p.tsd"
    )
    assert said.status == 0, said.err
    return project / "p.tsd"


def test_built_package_verifies_shows_and_runs(tessera: Tessera, package: Path) -> None:
    assert tessera("package", "verify", package).status == 0
    assert tessera("package", "verify", package, "--json").json["ok"]
    shown = tessera("package", "inspect", package)
    assert "linear_relu(x: f32(batch, 8), W: f32(8, 4)) -> output: f32(batch, 4)" in shown.out
    names = [e["name"] for e in tessera("package", "inspect", package, "--json").json["entries"]]
    assert "programs/linear_relu.json" in names
    said = tessera("run", package, "--device", "cpu", "--size", "batch=2", "--json")
    assert said.json["outputs"]["output"]["shape"] == [2, 4]
    assert "matmul" in tessera("inspect", package, "--graph").out


def test_what_is_shown_next_runs_as_it_stands(tessera: Tessera, package: Path) -> None:
    build = ("package", "build", "kernels.py:linear_relu", "-o", "p.tsd", "--arch")
    assert "next: tessera run p.tsd --device cpu" in tessera(*build, "cpu").out
    assert "next: tessera inspect p.tsd" in tessera(*build, "sm_80").out
    assert tessera("inspect", package).status == 0


def test_package_is_proved_from_its_source(tessera: Tessera, package: Path, project: Path) -> None:
    said = tessera("package", "verify", package, "--rebuild", "kernels.py")
    assert said.status == 0, said.err
    assert "what its source compiles to, byte for byte" in said.out
    data = tessera("package", "verify", package, "--rebuild", "kernels.py:linear_relu", "--json").json
    assert data["ok"]
    whats = {p["what"].split()[-1] for p in data["pieces"]}
    assert whats == {"program", "cubin", "ptx", "so"}


def test_source_that_was_edited_proves_nothing(tessera: Tessera, package: Path, project: Path) -> None:
    source = project / "kernels.py"
    text = source.read_text()
    source.write_text(text.replace("\n@ts.jit", "\n# only a comment\n@ts.jit"))
    # Lines of the graph's nodes are a part of the program; the code is the same.
    data = tessera("package", "verify", package, "--rebuild", "kernels.py", "--json").json
    assert [p["what"] for p in data["pieces"] if not p["same"]] in ([], ["linear_relu program"])
    source.write_text(text.replace("ts.relu(", "ts.tanh("))
    said = tessera("package", "verify", package, "--rebuild", "kernels.py")
    assert said.status == 1
    assert "cubin: " in said.out
    assert "not what the source compiles to" in said.out
    source.write_text(text.replace("linear_relu", "other"))
    assert tessera("package", "verify", package, "--rebuild", "kernels.py").status == 2


@pytest.mark.parametrize("flag", ["--fast-math", "-O1", "--lineinfo"])
def test_options_of_the_package_are_those_of_the_proof(tessera: Tessera, project: Path, flag: str) -> None:
    tessera("compile", "kernels.py", "--arch", "sm_80", flag, "-o", "k.tsp")
    assert tessera("package", "verify", "k.tsp", "--rebuild", "kernels.py").status == 0


def test_python_source_in_place_of_a_package_says_how_to_build_one(tessera: Tessera, project: Path) -> None:
    for command in (("package", "verify"), ("package", "inspect"), ("serve",), ("diag",)):
        said = tessera(*command, "kernels.py")
        assert (said.status, "tessera package build kernels.py" in said.err) == (2, True), (command, said)


def test_a_file_that_is_no_package_is_named_once(tessera: Tessera, project: Path) -> None:
    (project / "x.tsd").write_text("nothing")
    assert tessera("package", "verify", "x.tsd").err.count("zip end record") == 1


def test_flipped_byte_is_status_1_and_names_the_entry(
    tessera: Tessera, package: Path, rng: np.random.Generator
) -> None:
    good = package.read_bytes()
    for place in rng.choice(len(good), 12, replace=False):
        data = bytearray(good)
        data[place] ^= 1 << int(rng.integers(8))
        package.write_bytes(data)
        said = tessera("package", "verify", package, "--json")
        assert said.status == 1, place
        finding = said.json["findings"][0]
        assert finding["entry"]
        human = tessera("package", "verify", package)
        assert human.status == 1
        assert f"error: {finding['entry']}: " in human.err


def test_unpacked_folder_is_a_package_too(tessera: Tessera, package: Path) -> None:
    assert tessera("package", "unpack", package, "tree").status == 0
    assert tessera("package", "verify", "tree").status == 0
    assert tessera("inspect", "tree", "--json").json["programs"][0]["name"] == "linear_relu"
    assert tessera("package", "unpack", package, "tree").status == 1


def test_new_writes_a_project_and_refuses_a_full_folder(tessera: Tessera, project: Path) -> None:
    said = tessera("new", "my project")
    assert said.status == 0
    assert {
        p.relative_to("my project").as_posix() for p in Path("my project").rglob("*") if p.is_file()
    } == set(FILES)
    assert 'name = "my-project"' in Path("my project/tessera.toml").read_text()
    again = tessera("new", "my project")
    assert again.status == 2
    assert "nothing is overwritten" in again.err
    Path("empty").mkdir()
    assert tessera("new", "empty", "--json").status == 0


def test_new_project_compiles_and_runs_at_once(tessera: Tessera, project: Path) -> None:
    tessera("new", "hello")
    os.chdir("hello")
    compiled = tessera("compile", "kernels.py", "--json").json["kernels"]
    assert {row["arch"] for row in compiled} == {"sm_80", "sm_90"}
    assert tessera("run", "kernels.py:linear_relu", "--size", "batch=4").status == 0


@pytest.mark.slow
def test_tests_of_a_new_project_pass(tessera: Tessera, project: Path) -> None:
    tessera("new", "hello")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd="hello",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_serve_answers_and_ends_on_sigterm(package: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tessera",
        "serve",
        str(package),
        "--port",
        "0",
        "--device",
        "cpu",
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert ready["device"] == "cpu"
            body = json.dumps(
                {"input": {"x": np.ones((1, 8)).tolist(), "W": np.ones((8, 4)).tolist()}}
            ).encode()
            request = urllib.request.Request(
                ready["url"] + "/predict", body, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=10) as response:
                assert json.load(response)["output"] == [[8.0] * 4]
            process.send_signal(signal.SIGTERM)
            rest, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert rest == ""


def test_serve_refuses_what_is_no_package(tessera: Tessera, project: Path) -> None:
    assert tessera("serve", "no.tsd").status == 2
    (project / "x.tsd").write_text("nothing")
    said = tessera("serve", "x.tsd", "--port", "0", "--device", "cpu", "--json")
    assert said.status == 1
    assert said.json["error"]["kind"] in ("PackageError", "IntegrityError")
