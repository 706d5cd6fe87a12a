"""Counters as text: a table that fits 80 columns."""

from __future__ import annotations

import re

from tessera.emulator.counters import LABEL, Access, Counters, Operation, Space, Sums
from tessera.program.bytesize import format_bytes

_LEFT = 24
_ACCESSES: tuple[tuple[str, Space, tuple[Operation, ...]], ...] = (
    ("global loads", "global", ("ld",)), ("global stores", "global", ("st",)),
    ("global atomics", "global", ("atom", "red")), ("local loads", "local", ("ld",)),
    ("local stores", "local", ("st",)), ("shared loads", "shared", ("ld",)),
    ("shared stores", "shared", ("st",)), ("shared atomics", "shared", ("atom", "red")),
)  # fmt: skip
"""Rows of memory: title, state space, operations."""


def counters_text(counters: Counters) -> str:
    """The counters of one launch or several: what ran, memory, branches, operations."""
    names = ", ".join(map(plain_name, counters.kernels)) or "no kernel"
    launches = f"{counters.launches} launches" if counters.launches != 1 else "1 launch"
    lines = [
        f"{names} ({LABEL})",
        _row("launched", f"{launches}, {counters.blocks:,} blocks, {counters.warps:,} warps"),
    ]
    lines += [_row(*row) for row in instruction_rows(counters)]
    lines += [_row(*row) for row in memory_rows(counters)]
    lines += [_row(*row) for row in flow_rows(counters)]
    lines += [_row(*row) for row in work_rows(counters)]
    return "\n".join(lines)


def plain_name(symbol: str) -> str:
    """`module.function` of a mangled name (`_ZN6module8function…`), which says types too; others as they are.

    Source: Itanium C++ ABI, section 5.1 (mangling).
    """
    if not symbol.startswith("_ZN"):
        return symbol
    parts, rest = [], symbol[3:]
    while (digits := re.match(r"\d+", rest)) is not None:
        end = digits.end() + int(digits[0])
        parts.append(rest[digits.end() : end])
        rest = rest[end:]
    return ".".join(parts) or symbol


def _row(title: str, text: str) -> str:
    return f"  {title:<{_LEFT - 2}}{text}"


def instruction_rows(counters: Sums) -> list[tuple[str, str]]:
    """Instructions by warps, and their classes with the share of each."""
    executed = counters.executed
    if not executed:
        return [("instructions", "0")]
    rows = [
        ("instructions", f"{executed:,} by warps"),
        ("  active threads", f"{counters.threads / executed:.1f} of 32 in each, "
         f"{counters.threads_on / executed:.1f} not predicated off"),
    ]  # fmt: skip
    for kind, sums in counters.by_kind().items():
        rows.append((f"  {kind}", f"{sums.executed:,} ({100 * sums.executed / executed:.1f} %)"))
    return rows


def memory_rows(counters: Sums) -> list[tuple[str, str]]:
    """Requests and what they cost, by state space and direction; those that there were."""
    rows = []
    for title, space, operations in _ACCESSES:
        access = counters.memory(space, *operations)
        if access.requests:
            rows.append((title, access_text(access)))
    return rows


def access_text(access: Access) -> str:
    """`8,192 requests, 4.0 sectors each (ideal 4.0)`."""
    each = access.passes / access.requests
    ideal = access.ideal / access.requests
    if access.space == "shared":
        conflicts = f"{access.excess:,} bank conflicts" if access.excess else "no bank conflict"
        return f"{access.requests:,} requests, {each:.1f} wavefronts each, {conflicts}"
    return (
        f"{access.requests:,} requests, {each:.1f} sectors each (ideal {ideal:.1f}), "
        f"{format_bytes(access.moved_bytes)}"
    )


def flow_rows(counters: Sums) -> list[tuple[str, str]]:
    """Branches and barriers."""
    rows = []
    if counters.branches:
        share = 100 * counters.divergent / counters.branches
        rows.append(("branches", f"{counters.branches:,}, {counters.divergent:,} divergent ({share:.1f} %)"))
    barriers = counters.count("barrier")
    if barriers:
        rows.append(("barriers", f"{barriers:,} by warps"))
    return rows


def work_rows(counters: Sums) -> list[tuple[str, str]]:
    """Floating-point operations, and how many there are per byte moved."""
    rows = [(f"{name} operations", f"{count:,}") for name, count in counters.flops_by_precision().items()]
    rows += [
        (f"{name} tensor operations", f"{count:,}") for name, count in counters.tensor_flops_by_type().items()
    ]
    intensity = counters.arithmetic_intensity
    if intensity:
        rows.append(("arithmetic intensity", f"{intensity:.3g} operations per byte of global memory"))
    return rows
