# ruff: noqa: SLF001 - private parts are what this file is for
"""The one file of the emulator that touches numba-cuda's private parts.

numba-cuda reaches the GPU at few places: a `Driver` object whose attributes are the driver's functions, and
`Device`, `Stream`, `launch` and `Linker` of cuda.core. `Installed` puts emulated ones there and takes them
away again. All else - typing, lowering, NVVM, device arrays, ufuncs - is numba-cuda's own code.

`tests/emulator/test_numba_cuda.py` fails with a plain message when an upgrade moves one of these places.
"""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from tessera.emulator.cuda_device import Device, DeviceModule
from tessera.emulator.cuda_driver import EmulatedDriver
from tessera.emulator.cuda_engine import EngineName, open_engine
from tessera.emulator.device_copy import DeviceCopy
from tessera.emulator.nvrtc import Program
from tessera.program.errors import CompileError, DeviceError, MissingDependencyError

FINALIZERS = ("_alloc_finalizer", "_hostalloc_finalizer", "_pin_finalizer", "_event_finalizer",
              "_stream_finalizer", "_module_finalizer")  # fmt: skip
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Parts:
    """The modules of numba-cuda that have something to replace."""

    driver: Any
    devices: Any
    devicearray: Any
    dispatcher: Any
    codegen: Any
    nvrtc: Any
    nrt: Any
    args: Any
    config: Any


def parts() -> Parts:
    """numba-cuda's modules; the first import costs half a second.

    Raises:
        MissingDependencyError: numba-cuda is not installed.
        DeviceError: Numba's own simulator has taken its place.
    """
    try:
        from numba.cuda import args, codegen, dispatcher
        from numba.cuda.core import config
        from numba.cuda.cudadrv import devicearray, devices, driver, nvrtc
        from numba.cuda.memory_management import nrt
    except ImportError:
        raise MissingDependencyError.extra(
            "numba-cuda", "compile", needed_for="running Numba kernels"
        ) from None
    if config.ENABLE_CUDASIM:
        raise DeviceError(
            "Numba's simulator is switched on, which has no PTX to emulate", hint="unset NUMBA_ENABLE_CUDASIM"
        )
    return Parts(driver, devices, devicearray, dispatcher, codegen, nvrtc, nrt, args, config)


class Installed:
    """numba-cuda with an emulated device, from `install` to `remove`."""

    def __init__(self, cc: tuple[int, int], engine: EngineName) -> None:
        self.parts = parts()
        self.device = Device(cc)
        self.driver = EmulatedDriver(
            self.device, open_engine(engine, self.device.launches), self.parts.driver.binding, self._failure
        )
        self._before: list[tuple[Any, str, Any]] = []
        self._state: dict[str, Any] | None = None
        """What the `Driver` object held before."""
        self._attached: Any = None
        # Contexts and loaded kernels outlive `remove`, so that a second `install` finds them again.
        self._inside: dict[str, Any] | None = None
        self._threads = threading.local()
        self._functions: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def _failure(self, code: str, text: str) -> Exception:
        driver = self.parts.driver
        error: Exception = driver.CudaAPIError(driver.binding.CUresult[code], f"{text} ({code})")
        return error

    def _set(self, owner: Any, name: str, value: Any) -> None:
        self._before.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, value)

    def install(self) -> None:
        """Put the emulated parts in place."""
        p = self.parts
        try:
            self._replace_driver()
            self._set(p.driver, "ExperimentalDevice", lambda _=0: _CoreDevice(self))
            self._set(p.driver, "_to_core_stream", _core_stream)
            self._set(p.driver, "load_module_image", self._load_module_image)
            self._set(p.driver, "Function", _lazy_function(p.driver))
            self._set(p.nrt, "_to_core_stream", _core_stream)
            self._set(p.nrt, "_Linker", self._linker())
            for module in (p.dispatcher, p.nrt):
                self._set(module, "launch", self._launch)
                self._set(module, "LaunchConfig", LaunchConfig)
            self._set(p.codegen.CUDACodeLibrary, "get_cufunc", self._get_cufunc_method())
            self._set(p.nvrtc, "Program", Program)
            self._set(p.devicearray, "_to_strided_memory_view", self._strided_view_function())
            self._set(p.args.Out, "to_device", _out_to_device)
            for advice in ("CUDA_LOW_OCCUPANCY_WARNINGS", "CUDA_WARN_ON_IMPLICIT_COPY"):
                # Advice on how to make a GPU fast.
                self._set(p.config, advice, 0)
        except BaseException:
            self.remove()
            raise

    def _replace_driver(self) -> None:
        module = self.parts.driver
        if not hasattr(module, "_logger"):
            module._logger = module.make_logger()
        # What is freed after `remove` must still be freed here.
        for name in FINALIZERS:
            function = getattr(module, name)
            names = {**vars(module), "driver": self.driver}
            self._set(module, name, types.FunctionType(function.__code__, names, name, function.__defaults__))
        live = module.driver
        self._state = dict(vars(live))
        if self._inside is None:
            calls = {name: getattr(self.driver, name) for name in dir(self.driver) if name.startswith("cu")}
            fresh = {"devices": {}, "is_initialized": True, "initialization_error": None, "pid": None}
            self._inside = fresh | calls
        vars(live).clear()
        vars(live).update(self._inside)
        self._forget_contexts()
        runtime = self.parts.devices._runtime
        self._attached = runtime._tls
        runtime._tls = self._threads

    def _forget_contexts(self) -> None:
        type(self.parts.devices.gpus).lst.fget.cache_clear()
        self.parts.nrt.rtsys.close()

    def remove(self) -> None:
        """Put everything back as it was."""
        while self._before:
            owner, name, value = self._before.pop()
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
        if self._state is not None:
            live = self.parts.driver.driver
            self._inside = dict(vars(live))
            vars(live).clear()
            vars(live).update(self._state)
            self._state = None
        if self._attached is not None:
            self.parts.devices._runtime._tls = self._attached
            self._attached = None
        self._forget_contexts()

    # -- compiling and loading --------------------------------------------------------------------

    def _module(self, linker: Any) -> DeviceModule:
        module = DeviceModule(self.driver.engine, _ptx_of(linker), lambda: _assembler_log(self.parts, linker))
        module.handle = self.driver.add_module(module)
        return module

    def _linker(self) -> type:
        installed = self

        class EmulatedLinker(self.parts.driver._Linker):  # type: ignore[misc, name-defined]
            def complete(self) -> DeviceModule:
                return installed._module(self)

        return EmulatedLinker

    def _get_cufunc_method(self) -> Callable[[Any], Any]:
        functions, linker_type, devices = self._functions, self._linker(), self.parts.devices

        def get_cufunc(library: Any) -> Any:
            if library._entry_name is None:
                raise RuntimeError("Missing entry_name - is this the library of a device function?")
            found = functions.get(library)
            if found is None:
                context = devices.get_context()
                cc = library._ensure_cc(None)
                # Without link-time optimization: PTX is all that the emulator needs, and it is there already.
                linker = linker_type(max_registers=library._max_registers, cc=cc, lto=False)
                library._link_all(linker, cc, ignore_nonlto=False)
                module = context.create_module_image(
                    linker.complete(), library._setup_functions, library._teardown_functions
                )
                found = functions[library] = module.get_function(library._entry_name)
            return found

        return get_cufunc

    def _load_module_image(self, context: Any, image: Any, setup: Any = None, teardown: Any = None) -> Any:
        import weakref

        driver = self.parts.driver
        if not isinstance(image, DeviceModule):
            linker = driver._Linker(cc=self.device.cc)
            linker._object_codes.append(image)
            image = self._module(linker)
        finalizer = driver._module_finalizer(context, image)
        return driver.CudaPythonModule(weakref.proxy(context), image, finalizer, setup, teardown)

    # -- launching --------------------------------------------------------------------------------

    def _launch(self, stream: Any, config: LaunchConfig, kernel: Any, *args: Any) -> None:
        del stream
        grid, block = _three(config.grid), _three(config.block)
        if not kernel.fits(grid, block):
            from cuda.core._utils.cuda_utils import CUDAError

            text = f"CUDA_ERROR_INVALID_VALUE: {kernel.name} with a grid of {grid} blocks of {block} threads"
            raise CUDAError(text)
        shared = int(config.shmem_size)
        resident = self.device.resident_at_once(kernel, block[0] * block[1] * block[2], shared)
        if config.is_cooperative and grid[0] * grid[1] * grid[2] > resident:
            from cuda.core._utils.cuda_utils import CUDAError

            raise CUDAError(
                f"CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE: {kernel.name} with a grid of {grid} blocks: the "
                f"device holds {resident} of {block} threads at once"
            )
        cluster = _three(config.cluster) if config.cluster else None
        self.driver.copy_mapped(to_device=True)
        try:
            kernel.launch(grid, block, args, shared, sys.stdout, cluster=cluster, resident=resident)
        finally:
            self.driver.copy_mapped(to_device=False)

    def _strided_view_function(self) -> Callable[..., Any]:
        original, driver = self.parts.devicearray._to_strided_memory_view, self.parts.driver
        devices = self.parts.devices

        def view(obj: Any, stream: Any = 0, copy: bool = True, user_explicit: bool = False) -> Any:
            if driver.is_device_memory(obj):
                return obj._strided_memory_view_shim, False
            if hasattr(obj, "__cuda_array_interface__"):
                from numba.cuda.api import as_cuda_array

                return as_cuda_array(obj)._strided_memory_view_shim, False
            if not isinstance(obj, (np.ndarray, np.generic)) and hasattr(obj, "__dlpack__"):
                return original(obj, stream, copy, user_explicit)
            if copy and isinstance(obj, np.ndarray) and not user_explicit:
                _warn_of_copy()
            context = devices.get_context()
            return DeviceCopy(obj, context.memalloc, driver.host_pointer, copy=copy), True

        return view


def _warn_of_copy() -> None:
    from warnings import warn

    from numba.cuda.core import config
    from numba.cuda.core.errors import NumbaPerformanceWarning

    if config.CUDA_WARN_ON_IMPLICIT_COPY and not config.DISABLE_PERFORMANCE_WARNINGS:
        text = "Host array used in CUDA kernel will incur copy overhead to/from device."
        warn(NumbaPerformanceWarning(text), stacklevel=2)


def _out_to_device(self: Any, retr: list[Callable[[], Any]], stream: Any = 0) -> Any:
    from numba.cuda.cudadrv import devicearray

    view, copied = devicearray._to_strided_memory_view(self.value, copy=type(self).copy_input, stream=stream)
    if copied:
        retr.append(view.copy_back)
    return view


@dataclass(frozen=True, slots=True)
class LaunchConfig:
    """Grid, block and shared memory of a launch, named as cuda.core names them."""

    grid: Any
    block: Any
    shmem_size: int = 0
    is_cooperative: bool = False
    cluster: Any = None


def _three(sizes: Any) -> tuple[int, int, int]:
    values = sizes if isinstance(sizes, (tuple, list)) else (sizes,)
    x, y, z = (*(int(v) for v in values), 1, 1)[:3]
    return x, y, z


class _CoreStream:
    """A stream: a number, since everything is done at once."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle

    def sync(self) -> None:
        """Everything has been done already."""


def _core_stream(stream: Any) -> _CoreStream:
    if isinstance(stream, _CoreStream):
        return stream
    if not stream:
        return _CoreStream(0)
    if isinstance(stream, int):
        raise TypeError(f"Expected a Stream object or 0, got {type(stream).__name__}")
    return _CoreStream(int(stream.__cuda_stream__()[1]))


class _CoreDevice:
    """What numba-cuda asks of cuda.core's `Device`."""

    def __init__(self, installed: Installed) -> None:
        device = installed.device
        self.device_id = device.id
        self.compute_capability = device.cc
        self.name = device.name
        self.uuid = device.uuid
        self._driver = installed.driver
        self.context = types.SimpleNamespace(
            handle=installed.parts.driver.binding.CUcontext(self._driver.make_current())
        )
        self._driver.cuCtxPopCurrent()

    def set_current(self) -> None:
        """Make the device's context the thread's."""
        self._driver.make_current()


def _lazy_function(driver: Any) -> type:
    class Function(driver.CudaPythonFunction):  # type: ignore[misc]
        """Asks the assembler for registers only when somebody wants to know."""

        def __init__(self, module: Any, kernel: Any, name: str) -> None:
            self.module, self.kernel, self.name = module, kernel, name
            self.handle = kernel.handle

        @property
        def attrs(self) -> Any:
            a = self.kernel.attributes
            return driver.FuncAttr(
                a.num_regs, a.shared_size_bytes, a.local_size_bytes, a.const_size_bytes,
                a.max_threads_per_block,
            )  # fmt: skip

    return Function


def _ptx_of(linker: Any) -> list[str]:
    """The PTX that a linker was given, or that its LTO-IR links to."""
    texts = [_lto_ptx(linker)] if linker._has_ltoir else []
    for code in linker._object_codes:
        if code.code_type == "ptx":
            texts.append(_text(code.code))
        elif code.code_type == "ltoir":
            continue
        elif "cudadevrt" not in str(code.name):
            raise CompileError(
                f"{code.name or 'a linked file'} is {code.code_type}: the emulator runs PTX",
                hint="link CUDA C++ source, PTX or LTO-IR",
            )
    return texts


def _lto_ptx(linker: Any) -> str:
    given = linker._object_codes
    # The linker writes PTX only if all it gets is LTO-IR; the rest is linked by us.
    linker._object_codes = [code for code in given if code.code_type == "ltoir"]
    try:
        return _text(linker.get_linked_ptx())
    finally:
        linker._object_codes = given


def _text(code: Any) -> str:
    return bytes(code).decode().strip("\x00") if not isinstance(code, str) else code


def _assembler_log(api: Parts, linker: Any) -> str:
    """What ptxas reports: registers, stack and shared memory of each kernel."""
    driver = api.driver
    options = driver.LinkerOptions(
        arch=linker.arch,
        max_register_count=linker.max_registers,
        link_time_optimization=True if linker._has_ltoir else None,
        ptxas_options=["-v"],
    )
    real = driver.Linker(*linker._object_codes, options=options)
    real.link("cubin")
    return f"{real.get_info_log()}\n{real.get_error_log()}"


def places() -> Mapping[str, bool]:
    """Every private place that `Installed` relies on, and whether it is there: for a test."""
    p = parts()
    wanted: list[tuple[Any, tuple[str, ...]]] = [
        (p.driver, (*FINALIZERS, "driver", "binding", "ExperimentalDevice", "_to_core_stream", "make_logger",
                    "load_module_image", "Function", "CudaPythonFunction", "CudaPythonModule", "FuncAttr",
                    "CudaAPIError", "_Linker", "Linker", "LinkerOptions", "host_pointer",
                    "is_device_memory")),
        (p.driver._Linker, ("complete", "get_linked_ptx")),
        (p.dispatcher, ("launch", "LaunchConfig")),
        (p.nrt, ("launch", "LaunchConfig", "_to_core_stream", "_Linker", "rtsys")),
        (p.codegen.CUDACodeLibrary, ("get_cufunc", "_link_all", "_ensure_cc")),
        (p.nvrtc, ("Program",)),
        (p.devicearray, ("_to_strided_memory_view",)),
        (p.args.Out, ("to_device", "copy_input")),
        (p.devices, ("_runtime", "gpus", "get_context")),
        (p.devices._runtime, ("_tls",)),
    ]  # fmt: skip
    return {
        f"{getattr(owner, '__name__', owner)}.{name}": hasattr(owner, name)
        for owner, names in wanted
        for name in names
    }
