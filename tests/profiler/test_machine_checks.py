"""Checks of the machine, of packages, and the guide's `Diagnostics`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from profiled_programs import linear_artifact, planned

from tessera.package import Package
from tessera.profiler import Check, Diagnostics, diagnose
from tessera.profiler.check import STATUSES, worst
from tessera.profiler.check_machine import check_cache, check_gpus
from tessera.profiler.check_package import check_package
from tessera.profiler.check_software import (
    check_c_compiler,
    check_libraries,
    check_packages,
    requirements,
    version_fits,
)
from tessera.profiler.diagnostics import recommendations
from tessera.profiler.gpu import Gpu, GpuState, read_gpus
from tessera.program.artifact import Artifact
from tessera.program.errors import ConfigError, PackageError

NO_GPU = GpuState(reason="no NVIDIA driver on this machine")
H200 = GpuState("580.82", (13, 0), (Gpu(0, "NVIDIA H200", (9, 0), 141 << 30, 140 << 30, mig=False),))


def by_name(checks: object) -> dict[str, Check]:
    return {check.name: check for check in checks}  # type: ignore[attr-defined]


def test_diagnose_this_machine_answers_every_check() -> None:
    checks = diagnose()
    names = [check.name for check in checks]
    assert len(names) == len(set(names))
    assert {check.status for check in checks} <= set(STATUSES)
    assert all(check.detail for check in checks)
    assert all(check.fix for check in checks if check.status == "failure")
    found = by_name(checks)
    assert found["Python"].status == "ok"
    assert {"numba", "llvmlite", "nvJitLink", "NVRTC", "NVVM", "C compiler", "CPU", "memory", "disk"} <= set(
        names
    )


def test_diagnose_imports_no_compiler() -> None:
    code = (
        "import sys; from tessera.profiler import diagnose; diagnose(); "
        "print([m for m in ('numba', 'llvmlite', 'plotly', 'textual', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_gpu_checks_without_a_driver_say_what_works_without() -> None:
    (check,) = check_gpus(NO_GPU)
    assert (check.status, check.fix) == ("not applicable", None)
    assert check.detail.startswith("N/A: no NVIDIA driver")
    assert "compiles for every architecture" in check.detail


def test_gpu_checks_old_driver_and_old_gpu_fail() -> None:
    old = Gpu(0, "Tesla P4", (6, 1), None, None, mig=False)
    driver, gpu = check_gpus(GpuState("450.1", (11, 0), (old,)))
    assert (driver.status, gpu.status) == ("failure", "failure")
    assert "needs CUDA 11.8" in driver.detail
    assert "memory N/A" in gpu.detail


@pytest.fixture(scope="module")
def nvml_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to build the NVML stub with")
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("nvml_stub.c")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return folder


def test_gpus_through_the_real_bindings_leave_unknown_as_none(nvml_folder: Path) -> None:
    code = (
        "import json, dataclasses; from tessera.profiler.gpu import read_gpus; "
        "print(json.dumps(dataclasses.asdict(read_gpus())))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LD_LIBRARY_PATH": str(nvml_folder)},
    )
    state = json.loads(run.stdout)
    assert (state["driver"], state["cuda_version"], state["reason"]) == ("580.82.07", [13, 0], None)
    new, old = state["gpus"]
    assert (new["name"], new["capability"], new["memory_total_bytes"]) == ("NVIDIA H200", [9, 0], 141 << 30)
    assert (old["capability"], old["memory_total_bytes"], old["mig"]) == ([6, 1], None, False)


def test_cache_check_of_a_file_in_the_way_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check = check_cache(tmp_path / "file")
    assert check.status == "failure"
    assert "TESSERA_CACHE_DIR" in (check.fix or "")


def test_cache_check_counts_files_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_bytes(bytes(1024))
    assert check_cache(tmp_path).detail.endswith("1.0 KiB in 1 files")
    assert "made on the first compile" in check_cache(tmp_path / "new").detail


def test_library_checks_where_libraries_do_not_load_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    pathfinder = pytest.importorskip("cuda.pathfinder")

    def fail(name: str) -> None:
        raise pathfinder.DynamicLibNotFoundError(f"lib{name}.so.12 not found")

    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", fail)
    checks = list(check_libraries())
    assert {c.status for c in checks} == {"warning"}
    assert all(c.fix == "pip install 'tessera[compile]'" for c in checks)


def test_package_checks_of_a_missing_wheel_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    if not requirements("compile"):
        pytest.skip("Tessera runs from a folder: it has no metadata")
    monkeypatch.setattr("tessera.profiler.check_software._installed", lambda package: None)
    found = by_name(check_packages())
    assert found["numba"].status == "warning"
    assert found["extra serve"].status == "not applicable"
    assert found["extra serve"].fix == "pip install 'tessera[serve]'"


def test_package_checks_without_metadata_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tessera.profiler.check_software.requirements", lambda extra: {})
    (check,) = check_packages()
    assert check.status == "not applicable"
    assert "cannot be compared" in check.detail


def test_c_compiler_check_answers_what_the_compiler_would_take(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "own-cc"
    own.write_text("#!/bin/sh\necho own compiler 1.0\n")
    own.chmod(0o755)
    monkeypatch.setenv("TESSERA_CC", str(own))
    check = check_c_compiler()
    assert (check.status, check.detail) == ("ok", f"{own}: own compiler 1.0")
    monkeypatch.setenv("TESSERA_CC", "no-such-cc")
    check = check_c_compiler()
    assert check.status == "warning"
    assert "TESSERA_CC=no-such-cc" in check.detail
    assert "TESSERA_CC" in (check.fix or "")


@pytest.mark.parametrize(
    ("version", "bounds", "fits"),
    [
        ("12.9.86", "<13,>=12.9", True),
        ("13.0", "<13,>=12.9", False),
        ("12.8.99", "<13,>=12.9", False),
        ("0.70", "<0.70,>=0.65", False),
        ("0.70.0", "<0.70,>=0.65", False),
        ("0.68.1rc1", "<0.70,>=0.65", True),
        ("7", "", True),
        ("2.0", "!=2.0.0", False),
    ],
)
def test_version_fits(version: str, bounds: str, fits: bool) -> None:
    assert version_fits(version, bounds) is fits


def test_worst_of_statuses() -> None:
    assert worst(()) == "not applicable"
    assert worst((Check("a", "ok", "-"), Check("b", "warning", "-"))) == "warning"


@pytest.fixture
def package_path(tmp_path: Path) -> Path:
    needs = {"cuda": ">=11.8", "python": ">=3.11", "memory": "16GB", "compute_capability": ">=7.0"}
    package = Package.from_artifact(linear_artifact(), name="linear", metadata={"requirements": needs})
    return package.save(tmp_path / "linear.tsd")


def test_package_checks_without_a_gpu_leave_gpu_questions_open(package_path: Path) -> None:
    found = by_name(check_package(package_path, gpus=NO_GPU))
    assert found["package loads"].status == "ok"
    assert found["package integrity"].status == "ok"
    assert found["package on cpu"].status == "warning"
    assert "reference" in found["package on cpu"].detail
    assert found["package requires python"].status == "ok"
    assert found["package requires cuda"].status == "not applicable"
    assert found["package requires memory"].status == "not applicable"


def test_package_checks_with_a_gpu_compare_requirements(package_path: Path) -> None:
    found = by_name(check_package(package_path, gpus=H200))
    for name in ("cuda", "memory", "compute_capability"):
        assert found[f"package requires {name}"].status == "ok", name
    small = GpuState("450", (11, 0), (Gpu(0, "small", (6, 1), 8 << 30, 1 << 30, mig=False),))
    found = by_name(check_package(package_path, gpus=small))
    for name in ("cuda", "memory", "compute_capability"):
        assert found[f"package requires {name}"].status == "failure", name


def test_package_checks_name_the_architecture_that_would_run(tmp_path: Path) -> None:
    package = Package.from_artifact(Artifact(programs=(planned(),), binaries=()), name="planned")
    hopper = by_name(check_package(package, gpus=H200))["package on GPU 0"]
    assert hopper.status == "warning"
    assert "'sm_90'" in (hopper.fix or "")
    ampere = GpuState("580", (13, 0), (Gpu(0, "A100", (8, 0), 80 << 30, 1 << 30, mig=False),))
    assert "sm_80" in by_name(check_package(package, gpus=ampere))["package on GPU 0"].detail


def test_package_checks_of_a_damaged_file_name_the_entry(package_path: Path) -> None:
    data = bytearray(package_path.read_bytes())
    data[data.index(b"PK\1\2") - 4000] ^= 1
    package_path.write_bytes(data)
    failures = [c for c in diagnose(package_path) if c.status == "failure"]
    assert failures
    assert failures[0].name.startswith("package")
    assert failures[0].fix
    assert not Diagnostics().verify_package(package_path)


def test_package_checks_of_no_package_fail_with_a_fix(tmp_path: Path) -> None:
    (check,) = check_package(tmp_path / "none.tsd", gpus=NO_GPU)
    assert check.status == "failure"


def test_diagnostics_without_a_gpu_answer_no_and_say_why() -> None:
    if read_gpus().gpus:
        pytest.skip("this machine has a GPU")
    diagnostics = Diagnostics()
    for verdict in (diagnostics.check_cuda_version(), diagnostics.check_gpu_capability()):
        assert not verdict
        assert "N/A" in verdict.detail
    with pytest.raises(ConfigError, match="not a version"):
        diagnostics.check_cuda_version("new")


def test_diagnostics_memory_reckons_with_the_verified_package(package_path: Path) -> None:
    diagnostics = Diagnostics()
    assert diagnostics.check_memory().required == 0
    assert diagnostics.verify_package(package_path)
    status = diagnostics.check_memory()
    # Weights, and inputs and outputs at batch size 32.
    assert status.required == pytest.approx((64 * 16 * 4 + 32 * 64 * 4 + 32 * 16 * 4) / 2**30)
    assert status.available > status.required
    with pytest.raises(PackageError):
        diagnostics.check_memory(package_path.with_name("none.tsd"))


def test_diagnostics_benchmark_measures_against_the_target(package_path: Path) -> None:
    performance = Diagnostics().benchmark_model(
        package_path, target_latency_ms=1e-6, device="reference", seconds=0.02
    )
    assert performance.device == "reference"
    assert performance.latency > performance.target_latency == 1e-6
    assert any("GPU" in text for text in performance.recommendations)
    relaxed = recommendations(performance.result, 1e6)
    assert not any("over" in text or "step" in text for text in relaxed)


def test_diagnostics_target_latency_comes_from_the_package(tmp_path: Path) -> None:
    from tessera.package import PackageBuilder

    builder = PackageBuilder().add_kernels(linear_artifact()).add_config({"target_latency_ms": 3}, "runtime")
    path = builder.build(name="linear", version="1.0.0").save(tmp_path / "linear.tsd")
    performance = Diagnostics().benchmark_model(path, device="reference", seconds=0.02)
    assert performance.target_latency == 3.0
