"""Where variables of a kernel lie in their state spaces."""

from __future__ import annotations

from collections.abc import Sequence

from tessera.emulator.layout import align
from tessera.emulator.ptx import TYPE_BYTES, Function, Module, Variable


def lay_out(variables: Sequence[Variable], spacing: int = 0) -> tuple[dict[str, int], int]:
    """Offset of each variable, one after the other, and the bytes of all.

    Args:
        variables: What is laid out.
        spacing: Bytes behind each that belong to none.
    """
    places: dict[str, int] = {}
    top = 0
    for variable in variables:
        top = align(top, variable.align or TYPE_BYTES[variable.type])
        places[variable.name] = top
        size = TYPE_BYTES[variable.type] * variable.count
        top += size and size + spacing
    return places, top


def shared_layout(module: Module, function: Function, spacing: int = 0) -> tuple[dict[str, int], int]:
    """Offsets of shared variables; those of dynamic size come last, all at one place."""
    others = [f for f in module.functions.values() if f.name != function.name]
    declared = {v.name: v for v in module.variables.values() if v.space == "shared"}
    for each in (function, *others):
        declared |= {v.name: v for v in each.variables if v.space == "shared"}
    static = [v for v in declared.values() if not v.external and v.count]
    places, top = lay_out(static, spacing)
    for variable in declared.values():
        if variable.external or not variable.count:
            top = align(top, variable.align or TYPE_BYTES[variable.type])
    places |= {v.name: top for v in declared.values() if v.external or not v.count}
    return places, top
