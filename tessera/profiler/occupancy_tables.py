"""What would change how many blocks of a kernel a multiprocessor holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from tessera.program.arch import MAX_BLOCK_THREADS, SM_LIMITS, Architecture, is_cpu, parse_arch
from tessera.program.occupancy import Occupancy, block_limits, occupancy

if TYPE_CHECKING:
    from tessera.program.artifact import KernelBinary

MOST_REGISTERS = 255
"""Of a thread. Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"."""
WORTH = 1.1
"""Times the warps that another block size must have to be named."""
Resource = Literal["registers", "threads", "shared_bytes"]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a kernel takes of a multiprocessor."""

    threads: int
    """Of a block."""
    registers: int
    """Of a thread."""
    shared_bytes: int
    """Of a block, static and dynamic."""

    def on(self, arch: Architecture) -> Occupancy:
        """Its occupancy there."""
        return occupancy(arch, threads=self.threads, registers=self.registers, shared_bytes=self.shared_bytes)

    def limits(self, arch: Architecture) -> dict[str, int]:
        """Blocks that each resource allows there."""
        return block_limits(
            arch, threads=self.threads, registers=self.registers, shared_bytes=self.shared_bytes
        )


@dataclass(frozen=True, slots=True)
class WhatIfRow:
    """A range of values that all give the same occupancy."""

    first: int
    last: int
    occupancy: Occupancy
    here: bool
    """Whether the kernel stands in it."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A kernel's occupancy on one architecture, and what would change it. All of it is predicted."""

    kernel: str
    target: str
    needs: Needs
    occupancy: Occupancy
    limits: dict[str, int]
    """Blocks that each resource allows."""
    registers: tuple[WhatIfRow, ...]
    """By registers of a thread, from few to many."""
    block_sizes: tuple[WhatIfRow, ...]
    """By threads of a block, with the registers and shared memory that it has now."""
    shared: tuple[WhatIfRow, ...]
    """By bytes of shared memory of a block."""
    steps: tuple[str, ...]
    """The next changes that gain something, and what may grow for nothing, in words."""
    exact: bool = True
    """False where shared memory depends on sizes: what is not fixed counts as none."""


def what_if(arch: Architecture, needs: Needs, *, kernel: str = "") -> WhatIf:
    """The tables of one kernel.

    Raises:
        OptionError: No threads, or a negative size.
    """
    sm = SM_LIMITS[arch.cc]
    unit = sm.shared_granularity_bytes
    shared_values = range(0, sm.shared_optin_bytes + 1, unit)
    sizes = sorted({*_BLOCK_SIZES, needs.threads})
    by_size = [_row(arch, needs, "threads", size, size) for size in sizes if size <= MAX_BLOCK_THREADS]
    return WhatIf(
        kernel=kernel,
        target=arch.name,
        needs=needs,
        occupancy=needs.on(arch),
        limits=needs.limits(arch),
        registers=_ranges(arch, needs, "registers", range(1, MOST_REGISTERS + 1)),
        block_sizes=tuple(by_size),
        shared=_ranges(arch, needs, "shared_bytes", shared_values),
        steps=tuple(_steps(arch, needs)),
    )


_BLOCK_SIZES = (32, 64, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024)


def _with(needs: Needs, resource: Resource, value: int) -> Needs:
    return replace(needs, **{resource: value})


def _row(arch: Architecture, needs: Needs, resource: Resource, first: int, last: int) -> WhatIfRow:
    here = first <= getattr(needs, resource) <= last
    return WhatIfRow(first, last, _with(needs, resource, last).on(arch), here)


def _ranges(
    arch: Architecture, needs: Needs, resource: Resource, values: Iterable[int]
) -> tuple[WhatIfRow, ...]:
    """Values from few to many, with those together that allow as many blocks."""
    found: list[WhatIfRow] = []
    held: Occupancy | None = None
    start = before = 0
    for value in values:
        now = _with(needs, resource, value).on(arch)
        if held is None:
            start = value
        elif now != held:
            found.append(_row(arch, needs, resource, start, before))
            start = before + 1
        before, held = value, now
    found.append(_row(arch, needs, resource, start, before))
    return tuple(found)


# -- steps --------------------------------------------------------------------------------------


def _steps(arch: Architecture, needs: Needs) -> Iterable[str]:
    """What gains a block, or a warp; then what may grow at no cost."""
    held = needs.on(arch)
    if held.ratio >= 1:
        yield f"all {held.warps} warps of a multiprocessor are resident: nothing to gain"
    else:
        gains = [text for text in (_fewer_registers(arch, needs), _less_shared(arch, needs)) if text]
        yield from gains or _together(arch, needs)
        size = _other_size(arch, needs)
        if size:
            yield size
    if held.blocks:
        yield from _room(arch, needs)


def _gain(arch: Architecture, needs: Needs, resource: Resource, *, least: int, unit: int) -> int | None:
    """The largest value below the present one with which more blocks are resident."""
    held, now = needs.on(arch).blocks, getattr(needs, resource)
    value = (now - 1) // unit * unit
    while value >= least:
        if _with(needs, resource, value).on(arch).blocks > held:
            return int(value)
        value -= unit
    return None


def _fewer_registers(arch: Architecture, needs: Needs) -> str | None:
    found = _gain(arch, needs, "registers", least=16, unit=1)
    if found is None:
        return None
    changed = replace(needs, registers=found)
    return _step(arch, needs, changed, f"with {found} registers", needs.registers)


def _less_shared(arch: Architecture, needs: Needs) -> str | None:
    unit = SM_LIMITS[arch.cc].shared_granularity_bytes
    found = _gain(arch, needs, "shared_bytes", least=0, unit=unit)
    if found is None:
        return None
    here = f"with {size_text(found)} of shared memory"
    return _step(arch, needs, replace(needs, shared_bytes=found), here, size_text(needs.shared_bytes))


def _step(arch: Architecture, needs: Needs, changed: Needs, here: str, now: object) -> str:
    blocks, before = changed.on(arch).blocks, needs.on(arch).blocks
    return f"{here} instead of {now}: {blocks} {_blocks(blocks)} of {needs.threads} instead of {before}"


def _together(arch: Architecture, needs: Needs) -> Iterable[str]:
    """One more block where neither registers nor shared memory alone make room for it."""
    before, unit = needs.on(arch).blocks, SM_LIMITS[arch.cc].shared_granularity_bytes
    limits = needs.limits(arch)
    if min(limits["warps"], limits["blocks"], limits["block size"]) <= before:
        return
    registers = _most(lambda value: replace(needs, registers=value, shared_bytes=0).on(arch).blocks > before,
                      range(min(needs.registers, MOST_REGISTERS), 15, -1))  # fmt: skip
    shared = _most(lambda value: replace(needs, registers=1, shared_bytes=value).on(arch).blocks > before,
                   range(needs.shared_bytes // unit * unit, -1, -unit))  # fmt: skip
    if registers is not None and shared is not None:
        blocks = replace(needs, registers=registers, shared_bytes=shared).on(arch).blocks
        yield (
            f"with {registers} registers and {size_text(shared)} of shared memory together: {blocks} "
            f"{_blocks(blocks)} of {needs.threads} instead of {before}; neither alone gains one"
        )


def _most(fits: Callable[[int], bool], values: Iterable[int]) -> int | None:
    return next((value for value in values if fits(value)), None)


def _other_size(arch: Architecture, needs: Needs) -> str | None:
    """The nearest block size with which so many more warps are resident that it is worth a word."""
    held = needs.on(arch)
    least = WORTH * held.warps
    better = [
        s for s in _BLOCK_SIZES if replace(needs, threads=s).on(arch).warps >= max(least, held.warps + 1)
    ]
    if not better:
        return None
    size = min(better, key=lambda s: (abs(s - needs.threads), s))
    warps, most = replace(needs, threads=size).on(arch).warps, SM_LIMITS[arch.cc].threads // 32
    here = f"with blocks of {size} threads instead of {needs.threads}"
    return f"{here}: {warps} of {most} warps instead of {held.warps}"


def _room(arch: Architecture, needs: Needs) -> Iterable[str]:
    """How far registers and shared memory may grow before a block is lost."""
    held, unit = needs.on(arch).blocks, SM_LIMITS[arch.cc].shared_granularity_bytes
    registers = _most(lambda value: replace(needs, registers=value).on(arch).blocks >= held,
                      range(MOST_REGISTERS, needs.registers, -1))  # fmt: skip
    optin = SM_LIMITS[arch.cc].shared_optin_bytes
    shared = _most(lambda value: replace(needs, shared_bytes=value).on(arch).blocks >= held,
                   range(optin // unit * unit, needs.shared_bytes, -unit))  # fmt: skip
    room = [f"{registers} registers"] if registers else []
    room += [f"{size_text(shared)} of shared memory"] if shared else []
    if room:
        yield f"up to {' or '.join(room)} cost no block"


def size_text(count: int) -> str:
    """Bytes without rounding: `44 KiB`, `45,568 bytes`."""
    return f"{count >> 10} KiB" if count % 1024 == 0 else f"{count:,} bytes"


def _blocks(count: int) -> str:
    return "block" if count == 1 else "blocks"


def binary_what_if(binary: KernelBinary) -> WhatIf | None:
    """The tables of a compiled kernel.

    None for what is no machine code of a GPU, and where registers or the block size are not known.
    """
    resources = binary.resources
    if binary.format != "cubin" or is_cpu(binary.target) or resources is None:
        return None
    if resources.registers is None or not resources.threads:
        return None
    dynamic = resources.dynamic_shared_bytes
    needs = Needs(resources.threads, resources.registers, (resources.shared_bytes or 0) + (dynamic or 0))
    found = what_if(parse_arch(binary.target), needs, kernel=binary.name)
    return replace(found, exact=dynamic is not None)
