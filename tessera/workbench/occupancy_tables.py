"""What `tessera inspect --occupancy` shows: kernels by architecture, and what would change it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tessera.program.arch import is_cpu
from tessera.workbench.failure import UsageError
from tessera.workbench.output import Column, note, print_table, print_wrapped

if TYPE_CHECKING:
    from tessera.profiler.occupancy_tables import WhatIf, WhatIfRow
    from tessera.program.artifact import KernelBinary
    from tessera.workbench.contents import Contents

LABEL = "predicted from the assembler's registers and shared memory, with the largest shared-memory carve-out"
"""What the figures are."""


def what_ifs(contents: Contents, kernel: str | None = None) -> list[WhatIf]:
    """The tables of every kernel for every GPU architecture; what is not known of some is said on stderr.

    Args:
        contents: With machine code.
        kernel: Part of the names of kernels to show; None for all.

    Raises:
        UsageError: No kernel is called so.
    """
    from tessera.profiler.occupancy_tables import binary_what_if

    found, unknown = [], []
    for binary in _chosen(contents, kernel):
        table = binary_what_if(binary)
        if table is not None:
            found.append(table)
        elif binary.format == "cubin" and not is_cpu(binary.target):
            unknown.append(f"{binary.name} for {binary.target}")
    if unknown:
        note(f"left out, as their registers or block size are not known: {', '.join(unknown)}")
    for table in found:
        if not table.exact:
            note(f"{table.kernel} for {table.target}: shared memory that depends on sizes counts as none")
    if not found and not unknown:
        note("there is no machine code for a GPU: compile it with --arch sm_90")
    return found


def _chosen(contents: Contents, kernel: str | None) -> list[KernelBinary]:
    chosen = [b for b in contents.binaries if kernel is None or kernel in b.name]
    if contents.binaries and not chosen:
        names = ", ".join(dict.fromkeys(b.name for b in contents.binaries))
        raise UsageError(f"--kernel {kernel}: no kernel is called so", hint=f"there are: {names}")
    return chosen


def occupancy_data(tables: Sequence[WhatIf]) -> dict[str, Any]:
    """All of it, for `--json`."""
    return {"label": LABEL, "occupancy": [asdict(table) for table in tables]}


def print_what_ifs(tables: Sequence[WhatIf], title: str) -> None:
    """The kernels and the next step of each; the what-if tables too where there is only one."""
    if not tables:
        return
    print_wrapped(f"{title}: occupancy, {LABEL}")
    _print_summary(tables)
    if len(tables) == 1:
        _print_steps(tables[0])
        _print_tables(tables[0])
        return
    same: dict[tuple[str, tuple[str, ...]], list[WhatIf]] = {}
    for table in tables:
        same.setdefault((table.kernel, table.steps), []).append(table)
    for (kernel, _), found in same.items():
        print_wrapped(f"{kernel} for {', '.join(table.target for table in found)}", indent="    ")
        _print_steps(found[0])
    print()
    print_wrapped(
        "tables of what registers, block size and shared memory would change: --kernel NAME and one --arch; "
        "--json has all"
    )


def _print_summary(tables: Sequence[WhatIf]) -> None:
    right = ("Threads", "Regs", "Shared", "Blocks")
    columns = [
        Column("Kernel", wraps=True), Column("Arch"), *(Column(t, right=True) for t in right),
        Column("Occupancy"),
    ]  # fmt: skip
    rows = [
        (
            t.kernel,
            t.target,
            str(t.needs.threads),
            str(t.needs.registers),
            f"{t.needs.shared_bytes:,} B",
            str(t.occupancy.blocks),
            f"{100 * t.occupancy.ratio:3.0f} % {t.occupancy.limiter}",
        )
        for t in tables
    ]
    print_table(columns, rows)


def _print_steps(table: WhatIf) -> None:
    for step in table.steps:
        print_wrapped(f"  {step}", indent="    ")


def _print_tables(table: WhatIf) -> None:
    print()
    _print_rows("Registers of a thread", "Registers", table.registers)
    _print_rows("Threads of a block", "Threads", table.block_sizes)
    _print_rows("Shared memory of a block", "Bytes", table.shared)
    print_wrapped(
        "▸ where the kernel stands. max_registers= of @ts.kernel caps registers; those that do not fit "
        "spill. Blocks of another size are taken to need as many registers, and shared memory, as now."
    )


def _print_rows(title: str, unit: str, rows: Sequence[WhatIfRow]) -> None:
    cells: list[tuple[str, ...]] = []
    for row in rows:
        held = row.occupancy
        value = f"{row.last:,}" if row.first == row.last else f"{row.first:,} to {row.last:,}"
        bar = "█" * round(held.ratio * BAR)
        cells.append(
            ("▸" if row.here else "", value, str(held.blocks), str(held.warps), f"{100 * held.ratio:.0f} %",
             bar, held.limiter)
        )  # fmt: skip
    right = (unit, "Blocks", "Warps", "Occupancy")
    columns = (Column(""), *(Column(t, right=True) for t in right), Column(""), Column("Limited by"))
    print_table(columns, _shortened(cells), title=title)


BAR = 12
"""Characters of full occupancy."""
SHOWN = 14
"""Rows of a table before the middle is left out."""


def _shortened(cells: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Rows about the kernel's own, where there are many."""
    if len(cells) <= SHOWN:
        return cells
    here = next((i for i, row in enumerate(cells) if row[0]), 0)
    start = max(0, min(here - SHOWN // 2, len(cells) - SHOWN))
    gap = ("", "…", "", "", "", "", "")
    shown = cells[start : start + SHOWN]
    return [*([gap] if start else []), *shown, *([gap] if start + SHOWN < len(cells) else [])]
