"""`tessera diag`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tessera.workbench.output import JsonOption, note

if TYPE_CHECKING:
    from tessera.profiler import Check

_COLORS = {"ok": "green", "warning": "yellow", "failure": "red", "not applicable": "dim"}


def diag(
    package: Annotated[
        Path | None, typer.Argument(metavar="[PKG]", help="A package to check as well.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", metavar="FILE.zip", help="Write a ZIP for a bug report, too.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check this machine, and whether a package fits it."""
    from tessera.profiler import diagnose
    from tessera.profiler.bundle import write_bundle
    from tessera.workbench.opening import package_path
    from tessera.workbench.output import emit

    checks = diagnose(package_path(package) if package else None)
    if bundle is not None:
        write_bundle(bundle, checks)
        note(f"{bundle}: without secrets as far as Tessera can tell; look through it before you send it")
    failed = any(check.status == "failure" for check in checks)
    if as_json:
        emit(
            {
                "ok": not failed,
                "bundle": None if bundle is None else str(bundle),
                "checks": [
                    {"name": c.name, "status": c.status, "detail": c.detail, "fix": c.fix} for c in checks
                ],
            }
        )
    else:
        for check in checks:
            _print_check(check)
    if failed:
        raise typer.Exit(1)


def _print_check(check: Check) -> None:
    import textwrap

    from tessera.workbench.failure import colored, paint, visible

    color = colored(sys.stdout)
    status = "n/a" if check.status == "not applicable" else check.status
    # Paths stay whole, to be copied.
    lines = textwrap.wrap(
        f"{check.name}: {check.detail}", 68, break_on_hyphens=False, break_long_words=False
    ) or [check.name]
    print(paint(status.ljust(8), _COLORS[check.status], color), visible(lines[0]))
    for line in lines[1:]:
        print(" " * 8, visible(line))
    if check.fix:
        # Commands are meant to be copied: never wrapped.
        print(" " * 8, paint("fix:", "green", color), visible(check.fix))
