"""C++ programs: the guide's, word for word, and one that uses the whole interface."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from native_project import ROOT, build_script
from test_native_execution import softmax_layernorm

import tessera as ts
from tessera.deploy import ModelExporter, PackageBuilder
from tessera.package import Package

HERE = Path(__file__).parent


class Model(ts.Module):
    """Takes what the guide's C++ program gives."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [ts.Linear(1024, 64), ts.ReLU(), ts.LayerNorm(64)]

    def forward(self, x: ts.Tensor) -> ts.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def test_the_guides_program_compiles_and_runs_as_written(
    compile_program: Callable[..., Path], tmp_path: Path
) -> None:
    exporter = ModelExporter(Model(), ts.randn(1, 512, 1024), target_architectures=["cpu"])
    exporter.export(tmp_path / "model_deployment.tsd", include_weights=True, quantization="int8")
    program = compile_program(HERE / "guide.cpp", tmp_path / "guide")
    done = subprocess.run([program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_guides_program_without_its_package_says_which_file_is_missing(
    compile_program: Callable[..., Path], tmp_path: Path
) -> None:
    program = compile_program(HERE / "guide.cpp", tmp_path / "guide")
    done = subprocess.run([program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "cannot read model_deployment.tsd: No such file or directory (ls -l" in done.stderr


def test_the_whole_cpp_interface_does_what_it_says(
    compile_program: Callable[..., Path],
    digits_package: Callable[[str], Path],
    compiled: Callable[..., Path],
    tmp_path: Path,
) -> None:
    program = compile_program(HERE / "cpp_api.cpp", tmp_path / "cpp_api")
    packages = [digits_package("f32"), compiled("softmax_layernorm", softmax_layernorm)]
    done = subprocess.run([program, *packages], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_c_header_is_c(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    source = tmp_path / "header.c"
    source.write_text("#include <tessera/c_api.h>\nint main(void) { return TESSERA_OK; }\n")
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
    command = [compiler, *flags, f"-I{ROOT / 'native' / 'include'}", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_library_is_small_and_needs_only_libc_and_libm(library_path: Path) -> None:
    assert library_path.stat().st_size < 2_000_000
    if shutil.which("readelf") is None:
        pytest.skip("needs readelf: apt install binutils")
    found = subprocess.run(["readelf", "-d", library_path], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"NEEDED.*\[(.+?)\]", found))
    assert {name.split(".")[0] for name in needed} <= {
        "libc",
        "libm",
        "libdl",
        "libpthread",
        "ld-linux-x86-64",
    }


def test_only_the_c_interface_is_exported(library_path: Path) -> None:
    if shutil.which("nm") is None:
        pytest.skip("needs nm: apt install binutils")
    command = ["nm", "-D", "--defined-only", library_path]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert {line.split()[2].split("_")[0] for line in found.splitlines()} == {"tessera"}


def test_the_version_is_the_projects(library_path: Path) -> None:
    library = ctypes.CDLL(str(library_path))
    library.tessera_version.restype = ctypes.c_char_p
    assert library.tessera_version().decode() == ts.__version__


def test_building_again_does_nothing(library_path: Path) -> None:
    before = library_path.stat().st_mtime_ns
    assert build_script().endswith("is up to date")
    assert library_path.stat().st_mtime_ns == before


def test_building_without_a_compiler_says_so_and_goes_on(tmp_path: Path) -> None:
    # The interpreter below the virtual environment, which has no ziglang.
    python = os.path.realpath(sys.executable)
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    script = ROOT / "scripts" / "build_native.py"
    if (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("the project's environment may bring a compiler")
    done = subprocess.run(
        [python, "-S", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "no C++ compiler found" in done.stdout
    required = subprocess.run(
        [python, "-S", script, "--require"], env=environment, capture_output=True, check=False
    )
    assert required.returncode == 1


def test_a_package_carries_the_library(library_path: Path, tmp_path: Path) -> None:
    builder = PackageBuilder().add_runtime_library("libtessera_rt.so")
    builder.add_weights({"w": np.zeros(3, np.float32)})
    saved = builder.build("carrier", "1.0.0").save(tmp_path / "carrier.tsd")
    folder = Package.load(saved).unpack(tmp_path / "out")
    assert (folder / "runtime" / "libtessera_rt.so").read_bytes() == library_path.read_bytes()


@pytest.mark.slow
def test_a_cmake_project_finds_the_installed_package(compiler: str, tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("needs cmake: apt install cmake")

    def cmake(*arguments: object) -> None:
        command = ["cmake", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    prefix, build = tmp_path / "prefix", tmp_path / "build"
    cmake("-S", ROOT / "native", "-B", build, f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DTESSERA_WERROR=ON")
    cmake("--build", build, "-j", os.cpu_count())
    cmake("--install", build)
    project = tmp_path / "user"
    project.mkdir()
    shutil.copy(HERE / "guide.cpp", project)
    (project / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(user CXX)\nfind_package(tessera 0.1 REQUIRED)\n"
        "add_executable(shared guide.cpp)\ntarget_link_libraries(shared PRIVATE tessera::tessera_rt)\n"
        "add_executable(static guide.cpp)\ntarget_link_libraries(static PRIVATE tessera::tessera_rt_static)\n"
    )
    cmake("-S", project, "-B", tmp_path / "user_build", f"-DCMAKE_PREFIX_PATH={prefix}")
    cmake("--build", tmp_path / "user_build")
    exporter = ModelExporter(Model(), ts.randn(1, 512, 1024), target_architectures=["cpu"])
    exporter.export(tmp_path / "model_deployment.tsd", include_weights=True)
    for program in ("shared", "static"):
        done = subprocess.run(
            [tmp_path / "user_build" / program], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
