"""`tessera serve`: settings of the call, and checking without serving."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

Tessera = Any


@pytest.fixture
def package(project: Path, tessera: Tessera) -> Path:
    said = tessera("compile", "kernels.py:linear_relu", "--arch", "cpu", "-o", "model.tsc")
    assert said.status == 0, said.err
    return project / "model.tsc"


def test_check_says_that_it_could_be_served_and_serves_nothing(tessera: Tessera, package: Path) -> None:
    said = tessera("serve", "model.tsc", "--check", "--port", "1234")
    assert said.status == 0, said.err
    assert said.out == "model.tsc can be served on 127.0.0.1:1234\n"
    answer = tessera("serve", "model.tsc", "--check", "--json", "--host", "0.0.0.0").json
    assert answer["ok"] is True
    assert "without API keys and TLS" in answer["warnings"][0]


@pytest.mark.parametrize(
    ("arguments", "status", "part"),
    [
        (["--set", "max_queu=3"], 2, "max_queue"),
        (["--set", "api_keys_file=none.txt"], 2, "none.txt"),
        (["--set", "tls_certificate=none.pem"], 2, "none.pem"),
        (["--set", "program=other"], 2, "no program 'other'"),
        (["--config", "none.toml"], 2, "none.toml"),
        (["--key", "none.pub.pem"], 1, "none.pub.pem"),
    ],
)
def test_check_finds_what_is_wrong(
    tessera: Tessera, package: Path, arguments: list[str], status: int, part: str
) -> None:
    said = tessera("serve", "model.tsc", "--check", *arguments)
    assert said.status == status
    assert part in said.err


def test_check_reads_every_byte(tessera: Tessera, package: Path) -> None:
    data = bytearray(package.read_bytes())
    data[len(data) // 3] ^= 4
    package.write_bytes(data)
    assert tessera("serve", "model.tsc", "--check").status == 1


def test_call_wins_over_environment_and_that_over_the_file(
    tessera: Tessera, package: Path, monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    (project / "s.toml").write_text("port = 1001\nhost = '127.0.0.3'\n")

    def place(*arguments: str) -> str:
        return str(tessera("serve", "model.tsc", "--check", *arguments).out.split()[-1])

    assert place("--config", "s.toml") == "127.0.0.3:1001"
    monkeypatch.setenv("TESSERA_PORT", "1002")
    assert place("--config", "s.toml") == "127.0.0.3:1002"
    assert place("--config", "s.toml", "--set", "port=1003", "--set", "host=127.0.0.4") == "127.0.0.4:1003"


def test_settings_of_the_call_reach_the_server(package: Path) -> None:
    arguments = ["model.tsc", "--port", "0", "--set", "api_keys=alice:0123456789abcdef", "--json"]
    command = [sys.executable, "-m", "tessera", "serve", *arguments]
    with subprocess.Popen(command, cwd=package.parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().split('"url": "')[1].split('"')[0]
            assert httpx.get(f"{url}/v2").status_code == 401
            assert httpx.get(f"{url}/v2", headers={"X-API-Key": "0123456789abcdef"}).status_code == 200
        finally:
            process.terminate()
    assert process.returncode == 0


def test_cloud_starts_a_server_with_one_word(package: Path) -> None:
    model = package.parent / "azureml-models" / "1"
    model.mkdir(parents=True)
    package.rename(model / package.name)
    environment = {**os.environ, "AZUREML_MODEL_DIR": str(model.parent), "TESSERA_PORT": "0"}
    command = [sys.executable, "-m", "tessera", "serve"]
    with subprocess.Popen(
        command, cwd=package.parent, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            url = line.split(" on ")[1].split()[0]
            assert httpx.get(f"{url}/").status_code == 200
            assert httpx.post(f"{url}/score", json={"wrong": 1}).status_code == 400
        finally:
            process.terminate()
    assert process.returncode == 0


def test_contract_of_the_call_goes_before_the_file(
    tessera: Tessera, package: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "s.toml").write_text("port = 1001\n")
    for arguments in (["--contract", "sagemaker"], ["--set", "contract=sagemaker"]):
        said = tessera("serve", "model.tsc", "--check", "--config", "s.toml", *arguments)
        assert said.out == "model.tsc can be served on 0.0.0.0:8080\n"
    monkeypatch.setenv("AIP_HTTP_PORT", "7080")
    monkeypatch.setenv("AIP_STORAGE_URI", str(project))
    assert tessera("serve", "--check").out == f"{project / 'model.tsc'} can be served on 0.0.0.0:7080\n"


def test_no_package_is_an_error_that_says_how(
    tessera: Tessera, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODEL_PACKAGE", raising=False)
    said = tessera("serve")
    assert said.status == 2
    assert "no package to serve" in said.err
    assert tessera("serve", "--contract", "heroku").status == 2


@pytest.fixture
def folder(package: Path) -> Path:
    """A repository with the package in two versions, and one that is broken."""
    made = package.parent / "models"
    for version in ("1", "2"):
        (made / "twice" / version).mkdir(parents=True)
        (made / "twice" / version / "model.tsc").write_bytes(package.read_bytes())
    (made / "broken.tsd").write_bytes(b"no package")
    return made


def serving(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tessera", "serve", *arguments, "--port", "0", "--json"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)


def test_several_packages_are_served_by_the_names_of_their_files(package: Path) -> None:
    (package.parent / "other.tsc").write_bytes(package.read_bytes())
    with serving(package.parent, "model.tsc", "second=other.tsc") as process:
        assert process.stdout is not None
        try:
            answer = json.loads(process.stdout.readline())
            assert answer["packages"] == {"model": "model.tsc", "second": "other.tsc"}
            names = {row["name"]: row["state"] for row in answer["models"]}
            assert names == {"model": "ready", "second": "ready"}
            assert httpx.get(f"{answer['url']}/v2/models").json() == {"models": ["model", "second"]}
        finally:
            process.terminate()
    assert process.returncode == 0


def test_a_repository_is_served_and_operated(package: Path, folder: Path) -> None:
    more = ["--set", "repository_mode=explicit", "--set", "admin_port=0"]
    with serving(package.parent, "--repository", "models", *more) as process:
        assert process.stdout is not None
        try:
            answer = json.loads(process.stdout.readline())
            states = {(row["name"], row["version"]): row["state"] for row in answer["models"]}
            assert states == {("broken", None): "unavailable", ("twice", "2"): "ready"}
            control = f"{answer['admin']}/v2/repository/models/twice"
            assert httpx.post(f"{control}/unload").status_code == 200
            assert httpx.get(f"{answer['url']}/v2/models/twice").status_code == 404
        finally:
            process.terminate()
    assert process.returncode == 0


def test_check_tells_what_of_a_repository_is_not_served(tessera: Tessera, folder: Path) -> None:
    answer = tessera("serve", "--repository", "models", "--check", "--json").json
    assert answer["repository"] == "models"
    (warning,) = answer["warnings"]
    assert warning.startswith("broken cannot be served: ")
    said = tessera("serve", "model.tsc", "again=model.tsc", "--check")
    assert said.out == "model.tsc, model.tsc can be served on 127.0.0.1:8080\n"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["model.tsc", "models/twice/1/model.tsc"], "both be called 'model'"),
        (["model.tsc", "none.tsc"], "none.tsc"),
        (["--repository", "nowhere"], "'nowhere' is no folder"),
        (["--repository", "models", "--key", "k.pub.pem"], "require_signature"),
        (["--repository", "models", "--processes", "2"], "one process"),
        (["--repository", "models", "--set", "version_policy=newest:1"], "version policy"),
        (["a b=model.tsc", "model.tsc"], "without blanks"),
    ],
)
def test_several_models_that_make_no_sense_are_refused(
    tessera: Tessera, folder: Path, arguments: list[str], part: str
) -> None:
    said = tessera("serve", *arguments)
    assert said.status == 2
    assert part in said.err
