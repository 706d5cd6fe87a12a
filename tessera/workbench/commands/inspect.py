"""`tessera inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tessera.workbench.commands.compile import Arch, Spec
from tessera.workbench.commands.run import Size
from tessera.workbench.output import JsonOption

if TYPE_CHECKING:
    from pathlib import Path

    from tessera.workbench.contents import Contents
    from tessera.workbench.source import Entry

Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="FILE[:NAME], .tsc, .tsp or .tsd.", show_default=False)
]


def inspect(
    target: Target,
    ptx: Annotated[bool, typer.Option("--ptx", help="Show the PTX of every kernel.")] = False,
    sass: Annotated[
        bool, typer.Option("--sass", help="Show the machine code of every kernel, with source lines.")
    ] = False,
    graph: Annotated[
        bool,
        typer.Option("--graph", help="Show the operators before and after, what each pass did, the kernels."),
    ] = False,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Show what is launched, step by step, and where memory lies."),
    ] = False,
    occupancy: Annotated[
        bool,
        typer.Option(
            "--occupancy", help="Show resident blocks, what limits them, and what other sizes would give."
        ),
    ] = False,
    roofline: Annotated[
        list[str] | None,
        typer.Option(
            "--roofline",
            metavar="GPU",
            help="Place functions under the ceilings of a GPU model, such as H200, from their graphs.",
        ),
    ] = None,
    size: Size = None,
    kernel: Annotated[
        str | None,
        typer.Option("--kernel", help="With --occupancy: only kernels with this in their names."),
    ] = None,
    arch: Arch = None,
    spec: Spec = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a source file or a package holds."""
    from tessera.workbench.compilation import stage_ending
    from tessera.workbench.failure import UsageError
    from tessera.workbench.output import emit
    from tessera.workbench.source import is_package, load_entries

    if stage_ending(target):
        asked = {"--graph": graph, "--plan": plan, "--occupancy": occupancy, "--roofline": roofline}
        if unfit := [name for name, given in asked.items() if given]:
            raise UsageError(
                f"{target} is one kernel's code, which {unfit[0]} says nothing of",
                hint=f"tessera inspect {unfit[0]} of the source, of its .graph.json, or of a package",
            )
        _stage(target, arch, sass=sass, ptx=ptx, as_json=as_json)
        return
    if (occupancy or roofline) and (ptx or sass or plan or graph or (occupancy and roofline)):
        name = "--occupancy" if occupancy else "--roofline"
        raise UsageError(f"{name} has a page of its own", hint="give the others in another call")
    if occupancy:
        _occupancy(target, arch, spec, kernel, as_json=as_json)
        return
    if roofline:
        _roofline(target, arch, spec, roofline, size, as_json=as_json)
        return
    if size:
        raise UsageError("--size gives sizes to --roofline", hint="add --roofline H200")
    if kernel is not None:
        raise UsageError("--kernel chooses what --occupancy shows", hint="add --occupancy")
    if not (is_package(target) or ptx or sass or plan or graph):
        entries = load_entries(target)
        if as_json:
            emit({"title": target, "entries": [_entry_data(e) for e in entries]})
        else:
            _print_entries(entries)
        return
    contents = _contents(target, arch, spec, lineinfo=ptx or sass)
    if as_json:
        emit({**_data(contents, ptx=ptx, graph=graph, plan=plan), **(_sass_data(contents) if sass else {})})
        return
    if ptx or graph or plan or not sass:
        _print(contents, ptx=ptx, graph=graph, plan=plan, target=target)
    if sass:
        _print_sass(contents, target)


def _occupancy(
    target: str, arch: list[str] | None, spec: list[str] | None, kernel: str | None, *,
    as_json: bool,
) -> None:  # fmt: skip
    """Resident blocks of every kernel and architecture, and what would change them."""
    from tessera.workbench.occupancy_tables import occupancy_data, print_what_ifs, what_ifs
    from tessera.workbench.output import emit

    tables = what_ifs(_contents(target, arch, spec, lineinfo=False), kernel)
    if as_json:
        emit(occupancy_data(tables))
    else:
        print_what_ifs(tables, target)


def _roofline(
    target: str, arch: list[str] | None, spec: list[str] | None, names: list[str], size: list[str] | None, *,
    as_json: bool,
) -> None:  # fmt: skip
    """Whole functions under the ceilings of GPU models, from their graphs: at any size, as nothing runs."""
    from tessera.profiler.datasheets import find_datasheet
    from tessera.program.arch import Architecture
    from tessera.workbench.output import emit
    from tessera.workbench.roofline_tables import charts_data, graph_charts, named_gpus, print_charts
    from tessera.workbench.specs import parse_sizes

    gpus, sizes = named_gpus(names, "text"), parse_sizes(size or ())
    own = list(dict.fromkeys(Architecture(*find_datasheet(gpu).capability).name for gpu in gpus))
    charts = graph_charts(_contents(target, arch or own, spec, lineinfo=False).programs, sizes, gpus)
    if as_json:
        emit({"roofline": charts_data(charts)})
    else:
        print_charts(charts, whole=True)


def _stage(target: str, arch: list[str] | None, *, sass: bool, ptx: bool, as_json: bool) -> None:
    """A file of a stage of the compiler, as the text of another."""
    from tessera.workbench.compilation import make_request
    from tessera.workbench.failure import UsageError
    from tessera.workbench.staging import resumed, show

    if sass == ptx:
        raise UsageError(f"{target}: say what to show", hint="--sass, or --ptx of a .ll file")
    request = make_request(target, arch, None, default_arch=())
    show(resumed(request, "sass" if sass else "ptx"), None, as_json=as_json, timings=False)


def _contents(target: str, arch: list[str] | None, spec: list[str] | None, *, lineinfo: bool) -> Contents:
    from tessera.workbench.contents import of_artifacts, of_package
    from tessera.workbench.source import is_package

    if is_package(target):
        from tessera.package import Package
        from tessera.workbench.opening import package_path

        return of_package(Package.load(package_path(target)))
    from tessera.workbench.compilation import compile_request, make_request

    compiled = compile_request(make_request(target, arch, spec, lineinfo=lineinfo, default_arch=("sm_90",)))
    return of_artifacts(target, compiled.artifacts)


def _data(contents: Contents, *, ptx: bool, graph: bool, plan: bool) -> dict[str, Any]:
    from tessera.compiler.explain import report_data
    from tessera.workbench.contents import (
        contents_data,
        graph_reports,
        memory_data,
        program_json,
        ptx_texts,
    )

    data = contents_data(contents)
    if ptx:
        data["ptx"] = [{"name": b.name, "arch": b.target, "text": text} for b, text in ptx_texts(contents)]
    documents = [program_json(p) for p in contents.programs]
    if graph:
        data["graphs"] = {d["name"]: d.get("graph") for d in documents}
        data["passes"] = {
            p.name: [report_data(report) for report in graph_reports(p)] for p in contents.programs
        }
    if plan:
        data["plans"] = {d["name"]: d.get("plans", []) for d in documents}
        data["memory"] = {p.name: [memory_data(plan) for plan in p.plans] for p in contents.programs}
    return data


def _print(contents: Contents, *, ptx: bool, graph: bool, plan: bool, target: str) -> None:
    from tessera.workbench.contents import graph_texts, plan_text, print_contents
    from tessera.workbench.failure import visible

    if not (ptx or graph or plan):
        print_contents(contents)
    if graph:
        for program in contents.programs:
            for text in graph_texts(program):
                print(visible(text))
    if plan:
        for program in contents.programs:
            for one in program.plans:
                print(visible(plan_text(program, one)))
    if ptx:
        _print_ptx(contents, target)


def _print_ptx(contents: Contents, target: str) -> None:
    """The PTX of every kernel, with the lines of the source where it is at hand."""
    from tessera.workbench.app.ptx_lines import with_source
    from tessera.workbench.contents import ptx_texts
    from tessera.workbench.failure import visible
    from tessera.workbench.output import note

    file, source = _source(target)
    texts = ptx_texts(contents)
    for binary, text in texts:
        shown = with_source(text, file.name, source) if file else text
        print(visible(f"// {binary.name} for {binary.target}\n{shown}"))
    if not texts and any(b.format == "cubin" for b in contents.binaries):
        note("it holds no PTX: it was compiled with cubins alone")
    elif not texts:
        note("there is no PTX: it is compiled for the cpu alone; --arch sm_90 compiles for a GPU")


def _source(target: str) -> tuple[Path | None, list[str]]:
    """The source file of a target, if it is one, and its lines."""
    from tessera.workbench.source import is_package, split_target

    file = None if is_package(target) else split_target(target)[0]
    return file, file.read_text(encoding="utf-8", errors="replace").splitlines() if file else []


def _sass_data(contents: Contents) -> dict[str, Any]:
    from tessera.compiler.sass import disassemble

    return {
        "sass": [
            {
                "name": binary.name,
                "arch": binary.target,
                "instructions": [
                    {"offset": i.offset, "text": i.text, "opcode": i.opcode, "file": i.file, "line": i.line}
                    for i in disassemble(binary.data, binary.name)
                ],
            }
            for binary in contents.binaries
            if binary.format == "cubin"
        ]
    }


def _print_sass(contents: Contents, target: str) -> None:
    """The machine code of every kernel, under the lines of the source where it is at hand."""
    from tessera.compiler.sass import disassemble, with_source
    from tessera.workbench.failure import visible
    from tessera.workbench.output import note

    file, source = _source(target)
    cubins = [b for b in contents.binaries if b.format == "cubin"]
    for binary in cubins:
        sass = disassemble(binary.data, binary.name)
        text = with_source(sass, file.name if file else None, source)
        print(visible(f"// {binary.name} for {binary.target}\n{text}"))
    if not cubins:
        note("there is no machine code for a GPU; --arch sm_90 compiles for one")


def _entry_data(entry: Entry) -> dict[str, Any]:
    return {"name": entry.name, "kind": entry.kind, "signature": _signature(entry)}


def _signature(entry: Entry) -> str:
    """What goes in, as the source says it: `x: f32[n]`; `?` where it says nothing."""
    from tessera.program.dim import format_shape

    if entry.kind == "kernel":
        params = entry.subject.params  # type: ignore[union-attr]
        return ", ".join(
            f"{p.name}: {p.dtype}{format_shape(p.shape) if p.kind == 'array' else ''}" for p in params
        )
    if entry.is_specified:
        return ", ".join(map(str, entry.subject.inputs))  # type: ignore[union-attr]
    specs = [str(s) for s in entry.specs or ()] or ["?"] * len(entry.arguments)
    return ", ".join(f"{n}: {s}" for n, s in zip(entry.arguments, specs, strict=False))


def _print_entries(entries: list[Entry]) -> None:
    from tessera.workbench.output import Column, print_table

    rows = [(e.kind, e.name, _signature(e)) for e in entries]
    print_table((Column("Kind"), Column("Name"), Column("Takes", wraps=True)), rows)
