"""Whether a package is what its source compiles to, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tessera.program.codec import encode
from tessera.program.errors import PackageError
from tessera.program.spec import TensorSpec
from tessera.workbench.failure import UsageError
from tessera.workbench.source import Entry, load_entries

if TYPE_CHECKING:
    from tessera.compiler.options import AOTConfig
    from tessera.package import Package
    from tessera.program.artifact import Artifact
    from tessera.program.program import Program
    from tessera.workbench.source import Subject


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """One piece of a package beside what its source gives."""

    what: str
    """`saxpy sm_90 cubin`, `saxpy program`, `weight fc.weight`."""
    problem: str | None
    """How they differ; None if every byte is the same."""


def rebuild(package: Package, target: str) -> tuple[list[Rebuilt], list[str]]:
    """Compile a package's programs anew from `FILE[:NAME]`, with the options it was made with, and compare.

    Returns:
        Each program, kernel and weight, and notes on tools that are others than the package was made with.

    Raises:
        UsageError: The file does not define one of the programs.
        PackageError: The package does not say how it was made.
        TesseraError: The source does not compile.
    """
    from tessera.compiler.cache import CompileCache
    from tessera.deploy import AOTCompiler

    entries = {entry.name: entry for entry in load_entries(target)}
    found: list[Rebuilt] = []
    notes: dict[str, None] = {}
    for name, program in package.programs.items():
        entry = _entry(entries, name, target)
        made = _provenance(package, name)
        notes.update(dict.fromkeys(_other_tools(made)))
        compiler = AOTCompiler(_config(package, name, made), cache=CompileCache.off())
        subject, specs = _subject(package, entry, program)
        compiled = compiler.compile(subject, input_specs=specs, name=name)
        found += _compared(package, program, compiled.artifact)
    return found, list(notes)


def _entry(entries: Mapping[str, Entry], name: str, target: str) -> Entry:
    if name in entries:
        return entries[name]
    if len(entries) == 1 and ":" in target:
        return next(iter(entries.values()))
    raise UsageError(
        f"{target} does not define {name!r}, which the package has",
        hint=f"it has {', '.join(entries) or 'nothing to compile'}; name one of another name as FILE:NAME",
    )


def _provenance(package: Package, program: str) -> Mapping[str, Any]:
    whole = package.manifest.provenance
    made = whole if "targets" in whole else whole.get(program)
    if not isinstance(made, dict) or not isinstance(made.get("targets"), list):
        raise PackageError(
            f"{package.path} does not say how {program!r} was compiled, so it cannot be compared",
            hint="packages made by tessera package build and AOTCompiler say it",
        )
    return made


def _config(package: Package, program: str, made: Mapping[str, Any]) -> AOTConfig:
    from tessera.deploy import AOTConfig, CompilationTarget

    targets = []
    for options in made["targets"]:
        flags = ["-G"] if options["debug"] else [f"-O{options['opt_level']}"]
        flags += ["--use_fast_math"] if options["fast_math"] else []
        flags += [f"--maxrregcount={options['max_registers']}"] if options["max_registers"] else []
        flags += ["-lineinfo"] if options["lineinfo"] else []
        wgmma = options.get("wgmma")
        targets.append(
            CompilationTarget(
                architecture=options["target"],
                optimization_flags=flags,
                tensor_core_config="auto" if options.get("tensor_cores", True) else "off",
                wgmma_config="m{}n{}k{}".format(*wgmma) if wgmma else None,
            )
        )
    formats = {row.format for row in package.binaries if row.program == program}
    only_cpu = formats == {"so"}
    return AOTConfig(
        targets=targets,
        generate_ptx=only_cpu or "ptx" in formats,
        generate_cubin=only_cpu or "cubin" in formats,
        **made.get("graph", {}),
    )


def _subject(package: Package, entry: Entry, program: Program) -> tuple[Subject, list[TensorSpec] | None]:
    """What was compiled, and for which inputs; its weights quantized where the package's are."""
    specs = _specs(entry, program)
    scheme = package.config.get("quantization")
    if scheme is None or entry.kind == "kernel":
        return entry.subject, specs
    from tessera.compiler.graph_file import SavedGraph
    from tessera.compiler.quantize import quantize
    from tessera.compiler.subject import graph_of

    given = graph_of(entry.subject, specs, program.name)
    done = quantize(given.graph, given.constants, scheme)
    return SavedGraph(done.graph, done.constants), None


def _specs(entry: Entry, program: Program) -> list[TensorSpec] | None:
    """The inputs that the package says: an exporter calls axes otherwise than annotations do."""
    if entry.is_specified:
        return None
    said = [(port.shape, port.dtype) for port in program.inputs]
    own = [(spec.dims(""), spec.dtype) for spec in entry.specs or ()]
    return None if own == said else [TensorSpec(port.shape, port.dtype) for port in program.inputs]


def _compared(package: Package, program: Program, artifact: Artifact) -> Iterator[Rebuilt]:
    (own,) = artifact.programs
    same = encode(own) == encode(program)
    yield Rebuilt(f"{program.name} program", None if same else "is another plan or graph")
    for binary in artifact.binaries:
        what = f"{binary.name} {binary.target} {binary.format}"
        theirs = package.binary(program.name, binary.kernels[0], binary.target, binary.format)
        if theirs is None:
            yield Rebuilt(what, "is not in the package")
        elif bytes(theirs.data) != bytes(binary.data):
            yield Rebuilt(what, _difference(bytes(theirs.data), bytes(binary.data)))
        else:
            yield Rebuilt(what, None)
    packed = {row.name for row in package.weights}
    for name, value in artifact.constants.items():
        if name in packed:
            equal = package.constant(name).tobytes() == value.tobytes()
            yield Rebuilt(f"weight {name}", None if equal else "has other values")


def _difference(theirs: bytes, ours: bytes) -> str:
    if len(theirs) != len(ours):
        return f"has {len(theirs)} bytes, the source gives {len(ours)}"
    first = next(i for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b)
    return f"differs from byte {first} of {len(ours)} on"


def _other_tools(made: Mapping[str, Any]) -> Iterator[str]:
    from tessera.compiler.cache import toolchain

    here = toolchain()
    for tool, version in made.get("toolchain", {}).items():
        if here.get(tool) != version:
            yield f"the package was made with {tool} {version}, here is {here.get(tool, 'none')}"
    if made.get("tessera_digest") != here["tessera"]:
        yield "the package was made by another Tessera"
