"""`tessera report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tessera.workbench.commands.compile import Arch, Spec
from tessera.workbench.commands.run import Size
from tessera.workbench.output import JsonOption

Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="FILE[:NAME] or a package.", show_default=False)
]


def report(
    target: Target,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.html")] = Path("report.html"),
    arch: Arch = None,
    spec: Spec = None,
    size: Size = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of inputs drawn at random.")] = 0,
    device: Annotated[
        str | None, typer.Option("--device", "-d", help="Measure an execution there: cpu, cuda:0.")
    ] = None,
    gpu: Annotated[
        list[str] | None, typer.Option("--gpu", metavar="MODEL", help="Whose roofline; may be repeated.")
    ] = None,
    tuning: Annotated[
        list[Path] | None,
        typer.Option("--tuning", metavar="FILE", help="Records of tessera tune; may be repeated."),
    ] = None,
    recording: Annotated[
        list[str] | None,
        typer.Option("--recording", metavar="FILE", help="Of tessera top; demo is Tessera's own."),
    ] = None,
    count: Annotated[bool, typer.Option("--count/--no-count", help="Count lines in the emulator.")] = True,
    diagnostics: Annotated[
        bool, typer.Option("--diagnostics/--no-diagnostics", help="Check this machine.")
    ] = True,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE.json", help="Write all that was found, too.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write one HTML page that holds everything it shows."""
    from tessera.profiler.report import write_report, write_report_data
    from tessera.workbench.output import bytes_text, emit
    from tessera.workbench.reporting import Wanted, report_data
    from tessera.workbench.specs import parse_sizes

    found = report_data(
        Wanted(
            target=target, arch=tuple(arch or ()), spec=tuple(spec or ()),
            sizes=parse_sizes(size or ()), seed=seed, count=count, diagnose=diagnostics,
            device=device, gpus=tuple(gpu or ()),
            recordings=tuple(recording or ()), tuning=tuple(tuning or ()),
        )
    )  # fmt: skip
    path = write_report(found, out)
    if data is not None:
        write_report_data(found, data)
    written = path.stat().st_size
    if as_json:
        emit({"path": str(path), "bytes": written, "data": None if data is None else str(data)})
        return
    print(f"wrote {path} ({bytes_text(written)}), one file that opens in any browser")
    if data is not None:
        print(f"wrote {data} ({bytes_text(data.stat().st_size)}), the same as data")
