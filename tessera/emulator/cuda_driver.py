# ruff: noqa: N802, N815, D102 - names and meanings are those of the driver API
"""The functions of the CUDA driver, as an emulated device answers them.

Only what numba-cuda asks for is here. Everything is done when the function returns: streams and events keep
order by themselves. Names and arguments are those of the driver API.

Source: CUDA Driver API 12.9.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tessera.emulator.cuda_device import Device, DeviceModule
from tessera.emulator.cuda_engine import Engine
from tessera.program.errors import DeviceError

Failure = Callable[[str, str], Exception]
"""Makes the exception for a result code, such as `CUDA_ERROR_OUT_OF_MEMORY`, and a text."""
_CONTEXT = 0xC0DE
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class EmulatedDriver:
    """The driver of one emulated device.

    Args:
        device: The device.
        engine: What runs kernels.
        binding: The module `cuda.bindings.driver`, for its handle types.
        failure: Makes the exception of a call that fails.
    """

    def __init__(self, device: Device, engine: Engine, binding: Any, failure: Failure) -> None:
        self.device = device
        self.engine = engine
        self.memory = engine.memory
        self.modules: dict[int, DeviceModule] = {}
        self._binding = binding
        self._failure = failure
        self._handles = itertools.count(1)
        self._events: dict[int, float] = {}
        self._registered: dict[int, tuple[int, int]] = {}
        """Device address and size of host memory that is mapped, by host address."""
        self._stacks = threading.local()

    # -- device and contexts ----------------------------------------------------------------------

    def cuDriverGetVersion(self) -> int:
        return 12090

    def cuDeviceGetCount(self) -> int:
        return 1

    def cuDeviceGetAttribute(self, attribute: Any, device: int) -> int:
        del device
        return self.device.attribute(attribute.name.removeprefix("CU_DEVICE_ATTRIBUTE_"))

    def cuDeviceCanAccessPeer(self, device: Any, peer: Any) -> int:
        del device, peer
        return 0

    def cuDevicePrimaryCtxRelease(self, device: int) -> None:
        del device

    def cuDevicePrimaryCtxReset(self, device: int) -> None:
        del device
        self._registered.clear()

    @property
    def _stack(self) -> list[int]:
        if not hasattr(self._stacks, "contexts"):
            self._stacks.contexts = []
        found: list[int] = self._stacks.contexts
        return found

    def cuCtxGetCurrent(self) -> Any:
        return self._binding.CUcontext(self._stack[-1] if self._stack else 0)

    def cuCtxGetDevice(self) -> int:
        return self.device.id

    def cuCtxPushCurrent(self, context: Any) -> None:
        self._stack.append(int(context))

    def cuCtxPopCurrent(self) -> Any:
        return self._binding.CUcontext(self._stack.pop())

    def cuCtxSynchronize(self) -> None:
        """Everything has been done already."""

    def make_current(self) -> int:
        """Handle of the device's context, which is current afterwards."""
        if not self._stack:
            self._stack.append(_CONTEXT)
        return _CONTEXT

    # -- memory -----------------------------------------------------------------------------------

    def cuMemGetInfo(self) -> tuple[int, int]:
        return self.memory.capacity - self.memory.used, self.memory.capacity

    def cuMemAlloc(self, size: int) -> Any:
        if size <= 0:
            raise self._failure("CUDA_ERROR_INVALID_VALUE", "Call to cuMemAlloc of 0 bytes")
        try:
            return self._binding.CUdeviceptr(self.memory.allocate(int(size)))
        except MemoryError as error:
            raise self._failure("CUDA_ERROR_OUT_OF_MEMORY", f"Call to cuMemAlloc: {error}") from None

    def cuMemAllocManaged(self, size: int, flags: int) -> Any:
        del flags
        return self.cuMemAlloc(size)

    def cuMemHostAlloc(self, size: int, flags: int) -> int:
        del flags
        return int(self.cuMemAlloc(size))

    def cuMemFree(self, address: Any) -> None:
        try:
            self.memory.free(int(address))
        except DeviceError as error:
            raise self._failure("CUDA_ERROR_INVALID_VALUE", str(error)) from None

    cuMemFreeHost = cuMemFree

    def cuMemHostRegister(self, address: int, size: int, flags: int) -> None:
        del flags
        self._registered[int(address)] = self.memory.allocate(size), size

    def cuMemHostUnregister(self, address: int) -> None:
        self.memory.free(self._registered.pop(int(address))[0])

    def cuMemHostGetDevicePointer(self, address: int, flags: int) -> Any:
        del flags
        known = self._registered.get(int(address))
        return self._binding.CUdeviceptr(known[0] if known else int(address))

    def cuMemGetAddressRange(self, address: Any) -> tuple[Any, int]:
        start, size = self._range(int(address))
        return self._binding.CUdeviceptr(start), size

    def cuPointerGetAttribute(self, attribute: Any, address: Any) -> Any:
        if attribute.name != "CU_POINTER_ATTRIBUTE_DEVICE_POINTER":
            raise self._failure("CUDA_ERROR_NOT_SUPPORTED", attribute.name)
        self._range(int(address))
        return self._binding.CUdeviceptr(int(address))

    def _range(self, address: int) -> tuple[int, int]:
        try:
            return self.memory.range_of(address)
        except DeviceError as error:
            raise self._failure("CUDA_ERROR_INVALID_VALUE", str(error)) from None

    def cuMemcpyHtoD(self, target: Any, source: int, size: int, stream: Any = 0) -> None:
        del stream
        self._checked(target, size)
        ctypes.memmove(int(target), int(source), int(size))

    def cuMemcpyDtoH(self, target: int, source: Any, size: int, stream: Any = 0) -> None:
        del stream
        self._checked(source, size)
        ctypes.memmove(int(target), int(source), int(size))

    def cuMemcpyDtoD(self, target: Any, source: Any, size: int, stream: Any = 0) -> None:
        del stream
        self._checked(target, size)
        self._checked(source, size)
        ctypes.memmove(int(target), int(source), int(size))

    def cuMemsetD8(self, target: Any, byte: int, size: int, stream: Any = 0) -> None:
        del stream
        self._checked(target, size)
        ctypes.memset(int(target), int(byte), int(size))

    cuMemcpyHtoDAsync = cuMemcpyHtoD
    cuMemcpyDtoHAsync = cuMemcpyDtoH
    cuMemcpyDtoDAsync = cuMemcpyDtoD
    cuMemsetD8Async = cuMemsetD8

    def _checked(self, address: Any, size: int) -> None:
        if size == 0:
            return
        offset = np.array([int(address) - self.memory.base], np.int64)
        if int(size) < 0 or not self.memory.allocated(offset, int(size)).all():
            text = f"{int(size)} bytes at {int(address):#x} are not all in one allocation"
            raise self._failure("CUDA_ERROR_INVALID_VALUE", text)

    # -- streams and events -----------------------------------------------------------------------

    def cuStreamCreate(self, flags: int) -> Any:
        del flags
        return self._binding.CUstream(0x1000 + 16 * next(self._handles))

    def cuStreamDestroy(self, stream: Any) -> None:
        del stream

    def cuStreamSynchronize(self, stream: Any) -> None:
        del stream

    def cuStreamWaitEvent(self, stream: Any, event: Any, flags: int) -> None:
        del stream, event, flags

    def cuStreamAddCallback(self, stream: Any, callback: Any, data: int, flags: int) -> None:
        del flags
        # Callbacks come from a thread of the driver's own, never from the caller's.
        function = _CALLBACK(int(callback))
        thread = threading.Thread(target=function, args=(int(stream or 0), 0, data))
        thread.start()
        thread.join()

    def cuEventCreate(self, flags: int) -> Any:
        del flags
        handle = 0x1000 + 16 * next(self._handles)
        self._events[handle] = 0.0
        return self._binding.CUevent(handle)

    def cuEventDestroy(self, event: Any) -> None:
        self._events.pop(int(event), None)

    def cuEventRecord(self, event: Any, stream: Any) -> None:
        del stream
        self._events[int(event)] = time.perf_counter()

    def cuEventQuery(self, event: Any) -> None:
        del event

    def cuEventSynchronize(self, event: Any) -> None:
        del event

    def cuEventElapsedTime(self, start: Any, end: Any) -> float:
        """Milliseconds of wall-clock time."""
        times = self._events[int(start)], self._events[int(end)]
        if not all(times):
            raise self._failure("CUDA_ERROR_INVALID_HANDLE", "Call to cuEventElapsedTime: not recorded")
        return (times[1] - times[0]) * 1e3

    def cuProfilerStart(self) -> None:
        """There is nothing to profile with."""

    def cuProfilerStop(self) -> None:
        """There is nothing to profile with."""

    # -- modules and kernels ----------------------------------------------------------------------

    def cuLibraryGetGlobal(self, library: Any, name: bytes) -> tuple[Any, int]:
        found = self.modules[int(library)].variable(name.decode())
        if found is None:
            raise self._failure("CUDA_ERROR_NOT_FOUND", f"no variable is called {name.decode()}")
        return self._binding.CUdeviceptr(found[0]), found[1]

    def cuLibraryUnload(self, library: Any) -> None:
        self.modules.pop(int(library), None)

    def cuKernelSetCacheConfig(self, kernel: Any, preference: Any, device: int) -> None:
        del kernel, preference, device

    def cuKernelSetAttribute(self, attribute: Any, value: int, kernel: Any, device: int) -> None:
        del attribute, value, kernel, device

    def cuOccupancyMaxActiveBlocksPerMultiprocessor(self, kernel: Any, threads: int, shared: int) -> int:
        return self.device.resident_blocks(kernel, threads, shared)

    def cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        self, kernel: Any, threads: int, shared: int, flags: int
    ) -> int:
        del flags
        return self.device.resident_blocks(kernel, threads, shared)

    def add_module(self, module: DeviceModule) -> int:
        """Handle of a module that has been loaded."""
        handle = 0x1000 + 16 * next(self._handles)
        self.modules[handle] = module
        return handle

    def copy_mapped(self, *, to_device: bool) -> None:
        """Carry host memory that is mapped to the device, before a kernel runs, or back after it."""
        for host, (address, size) in self._registered.items():
            target, source = (address, host) if to_device else (host, address)
            ctypes.memmove(target, source, size)
