"""Calls of `@ts.jit` functions and `@ts.kernel`s: compiled in memory for this machine, then run.

What a call needs is compiled once: for each trace of a function (the language
makes one per shape and dtype, or one for all shapes where sizes have names) and
each kernel. Machine code also comes from the compile cache on disk.
"""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from tessera.program.arch import KNOWN, parse_arch
from tessera.program.errors import CompileError, DeviceError, MissingDependencyError
from tessera.program.spec import TensorSpec
from tessera.runtime.devices import DeviceFallbackWarning, parse_device

if TYPE_CHECKING:
    import numpy as np

    from tessera.compiler.options import AOTConfig
    from tessera.compiler.unit import Unit
    from tessera.language.kernel import Kernel
    from tessera.language.tracing import Traced
    from tessera.runtime.runtime import Runtime

    Array = np.ndarray[Any, Any]

DEVICE_VARIABLE = "TESSERA_DEVICE"
"""Where called functions run, such as `cpu` or `cuda:1`; otherwise on the first GPU, if there is one,
else on the CPU; kernels whose threads work together are emulated there."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where called functions run."""

    device: str
    """`cpu`, `cuda:0`, `emulator`."""
    target: str
    """What to compile for there: `cpu`, `sm_90`."""
    emulates: bool = False
    """Whether kernels that need a GPU are emulated: nobody asked for this place, there is just no other."""


CPU = Place("cpu", "cpu")
NO_GPU = Place("cpu", "cpu", emulates=True)
EMULATOR = Place("emulator", "sm_80")
_PLACES = {"cpu": CPU, "emulator": EMULATOR}


def run(traced: Traced, specs: Sequence[TensorSpec], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs by name of a traced function.

    Args:
        traced: The function. The same object comes again for calls of the same kind.
        specs: What it was traced with; the graph says the same.
        inputs: By name, of the dtypes and shapes of the graph's inputs.

    Raises:
        CompileError: It does not compile.
        MissingDependencyError: The compiler is not installed.
        DeviceError: The device failed.
    """
    del specs
    return _execute(_runtime(traced), inputs)


def run_kernel(kernel: Kernel, inputs: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays that a kernel writes, by name.

    Args:
        kernel: The kernel.
        inputs: Arrays and Python numbers by name. Arrays are not written to.

    Raises:
        CompileError: It does not compile, or needs a GPU although `TESSERA_DEVICE` says `cpu`.
        MissingDependencyError: The compiler is not installed.
        DeviceError: The device failed.
    """
    _forget_if_changed(kernel)
    return _execute(_runtime(kernel), inputs)


def launch_kernel(
    kernel: Kernel, grid: tuple[int, ...], block: tuple[int, ...], shared_bytes: int, args: Sequence[Any]
) -> None:
    """Launch a kernel with a grid and block: on the GPU, or emulated if there is none.

    Args:
        kernel: The kernel.
        grid: Blocks by axis.
        block: Threads by axis.
        shared_bytes: Dynamic shared memory per block.
        args: NumPy arrays, written in place, and NumPy scalars, in order.

    Raises:
        MissingDependencyError: The compiler is not installed.
        DeviceError: The kernel failed.
    """
    from tessera.emulator.numba_context import jit, launch

    _forget_if_changed(kernel)
    with _lock:
        if kernel not in _launched:
            _launched[kernel] = jit(kernel.fn)
    launch(_launched[kernel], grid, block, args, shared_bytes)


def place() -> Place:
    """Where calls run now: as `TESSERA_DEVICE` says, or on the first GPU, or on the CPU."""
    return _place(os.environ.get(DEVICE_VARIABLE, ""))


@cache
def _place(device: str) -> Place:
    name = parse_device(device or "cuda:0")
    if name.kind in _PLACES:
        return _PLACES[name.kind]
    if name.kind != "cuda":
        raise DeviceError(
            f"{DEVICE_VARIABLE}={device}: called functions run on cpu, emulator or cuda:N",
            hint="compile and package the function to run it elsewhere",
        )
    from tessera.runtime.cuda_driver import open_driver

    try:
        return Place(str(name), architecture_for(open_driver(name.index).cc))
    except (DeviceError, MissingDependencyError):
        if device:
            raise
        return NO_GPU


def architecture_for(cc: tuple[int, int]) -> str:
    """What to compile for a GPU of compute capability `cc`: its own, or the nearest earlier one.

    Its own is that with all of its instructions (`sm_90a`), where there is such: nothing else runs the code.
    """
    own = f"sm_{cc[0]}{cc[1]}a"
    if own in KNOWN:
        return own
    known = [arch for arch in map(parse_arch, KNOWN) if not arch.suffix and arch.cc <= cc]
    if not known:
        raise DeviceError(f"compute capability {cc[0]}.{cc[1]} is too old: 7.0 is needed")
    return max(known).name


_launched: WeakKeyDictionary[Kernel, Callable[..., Any]] = WeakKeyDictionary()
"""Kernels that were launched with a grid, as Numba compiles them."""
_runtimes: WeakKeyDictionary[Traced | Kernel, dict[Place, Runtime]] = WeakKeyDictionary()
_reads: WeakKeyDictionary[Kernel, tuple[object, ...]] = WeakKeyDictionary()
"""The globals and closures that kernels were compiled with."""
_lock = threading.Lock()


def _forget_if_changed(kernel: Kernel) -> None:
    """Compile a kernel anew if a global that it reads has changed: machine code holds it as a constant."""
    from tessera.language.reads import function_key

    key = tuple(_content(part) for part in function_key(kernel.fn))
    with _lock:
        if _reads.get(kernel, key) != key:
            _runtimes.pop(kernel, None)
            _launched.pop(kernel, None)
        _reads[kernel] = key


def _content(part: object) -> object:
    """The part of a key, with the elements of an array: it may be changed in place."""
    import numpy as np

    held = getattr(part, "value", None)
    return (part, hashlib.sha256(held.tobytes()).digest()) if isinstance(held, np.ndarray) else part


def _runtime(what: Traced | Kernel) -> Runtime:
    where = place()
    found = _runtimes.get(what, {}).get(where)
    if found is not None:
        return found
    # One at a time: two threads that call the same function first must not compile it twice.
    with _lock:
        by_place = _runtimes.setdefault(what, {})
        if where not in by_place:
            by_place[where] = _compiled(what, where)
        return by_place[where]


def _compiled(what: Traced | Kernel, where: Place) -> Runtime:
    from tessera.compiler.aot import build_artifact
    from tessera.compiler.cache import CompileCache
    from tessera.compiler.options import AOTConfig
    from tessera.runtime.runtime import open_artifact

    config = AOTConfig(targets=(where.target,))
    try:
        artifact = build_artifact([_unit(what, config)], config, CompileCache.default())
    except CompileError as error:
        # What only threads together can do is named in `uses`.
        if not where.emulates or "uses" not in error.fields:
            raise
        return _compiled(what, EMULATOR)
    try:
        return open_artifact(artifact, where.device, strict_device=True)
    except DeviceError as error:
        if where.device == CPU.device:
            raise
        warnings.warn(f"{error.message}; running on cpu instead", DeviceFallbackWarning, stacklevel=2)
        return _compiled(what, CPU)


def _unit(what: Traced | Kernel, config: AOTConfig) -> Unit:
    from tessera.language.kernel import Kernel

    targets = config.tool_options()
    if isinstance(what, Kernel):
        from tessera.compiler.raw_kernel import kernel_unit

        return kernel_unit(what, targets)
    from tessera.compiler.graph_unit import graph_unit

    return graph_unit(what.graph, what.constants, targets, config)


def _execute(runtime: Runtime, inputs: Mapping[str, Any]) -> dict[str, Array]:
    (program,) = runtime.programs.values()
    result = runtime.execute(inputs)
    return result if isinstance(result, dict) else {program.outputs[0].name: result}
