"""NVML as a shared library that the tests compile: the real bindings read it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Stub = Callable[..., dict[str, str]]
Ask = Callable[..., Any]


@pytest.fixture(scope="session")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Stub:
    """The environment of a process that finds a machine of stub GPUs: `stub(old=True, STUB_GPUS=8)`."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to build the NVML stub with")
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    source = Path(__file__).with_name("nvml_machine.c")
    folders = {}
    for name, flags in (("new", []), ("old", ["-DOLD_DRIVER"])):
        folders[name] = tmp_path_factory.mktemp(name)
        library = folders[name] / "libnvidia-ml.so.1"
        subprocess.run([compiler, "-shared", "-fPIC", *flags, "-o", str(library), str(source)], check=True)

    def environment(*, old: bool = False, **settings: object) -> dict[str, str]:
        folder = folders["old" if old else "new"]
        given = {name: str(value) for name, value in settings.items()}
        return {**os.environ, "LD_LIBRARY_PATH": str(folder), **given}

    return environment


@pytest.fixture(scope="session")
def ask(stub: Stub) -> Ask:
    """Run Python code on a stub machine; what it leaves in `answer` comes back through JSON."""

    def run(code: str, *, old: bool = False, **settings: object) -> Any:
        program = f"import json\n{code}\nprint(json.dumps(answer, default=lambda v: v._asdict()))"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            capture_output=True,
            text=True,
            env=stub(old=old, **settings),
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
