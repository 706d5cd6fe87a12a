"""Kernels in, machine code out: each kernel for each target, from the cache where it is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Literal, Protocol

from tessera.compiler.cache import CompileCache, Entry, entry_key
from tessera.compiler.cubin import check_shared, with_launch
from tessera.compiler.diagnose import explain
from tessera.compiler.gpu_code import Code, GpuCode, KernelCode, Timings, missing
from tessera.compiler.job import Job
from tessera.compiler.options import AOTConfig, ToolOptions
from tessera.compiler.ptx import CudaKernel
from tessera.compiler.source import shared_array_location
from tessera.program.arch import is_cpu
from tessera.program.artifact import KernelBinary, Resources
from tessera.program.errors import ResourceError, TesseraError


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
        timings: Where time spent is counted.
    """

    def __init__(
        self,
        config: AOTConfig,
        cache: CompileCache,
        *,
        total: int = 0,
        progress: Progress | None = None,
        timings: Timings | None = None,
    ) -> None:
        self._config = config
        self._cache = cache
        self._total = total
        self._done = 0
        self._progress = progress
        self._gpu_code: GpuCode | None = None
        self.timings = timings or Timings()
        """Seconds spent in each stage."""
        self.linkers: set[str] = set()
        """Linkers that were used for CPU code, by description."""

    def __enter__(self) -> Builder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._gpu_code is not None:
            self._gpu_code.__exit__(kind, error, trace)

    def begin_gpu(self, program: str, jobs: Sequence[Job], targets: Sequence[ToolOptions]) -> list[Pending]:
        """Begin to make cubins and PTX of a program's kernels, kernel by kernel in the order of `targets`.

        Raises:
            CompileError: A kernel does not compile; the error names its place.
        """
        return [
            item for job in jobs for item in self._kernel(program, job, [o for o in targets if job.is_for(o)])
        ]

    def _kernel(self, program: str, job: Job, targets: Sequence[ToolOptions]) -> Iterable[Pending]:
        kernel: KernelCode | None = None
        for options in targets:
            key = job.key(options, cubin=self._config.generate_cubin)
            found = self._cache.get(key)
            if found is not None:
                yield Pending(program, job, options, key, entry=found)
                continue
            if kernel is None:
                self._gpu_code = self._gpu_code or GpuCode(self.timings)
                kernel = self._gpu_code.kernel(job.load())
            code = kernel.code(options, cubin=self._config.generate_cubin)
            yield Pending(program, job, options, key, code=code)

    def gpu(self, item: Pending) -> list[KernelBinary]:
        """The cubin and PTX of one kernel for one target.

        Raises:
            CompileError: It does not compile; the error names its place.
            ResourceError: It is over a limit.
        """
        job, options = item.job, item.options
        entry = item.entry
        if entry is None:
            assert item.code is not None  # noqa: S101 - one of the two is there
            made = item.code.cubin.result() if item.code.cubin is not None else None
            ptx = made.ptx if made is not None else item.code.ptx.result()
            # With debug information the functions that a kernel calls stay modules of their own.
            files = {"ptx": "\0".join((ptx.text, *ptx.linked)).encode()}
            resources = Resources()
            if made is not None:
                files["cubin"], resources = made.data, made.resources
            entry = Entry(files=files, resources=resources)
            self._cache.put(item.key, entry)
        resources = self._checked(job, entry.resources or Resources(), options.target)
        binary = KernelBinary(
            program=item.program,
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

    def _checked(self, job: Job, resources: Resources, target: str) -> Resources:
        """What a kernel needs when it is launched, within the limits; errors have its line."""
        cap = self._config.max_shared_memory_per_block
        try:
            check_shared(job.dynamic_shared_bytes or 0, job.name, target, cap)
            return with_launch(
                resources,
                job.name,
                target,
                threads=job.threads,
                dynamic_shared_bytes=job.dynamic_shared_bytes,
                shared_cap=cap,
            )
        except ResourceError as error:
            kernel = job.load()
            if isinstance(kernel, CudaKernel) and kernel.source is None and error.location is None:
                error.location = shared_array_location(kernel.function)
            raise

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
            linked = self.timings.timed("cpu link", lambda: link_program(objects, program, options))
            entry = Entry(files={"so": linked}, tool=tool)
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
                made = self.timings.timed("cpu code", lambda: kernel_to_object(kernel, options))
            except (TesseraError, ImportError) as error:
                raise missing(error) from None
            except Exception as error:
                raise explain(error, kernel.name, kernel.function, kernel.locations) from error
            entry = Entry(files={"o": made})
            self._cache.put(key, entry)
        self._report(f"{job.name} for {options.target}")
        return entry.files["o"]

    def _report(self, label: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done), label)


@dataclass(frozen=True, slots=True)
class Pending:
    """A kernel for a target: found in the cache, or under way."""

    program: str
    job: Job
    options: ToolOptions
    key: str | None
    entry: Entry | None = None
    code: Code | None = None


def split_targets(targets: Iterable[ToolOptions]) -> tuple[list[ToolOptions], list[ToolOptions]]:
    """GPU targets and CPU targets."""
    gpu: list[ToolOptions] = []
    cpu: list[ToolOptions] = []
    for options in targets:
        (cpu if is_cpu(options.target) else gpu).append(options)
    return gpu, cpu
