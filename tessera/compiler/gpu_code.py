"""From a kernel to its PTX and cubins, in stages; what targets share is made once, and threads do the rest.

    front end → NVVM → PTX → nvJitLink → cubin

The front end is Python and runs in the caller. NVVM, NVRTC and nvJitLink run outside Python's lock, in a
pool of threads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Lock
from types import TracebackType
from typing import TypeVar

from tessera.compiler.cubin import load_linker, ptx_to_cubin
from tessera.compiler.cuda_cpp import CppKernel
from tessera.compiler.diagnose import explain
from tessera.compiler.numba_adapter import CudaIR
from tessera.compiler.options import ToolOptions
from tessera.compiler.ptx import CudaKernel, Ptx, for_target, lower, lowering_class, ptx_arch, shared_ptx
from tessera.compiler.source import shared_array_location
from tessera.program.artifact import Resources
from tessera.program.errors import MissingDependencyError, ResourceError, TesseraError

S = TypeVar("S")
T = TypeVar("T")
STAGES = ("graph", "kernels", "front end", "ptx", "cubin", "cpu code", "cpu link")
"""Parts of the work that are timed."""


class Timings:
    """Seconds spent in each stage, added over threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        """By name of the stage."""

    def timed(self, stage: str, work: Callable[[], T]) -> T:
        """Do the work and count its time."""
        start = time.perf_counter()
        try:
            return work()
        finally:
            with self._lock:
                self.seconds[stage] += time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class Cubin:
    """Machine code, what it needs, and the PTX it was made from."""

    data: bytes
    resources: Resources
    ptx: Ptx


@dataclass(frozen=True, slots=True)
class Code:
    """What a kernel becomes for one target, when it is ready."""

    ptx: Future[Ptx]
    cubin: Future[Cubin] | None
    """Machine code; None if none is wanted."""


@dataclass(slots=True)
class _Shared:
    """What targets of one kernel have in common."""

    ir: dict[tuple[object, ...], CudaIR] = field(default_factory=dict)
    """By lowering class."""
    ptx: dict[tuple[object, ...], Future[Ptx]] = field(default_factory=dict)
    """By lowering class and the architecture asked of NVVM."""


class GpuCode:
    """A pool that makes GPU code.

    Args:
        timings: Where time spent is counted.
        workers: Threads; None: as many as this machine has cores, two at least.
    """

    def __init__(self, timings: Timings, *, workers: int | None = None) -> None:
        self._timings = timings
        self._pool = ThreadPoolExecutor(workers or max(2, os.cpu_count() or 2), "tessera-compile")

    def __enter__(self) -> GpuCode:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After a failure or Ctrl-C nobody asks for what has not begun.
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)

    def kernel(self, kernel: CudaKernel | CppKernel) -> KernelCode:
        """Begin with one kernel."""
        return KernelCode(kernel, self._pool, self._timings)


class KernelCode:
    """One kernel's code for several targets."""

    def __init__(self, kernel: CudaKernel | CppKernel, pool: ThreadPoolExecutor, timings: Timings) -> None:
        self._kernel, self._pool, self._timings = kernel, pool, timings
        self._shared = _Shared()

    def code(self, options: ToolOptions, *, cubin: bool) -> Code:
        """The code for one target.

        Raises:
            CompileError: The front end refuses the kernel; the error names its place.
        """
        text = self._text(options)
        ptx = self._after(text, lambda made: for_target(made, options, self._kernel.bounds))
        if not cubin:
            return Code(ptx, None)
        load_linker()
        return Code(ptx, self._after(ptx, lambda made: self._link(made, options)))

    def _after(self, first: Future[S], work: Callable[[S], T]) -> Future[T]:
        """What `work` makes of a result once it is there; until then no thread waits for it."""
        made: Future[T] = Future()

        def run() -> None:
            if made.set_running_or_notify_cancel():
                try:
                    made.set_result(work(first.result()))
                except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
                    made.set_exception(error)

        def begin(done: Future[S]) -> None:
            if done.cancelled():
                made.cancel()
                return
            try:
                self._pool.submit(run)
            except RuntimeError:
                # The pool was shut down after a failure or Ctrl-C: nobody asks any more.
                made.cancel()

        first.add_done_callback(begin)
        return made

    def _link(self, ptx: Ptx, options: ToolOptions) -> Cubin:
        try:
            return self._without_spills(self._assembled(ptx, options), options)
        except TesseraError as error:
            if isinstance(self._kernel, CppKernel):
                error.location = error.location or self._kernel.location
            elif isinstance(error, ResourceError) and self._kernel.source is None:
                error.location = error.location or shared_array_location(self._kernel.function)
            raise

    def _assembled(self, ptx: Ptx, options: ToolOptions) -> Cubin:
        data, resources = self._timings.timed("cubin", lambda: ptx_to_cubin(ptx, self._kernel.name, options))
        return Cubin(data, resources, ptx)

    def _without_spills(self, made: Cubin, options: ToolOptions) -> Cubin:
        """The best of what a generated kernel that spills can be lowered to.

        Where all registers are in use, the order of instructions decides: with branches instead of both
        values of a condition (a few hundredths of a second), then by Numba's front end (seconds).
        """
        kernel = self._kernel
        if not made.resources.spill_bytes or isinstance(kernel, CppKernel) or kernel.source is None:
            return made
        for other in (kernel, replace(kernel, source=None)):
            again = self._lowered_again(other, options)
            if (again.resources.spill_bytes or 0) < (made.resources.spill_bytes or 0):
                made = again
            if not made.resources.spill_bytes:
                break
        return made

    def _lowered_again(self, kernel: CudaKernel, options: ToolOptions) -> Cubin:
        ir = self._guarded(
            lambda: self._timings.timed("front end", lambda: lower(kernel, options, branches=True))
        )
        text = self._guarded(lambda: for_target(shared_ptx(ir, kernel, options), options, kernel.bounds))
        return self._assembled(text, options)

    def _text(self, options: ToolOptions) -> Future[Ptx]:
        kernel = self._kernel
        if isinstance(kernel, CppKernel):
            return self._submit("ptx", lambda: kernel.to_ptx(options))
        shared = lowering_class(kernel, options)
        text = (*shared, ptx_arch(kernel, options))
        if text not in self._shared.ptx:
            if shared not in self._shared.ir:
                lowered = self._guarded(
                    lambda: self._timings.timed("front end", lambda: lower(kernel, options))
                )
                self._shared.ir[shared] = lowered
            ir = self._shared.ir[shared]
            self._shared.ptx[text] = self._submit("ptx", lambda: shared_ptx(ir, kernel, options))
        return self._shared.ptx[text]

    def _submit(self, stage: str, work: Callable[[], T]) -> Future[T]:
        return self._pool.submit(self._guarded, lambda: self._timings.timed(stage, work))

    def _guarded(self, work: Callable[[], T]) -> T:
        return guarded(self._kernel, work)


def guarded(kernel: CudaKernel | CppKernel, work: Callable[[], T]) -> T:
    """Do the work; whatever goes wrong becomes one of our errors, with the user's line."""
    try:
        return work()
    except ImportError as error:
        raise missing(error) from None
    except Exception as error:
        if isinstance(kernel, CppKernel):
            raise
        raise explain(error, kernel.name, kernel.function, dict(kernel.locations)) from error


def missing(error: TesseraError | ImportError) -> TesseraError:
    """The error for a compiler that is not installed."""
    if isinstance(error, TesseraError):
        return error
    return MissingDependencyError.extra(error.name or "numba-cuda", "compile", needed_for="compiling")
