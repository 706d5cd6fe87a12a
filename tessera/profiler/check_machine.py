"""Checks of the machine: GPUs, processor, memory, disk, compile cache."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tessera.profiler.check import Check
from tessera.profiler.gpu import GpuState, read_gpus
from tessera.program.arch import SM_LIMITS, host_cpu_targets
from tessera.program.bytesize import format_bytes

WITHOUT_GPU = (
    "without one Tessera still compiles for every architecture, packages, verifies, "
    "and runs and serves on cpu and reference"
)
MINIMUM_DRIVER_CUDA = (11, 8)
"""Oldest CUDA version of a driver that takes the cubins we build; 12.x is the same major."""
MINIMUM_CAPABILITY = (7, 0)
_CACHE_FIX = "set TESSERA_CACHE_DIR to a folder that you may write"
LOW_MEMORY_BYTES = 2 << 30
LOW_DISK_BYTES = 2 << 30


def check_gpus(state: GpuState | None = None) -> Iterable[Check]:
    """The driver, then each GPU."""
    state = read_gpus() if state is None else state
    if state.broken:
        fix = state.fix or "nvidia-smi and dmesg say more; reboot, or install the driver again"
        yield Check("GPU driver", "failure", f"does not work: {state.reason}", fix)
        return
    if state.reason is not None:
        yield Check("GPU driver", "not applicable", f"N/A: {state.reason}; {WITHOUT_GPU}", state.fix)
        return
    cuda = state.cuda_version
    shown = ".".join(map(str, cuda)) if cuda else "N/A"
    detail = f"{state.driver or 'N/A'}, CUDA {shown}"
    if cuda is not None and cuda < MINIMUM_DRIVER_CUDA:
        needed = ".".join(map(str, MINIMUM_DRIVER_CUDA))
        yield Check(
            "GPU driver", "failure", f"{detail}; needs CUDA {needed} or newer", "update the NVIDIA driver"
        )
    else:
        yield Check("GPU driver", "ok", detail)
    if not state.gpus:
        yield Check("GPU", "not applicable", f"the driver sees no GPU; {WITHOUT_GPU}")
    for gpu in state.gpus:
        memory = format_bytes(gpu.memory_total_bytes) if gpu.memory_total_bytes is not None else "memory N/A"
        free = f", {format_bytes(gpu.memory_free_bytes)} free" if gpu.memory_free_bytes is not None else ""
        mig = ", MIG on" if gpu.mig else ""
        arch = f"sm_{gpu.capability[0]}{gpu.capability[1]}" if gpu.capability else "architecture N/A"
        detail = f"{gpu.name}, {arch}, {memory}{free}{mig}"
        name = f"GPU {gpu.index}"
        if gpu.capability is None:
            yield Check(name, "warning", detail)
        elif gpu.capability < MINIMUM_CAPABILITY:
            yield Check(
                name, "failure", f"{detail}: older than sm_70", "use a GPU of compute capability 7.0+"
            )
        elif gpu.capability not in SM_LIMITS:
            yield Check(name, "warning", f"{detail}: an architecture that this Tessera does not know")
        else:
            yield Check(name, "ok", detail)


def check_cpu() -> Check:
    """The CPU level that native code can be built and run for."""
    levels = host_cpu_targets()
    cores = available_cores()
    model = cpu_model()
    if not levels:
        return Check(
            "CPU",
            "warning",
            f"{model}, {cores} cores: no CPU target of Tessera's runs on {platform.machine()}",
            "use device='reference'",
        )
    return Check("CPU", "ok", f"{model}, {cores} cores, {levels[0]}")


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model() -> str:
    """The processor's name, or its instruction set where it has none."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(("model name", "Model")):
                    return " ".join(line.split(":", 1)[1].split())
    except OSError:
        pass
    return platform.processor() or platform.machine() or "N/A"


def check_memory() -> Check:
    """Memory that a program may still take, within the machine and its container."""
    available, total = available_memory()
    if available is None:
        return Check("memory", "not applicable", "N/A: this system does not say")
    detail = f"{format_bytes(available)} available" + (f" of {format_bytes(total)}" if total else "")
    if available < LOW_MEMORY_BYTES:
        fix = f"close other programs: compiling needs about {format_bytes(LOW_MEMORY_BYTES)}"
        return Check("memory", "warning", detail, fix)
    return Check("memory", "ok", detail)


def available_memory() -> tuple[int | None, int | None]:
    """Bytes (available, total); None where unknown. A cgroup's limit counts."""
    available = total = None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        fields = {name: int(rest.split()[0]) * 1024 for name, _, rest in (x.partition(":") for x in lines)}
        available, total = fields.get("MemAvailable"), fields.get("MemTotal")
    except (OSError, ValueError, IndexError):
        pass
    limit, used = (_read_int(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None and (total is None or limit < total):
        free = max(limit - used, 0)
        return (free if available is None else min(available, free)), limit
    return available, total


def _read_int(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def check_cache(folder: Path | None = None) -> Check:
    """Whether the compile cache can be written, and how much it holds."""
    folder = folder or cache_folder()
    if folder is None:
        return Check("compile cache", "warning", "no home folder: nothing is kept", _CACHE_FIX)
    if not folder.exists():
        parent = next((p for p in folder.parents if p.exists()), None)
        if parent is not None and os.access(parent, os.W_OK | os.X_OK):
            return Check("compile cache", "ok", f"{folder}: empty, made on the first compile")
        return _cache_failure(folder, f"cannot be made in {parent}")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
        files = [f.stat().st_size for f in folder.rglob("*") if f.is_file()]
    except OSError as error:
        return _cache_failure(folder, f"cannot be written: {error.strerror or error}")
    return Check("compile cache", "ok", f"{folder}: {format_bytes(sum(files))} in {len(files)} files")


def _cache_failure(folder: Path, reason: str) -> Check:
    return Check("compile cache", "failure", f"{folder} {reason}", _CACHE_FIX)


def check_disk(folder: Path | None = None) -> Check:
    """Free space where the compile cache lies."""
    folder = folder or cache_folder() or Path(tempfile.gettempdir())
    place = next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))
    usage = shutil.disk_usage(place)
    detail = f"{format_bytes(usage.free)} free of {format_bytes(usage.total)} at {place}"
    if usage.free < LOW_DISK_BYTES:
        fix = "free some space, or set TESSERA_CACHE_DIR to a larger disk"
        return Check("disk", "warning", f"{detail}; low", fix)
    return Check("disk", "ok", detail)


def cache_folder() -> Path | None:
    """Where compiled kernels are kept; None where there is no home to keep them in."""
    from tessera.compiler.cache import CompileCache

    return CompileCache.default().folder
