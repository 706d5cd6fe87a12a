"""Rooflines of counted programs, for people and for `--json`: ceilings, points, and verdicts in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from tessera.program.arch import Architecture, parse_arch
from tessera.program.errors import OptionError
from tessera.program.quantity import format_count, format_decimal_bytes, format_ms, format_number
from tessera.workbench.failure import UsageError
from tessera.workbench.output import Column, print_table, print_wrapped

if TYPE_CHECKING:
    from tessera.profiler.roof import Ceiling, RooflineChart, RooflinePoint
    from tessera.program.program import Program
    from tessera.workbench.profiling import Counted, Form


def named_gpus(names: Sequence[str], form: Form) -> list[str]:
    """The models that names mean, each once.

    Raises:
        OptionError: No GPU is called that, or several are; the hint lists near names.
        UsageError: The form has no place for rooflines.
    """
    from tessera.profiler.datasheets import find_datasheet

    if names and form == "csv":
        raise UsageError("--gpu: CSV has one row per line of source, and no rooflines", hint="--json")

    return list(dict.fromkeys(find_datasheet(name).name for name in names))


def default_gpus(result: Counted) -> list[str]:
    """The GPU that predictions for the counted architecture are for; none where there is no datasheet."""
    from tessera.profiler.tuning.cost_model import datasheet_for

    try:
        return [datasheet_for(parse_arch(result.profile.target.split()[0])).name]
    except OptionError:
        return []


def with_predictions(result: Counted, gpus: Sequence[str]) -> Counted:
    """The same, with the least times of these GPUs alone; of the best known where none is named."""
    from tessera.profiler.datasheets import FEATURED

    found = {prediction.gpu: prediction for prediction in result.predictions}
    return replace(result, predictions=tuple(found[name] for name in gpus or FEATURED))


def charts(result: Counted, gpus: Sequence[str]) -> list[RooflineChart]:
    """The roofline of each GPU with the kernels of a counted program in it.

    What a GPU's datasheet has no rate for is a note, not a point.
    """
    from tessera.profiler.datasheets import find_datasheet
    from tessera.profiler.roof import roofline_chart
    from tessera.profiler.verdict import judge
    from tessera.profiler.work import foreign_registers, kernel_works

    found = []
    counted = parse_arch(result.profile.target.split()[0])
    for gpu in gpus:
        points, notes = [], []
        capability = find_datasheet(gpu).capability
        own, foreign = Architecture(*capability).name, foreign_registers(result.profile, capability)
        if not counted.runs_on(capability):
            warps = f"; its warps are reckoned with the registers of {foreign}'s" if foreign else ""
            notes.append(
                f"{counted.name} was counted, which {gpu} does not run{warps}: "
                f"--arch {own} counts its own code"
            )
        for work in kernel_works(result.profile, result.sizes, capability):
            try:
                points.append(judge(work, gpu))
            except OptionError as error:
                notes.append(error.message)
        chart = roofline_chart(gpu, points)
        found.append(replace(chart, notes=(*chart.notes, *notes)))
    return found


def graph_charts(
    programs: Sequence[Program], sizes: Mapping[str, int], gpus: Sequence[str]
) -> list[RooflineChart]:
    """The roofline of each GPU with whole programs in it, from their graphs.

    Raises:
        OptionError: A program has no graph, or no code for a GPU.
        InputError: A size that no program has.
        UsageError: A size is missing.
    """
    from tessera.profiler.datasheets import find_datasheet
    from tessera.profiler.roof import roofline_chart
    from tessera.profiler.verdict import judge
    from tessera.profiler.work import planned_work
    from tessera.program.validate import bound_symbols
    from tessera.workbench.checking import known_sizes

    known_sizes(programs, sizes)
    missing = sorted({name for p in programs for name in bound_symbols(p)} - set(sizes))
    if missing:
        wanted = " ".join(f"--size {name}=4096" for name in missing)
        raise UsageError(f"a roofline needs sizes: {', '.join(missing)}", hint=wanted)
    return [
        roofline_chart(gpu, [judge(planned_work(p, sizes, find_datasheet(gpu)), gpu) for p in programs])
        for gpu in gpus
    ]


def charts_data(found: Sequence[RooflineChart]) -> list[dict[str, Any]]:
    """Rooflines for `--json`."""
    return [
        {
            "gpu": chart.gpu,
            "label": "predicted from the datasheet",
            "ceilings": [{**asdict(c), "label": c.label} for c in chart.ceilings],
            "points": [{**asdict(p), "intensity": p.intensity, "reached": p.reached} for p in chart.points],
            "notes": list(chart.notes),
        }
        for chart in found
    ]


def print_charts(found: Sequence[RooflineChart], *, whole: bool) -> None:
    """Verdicts in words; with `whole` the ceilings and where each kernel lies under them as well."""
    for chart in found:
        hint = "" if whole else "; --gpu NAME for another and its ceilings"
        print_wrapped(
            f"what limits it on {chart.gpu}, predicted from the datasheet, with 2 µs a launch and the blocks "
            f"and warps that it has{hint}"
        )
        if whole:
            _print_ceilings(chart.ceilings)
            if chart.points:
                _print_points(chart.points)
        for number, point in enumerate(chart.points, 1):
            print_wrapped(f"{number}. {point.name}: {point.verdict}", indent="   ")
            print_wrapped(f"   try: {point.remedy}", indent="   ")
        for text in chart.notes if whole or not chart.points else ():
            print_wrapped(f"note: {text}")
        print()


def _print_ceilings(found: Sequence[Ceiling]) -> None:
    columns = (Column("Ceiling"), Column("Rate", right=True), Column("From"), Column("Source", wraps=True))
    print_table(columns, [(c.name, f"{c.rate:,.4g} {c.unit}", c.origin, c.source) for c in found])


def _print_points(points: Sequence[RooflinePoint]) -> None:
    right = ("Operations", "Bytes", "Op/B", "Attainable", "Predicted")
    columns = [Column("Kernel", wraps=True), *(Column(t, right=True) for t in right), Column("Bound")]
    rows = []
    for p in points:
        intensity = "–" if p.intensity is None else format_number(p.intensity)
        attainable = "–" if p.attainable is None else f"{p.attainable:.3g} T/s"
        rows.append(
            (p.name, format_count(p.operations), format_decimal_bytes(p.bytes), intensity, attainable,
             format_ms(p.predicted_ms), p.bound)
        )  # fmt: skip
    print_table(columns, rows)
