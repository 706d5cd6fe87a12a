"""The few things that running kernels needs from an NVIDIA GPU, through CuPy."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NoReturn, Protocol

from tessera.program.bytesize import format_bytes
from tessera.program.errors import DeviceError, MissingDependencyError, OutOfMemoryError, cause_of
from tessera.program.tensor_map import TensorMap
from tessera.runtime.cuda_cluster import cluster_launcher
from tessera.runtime.cuda_tensor_map import encode_tensor_map
from tessera.runtime.memory import Block
from tessera.runtime.schedule import LaunchCall

Call = Callable[[], object]
Stream = Any
"""A CUDA stream as the driver object makes it; only handed back to it."""
Event = Any
"""A CUDA event as the driver object makes it; only handed back to it."""
Function = Any
"""A loaded kernel as the driver object makes it; only handed back to it."""

DEFAULT_SHARED_BYTES = 48 << 10
"""Dynamic shared memory that a kernel may have without asking. Source: CUDA C++ Programming Guide."""

STREAMS = 4
"""Calls that can overlap on one GPU; more share a stream."""


class Driver(Protocol):
    """One GPU. Addresses are device addresses; copies and launches are in stream order."""

    name: str
    """`NVIDIA H200`."""
    cc: tuple[int, int]
    """Compute capability."""
    l2_bytes: int
    """Size of the L2 cache; 0 if unknown."""

    def current(self) -> AbstractContextManager[None]:
        """Make this the calling thread's GPU inside the block; other methods need that."""

    def allocate(self, size: int) -> Block[Any]:
        """Device memory; raises `OutOfMemoryError`."""

    def upload(self, target: int, source: int, size: int, stream: Stream) -> None:
        """Copy from host memory."""

    def download(self, target: int, source: int, size: int, stream: Stream) -> None:
        """Copy to host memory; it is there after `synchronize`."""

    def copy(self, target: int, source: int, size: int, stream: Stream) -> None:
        """Copy within the device."""

    def load(self, code: bytes, kernel: str) -> Function:
        """The kernel of that name in a cubin or PTX text; raises `DeviceError`."""

    def launcher(self, function: Function, call: LaunchCall, params: int, stream: Stream) -> Call:
        """What launches the kernel with the argument array at host address `params`."""

    def encode_map(self, tensor_map: TensorMap) -> bytes:
        """The 128 bytes that a kernel takes for a tensor map; raises `DeviceError`."""

    def stream(self) -> Stream:
        """A stream to work on."""

    def synchronize(self, stream: Stream) -> None:
        """Wait until all its work is done; raises `DeviceError` if some of it failed."""

    def mark(self, stream: Stream) -> Event:
        """A point in the stream's work."""

    def elapsed_ns(self, start: Event, end: Event) -> int:
        """Device time between two marks, after `synchronize`."""

    def fill(self, target: int, size: int, stream: Stream) -> None:
        """Write zeros."""

    def capture(self, launches: Sequence[Call], stream: Stream) -> Call | str:
        """What replays launches on a stream as one CUDA graph; or why there is none."""

    def free_and_total_bytes(self) -> tuple[int, int]:
        """Memory of the device: free now, and all."""


def open_driver(index: int) -> CupyDriver:
    """GPU number `index`.

    Raises:
        DeviceError: There is no driver, or no such GPU.
        MissingDependencyError: CuPy is not installed.
    """
    count = gpu_count()
    if index >= count:
        raise DeviceError(
            f"there is no GPU {index}: {count} found",
            hint=(f"use cuda:0 to cuda:{count - 1}" if count else "use device='cpu'")
            + "; CUDA_VISIBLE_DEVICES limits what is seen",
        )
    if importlib.util.find_spec("cupy") is None:
        raise MissingDependencyError.extra("cupy", "cuda", needed_for=f"the device cuda:{index}")
    return CupyDriver(index)


def gpu_count() -> int:
    """How many GPUs the driver shows.

    Raises:
        DeviceError: There is no NVIDIA driver, or it does not work.
    """
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise DeviceError(
            "there is no NVIDIA driver on this machine (libcuda.so.1 is not found)",
            hint="install the driver, in a container add --gpus all, or use device='cpu'",
        ) from None
    count = ctypes.c_int(0)
    status = library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count))
    if status and status != CUDA_ERROR_NO_DEVICE:
        raise DeviceError(
            f"the NVIDIA driver does not work: cuInit gave error {status}",
            hint="nvidia-smi shows the driver's own view of it",
            status=status,
        )
    return count.value


CUDA_ERROR_NO_DEVICE = 100
CUDA_ERROR_OUT_OF_MEMORY = 2


class CupyDriver:
    """A GPU through CuPy's driver and runtime calls; nothing here compiles anything."""

    def __init__(self, index: int) -> None:
        # cupy costs 400 ms; only this device needs it.
        try:
            import cupy
        except ImportError as error:
            raise DeviceError(
                f"CuPy is installed but cannot be imported: {cause_of(error)}",
                hint="pip install --force-reinstall 'tessera[cuda]'",
            ) from error
        self._cupy = cupy
        self._runtime = cupy.cuda.runtime
        self._driver = cupy.cuda.driver
        self._errors = (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)
        self._modules: dict[bytes, Any] = {}
        self._shared_bytes: dict[int, int] = {}
        self._streams: list[Stream] = []
        self._next_stream = 0
        try:
            self._device = cupy.cuda.Device(index)
            with self._device:
                # Creates the context, which driver calls need.
                self._runtime.free(0)
                properties = self._runtime.getDeviceProperties(index)
        except self._errors as error:
            self._fail(f"cuda:{index} cannot be used", error)
        self.name = str(properties["name"].decode())
        self.cc = (int(properties["major"]), int(properties["minor"]))
        self.l2_bytes = int(properties.get("l2CacheSize", 0))
        self._multiprocessors = int(properties["multiProcessorCount"])
        self._shared_limit = int(properties["sharedMemPerBlockOptin"])

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make this the calling thread's GPU inside the block; errors become `DeviceError`s."""
        try:
            with self._device:
                yield
        except self._errors as error:
            self._fail("the GPU reports a failure", error)

    def allocate(self, size: int) -> Block[Any]:
        """Device memory.

        Raises:
            OutOfMemoryError: There is not that much free.
        """
        try:
            memory = self._cupy.cuda.Memory(size)
        except (MemoryError, self._errors[0]) as error:
            if getattr(error, "status", CUDA_ERROR_OUT_OF_MEMORY) != CUDA_ERROR_OUT_OF_MEMORY:
                raise
            free, total = self.free_and_total_bytes()
            raise OutOfMemoryError(
                f"{self.name}: {format_bytes(size)} are needed, {format_bytes(free)} of "
                f"{format_bytes(total)} are free",
                hint="use smaller batches, or end other programs on this GPU (nvidia-smi lists them)",
                required=size,
                available=free,
            ) from None
        return Block(memory, int(memory.ptr), size)

    def upload(self, target: int, source: int, size: int, stream: Stream) -> None:
        """Copy from host memory."""
        self._runtime.memcpyAsync(target, source, size, self._runtime.memcpyHostToDevice, stream.ptr)

    def download(self, target: int, source: int, size: int, stream: Stream) -> None:
        """Copy to host memory."""
        self._runtime.memcpyAsync(target, source, size, self._runtime.memcpyDeviceToHost, stream.ptr)

    def copy(self, target: int, source: int, size: int, stream: Stream) -> None:
        """Copy within the device."""
        self._runtime.memcpyAsync(target, source, size, self._runtime.memcpyDeviceToDevice, stream.ptr)

    def load(self, code: bytes, kernel: str) -> Function:
        """The kernel of that name in a cubin or PTX text.

        Raises:
            DeviceError: The driver does not take the code, or there is no such kernel in it.
        """
        try:
            if code not in self._modules:
                module = self._cupy.cuda.function.Module()
                module.load(code)
                self._modules[code] = module
            return self._modules[code].get_function(kernel)
        except self._errors as error:
            self._fail(f"kernel {kernel!r} cannot be loaded on {self.name}", error)

    def launcher(self, function: Function, call: LaunchCall, params: int, stream: Stream) -> Call:
        """What launches the kernel with the argument array at host address `params`.

        Raises:
            DeviceError: The launch is over a limit of the device.
        """
        call = call.on(self._multiprocessors)
        call.check_grid()
        self._allow_shared(function, call)
        if call.cluster is not None:
            return cluster_launcher(function.ptr, call, call.cluster, params, stream.ptr)
        shape = (*call.grid, *call.block, call.shared_bytes)
        return partial(self._driver.launchKernel, function.ptr, *shape, stream.ptr, params, 0)

    def encode_map(self, tensor_map: TensorMap) -> bytes:
        """The 128 bytes that a kernel takes for a tensor map.

        Raises:
            DeviceError: The driver refuses it.
        """
        return encode_tensor_map(tensor_map)

    def stream(self) -> Stream:
        """One of a few streams, in turn."""
        if len(self._streams) < STREAMS:
            self._streams.append(self._cupy.cuda.Stream(non_blocking=True))
            return self._streams[-1]
        self._next_stream = (self._next_stream + 1) % STREAMS
        return self._streams[self._next_stream]

    def synchronize(self, stream: Stream) -> None:
        """Wait until all its work is done."""
        stream.synchronize()

    def mark(self, stream: Stream) -> Event:
        """A point in the stream's work."""
        event = self._cupy.cuda.Event()
        event.record(stream)
        return event

    def elapsed_ns(self, start: Event, end: Event) -> int:
        """Device time between two marks."""
        return int(self._cupy.cuda.get_elapsed_time(start, end) * 1e6)

    def fill(self, target: int, size: int, stream: Stream) -> None:
        """Write zeros."""
        self._runtime.memsetAsync(target, 0, size, stream.ptr)

    def capture(self, launches: Sequence[Call], stream: Stream) -> Call | str:
        """What replays launches on a stream as one CUDA graph; or why there is none.

        Source: CUDA Runtime API, "Stream Management", cudaStreamBeginCapture; "Graph Management".
        """
        try:
            stream.begin_capture()
            try:
                for launch in launches:
                    launch()
            finally:
                # Also after a failure: a stream that is being captured takes no other work.
                graph = stream.end_capture()
            return partial(graph.launch, stream)
        except self._errors as error:
            return str(error)

    def free_and_total_bytes(self) -> tuple[int, int]:
        """Memory of the device: free now, and all."""
        with self._device:
            free, total = self._runtime.memGetInfo()
        return int(free), int(total)

    def _allow_shared(self, function: Function, call: LaunchCall) -> None:
        asked = call.shared_bytes
        if asked <= max(DEFAULT_SHARED_BYTES, self._shared_bytes.get(function.ptr, 0)):
            return
        if asked > self._shared_limit:
            raise DeviceError(
                f"kernel {call.kernel!r}: {asked} bytes of shared memory per block, "
                f"{self.name} has {self._shared_limit}",
                hint="use smaller tiles",
                required=asked,
                limit=self._shared_limit,
            )
        attribute = self._driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        self._driver.funcSetAttribute(function.ptr, attribute, asked)
        self._shared_bytes[function.ptr] = asked

    def _fail(self, what: str, error: Exception) -> NoReturn:
        raise DeviceError(
            f"{what}: {error}",
            hint="tessera check finds kernels that go out of bounds; tessera diag checks driver and GPU",
            status=getattr(error, "status", None),
        ) from error
