"""What the NVIDIA driver says about the GPUs of this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. Whatever the driver does not say is None, never 0."""

    index: int
    name: str
    capability: tuple[int, int] | None
    """Compute capability, as in `(9, 0)`."""
    memory_total_bytes: int | None
    memory_free_bytes: int | None
    mig: bool
    """Whether the GPU is split into MIG instances."""


@dataclass(frozen=True, slots=True)
class GpuState:
    """The driver and its GPUs, or the reason why there are none."""

    driver: str | None = None
    """Version of the driver."""
    cuda_version: tuple[int, int] | None = None
    """Newest CUDA version that the driver takes."""
    gpus: tuple[Gpu, ...] = ()
    reason: str | None = None
    """Why the driver could not be asked; None where it answered."""
    fix: str | None = None
    """What to do, where that is known."""
    broken: bool = False
    """Whether there is a driver that does not work; a machine without one is sound."""


def read_gpus() -> GpuState:
    """Ask the driver through NVML. Never raises: a machine without a GPU is a normal machine."""
    try:
        # 42 ms, and only where GPUs are asked for.
        import pynvml
    except ImportError:
        return GpuState(
            reason="the Python package nvidia-ml-py is not installed", fix="pip install 'tessera[profile]'"
        )
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        from tessera.profiler.live.nvml import why_not_open

        reason, fix = why_not_open(error)
        absent = isinstance(error, pynvml.NVMLError_LibraryNotFound) and fix is None
        return GpuState(reason=reason, fix=fix, broken=not absent)
    try:
        count = _ask(pynvml.nvmlDeviceGetCount) or 0
        return GpuState(
            driver=_ask(pynvml.nvmlSystemGetDriverVersion),
            cuda_version=_cuda_version(_ask(pynvml.nvmlSystemGetCudaDriverVersion_v2)),
            gpus=tuple(_read_gpu(index) for index in range(count)),
        )
    finally:
        pynvml.nvmlShutdown()


def _read_gpu(index: int) -> Gpu:
    import pynvml

    handle = _ask(lambda: pynvml.nvmlDeviceGetHandleByIndex(index))
    if handle is None:
        return Gpu(index, "N/A", None, None, None, mig=False)
    memory = _ask(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    capability = _ask(lambda: pynvml.nvmlDeviceGetCudaComputeCapability(handle))
    mig = _ask(lambda: pynvml.nvmlDeviceGetMigMode(handle))
    return Gpu(
        index=index,
        name=_ask(lambda: pynvml.nvmlDeviceGetName(handle)) or "N/A",
        capability=(int(capability[0]), int(capability[1])) if capability else None,
        memory_total_bytes=int(memory.total) if memory is not None else None,
        memory_free_bytes=int(memory.free) if memory is not None else None,
        mig=bool(mig and mig[0]),
    )


def _ask(question: Callable[[], T]) -> T | None:
    """The answer, or None where this driver or GPU does not give one."""
    import pynvml

    try:
        return question()
    except pynvml.NVMLError:
        return None


def _cuda_version(value: int | None) -> tuple[int, int] | None:
    """NVML's 12080 is CUDA 12.8."""
    return None if value is None else (value // 1000, value % 1000 // 10)
