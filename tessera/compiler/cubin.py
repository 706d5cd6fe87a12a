"""PTX becomes machine code for one architecture, and the assembler's report becomes numbers."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from tessera.compiler.options import ToolOptions, shared_limit
from tessera.compiler.ptx import Ptx
from tessera.compiler.ptxas import assemble, find_ptxas, gains
from tessera.emulator.cuda_libraries import prefer_wheels
from tessera.program.arch import SM_LIMITS, parse_arch
from tessera.program.artifact import Resources
from tessera.program.errors import MissingDependencyError, ResourceError, ToolchainError
from tessera.program.occupancy import occupancy

_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
_FINAL = re.compile(r"used (\d+) registers, .*?(\d+) stack, (\d+) bytes smem")
_COUNTS_RESERVED = ((9, 0),)
"""Where the report adds the system's own kilobyte to a kernel's shared memory (measured, CUDA 12.9)."""
_SHARED_OVER = re.compile(r"uses too much shared data \(0x([0-9a-f]+) bytes, 0x([0-9a-f]+) max\)")
_UNDEFINED = re.compile(r"Undefined reference to '(?P<symbol>(?:_Z(?P<length>\d+))?(?P<rest>[^']+))'")


def load_linker() -> None:
    """Import the linker where no other thread does.

    While cuda.core is imported it puts the names of its module for the CUDA version over its own, its
    `__spec__` too: a second thread takes it for ready, and finds no `Linker` in it.
    """
    with contextlib.suppress(ImportError):  # `ptx_to_cubin` says what is missing, if it needs it
        import cuda.core  # noqa: F401


def ptx_to_cubin(ptx: Ptx, name: str, options: ToolOptions) -> tuple[bytes, Resources]:
    """The cubin of kernel `name` and what it needs.

    Raises:
        ResourceError: The kernel is over a limit of the architecture.
        ToolchainError: The assembler refused the PTX for another reason.
    """
    tool = find_ptxas() if gains(ptx.text) and not ptx.linked else None
    if tool is not None:
        return assemble(tool, ptx.text, name, options)
    try:
        prefer_wheels()
        # nvJitLink loads in 0.15 s; it needs no driver.
        from cuda.core import Linker, LinkerOptions, ObjectCode
    except ImportError:
        raise MissingDependencyError.extra("cuda-core", "compile", needed_for="making cubins") from None

    settings = LinkerOptions(
        name=name,
        arch=options.target,
        # The linker's own report is the only one that counts shared memory and callees.
        verbose=True,
        lineinfo=options.lineinfo or None,
        debug=options.debug or None,
        ptxas_options=["-v", f"-O{options.opt_level}"],
    )
    texts = (ptx.text, *ptx.linked)
    try:
        linker: Any = Linker(*(ObjectCode.from_ptx(text.encode()) for text in texts), options=settings)
        cubin = bytes(linker.link("cubin").code)
    except Exception as error:  # noqa: BLE001 - nvJitLink's errors have no root of their own
        raise _assembler_error(str(error), name, options) from None
    return cubin, parse_report(linker.get_info_log(), name, options.target)


def parse_report(log: str, name: str, target: str) -> Resources:
    """The numbers in nvJitLink's verbose report for entry function `name`; None where it gave none.

    Spills are those of every function in the report: what was not inlined is the kernel's too.
    """
    final = _FINAL.search(log.partition(f"Function properties for '{name}':")[2])
    spills = _SPILLS.findall(log)
    shared = int(final[3]) if final else None
    if shared and parse_arch(target).cc in _COUNTS_RESERVED:
        shared -= SM_LIMITS[parse_arch(target).cc].shared_reserved_bytes
    return Resources(
        registers=int(final[1]) if final else None,
        stack_bytes=int(final[2]) if final else None,
        shared_bytes=shared,
        spill_bytes=sum(int(stores) + int(loads) for stores, loads in spills) if spills else None,
    )


def with_launch(
    resources: Resources,
    name: str,
    target: str,
    *,
    threads: int | None,
    dynamic_shared_bytes: int | None,
    shared_cap: int | None,
) -> Resources:
    """`resources` completed with the launch the plan makes, checked against the limits.

    Args:
        resources: As the assembler reported.
        name: The kernel.
        target: Architecture.
        threads: Threads per block, if known.
        dynamic_shared_bytes: Dynamic shared memory per block, if fixed.
        shared_cap: The configured `max_shared_memory_per_block`.

    Raises:
        ResourceError: Shared memory is over its limit, or no block fits a multiprocessor.
    """
    shared = (resources.shared_bytes or 0) + (dynamic_shared_bytes or 0)
    check_shared(shared, name, target, shared_cap)
    ratio: float | None = None
    if threads and resources.registers is not None:
        found = occupancy(
            parse_arch(target), threads=threads, registers=resources.registers, shared_bytes=shared
        )
        if found.blocks == 0:
            needed = resources.registers * threads
            raise ResourceError(
                f"{name} on {target}: one block needs {resources.registers} registers × {threads} threads = "
                f"{needed}, more than the {SM_LIMITS[parse_arch(target).cc].registers} of a multiprocessor",
                hint="launch fewer threads per block, or compile with --maxrregcount",
                resource="registers",
                required=needed,
                limit=SM_LIMITS[parse_arch(target).cc].registers,
            )
        ratio = found.ratio
    return Resources(
        registers=resources.registers,
        spill_bytes=resources.spill_bytes,
        shared_bytes=resources.shared_bytes,
        stack_bytes=resources.stack_bytes,
        occupancy=ratio,
        threads=threads,
        dynamic_shared_bytes=dynamic_shared_bytes,
    )


def check_shared(required: int, name: str, target: str, cap: int | None) -> None:
    """Refuse a block that needs more shared memory than there is, or than was allowed.

    Raises:
        ResourceError: `required` bytes are over the limit.
    """
    limit = shared_limit(target, cap)
    if required <= limit:
        return
    by_user = cap is not None and limit == cap
    raise ResourceError(
        f"{name} on {target}: one block needs {required} bytes of shared memory, "
        + (f"over max_shared_memory_per_block={limit}" if by_user else f"the architecture has {limit}"),
        hint="use smaller tiles"
        + (
            f", or raise max_shared_memory_per_block to {required}" if by_user else " or another architecture"
        ),
        resource="shared memory",
        required=required,
        limit=limit,
    )


def _assembler_error(text: str, name: str, options: ToolOptions) -> ToolchainError | ResourceError:
    over = _SHARED_OVER.search(text)
    if over:
        required, limit = int(over[1], 16), int(over[2], 16)
        return ResourceError(
            f"{name} on {options.target}: static shared memory of {required} bytes is over the {limit} "
            "that a kernel may declare",
            hint="declare it dynamic: cuda.shared.array(0, dtype) and shared_bytes=… on the kernel",
            resource="static shared memory",
            required=required,
            limit=limit,
        )
    if "cudaCGSynchronize" in text:
        return ToolchainError(
            f"{name} waits for its whole grid, cuda.cg.this_grid().sync(): "
            "what packages launch is not cooperative",
            hint="split the kernel in two at the barrier, or launch it as a @cuda.jit kernel, "
            "without a GPU inside tessera.emulator.as_cuda()",
        )
    undefined = _UNDEFINED.search(text)
    if undefined:
        length = int(undefined["length"]) if undefined["length"] else None
        return ToolchainError(
            f"{name} uses {undefined['rest'][:length]} ({undefined['symbol']}), which nothing defines",
            hint="define it in the same file, or in a header that the file includes",
        )
    lines = [line for line in text.splitlines() if "error" in line or "fatal" in line]
    return ToolchainError(
        f"the assembler refused {name} for {options.target}: " + ("; ".join(lines) or text).strip(),
        hint="look at the PTX with `tessera inspect FILE --ptx`",
    )
