"""`tessera package build|inspect|verify|unpack`; `signing` has keygen and sign."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tessera.workbench.commands.compile import Arch, Spec, Target
from tessera.workbench.output import JsonOption
from tessera.workbench.trusting import KeyOption, PolicyOption, RequireOption, RootOption

if TYPE_CHECKING:
    from tessera.package import TrustPolicy
    from tessera.workbench.trusting import Standing

PackagePath = Annotated[
    Path,
    typer.Argument(
        metavar="PKG",
        help="A .tsc, .tsp or .tsd file, or its unpacked folder.",
        readable=False,
        show_default=False,
    ),
]


def build(
    target: Target,
    arch: Arch = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="PKG", help="Where to write it.")] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the package; the file's if not given.")
    ] = None,
    version: Annotated[
        str, typer.Option("--version", metavar="VERSION", help="Version of the package.")
    ] = "0.1.0",
    spec: Spec = None,
    weights: Annotated[bool, typer.Option("--weights/--no-weights", help="Put the weights in.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Compile and write one package."""
    from tessera.package import Package
    from tessera.workbench.compilation import compile_request, make_request
    from tessera.workbench.output import bytes_text, emit
    from tessera.workbench.source import split_target

    file, inner = split_target(target)
    compiled = compile_request(make_request(target, arch, spec))
    called = name or inner or file.stem
    place = out or (compiled.request.project.out() or Path()) / f"{called}.tsd"
    place.parent.mkdir(parents=True, exist_ok=True)
    artifact = compiled.whole().artifact
    package = Package.from_artifact(artifact, name=called, version=version, include_weights=weights)
    package.save(place)
    size = place.stat().st_size
    if as_json:
        emit({"path": str(place), "bytes": size, "seconds": compiled.seconds})
    else:
        print(f"wrote {place} ({bytes_text(size)})")
        # Code for a GPU alone does not run everywhere: what is shown next must work as it stands.
        on_cpu = all(any(t.startswith("cpu") for t in p.targets) for p in artifact.programs)
        print(f"next: tessera run {place} --device cpu" if on_cpu else f"next: tessera inspect {place}")


def inspect(path: PackagePath, as_json: JsonOption = False) -> None:
    """Show what a package holds."""
    from tessera.package import Package
    from tessera.workbench.contents import contents_data, of_package, print_contents
    from tessera.workbench.opening import package_path
    from tessera.workbench.output import bytes_text, emit
    from tessera.workbench.trusting import print_standing, standing_of

    package = Package.load(package_path(path))
    contents = of_package(package)
    entries = package.entries
    standing = standing_of(package, path, None)
    if as_json:
        data = {"signature": standing.signature, "provenance": standing.provenance}
        rows = [{"name": e.path, "bytes": e.size} for e in entries]
        emit({**contents_data(contents), "entries": rows, **data})
        return
    print_contents(contents)
    print(f"{len(entries)} entries, {bytes_text(sum(e.size for e in entries))}")
    print_standing(standing)


def verify(
    path: PackagePath,
    source: Annotated[
        str | None,
        typer.Option("--rebuild", metavar="FILE[:NAME]", help="Compile this source and compare every byte."),
    ] = None,
    key: KeyOption = None,
    trust: RootOption = None,
    policy: PolicyOption = None,
    require_signature: RequireOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check every byte; exit status 1 names the entry that is wrong."""
    from tessera.workbench.opening import package_path
    from tessera.workbench.output import emit
    from tessera.workbench.trusting import policy_for, print_standing

    package_path(path)
    required = policy_for(path, keys=key, roots=trust, file=policy, require=require_signature, optional=True)
    findings, count, standing = _findings(path, required)
    if source is not None and not findings:
        _verify_source(path, source, as_json)
        return
    if as_json:
        rows = [{"entry": entry, "problem": problem} for entry, problem in findings]
        data = standing and {"signature": standing.signature, "provenance": standing.provenance}
        emit({"ok": not findings, "findings": rows, **(data or {})})
    else:
        _print_findings(path, findings, count)
        if standing is not None and not findings:
            print_standing(standing)
    if findings:
        raise typer.Exit(1)


def _findings(
    path: Path, policy: TrustPolicy | None
) -> tuple[list[tuple[str, str]], int | None, Standing | None]:
    """What is wrong by entry, how many entries there are, and who signed; unknown where it cannot be read.

    Raises:
        SignatureError: The package is not signed as `policy` asks.
    """
    from tessera.package import Package
    from tessera.package.content import Finding
    from tessera.program.errors import PackageError, SignatureError
    from tessera.workbench.trusting import standing_of

    try:
        package = Package.load(path)
        findings = [(f.entry, f.problem) for f in package.verify()]
        if findings:
            return findings, len(package.entries), None
        standing = standing_of(package, path, policy)
    except SignatureError:
        raise
    except PackageError as error:
        entry = error.fields.get("entry")
        if entry is None:
            raise
        finding = Finding.of(error, str(entry))
        return [(finding.entry, finding.problem)], None, None
    return standing.problems, len(package.entries), standing


def _verify_source(path: Path, source: str, as_json: bool) -> None:
    """Compile the source anew and compare; exit status 1 if anything differs."""
    from tessera.package import Package
    from tessera.workbench.failure import visible
    from tessera.workbench.opening import package_path
    from tessera.workbench.output import emit, note
    from tessera.workbench.rebuild import rebuild

    pieces, tools = rebuild(Package.load(package_path(path)), source)
    wrong = [piece for piece in pieces if piece.problem]
    if as_json:
        rows = [{"what": p.what, "same": p.problem is None, "problem": p.problem} for p in pieces]
        emit({"ok": not wrong, "pieces": rows, "notes": tools})
    else:
        for piece in pieces:
            print(visible(f"{piece.what}: {piece.problem or 'the same'}"))
        for text in tools:
            note(text)
        verdict = "not what the source compiles to" if wrong else "what its source compiles to, byte for byte"
        print(f"{path} is {verdict}")
    if wrong:
        raise typer.Exit(1)


def _print_findings(path: Path, findings: list[tuple[str, str]], count: int | None) -> None:
    import sys

    from tessera.workbench.failure import colored, paint, visible

    if not findings:
        print(f"{path}: {count} entries, every byte as the manifest says")
    for entry, problem in findings:
        print(paint("error:", "red", colored(sys.stderr)), visible(f"{entry}: {problem}"), file=sys.stderr)
    if findings:
        hint = paint("hint:", "green", colored(sys.stderr))
        print(hint, _remedy(path, findings), file=sys.stderr)


def _remedy(path: Path, findings: list[tuple[str, str]]) -> str:
    """What to do: the file that says how a package was made lies beside it, and may be wrong alone."""
    beside = f"{path.name}.sigstore.json"
    if all(entry == beside for entry, _ in findings):
        return (
            f"get {beside} again from who signed the package, or write it anew: tessera package sign"
            f" {path} --key KEY.pem"
        )
    return "get the package again, or build it again"


def unpack(
    path: PackagePath,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Write the package's tree into a folder."""
    from tessera.package import Package
    from tessera.workbench.opening import package_path
    from tessera.workbench.output import emit

    package = Package.load(package_path(path))
    package.unpack(folder)
    if as_json:
        emit({"path": str(folder), "entries": len(package.entries)})
    else:
        print(f"wrote {len(package.entries)} entries to {folder}")
