"""A kernel with its grid and block: what `saxpy[grid, block]` gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tessera.language.builder import active
from tessera.language.execution import kernel_launcher
from tessera.language.launch import MAX_SHARED_BYTES
from tessera.language.location import caller_location
from tessera.program.arch import MAX_BLOCK, MAX_BLOCK_THREADS, MAX_GRID
from tessera.program.errors import KernelError, SourceLocation, TraceError

if TYPE_CHECKING:
    from tessera.language.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Launcher:
    """A kernel that is called with a grid and block of the caller's choice."""

    kernel: Kernel
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared_bytes: int = 0

    def __call__(self, *args: Any) -> None:
        """Launch the kernel and wait for it. Arrays that it writes are written.

        Raises:
            InputError: An argument is missing or of another kind, dtype or rank, or cannot be written to.
        """
        builder = active()
        if builder is not None:
            raise TraceError(
                f"{self.kernel.name}: a kernel cannot be launched while {builder.name} is traced",
                hint="launch the kernel outside of ts.jit functions, or write this part with operators",
                location=caller_location(),
            )
        values = self.kernel.arguments(args)
        kernel_launcher()(self.kernel, self.grid, self.block, self.shared_bytes, values)


def launcher(kernel: Kernel, shape: Any, location: SourceLocation | None) -> Launcher:
    """The launcher that `kernel[shape]` means.

    Raises:
        KernelError: `shape` is not grid, block and what may follow, or over a limit.
    """

    def error(text: str) -> KernelError:
        return KernelError(
            f"{kernel.name}: {text}",
            hint=f"{kernel.name}[grid, block](…), such as {kernel.name}[4, 256](…)",
            location=location,
            kernel=kernel.name,
        )

    if not isinstance(shape, tuple) or not 2 <= len(shape) <= 4:
        raise error("a launch has a grid and a block")
    grid, block = (_sizes(part) for part in shape[:2])
    shared = shape[3] if len(shape) == 4 else 0
    if grid is None or block is None or _sizes(shared) is None:
        raise error(f"{shape!r} is not a launch: sizes are one to three integers")
    for what, sizes, limits in (("blocks", grid, MAX_GRID), ("threads", block, MAX_BLOCK)):
        for axis, (size, limit) in enumerate(zip(sizes, limits, strict=False)):
            if not 1 <= size <= limit:
                raise error(f"{size} {what} along axis {axis}; allowed are 1 to {limit}")
    threads = 1
    for size in block:
        threads *= size
    if threads > MAX_BLOCK_THREADS:
        raise error(f"{threads} threads; a block has at most {MAX_BLOCK_THREADS}")
    if not 0 <= int(shared) <= MAX_SHARED_BYTES:
        raise error(f"{shared} bytes of shared memory; allowed are 0 to {MAX_SHARED_BYTES}")
    return Launcher(kernel, grid, block, int(shared))


def _sizes(value: Any) -> tuple[int, ...] | None:
    """One to three integers; None if it is anything else."""
    values: Sequence[Any] = value if isinstance(value, (tuple, list)) else (value,)
    if not 1 <= len(values) <= 3 or any(isinstance(v, bool) or not hasattr(v, "__index__") for v in values):
        return None
    return tuple(int(v.__index__()) for v in values)
