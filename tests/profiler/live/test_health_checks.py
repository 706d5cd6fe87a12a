"""`tessera diag` on machines of stub GPUs: errors, throttling, links, lost GPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Ask = Callable[..., Any]

CODE = """
from tessera.profiler.check_health import check_health
answer = {c.name: [c.status, c.detail, c.fix] for c in check_health()}
"""


def test_healthy_gpu_is_ok_in_every_row(ask: Ask) -> None:
    found = ask(CODE, STUB_THROTTLE=0)
    assert {row[0] for row in found.values()} == {"ok"}
    assert found["GPU 0 ECC"][1].startswith("2 corrected, 0 uncorrected")
    assert "SM clock 1755 of 1980 MHz, 40 °C" in found["GPU 0 throttling"][1]
    assert found["GPU 0 PCIe link"][1] == "16 of 16 lanes, generation 5 of 5"


def test_idle_gpu_is_not_throttled(ask: Ask) -> None:
    assert ask(CODE, STUB_THROTTLE=1)["GPU 0 throttling"][0] == "ok"


@pytest.mark.parametrize(
    ("bits", "advice"), [(0x20, "air flow"), (0x80, "power cables"), (0x4, "tessera top")]
)
def test_throttled_gpu_says_why_and_what_to_do(ask: Ask, bits: int, advice: str) -> None:
    status, _, fix = ask(CODE, STUB_THROTTLE=bits)["GPU 0 throttling"]
    assert status == "warning"
    assert advice in fix


def test_memory_errors_fail_with_the_reset_command(ask: Ask) -> None:
    status, detail, fix = ask(CODE, STUB_ECC=3)["GPU 0 ECC"]
    assert status == "failure"
    assert "3 uncorrected" in detail
    assert "nvidia-smi --gpu-reset -i 0" in fix


def test_narrow_link_is_a_warning(ask: Ask) -> None:
    assert ask(CODE, STUB_LANES=4)["GPU 0 PCIe link"][:2] == ["warning", "4 of 16 lanes, generation 5 of 5"]


def test_lost_gpu_fails_and_the_other_is_checked(ask: Ask) -> None:
    found = ask(CODE, STUB_GPUS=2, STUB_LOST="0:0", STUB_THROTTLE=0)
    assert found["GPU 0 health"][0] == "failure"
    assert found["GPU 1 ECC"][0] == "ok"


def test_old_driver_leaves_no_row_unsaid(ask: Ask) -> None:
    assert {row[0] for row in ask(CODE, old=True, STUB_THROTTLE=0).values()} == {"ok"}


def test_machine_without_nvml_has_no_rows(ask: Ask) -> None:
    assert ask(CODE, STUB_INIT=9) == {}


def test_bundle_holds_the_gpus_without_ids_and_processes(ask: Ask, tmp_path: Any) -> None:
    code = f"""
import zipfile
from tessera.profiler.bundle import write_bundle
path = write_bundle({str(tmp_path / "bug.zip")!r}, ())
answer = {{name: zipfile.ZipFile(path).read(name).decode() for name in zipfile.ZipFile(path).namelist()}}
"""
    found = ask(code, STUB_GPUS=2, TESSERA_REGISTRY_TOKEN="hunter2hunter2")
    assert "NVIDIA H200" in found["gpus.json"]
    assert "python3" not in found["gpus.json"]
    assert "hunter2" not in "".join(found.values())


def test_container_without_the_driver_library_names_the_flag(tmp_path: Any) -> None:
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    from tessera.profiler.live.nvml import why_not_open

    missing = pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    assert why_not_open(missing, tmp_path / "none") == ("no NVIDIA driver on this machine", None)
    (tmp_path / "version").write_text("NVRM version: 580\n")
    reason, fix = why_not_open(missing, tmp_path / "version")
    assert "kernel module is loaded" in reason
    assert "docker run --gpus all" in (fix or "")


def test_driver_that_does_not_start_is_a_failure_in_words(ask: Ask) -> None:
    code = """
from tessera.profiler.check_machine import check_gpus
answer = [[c.status, c.detail] for c in check_gpus()]
"""
    ((status, detail),) = ask(code, STUB_INIT=18)
    assert status == "failure"
    assert "driver library and kernel module are of different versions: reboot" in detail
