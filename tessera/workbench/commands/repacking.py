"""`tessera package diff|repack|export-weights`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tessera.workbench.commands.package import PackagePath
from tessera.workbench.output import JsonOption

if TYPE_CHECKING:
    from tessera.package.difference import Change


def diff(
    before: Annotated[
        Path,
        typer.Argument(metavar="A", readable=False, help="A package, file or folder.", show_default=False),
    ],
    after: Annotated[
        Path,
        typer.Argument(metavar="B", readable=False, help="Another one, or a later one.", show_default=False),
    ],
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two packages; exit status 1 if anything does."""
    from dataclasses import asdict

    from tessera.package import Package
    from tessera.package.difference import differences
    from tessera.workbench.opening import package_path
    from tessera.workbench.output import bytes_text, emit

    one, other = (Package.load(package_path(path)) for path in (before, after))
    changes = differences(one, other)
    sizes = [sum(e.size for e in package.entries) for package in (one, other)]
    if as_json:
        rows = [asdict(change) for change in changes]
        emit({"same": not changes, "changes": rows, "before_bytes": sizes[0], "after_bytes": sizes[1]})
    elif changes:
        _print_changes(changes)
        print(f"{before} → {after}: {len(changes)} changes, {bytes_text(sizes[0])} → {bytes_text(sizes[1])}")
    else:
        print(f"{before} and {after} hold the same: {len(one.entries)} entries, {bytes_text(sizes[0])}")
    if changes:
        raise typer.Exit(1)


def _print_changes(changes: list[Change]) -> None:
    from tessera.workbench.output import Column, bytes_text, print_table

    columns = (
        Column("Part"),
        Column("Name", wraps=True),
        Column("Change"),
        Column("Before", right=True),
        Column("After", right=True),
        Column("What", wraps=True),
    )
    rows = [
        (
            change.part,
            change.name,
            change.kind,
            "" if change.before_bytes is None else bytes_text(change.before_bytes),
            "" if change.after_bytes is None else bytes_text(change.after_bytes),
            change.detail,
        )
        for change in changes
    ]
    print_table(columns, rows)


def repack(
    path: PackagePath,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="PKG", help="The file to write.", show_default=False)
    ],
    weights: Annotated[
        Literal["stored", "deflate"] | None,
        typer.Option(
            "--weights", help="How weights are stored; as they are if not given.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a package anew, from a folder too."""
    from tessera.package import Package, repacking
    from tessera.workbench.opening import package_path
    from tessera.workbench.output import bytes_text, emit, note

    package = Package.load(package_path(path))
    deflate = None if weights is None else weights == "deflate"
    lost = repacking.repack(package, out, deflate_weights=deflate)
    if lost:
        note(
            "the signature was over another manifest, and is left out: "
            f"tessera package sign {out} --key KEY.pem",
            "warning",
        )
    size = out.stat().st_size
    if as_json:
        emit({"path": str(out), "bytes": size, "signed": package.signature is not None and not lost})
    else:
        print(f"wrote {out} ({bytes_text(size)})")


def export_weights(
    path: PackagePath,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FILE", help="The file to write.", show_default=False)
    ],
    as_json: JsonOption = False,
) -> None:
    """Write a package's weights as a safetensors file."""
    from tessera.package import Package
    from tessera.package.safetensors import export_weights as write
    from tessera.workbench.opening import package_path
    from tessera.workbench.output import bytes_text, emit

    package = Package.load(package_path(path))
    write(package, out)
    size, count = out.stat().st_size, len(package.weights)
    if as_json:
        emit({"path": str(out), "bytes": size, "weights": count})
    else:
        print(f"wrote {count} {'weight' if count == 1 else 'weights'} to {out} ({bytes_text(size)})")
