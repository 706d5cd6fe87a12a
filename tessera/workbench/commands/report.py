"""`tessera report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tessera.workbench.commands.compile import Arch, Spec
from tessera.workbench.output import JsonOption

if TYPE_CHECKING:
    from tessera.profiler import ReportData

Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="FILE[:NAME] or a package.", show_default=False)
]


def report(
    target: Target,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.html")] = Path("report.html"),
    arch: Arch = None,
    spec: Spec = None,
    as_json: JsonOption = False,
) -> None:
    """Write one HTML page that holds everything it shows."""
    from tessera.profiler.report import write_report
    from tessera.workbench.output import bytes_text, emit

    path = write_report(_data(target, arch, spec), out)
    size = path.stat().st_size
    if as_json:
        emit({"path": str(path), "bytes": size})
    else:
        print(f"wrote {path} ({bytes_text(size)}), one file that opens in any browser")


def _data(target: str, arch: list[str] | None, spec: list[str] | None) -> ReportData | Path:
    from tessera.workbench.opening import package_path
    from tessera.workbench.source import is_package

    if is_package(target):
        return package_path(target)
    from tessera.profiler import report_from_artifact
    from tessera.workbench.compilation import compile_request, make_request

    compiled = compile_request(make_request(target, arch, spec))
    return report_from_artifact(compiled.whole().artifact, title=target)
