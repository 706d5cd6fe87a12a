"""Checks of limits, permissions and conflicts, on made-up machines; the bundle for bug reports."""

from __future__ import annotations

import getpass
import json
import resource
import socket
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.profiler import Check, bundle, check_health
from tessera.profiler.bundle import make_hide, settings, write_bundle
from tessera.profiler.check_conflicts import check_conflicts, check_library_path
from tessera.profiler.check_health import check_counters
from tessera.profiler.check_limits import check_files, check_limits, check_shared_memory
from tessera.profiler.gpu import GpuState
from tessera.program.errors import ConfigError

DRIVER_12 = GpuState("550", (12, 4))


def group(root: Path, **files: str) -> Path:
    for name, text in files.items():
        place = root / name.replace("__", "/").replace("_DOT_", ".")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text + "\n")
    return root


def test_no_limits_are_one_row(tmp_path: Path) -> None:
    (check,) = check_limits(group(tmp_path, cpu_DOT_max="max 100000", memory_DOT_max="max"))
    assert (check.status, check.detail) == ("ok", "none")


def test_tight_container_warns_with_the_flag_that_loosens_it(tmp_path: Path) -> None:
    root = group(tmp_path, cpu_DOT_max="50000 100000", memory_DOT_max=str(1 << 30), pids_DOT_max="100")
    checks = list(check_limits(root))
    assert [check.status for check in checks] == ["warning"] * 3
    assert "0.5 processors" in checks[0].detail
    assert all("docker run --" in (check.fix or "") for check in checks)


def test_wide_container_of_the_old_interface_is_ok(tmp_path: Path) -> None:
    root = group(
        tmp_path,
        cpu__cpu_DOT_cfs_quota_us="400000",
        cpu__cpu_DOT_cfs_period_us="100000",
        memory__memory_DOT_limit_in_bytes=str(2**63 - 4096),
    )
    (check,) = check_limits(root)
    assert (check.name, check.status, check.detail) == ("container processors", "ok", "4 processors' time")


def test_shared_memory_that_is_small_warns(tmp_path: Path) -> None:
    assert check_shared_memory(tmp_path, low=1).status == "ok"
    small = check_shared_memory(tmp_path, low=1 << 62)
    assert (small.status, "--shm-size" in (small.fix or "")) == ("warning", True)
    assert check_shared_memory(tmp_path / "none").status == "not applicable"


@pytest.mark.parametrize(
    ("limits", "status", "fix"),
    [
        ((1024, 1 << 20), "warning", "ulimit -n 65536"),
        ((1024, 8192), "warning", "ulimit -n 8192"),
        ((1024, 1024), "warning", "docker run --ulimit"),
        ((1 << 20, 1 << 20), "ok", None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), "ok", None),
    ],
)
def test_open_files(
    limits: tuple[int, int], status: str, fix: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    check = check_files()
    assert check.status == status
    assert check.fix is None if fix is None else (check.fix or "").startswith(fix)


def test_counters_that_are_restricted_warn_users_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = tmp_path / "params"
    assert check_counters(params).status == "not applicable"
    params.write_text("ResmanDebugLevel: 4294967295\nRmProfilingAdminOnly: 0\n")
    assert check_counters(params).status == "ok"
    params.write_text("RmProfilingAdminOnly: 1\n")
    monkeypatch.setattr(check_health.os, "geteuid", lambda: 1000)
    check = check_counters(params)
    assert check.status == "warning"
    assert "NVreg_RestrictProfilingToAdminUsers=0" in (check.fix or "")
    params.write_text("Other: 1\n")
    assert check_counters(params).status == "not applicable"


def test_conflicts_of_packages_name_the_command() -> None:
    versions = {
        "cupy-cuda12x": "14.0.0",
        "cupy-cuda13x": "14.0.0",
        "pynvml": "11.5.3",
        "nvidia-ml-py": "13.0.0",
        "nvidia-nvjitlink-cu12": "12.6.85",
        "nvidia-cuda-nvrtc-cu12": "12.9.86",
    }
    found = {check.name: check for check in check_conflicts(versions, DRIVER_12)}
    assert found["package conflict: CuPy"].status == "failure"
    assert "pip uninstall -y cupy-cuda12x cupy-cuda13x" in (found["package conflict: CuPy"].fix or "")
    assert "takes 12.4" in found["package conflict: CuPy and driver"].detail
    assert found["package conflict: pynvml"].status == "warning"
    assert "nvidia-nvjitlink-cu12>=12.9,<13" in (found["package conflict: nvJitLink"].fix or "")


def test_packages_without_conflicts_are_one_row() -> None:
    versions = {"cupy-cuda12x": "14.0.0", "pynvml": "13.0.1", "nvidia-ml-py": "13.0.0"}
    (check,) = check_conflicts(versions, DRIVER_12)
    assert (check.status, check.detail) == ("ok", "none among 3 packages")


def test_library_path_with_other_cuda_libraries_warns(tmp_path: Path) -> None:
    assert check_library_path(f"{tmp_path}:/nowhere").status == "ok"
    (tmp_path / "libnvrtc.so.11.2").write_text("")
    check = check_library_path(f"{tmp_path}:{tmp_path}")
    assert (check.status, check.fix) == ("warning", "unset LD_LIBRARY_PATH")
    assert check.detail.count("libnvrtc.so.11.2") == 1


def test_settings_tell_only_what_is_on_the_list_and_hide_secrets() -> None:
    environment = {
        "TESSERA_CACHE_DIR": "/cache",
        "CUDA_VISIBLE_DEVICES": "0",
        "TESSERA_API_TOKEN": "abc",
        "NVIDIA_NGC_KEY": "abc",
        "AWS_SECRET_ACCESS_KEY": "abc",
        "DATABASE_URL": "postgres://u:p@h/d",
        "HOME": "/home/ada",
        "LANGUAGE_SERVER": "x",
    }
    told = settings(environment)
    assert told["TESSERA_CACHE_DIR"] == "/cache"
    assert (told["TESSERA_API_TOKEN"], told["NVIDIA_NGC_KEY"]) == ("<hidden>", "<hidden>")
    assert set(told) == {"TESSERA_CACHE_DIR", "CUDA_VISIBLE_DEVICES", "TESSERA_API_TOKEN", "NVIDIA_NGC_KEY"}


@pytest.fixture
def _ada(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    monkeypatch.setattr(socket, "gethostname", lambda: "analytical-engine")


@pytest.mark.usefixtures("_ada")
@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("/home/ada/x.py", "~/x.py"),
        ("/home/adam/x.py", "/home/adam/x.py"),
        ("on analytical-engine by ada", "on <host> by <user>"),
        ("index https://ada:pw@pypi.example/simple", "index https://<hidden>@pypi.example/simple"),
        ("token=abc123 rest", "<hidden> rest"),
        ("ghp_0123456789abcdef0123", "<hidden>"),
        ("GPU-6a705239-f365-751a-3d66-d218a4992356", "<uuid>"),
        ("nvidia-cuda-nvrtc-cu12==12.9.86", "nvidia-cuda-nvrtc-cu12==12.9.86"),
    ],
)
def test_hidden_text(text: str, hidden: str) -> None:
    assert make_hide()(text) == hidden


@pytest.mark.usefixtures("_ada")
def test_bundle_holds_answers_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSERA_PASSWORD", "correct horse")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/home/ada/lib:https://u:hunter2@mirror/x")
    checks = (Check("disk", "warning", "1 GiB free at /home/ada/.cache", "clean up on analytical-engine"),)
    path = write_bundle(tmp_path / "bug.zip", checks)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name).decode() for name in archive.namelist()}
    (check,) = json.loads(entries["diag.json"])["checks"]
    assert check["detail"] == "1 GiB free at ~/.cache"
    assert "msgspec==" in entries["packages.txt"]
    assert json.loads(entries["machine.json"])["cores"] > 0
    everything = "".join(entries.values())
    for secret in ("correct horse", "hunter2", "analytical-engine", "/home/ada"):
        assert secret not in everything
    with pytest.raises(ConfigError, match="exists"):
        write_bundle(path, checks)
    with pytest.raises(ConfigError, match="No such file"):
        write_bundle(tmp_path / "none" / "bug.zip", checks)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_hiding_never_fails_and_settles(text: str) -> None:
    hide = make_hide()
    assert hide(hide(text)) == hide(text)


def test_bundle_names_are_stable() -> None:
    assert set(bundle.contents(())) == {
        "README.txt",
        "diag.json",
        "packages.txt",
        "environment.json",
        "machine.json",
        "gpus.json",
    }
