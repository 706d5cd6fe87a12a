"""A kernel written by hand becomes a program of one launch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tessera.compiler import abi
from tessera.compiler.build import split_targets
from tessera.compiler.cuda_cpp import cpp_job, not_for_the_cpu
from tessera.compiler.diagnose import check_names
from tessera.compiler.fingerprint import UnknownValueError, function_digest
from tessera.compiler.job import Job
from tessera.compiler.native import CpuKernel
from tessera.compiler.options import ToolOptions
from tessera.compiler.ptx import CudaKernel as NumbaKernel
from tessera.compiler.ptx import LaunchBounds
from tessera.compiler.serial import serial_form
from tessera.compiler.strides import strided_accesses
from tessera.compiler.tuning.record import Pick
from tessera.compiler.tuning.variants import Variants, kernel_variants
from tessera.compiler.unit import Unit
from tessera.language.cuda_source import CudaKernel
from tessera.program.dim import product
from tessera.program.errors import CompileError, KernelError
from tessera.program.program import (
    Arg,
    Choice,
    Compare,
    Extent,
    Launch,
    Option,
    Plan,
    Pointer,
    Port,
    Program,
    ScalarInput,
    Step,
)
from tessera.program.validate import validate

if TYPE_CHECKING:
    from tessera.language.kernel import Kernel, KernelParam


def kernel_unit(
    kernel: Kernel,
    targets: Sequence[ToolOptions],
    *,
    name: str | None = None,
    picks: Mapping[str, Sequence[Pick]] | None = None,
) -> Unit:
    """The program of a raw kernel and the jobs that build its code.

    Every array is an input. One that the kernel writes is an output of the same
    name too, which starts with the input's contents.

    Args:
        kernel: The kernel.
        targets: What to compile for. Of several, `cpu` is left out, with a note, for a
            kernel that only a GPU can run.
        name: Name of the program; by default the kernel's.
        picks: By target, configurations to compile, each for sizes up to its bucket, the last for all; by
            default the kernel's own.

    Raises:
        CompileError: A name in the kernel is not defined, or `cpu` is the only target and
            the kernel needs a GPU.
    """
    gpu, cpu = split_targets(targets)
    if isinstance(kernel, CudaKernel):
        if not gpu:
            raise not_for_the_cpu(kernel)
        variants = kernel_variants(kernel, gpu, picks or {})
        built = [
            (v, *cpp_job(v.kernel, _kinds(v.kernel), lines=_wants_lines(targets)))
            for v in variants.kernels
            if isinstance(v.kernel, CudaKernel)
        ]
        jobs = [replace(job, targets=variant.targets) for variant, job, _ in built]
        notes = list(dict.fromkeys(note for _, _, own in built for note in own))
        plans = _gpu_plans(variants)
        return _unit(kernel, name, plans, jobs, gpu, [], notes + _left_out(kernel, cpu))
    check_names(kernel.fn)
    digest, notes = _digest(kernel, targets)
    plans, jobs = [], []
    if gpu:
        arrays = {p.name: len(p.shape) for p in kernel.params if p.kind == "array"}
        notes += map(str, strided_accesses(kernel.fn, arrays))
        variants = kernel_variants(kernel, gpu, picks or {})
        plans += _gpu_plans(variants)
        jobs += [
            replace(_gpu_job(v.kernel, _digest(v.kernel, targets)[0]), targets=v.targets)
            for v in variants.kernels
        ]
    if cpu:
        try:
            job = _cpu_job(kernel, digest)
        except (CompileError, KernelError) as error:
            if not gpu:
                raise
            notes.append(f"not compiled for the cpu: {error.message}")
            cpu = []
        else:
            plans.append(_cpu_plan(kernel, cpu))
            jobs.append(job)
    return _unit(kernel, name, plans, jobs, gpu, cpu, notes)


def _unit(
    kernel: Kernel,
    name: str | None,
    plans: Sequence[Plan],
    jobs: Sequence[Job],
    gpu: Sequence[ToolOptions],
    cpu: Sequence[ToolOptions],
    notes: Sequence[str],
) -> Unit:
    program = Program(
        name=name or kernel.name,
        inputs=tuple(_port(p) for p in kernel.given),
        outputs=tuple(_port(p, initial=p.name) for p in kernel.params if p.name in kernel.outputs),
        plans=tuple(plans),
    )
    validate(program)
    return Unit(program=program, jobs=tuple(jobs), gpu=tuple(gpu), cpu=tuple(cpu), notes=tuple(notes))


def _left_out(kernel: Kernel, cpu: Sequence[ToolOptions]) -> list[str]:
    return [f"not compiled for the cpu: {not_for_the_cpu(kernel).message}"] if cpu else []


def _digest(kernel: Kernel, targets: Sequence[ToolOptions]) -> tuple[str | None, list[str]]:
    try:
        return function_digest(kernel.fn, lines=_wants_lines(targets)), []
    except UnknownValueError as error:
        return None, [f"{kernel.name} is compiled anew each time: it reads {error}, which cannot be compared"]


def _wants_lines(targets: Sequence[ToolOptions]) -> bool:
    return any(t.lineinfo or t.debug for t in targets)


def _port(param: KernelParam, *, initial: str | None = None) -> Port:
    return Port(
        name=param.name,
        dtype=param.dtype,
        shape=tuple(param.shape),
        kind="tensor" if param.kind == "array" else "scalar",
        initial=initial,
    )


def _kinds(kernel: Kernel) -> tuple[str, ...]:
    """What each parameter is: CUDA C++ takes bare pointers, Numba its arrays."""
    pointers = isinstance(kernel, CudaKernel)
    return tuple(
        p.dtype.name if p.kind != "array" else f"{p.dtype.name}*" if pointers else
        abi.array_kind(p.dtype, len(p.shape))
        for p in kernel.params
    )  # fmt: skip


def _args(kernel: Kernel) -> tuple[Arg, ...]:
    found: list[Arg] = []
    for param in kernel.params:
        if param.kind == "scalar":
            found.append(ScalarInput(name=param.name, dtype=param.dtype))
        elif param.kind == "size":
            found.append(Extent(value=param.shape[0], dtype=param.dtype))
        else:
            # What is written is the output, which starts as a copy of the input.
            space: Any = "output" if param.name in kernel.outputs else "input"
            pointer = Pointer(space=space, name=param.name)
            if isinstance(kernel, CudaKernel):
                found.append(pointer)
            else:
                found += abi.flatten_array(pointer, param.dtype, tuple(param.shape))
    return tuple(found)


def _gpu_plans(variants: Variants) -> list[Plan]:
    return [
        Plan(targets=targets, steps=(_step([(_launch(kernel), guard) for kernel, guard in ways]),))
        for targets, ways in variants.plans
    ]


def _step(ways: Sequence[tuple[Launch, tuple[Compare, ...]]]) -> Step:
    if len(ways) == 1:
        return ways[0][0]
    return Choice(options=tuple(Option(steps=(launch,), guard=guard) for launch, guard in ways))


def _launch(kernel: Kernel) -> Launch:
    return Launch(
        kernel=kernel.name,
        grid=kernel.grid,
        block=kernel.block,
        shared_bytes=kernel.shared_bytes,
        args=_args(kernel),
    )


def _cpu_plan(kernel: Kernel, targets: Sequence[ToolOptions]) -> Plan:
    """One work item a block; the serial form takes the grid, to know which block an item is."""
    grid = tuple(Extent(value=size) for size in kernel.grid)
    launch = Launch(kernel=kernel.name, grid=(product(kernel.grid), 1, 1), args=(*_args(kernel), *grid))
    return Plan(targets=tuple(t.target for t in targets), steps=(launch,))


def _parts(kernel: Kernel, digest: str | None, form: str) -> dict[str, Any] | None:
    if digest is None:
        return None
    return {
        "form": form,
        "name": kernel.name,
        "function": digest,
        "kinds": _kinds(kernel),
        "block": kernel.block,
        **({"bounds": _bounds(kernel).parts} if form == "raw" and _bounds(kernel).parts else {}),
    }


def _bounds(kernel: Kernel) -> LaunchBounds:
    return LaunchBounds(kernel.block, kernel.min_blocks, kernel.max_registers)


def _gpu_job(kernel: Kernel, digest: str | None) -> Job:
    threads = kernel.block[0] * kernel.block[1] * kernel.block[2]

    def load() -> NumbaKernel:
        # What a hand-written kernel's intrinsics look at is not known: lower for each architecture.
        return NumbaKernel(
            kernel.name, kernel.fn, _kinds(kernel), threads=threads, cc_dependent=True, bounds=_bounds(kernel)
        )

    shared = kernel.shared_bytes
    return Job(
        name=kernel.name,
        kind="cuda",
        parts=_parts(kernel, digest, "raw"),
        load=load,
        threads=threads,
        dynamic_shared_bytes=shared if isinstance(shared, int) else None,
    )


def _cpu_job(kernel: Kernel, digest: str | None) -> Job:
    # What only threads together can do first: such a kernel can be emulated, whatever its types.
    form = serial_form(kernel.fn, kernel.block)
    _check_cpu_types(kernel)
    kinds = (*_kinds(kernel), "i64", "i64", "i64")
    return Job(
        name=kernel.name,
        kind="cpu",
        parts=_parts(kernel, digest, "serial"),
        load=lambda: CpuKernel(kernel.name, form.function(), kinds),
    )


def _check_cpu_types(kernel: Kernel) -> None:
    for param in kernel.params:
        if param.dtype.name in abi.NOT_ON_CPU:
            raise CompileError(
                f"{kernel.name} needs a GPU or the emulator: {param.name} is {param.dtype}, "
                "unknown to Numba on the CPU",
                hint="run it on the device emulator; for the cpu, use f32, or write it with @ts.jit",
                location=kernel.location,
                uses=str(param.dtype),
            )
