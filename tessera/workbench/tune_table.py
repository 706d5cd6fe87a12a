"""Tuning records as `tessera tune` prints them, and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.workbench.output import Column, note, number_text, print_table, print_wrapped

if TYPE_CHECKING:
    from tessera.compiler.tuning.record import Record
    from tessera.workbench.tuning import Tuned

OWN = "the compiler's own"
"""Tiles and threads of a tensor function as they are where nothing was tuned."""
_FAILED = {"pruned": "not run", "compile": "no code", "runtime": "failed", "wrong": "wrong"}


def sweep_data(tuned: Tuned) -> dict[str, Any]:
    """What `--json` prints of one sweep."""
    import msgspec

    from tessera.compiler.tuning.record import best

    winner = best(tuned.records)
    return {
        "kernel": tuned.name,
        "target": tuned.target,
        "reference": tuned.reference,
        "best": None if winner is None else msgspec.to_builtins(winner),
        "configurations": tuned.total,
        "recalled": tuned.recalled,
        "records": [msgspec.to_builtins(r) for r in ordered(tuned)],
    }


def ordered(tuned: Tuned) -> list[Record]:
    """The records, the cheapest first; then those without a cost."""
    from tessera.compiler.tuning.record import configuration_key

    return sorted(
        tuned.records,
        key=lambda r: (r.cost_ms is None, r.cost_ms or 0.0, configuration_key(r.configuration)),
    )


def print_sweep(tuned: Tuned, cache: Path) -> None:
    """A table of one sweep on stdout."""
    from tessera.compiler.tuning.record import best
    from tessera.workbench.failure import visible

    records = ordered(tuned)
    first = records[0]
    sizes = ", ".join(f"{name}={size}" for name, size in first.sizes.items()) or "fixed sizes"
    print_wrapped(f"{tuned.name} for {tuned.target}, {sizes}: {first.kind} for {first.gpu} ({first.driver})")
    own = next((r.cost_ms for r in records if r.configuration == tuned.reference), None)
    columns = (
        Column("Configuration", wraps=True),
        Column("Cost", right=True),
        Column("Faster", right=True),
        Column("Regs", right=True),
        Column("Spills", right=True),
        Column("Occupancy", right=True),
    )
    print_table(columns, [_cells(r, own, tuned) for r in records])
    for record in records:
        if record.reason:
            note(f"{_text(record, tuned)}: {record.reason}")
    winner = best(tuned.records)
    if winner is not None and not winner.cost_ms:
        note("with these sizes no kernel is launched: nothing was judged; --size NAME=N", "warning")
    elif winner is not None:
        print(visible(f"best: {_text(winner, tuned)}, {_cost(winner)} {winner.kind}"))
    tried = f"{len(records)} of {tuned.total} configurations"
    known = "" if tuned.recalled is None else f", {tuned.recalled} of them on record before"
    note(f"{tried}{known}; records in {cache}")


def _text(record: Record, tuned: Tuned) -> str:
    """A configuration, its names in the order in which the kernel gives them."""
    from tessera.compiler.tiling import is_own
    from tessera.language.tuning import configuration_text

    if is_own(record.configuration):
        return OWN
    return configuration_text({name: record.configuration[name] for name in tuned.reference})


def _cells(record: Record, own: float | None, tuned: Tuned) -> tuple[str, ...]:
    text = _text(record, tuned)
    faster = own / record.cost_ms if own and record.cost_ms else None
    return (
        f"{text} (own)" if record.configuration == tuned.reference and text != OWN else text,
        _cost(record),
        "-" if faster is None else f"{faster:.2f}×",
        number_text(record.registers),
        number_text(record.spill_bytes, "{} B"),
        "N/A" if record.occupancy is None else f"{record.occupancy * 100:.0f} %",
    )


def _cost(record: Record) -> str:
    if record.cost_ms is None:
        return _FAILED.get(record.status, "N/A")
    return f"{record.cost_ms * 1e3:.4g} µs" if record.cost_ms < 1 else f"{record.cost_ms:.4g} ms"
