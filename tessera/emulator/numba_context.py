"""Run ordinary Numba CUDA code without a GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from tessera.emulator.cuda_device import Device
from tessera.emulator.cuda_engine import EngineName
from tessera.emulator.numba_cuda import Installed


@dataclass(slots=True)
class _Active:
    """A device in place, and how many are using it: contexts of other threads may share it."""

    kind: tuple[tuple[int, int], EngineName]
    installed: Installed
    users: int = 1


_active: list[_Active] = []
_lock = threading.RLock()


@contextmanager
def as_cuda(cc: tuple[int, int] = (8, 0), *, engine: EngineName = "llvm") -> Iterator[Device]:
    """Within, `numba.cuda` finds one GPU, which is emulated.

    Kernels, device arrays, streams, events and ufuncs are numba-cuda's own; what they launch runs on the CPU.
    Afterwards everything is as before. May be nested; threads share the device.

    Args:
        cc: Compute capability of the emulated GPU.
        engine: `llvm` compiles kernels where that pays; `lockstep` interprets all of them; `counting` counts
            what they do: the device that is given has `counters`, those of all launches within.

    Raises:
        ArchitectureError: There is no GPU of that compute capability.
        MissingDependencyError: numba-cuda is not installed.
        DeviceError: Numba's simulator is switched on, or the device's memory cannot be mapped.
    """
    entry = _enter(cc, engine)
    try:
        yield entry.installed.device
    finally:
        with _lock:
            entry.users -= 1
            # One that another thread has put on top goes first, whoever ends earlier.
            while _active and not _active[-1].users:
                _active.pop().installed.remove()


def _enter(cc: tuple[int, int], engine: EngineName) -> _Active:
    with _lock:
        if _active and _active[-1].kind == (cc, engine):
            _active[-1].users += 1
            return _active[-1]
        installed = _installed(cc, engine)
        if any(installed is outer.installed for outer in _active):
            installed = Installed(cc, engine)
        installed.device.launches.clear()
        installed.install()
        _active.append(_Active((cc, engine), installed))
        return _active[-1]


@cache
def _installed(cc: tuple[int, int], engine: EngineName) -> Installed:
    """One device of each kind: kernels that it has loaded are there at the next use."""
    return Installed(cc, engine)


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function as a `@cuda.jit` kernel, compiled at its first launch.

    Raises:
        MissingDependencyError: numba-cuda is not installed.
    """
    try:
        from numba import cuda
    except ImportError:
        from tessera.program.errors import MissingDependencyError

        raise MissingDependencyError.extra("numba-cuda", "compile", needed_for="launching kernels") from None
    kernel: Callable[..., Any] = cuda.jit(function)
    return kernel


def launch(
    kernel: Callable[..., Any],
    grid: Sequence[int],
    block: Sequence[int],
    args: Sequence[Any],
    shared_bytes: int = 0,
) -> None:
    """Launch a `@cuda.jit` kernel on the GPU, or emulated if there is none.

    Args:
        kernel: The kernel.
        grid: Blocks by axis, one to three.
        block: Threads by axis, one to three.
        args: Arrays (copied to the device and back) and scalars.
        shared_bytes: Dynamic shared memory per block.

    Raises:
        CompileError: PTX that the emulator does not know.
        DeviceError: The kernel failed.
    """
    from numba import cuda

    configured: Any = kernel
    if cuda.is_available():
        configured[tuple(grid), tuple(block), 0, shared_bytes](*args)
        cuda.synchronize()
        return
    with as_cuda():
        configured[tuple(grid), tuple(block), 0, shared_bytes](*args)
