"""Checks of GPUs that the driver knows: memory errors, throttling, links, permissions."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tessera.profiler.check import Check
from tessera.profiler.live.figures import Device, Figures, Reading
from tessera.profiler.live.gpu_reader import GpuReader, Tier
from tessera.profiler.live.nvml import Nvml
from tessera.profiler.live.throttling import reasons
from tessera.program.errors import TesseraError

PARAMETERS = Path("/proc/driver/nvidia/params")
COUNTERS_FIX = (
    "echo 'options nvidia NVreg_RestrictProfilingToAdminUsers=0' "
    "| sudo tee /etc/modprobe.d/nvidia-profiling.conf, then reboot"
)
"""What lets everybody read a GPU's counters."""
_HEAT = 0x20 | 0x40
_POWER = 0x08 | 0x80


def check_health() -> Iterable[Check]:
    """Each GPU's state now. Nothing without a driver: the check of the driver has said so."""
    try:
        nvml = Nvml()
    except TesseraError:
        return
    with nvml:
        machine, handles = nvml.machine()
        for device, handle in zip(machine.devices, handles, strict=True):
            yield from gpu_checks(device, GpuReader(nvml, handle, device, {}).read(Tier.RARE))


def gpu_checks(device: Device, reading: Reading) -> Iterable[Check]:
    """What one reading says of a GPU's health."""
    name = f"GPU {device.index}"
    if reading.fault is not None:
        fix = f"sudo nvidia-smi --gpu-reset -i {device.index}, or reboot"
        yield Check(f"{name} health", "failure", reading.fault, fix)
        return
    yield _check_ecc(f"{name} ECC", device, reading)
    yield _check_throttling(f"{name} throttling", device, reading)
    yield _check_link(f"{name} PCIe link", device, reading.figures)


def _check_ecc(name: str, device: Device, reading: Reading) -> Check:
    figures = reading.figures
    if figures.ecc_uncorrected is None:
        why = reading.missing.get("ecc_uncorrected", "the driver does not say")
        return Check(name, "not applicable", f"N/A: {why}")
    detail = (
        f"{figures.ecc_corrected} corrected, {figures.ecc_uncorrected} uncorrected since the driver started"
    )
    if figures.ecc_uncorrected:
        fix = f"stop what runs there, then sudo nvidia-smi --gpu-reset -i {device.index}"
        return Check(name, "failure", f"{detail}: results may be wrong", fix)
    return Check(name, "ok", detail)


def _check_throttling(name: str, device: Device, reading: Reading) -> Check:
    figures = reading.figures
    bits = figures.throttle_reasons
    if bits is None:
        why = reading.missing.get("throttle_reasons", "the driver does not say")
        return Check(name, "not applicable", f"N/A: {why}")
    clock = "N/A" if figures.sm_clock_mhz is None else f"{figures.sm_clock_mhz}"
    most = "" if device.max_sm_clock_mhz is None else f" of {device.max_sm_clock_mhz}"
    where = f"SM clock {clock}{most} MHz"
    if figures.temperature_c is not None:
        where += f", {figures.temperature_c} °C"
    slow = [reason.meaning for reason in reasons(bits) if reason.slows]
    if not slow:
        word = ", ".join(reason.meaning for reason in reasons(bits)) or "none"
        return Check(name, "ok", f"{word}; {where}")
    fix = "tessera top shows it over time; the power limit: nvidia-smi -q -d POWER"
    if bits & _HEAT:
        fix = "check fans, air flow and dust; tessera top shows temperatures over time"
    elif bits & _POWER:
        fix = "check the power supply and the GPU's power cables"
    return Check(name, "warning", f"{'; '.join(slow)}; {where}", fix)


def _check_link(name: str, device: Device, figures: Figures) -> Check:
    width, most = figures.pcie_width, device.max_pcie_width
    if width is None or most is None:
        return Check(name, "not applicable", "N/A: the driver does not say")
    detail = f"{width} of {most} lanes, generation {figures.pcie_generation} of {device.max_pcie_generation}"
    if width < most:
        # The generation falls when a GPU rests, and comes back with work: it says nothing.
        return Check(name, "warning", detail, "seat the GPU anew, or move it to a slot with all lanes")
    return Check(name, "ok", detail)


def check_counters(parameters: Path = PARAMETERS) -> Check:
    """Whether this user may read the GPU's performance counters, as Nsight Compute does."""
    name = "GPU counters"
    try:
        lines = parameters.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return Check(name, "not applicable", f"N/A: no NVIDIA kernel module ({parameters} is not there)")
    settings = dict(line.split(": ", 1) for line in lines if ": " in line)
    restricted = settings.get("RmProfilingAdminOnly")
    if restricted is None:
        return Check(name, "not applicable", "N/A: the driver does not say who may profile")
    if restricted.strip() == "0":
        return Check(name, "ok", "every user may profile")
    if os.geteuid() == 0 and _has_admin_capability():
        return Check(name, "ok", "administrators alone may profile, and this is one")
    detail = "administrators alone may profile: Nsight Compute ends with ERR_NVGPUCTRPERM"
    return Check(name, "warning", detail, COUNTERS_FIX)


def _has_admin_capability(status: Path = Path("/proc/self/status")) -> bool:
    """Whether this process has CAP_SYS_ADMIN, which containers take from root."""
    try:
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    effective = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> 21 & 1)
