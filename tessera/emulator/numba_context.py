"""Run ordinary Numba CUDA code without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tessera.emulator.cuda_device import Device
from tessera.emulator.cuda_engine import EngineName
from tessera.emulator.numba_cuda import Installed

_active: list[tuple[tuple[int, int], EngineName, Installed]] = []


@contextmanager
def as_cuda(cc: tuple[int, int] = (8, 0), *, engine: EngineName = "lockstep") -> Iterator[Device]:
    """Within, `numba.cuda` finds one GPU, which is emulated.

    Kernels, device arrays, streams, events and ufuncs are numba-cuda's own; what they launch runs on the CPU.
    Afterwards everything is as before. May be nested.

    Args:
        cc: Compute capability of the emulated GPU.
        engine: What executes the PTX.

    Raises:
        ArchitectureError: There is no GPU of that compute capability.
        MissingDependencyError: numba-cuda is not installed.
        DeviceError: Numba's simulator is switched on, or the device's memory cannot be mapped.
    """
    if _active and _active[-1][:2] == (cc, engine):
        yield _active[-1][2].device
        return
    installed = Installed(cc, engine)
    installed.install()
    _active.append((cc, engine, installed))
    try:
        yield installed.device
    finally:
        _active.pop()
        installed.remove()
