"""Asks NVML, through NVIDIA's own Python bindings, and says in words what it does not answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, TypeVar

from tessera.profiler.live.figures import Device, Machine, MigInstance, Process
from tessera.program.errors import DeviceError, MissingDependencyError

T = TypeVar("T")

WORKS_WITHOUT = "tessera top --replay demo plays a recording of an H200; tessera diag says what works here"

WORDS: dict[int, str] = {
    2: "this driver does not know it",
    3: "this GPU does not report it",
    4: "no permission: ask the administrator",
    6: "not found",
    8: "a power cable of the GPU is not connected",
    9: "the NVIDIA kernel module is not loaded: run nvidia-smi as root, or reboot",
    10: "the driver did not answer in time",
    12: "no NVIDIA driver on this machine",
    13: "this driver is too old to report it",
    14: "the GPU's information memory is damaged",
    15: "the GPU is lost: it fell off the bus; reboot",
    16: "the GPU must be reset: nvidia-smi --gpu-reset",
    17: "the operating system refused: is /dev/nvidia* passed into this container?",
    18: "driver library and kernel module are of different versions: reboot",
    19: "the GPU is in use",
    21: "no data yet",
    25: "this driver speaks another version of it",
    27: "not ready yet",
    28: "the GPU is gone",
    29: "the GPU is in a state that does not allow it",
    999: "the driver failed, and does not say why",
}
"""NVML's return codes. Source: nvml.h, nvmlReturn_t."""

KERNEL_MODULE = Path("/proc/driver/nvidia/version")
_LIBRARY_NOT_FOUND = 12
FAULTS = frozenset({15, 16, 28})
"""Codes after which a GPU answers nothing."""


def why(error: Exception) -> str:
    """An error of the bindings in words."""
    code = getattr(error, "value", None)
    if code is None:
        # The bindings' complaint that a driver lacks the newest version of a function.
        return WORDS[13]
    return WORDS.get(code, f"NVML error {code}: {error}")


def why_not_open(error: Exception, module: Path = KERNEL_MODULE) -> tuple[str, str | None]:
    """Why the driver does not start, in words, and what to do about it if that is known."""
    if getattr(error, "value", None) == _LIBRARY_NOT_FOUND and module.exists():
        # A container without the NVIDIA runtime, or a broken installation.
        return (
            "the NVIDIA kernel module is loaded, but libnvidia-ml.so.1 is not here",
            "docker run --gpus all, or install the driver's libraries (libnvidia-compute)",
        )
    return why(error), None


class Nvml:
    """An open connection to the driver. Close it, or use it as a context.

    Raises:
        MissingDependencyError: nvidia-ml-py is not installed.
        DeviceError: There is no driver, or it does not answer; the message says which.
    """

    def __init__(self) -> None:
        try:
            # 42 ms, and only where GPUs are asked for.
            import pynvml
        except ImportError as error:
            raise MissingDependencyError.extra(
                "nvidia-ml-py", "profile", needed_for="watching GPUs"
            ) from error
        self.api: Any = pynvml
        # NVMLError's subclass for a version mismatch is a plain Exception.
        self.errors: tuple[type[Exception], ...] = (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError)
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            reason, fix = why_not_open(error)
            raise DeviceError(
                f"no GPU to watch: {reason}", hint=f"{fix}; {WORKS_WITHOUT}" if fix else WORKS_WITHOUT
            ) from error
        self._open = True

    def __enter__(self) -> Nvml:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the driver. Closing twice is fine, and so is a driver that fails to close."""
        if self._open:
            self._open = False
            with contextlib.suppress(*self.errors):
                self.api.nvmlShutdown()

    def ask(self, question: Callable[..., T], *arguments: Any) -> T | None:
        """The answer, or None where there is none."""
        try:
            return question(*arguments)
        except self.errors:
            return None

    def machine(self) -> tuple[Machine, tuple[Any, ...]]:
        """The driver and its GPUs, and a handle of each; None where a GPU gives none."""
        api = self.api
        count = self.ask(api.nvmlDeviceGetCount) or 0
        handles = tuple(self.ask(api.nvmlDeviceGetHandleByIndex, i) for i in range(count))
        cuda = self.ask(api.nvmlSystemGetCudaDriverVersion_v2)
        return Machine(
            driver=self.ask(api.nvmlSystemGetDriverVersion),
            cuda_version=None if cuda is None else (cuda // 1000, cuda % 1000 // 10),
            devices=tuple(self._device(index, handle) for index, handle in enumerate(handles)),
        ), handles

    def _device(self, index: int, handle: Any) -> Device:
        api, ask = self.api, self.ask
        if handle is None:
            return Device(index, "N/A", None, None, None, False, None, None, None)  # noqa: FBT003 - by place
        capability = ask(api.nvmlDeviceGetCudaComputeCapability, handle)
        pci = ask(api.nvmlDeviceGetPciInfo_v3, handle)
        mig = ask(api.nvmlDeviceGetMigMode, handle)
        bus = None if pci is None else pci.busId
        return Device(
            index=index,
            name=ask(api.nvmlDeviceGetName, handle) or "N/A",
            uuid=ask(api.nvmlDeviceGetUUID, handle),
            bus_id=bus.decode(errors="replace") if isinstance(bus, bytes) else bus,
            capability=None if capability is None else (int(capability[0]), int(capability[1])),
            mig=bool(mig and mig[0]),
            max_sm_clock_mhz=ask(api.nvmlDeviceGetMaxClockInfo, handle, api.NVML_CLOCK_SM),
            max_pcie_generation=ask(api.nvmlDeviceGetMaxPcieLinkGeneration, handle),
            max_pcie_width=ask(api.nvmlDeviceGetMaxPcieLinkWidth, handle),
        )

    def instances(self, handle: Any) -> tuple[tuple[MigInstance, Any], ...]:
        """The MIG instances of a GPU, each with its own handle."""
        api, ask = self.api, self.ask
        found = []
        for index in range(ask(api.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
            part = ask(api.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
            if part is None:
                continue
            memory = ask(api.nvmlDeviceGetMemoryInfo, part)
            instance = MigInstance(
                number=index,
                gpu_instance=ask(api.nvmlDeviceGetGpuInstanceId, part),
                name=ask(api.nvmlDeviceGetName, part) or "N/A",
                memory_used_bytes=None if memory is None else int(memory.used),
                memory_total_bytes=None if memory is None else int(memory.total),
            )
            found.append((instance, part))
        return tuple(found)

    def processes(self, handle: Any, names: dict[int, str]) -> tuple[Process, ...]:
        """Processes on a GPU or MIG instance, the largest first.

        Args:
            handle: The GPU or instance.
            names: Names by process, kept between calls: asking the driver each time costs more.

        Raises:
            NVMLError: The driver does not say.
        """
        found: dict[int, Process] = {}
        for kind, functions in _PROCESS_CALLS.items():
            for entry in self._entries(functions, handle, needed=kind == "compute"):
                pid = int(entry.pid)
                if pid not in names:
                    names[pid] = self._process_name(pid)
                memory = None if entry.usedGpuMemory is None else int(entry.usedGpuMemory)
                instance = getattr(entry, "gpuInstanceId", None)
                known = None if instance in (None, 0xFFFFFFFF) else int(instance)
                found.setdefault(pid, Process(pid, names[pid], memory, kind, known))
        return tuple(sorted(found.values(), key=lambda p: (-(p.memory_bytes or 0), p.pid)))

    def _entries(self, functions: tuple[str, ...], handle: Any, *, needed: bool) -> list[Any]:
        """Of the newest version of the call that the driver has."""
        for name in functions:
            try:
                return list(getattr(self.api, name)(handle))
            except self.api.NVMLError as error:
                last = name == functions[-1]
                if error.value == self.api.NVML_ERROR_FUNCTION_NOT_FOUND and not last:
                    continue
                if needed:
                    raise
                return []
        return []

    def _process_name(self, pid: int) -> str:
        # The driver counts processes of the whole machine; /proc of a container numbers its own.
        name = self.ask(self.api.nvmlSystemGetProcessName, pid)
        if not name:
            return "N/A"
        text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        return PurePath(text.split(" ", 1)[0]).name or "N/A"


_PROCESS_CALLS = {
    "compute": ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2"),
    "graphics": ("nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2"),
}
