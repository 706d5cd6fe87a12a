"""Kernels in, machine code out: each kernel for each target, from the cache where it is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from tessera.compiler.cache import CompileCache, Entry, entry_key
from tessera.compiler.cubin import check_shared, ptx_to_cubin, with_launch
from tessera.compiler.cuda_cpp import CppKernel
from tessera.compiler.diagnose import explain
from tessera.compiler.job import Job
from tessera.compiler.numba_adapter import CudaIR
from tessera.compiler.options import AOTConfig, ToolOptions
from tessera.compiler.ptx import CudaKernel, Ptx, for_target, lower, lowering_class, ptx_arch, shared_ptx
from tessera.program.arch import is_cpu
from tessera.program.artifact import KernelBinary, Resources
from tessera.program.errors import MissingDependencyError, TesseraError

LINK_THREADS = 2
"""nvJitLink runs outside Python's lock: two threads ran 1.6 times as fast as one."""


class Progress(Protocol):
    """Told after each kernel and target: how many are done, of how many, and which it was."""

    def __call__(self, done: int, total: int, label: str) -> None:
        """Take note."""


class Builder:
    """Builds the kernels of programs.

    Args:
        config: What to make.
        cache: Where finished kernels are kept.
        total: Kernels times targets, for `progress`.
        progress: Told after each.
    """

    def __init__(
        self, config: AOTConfig, cache: CompileCache, *, total: int = 0, progress: Progress | None = None
    ) -> None:
        self._config = config
        self._cache = cache
        self._total = total
        self._done = 0
        self._progress = progress
        self.linkers: set[str] = set()
        """Linkers that were used for CPU code, by description."""

    def gpu(self, program: str, jobs: Sequence[Job], targets: Sequence[ToolOptions]) -> list[KernelBinary]:
        """Cubins and PTX of a program's kernels, kernel by kernel in the order of `targets`.

        Raises:
            CompileError: A kernel does not compile; the error names its place.
            ResourceError: A kernel is over a limit.
        """
        with ThreadPoolExecutor(LINK_THREADS, thread_name_prefix="tessera-link") as pool:
            pending = [item for job in jobs for item in self._kernel(job, targets, pool)]
            return [binary for item in pending for binary in self._finish(program, item)]

    def _kernel(
        self, job: Job, targets: Sequence[ToolOptions], pool: ThreadPoolExecutor
    ) -> Iterable[_Pending]:
        kernel: CudaKernel | CppKernel | None = None
        lowered = _Lowered()
        for options in targets:
            key = job.key(options, cubin=self._config.generate_cubin)
            found = self._cache.get(key)
            if found is not None:
                yield _Pending(job, options, key, entry=found)
                continue
            kernel = kernel or job.load()
            ptx = self._ptx(kernel, options, lowered)
            if self._config.generate_cubin:
                yield _Pending(
                    job, options, key, ptx=ptx, link=pool.submit(ptx_to_cubin, ptx, job.name, options)
                )
            else:
                yield _Pending(job, options, key, ptx=ptx)

    def _ptx(self, kernel: CudaKernel | CppKernel, options: ToolOptions, lowered: _Lowered) -> Ptx:
        if isinstance(kernel, CppKernel):
            try:
                return kernel.to_ptx(options)
            except ImportError as error:
                raise _missing(error) from None
        shared = lowering_class(kernel, options)
        text = (*shared, ptx_arch(kernel, options))
        try:
            if shared not in lowered.ir:
                lowered.ir[shared] = lower(kernel, options)
            if text not in lowered.ptx:
                lowered.ptx[text] = shared_ptx(lowered.ir[shared], kernel, options)
            return for_target(lowered.ptx[text], options)
        except ImportError as error:
            raise _missing(error) from None
        except Exception as error:
            raise explain(error, kernel.name, kernel.function, kernel.locations) from error

    def _finish(self, program: str, item: _Pending) -> list[KernelBinary]:
        job, options = item.job, item.options
        entry = item.entry
        if entry is None:
            assert item.ptx is not None  # noqa: S101 - one of the two is there
            # With debug information the functions that a kernel calls stay modules of their own.
            files = {"ptx": "\0".join((item.ptx.text, *item.ptx.linked)).encode()}
            resources = Resources()
            if item.link is not None:
                files["cubin"], resources = item.link.result()
            entry = Entry(files=files, resources=resources)
            self._cache.put(item.key, entry)
        check_shared(
            job.dynamic_shared_bytes or 0, job.name, options.target, self._config.max_shared_memory_per_block
        )
        resources = with_launch(
            entry.resources or Resources(),
            job.name,
            options.target,
            threads=job.threads,
            dynamic_shared_bytes=job.dynamic_shared_bytes,
            shared_cap=self._config.max_shared_memory_per_block,
        )
        binary = KernelBinary(
            program=program,
            name=job.name,
            kernels=(job.name,),
            target=options.target,
            format="cubin",
            data=b"",
            resources=resources,
            cached=item.entry is not None,
        )
        self._report(f"{job.name} for {options.target}")
        wanted: tuple[tuple[Literal["cubin", "ptx"], bool], ...] = (
            ("cubin", self._config.generate_cubin),
            ("ptx", self._config.generate_ptx),
        )
        return [replace(binary, format=form, data=entry.files[form]) for form, made in wanted if made]

    def cpu(self, program: str, jobs: Sequence[Job], options: ToolOptions) -> KernelBinary:
        """The shared library of a program's CPU kernels.

        Raises:
            CompileError: A kernel does not compile; the error names its place.
            ToolchainError: There is no linker, or it failed.
        """
        # Not the linker: asking it for its version would cost a process on every hit.
        keys = [job.key(options) for job in jobs]
        parts = {"library": program, "kernels": keys}
        key = None if None in keys else entry_key(options, parts)
        entry = self._cache.get(key)
        cached = entry is not None
        if entry is None:
            from tessera.compiler.linker import find_linker
            from tessera.compiler.native import LEVELS, link_program

            # Asked for first: without a linker the rest would be in vain.
            tool = find_linker(LEVELS[options.target].machine).description
            objects = [self._object(job, options) for job in jobs]
            entry = Entry(files={"so": link_program(objects, program, options)}, tool=tool)
            self._cache.put(key, entry)
        else:
            for job in jobs:
                self._report(f"{job.name} for {options.target}")
        self.linkers.add(entry.tool)
        return KernelBinary(
            program=program,
            name=program,
            kernels=tuple(job.name for job in jobs),
            target=options.target,
            format="so",
            data=entry.files["so"],
            cached=cached,
        )

    def _object(self, job: Job, options: ToolOptions) -> bytes:
        from tessera.compiler.native import kernel_to_object

        key = job.key(options)
        entry = self._cache.get(key)
        if entry is None:
            kernel = job.load()
            try:
                entry = Entry(files={"o": kernel_to_object(kernel, options)})
            except (TesseraError, ImportError) as error:
                raise _missing(error) from None
            except Exception as error:
                raise explain(error, kernel.name, kernel.function, kernel.locations) from error
            self._cache.put(key, entry)
        self._report(f"{job.name} for {options.target}")
        return entry.files["o"]

    def _report(self, label: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done), label)


@dataclass(frozen=True, slots=True)
class _Lowered:
    """What targets of one kernel share."""

    ir: dict[tuple[object, ...], CudaIR] = field(default_factory=dict)
    """By lowering class."""
    ptx: dict[tuple[object, ...], Ptx] = field(default_factory=dict)
    """By lowering class and architecture asked of NVVM."""


@dataclass(frozen=True, slots=True)
class _Pending:
    job: Job
    options: ToolOptions
    key: str | None
    entry: Entry | None = None
    ptx: Ptx | None = None
    link: Future[tuple[bytes, Resources]] | None = None


def _missing(error: TesseraError | ImportError) -> TesseraError:
    if isinstance(error, TesseraError):
        return error
    return MissingDependencyError.extra(error.name or "numba-cuda", "compile", needed_for="compiling")


def split_targets(targets: Iterable[ToolOptions]) -> tuple[list[ToolOptions], list[ToolOptions]]:
    """GPU targets and CPU targets."""
    gpu: list[ToolOptions] = []
    cpu: list[ToolOptions] = []
    for options in targets:
        (cpu if is_cpu(options.target) else gpu).append(options)
    return gpu, cpu
