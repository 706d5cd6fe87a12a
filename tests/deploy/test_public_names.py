"""`tessera.deploy`: what the guide imports is there, and nobody pays for what they do not use."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import tessera.deploy


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `code`."""
    script = f"{code}\nimport sys, json; print(json.dumps([m.partition('.')[0] for m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", tessera.deploy.__all__)
def test_every_name_is_found(name: str) -> None:
    assert getattr(tessera.deploy, name).__name__ == name


def test_names_are_sorted_and_listed() -> None:
    assert sorted(tessera.deploy.__all__) == tessera.deploy.__all__
    assert dir(tessera.deploy) == tessera.deploy.__all__
    assert set(tessera.deploy._HOMES) == set(tessera.deploy.__all__)


def test_unknown_name_is_an_ordinary_import_error() -> None:
    with pytest.raises(ImportError, match="NoSuchThing"):
        from tessera.deploy import NoSuchThing  # noqa: F401
    with pytest.raises(AttributeError, match="NoSuchThing"):
        _ = tessera.deploy.NoSuchThing
    assert not hasattr(tessera.deploy, "NoSuchThing")


def test_importing_the_face_imports_nothing_heavy() -> None:
    assert not {"numpy", "numba", "starlette", "cupy"} & loaded_by("import tessera.deploy, tessera.runtime")


def test_loading_and_running_imports_no_compiler() -> None:
    code = (
        "from tessera.deploy import DeploymentPackage, open_artifact, Runtime\n"
        "import tessera.runtime.cpu, tessera.runtime.cuda, tessera.runtime.reference"
    )
    heavy = {"numba", "llvmlite", "textual", "typer", "plotly", "cupy", "hypothesis"}
    assert not heavy & loaded_by(code)
