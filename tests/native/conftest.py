"""The native runtime, built by the project's own script, and packages to run with it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ctypes_runtime import NativeLibrary
from native_project import INCLUDE, ROOT, build_script, example

import tessera as ts
from tessera.deploy import AOTCompiler

WARNINGS = ("-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-pthread")


@pytest.fixture(scope="session")
def compiler() -> str:
    found = next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
    if found is None:
        pytest.skip("needs a C++ compiler: apt install g++")
    return found


@pytest.fixture(scope="session")
def library_path(compiler: str) -> Path:
    """libtessera_rt.so as `make setup` builds it."""
    build_script()
    return ROOT / "tessera" / "native" / "libtessera_rt.so"


@pytest.fixture(scope="session")
def native(library_path: Path) -> NativeLibrary:
    return NativeLibrary(library_path)


@pytest.fixture(scope="session")
def compile_program(compiler: str, library_path: Path) -> Callable[..., Path]:
    """Compiles a C++ file against the runtime, warnings as errors."""

    def run(source: Path, output: Path, *flags: str, library: Path = library_path) -> Path:
        link = [f"-L{library.parent}", "-ltessera_rt", f"-Wl,-rpath,{library.parent}"]
        command = [compiler, *WARNINGS, *flags, str(source), f"-I{INCLUDE}", *link, "-o", str(output)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return output

    return run


@pytest.fixture(scope="session")
def digits() -> object:
    return example("digits", "model.py")


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compiles for the CPU, once per name, into a package."""
    folder, made = tmp_path_factory.mktemp("packages"), {}

    def run(name: str, fn: object, *specs: ts.TensorSpec) -> Path:
        if name not in made:
            kernel = AOTCompiler(target_architectures=["cpu"]).compile(fn, input_specs=list(specs) or None)
            made[name] = kernel.save(folder / f"{name}.tsc")
        return made[name]

    return run


@pytest.fixture(scope="session")
def digits_package(compiled: Callable[..., Path], digits: object) -> Callable[[str], Path]:
    """The digits classifier with weights of a dtype."""

    def run(dtype: str) -> Path:
        spec = ts.TensorSpec(shape=("batch", 64), dtype=ts.f32)
        return compiled(f"digits_{dtype}", digits.load(getattr(ts, dtype)), spec)

    return run
