"""A package in memory: what a compiler made, laid out as the files of a package."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from io import FileIO
from pathlib import Path
from typing import Any

import msgspec

from tessera.package.content import Blob, Finding
from tessera.package.manifest import (
    Entry,
    KernelRow,
    Kind,
    Manifest,
    ProgramRow,
    WeightRow,
    manifest_to_json,
)
from tessera.package.names import encode_name, encode_names
from tessera.package.weights import Weight, weight_bytes
from tessera.package.writer import write_container
from tessera.program.artifact import BinaryFormat, KernelBinary
from tessera.program.codec import program_to_json
from tessera.program.errors import PackageError
from tessera.program.program import Program

LAUNCHER = Path(__file__).parent / "data" / "launcher.py"
"""The script that every deployment carries."""
SHIPPED_RUNTIME = Path(__file__).parents[1] / "native" / "libtessera_rt.so"
"""The native runtime library, in installations that bring it."""


@dataclass(frozen=True, slots=True)
class Contents:
    """All that goes into a package, not yet laid out."""

    name: str
    version: str = "0.1.0"
    programs: tuple[Program, ...] = ()
    binaries: tuple[KernelBinary, ...] = ()
    weights: Mapping[str, Weight] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    requirements: Mapping[str, str] = field(default_factory=dict)
    model_config: Mapping[str, Any] = field(default_factory=dict)
    runtime_config: Mapping[str, Any] = field(default_factory=dict)
    runtime_libraries: tuple[Path, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Layout:
    """The tables of a manifest, and the blobs they name."""

    programs: tuple[ProgramRow, ...]
    kernels: tuple[KernelRow, ...]
    weights: tuple[WeightRow, ...]
    config: dict[str, str]
    runtime: tuple[str, ...]
    blobs: dict[str, Blob]


class Draft:
    """A package that is not on disk. Weights stay the caller's arrays and are not copied."""

    path: Path | None = None
    signature: memoryview | None = None
    """What is not on a disk is signed by nobody."""

    def __init__(self, contents: Contents, kind: Kind | None = None) -> None:
        self._contents = contents
        self._kind: Kind | None = kind
        self._layout = _lay_out(contents, kind or "tsd")

    def of_kind(self, kind: Kind) -> Draft:
        """This draft as `kind`, unless its maker fixed another."""
        return self if self._kind else Draft(self._contents, kind)

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest, without places in a file. The first use hashes every weight (0.7 s per GiB)."""
        return self._manifest_of(tuple(_entry_of(blob) for blob in self._blobs()))

    @property
    def document(self) -> bytes:
        """The manifest as it would be written to a folder."""
        return manifest_to_json(self.manifest)

    def _manifest_of(self, entries: tuple[Entry, ...]) -> Manifest:
        """The manifest with these entries."""
        contents, layout = self._contents, self._layout
        return Manifest(
            kind=self._kind or "tsd",
            name=contents.name,
            version=contents.version,
            metadata=dict(contents.metadata),
            requirements=dict(contents.requirements),
            programs=layout.programs,
            kernels=layout.kernels,
            weights=layout.weights,
            config=layout.config,
            runtime=layout.runtime,
            provenance=dict(contents.provenance),
            notes=contents.notes,
            entries=entries,
        )

    def _blobs(self) -> Iterator[Blob]:
        """Every entry to write, sorted by path."""
        return (self._layout.blobs[path] for path in sorted(self._layout.blobs))

    def content(self, entry: Entry) -> memoryview:
        """The bytes of `entry`."""
        return self._layout.blobs[entry.path].open().toreadonly()

    def write(self, file: FileIO) -> None:
        """Write the package as a container."""
        write_container(file, self._blobs(), self._manifest_of)

    def recheck(self) -> Iterator[Finding]:
        """Nothing: there is no file that could have changed."""
        return iter(())


def _entry_of(blob: Blob) -> Entry:
    data = blob.open()
    return Entry(path=blob.path, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _lay_out(contents: Contents, kind: Kind) -> _Layout:
    blobs: dict[str, Blob] = {}

    def add(path: str, data: bytes, *, deflate: bool = True) -> str:
        blobs[path] = Blob(path, lambda: memoryview(data), deflate=deflate)
        return path

    stems = encode_names(p.name for p in contents.programs)
    programs = tuple(
        ProgramRow(name=p.name, path=add(f"programs/{stems[p.name]}.json", program_to_json(p)))
        for p in sorted(contents.programs, key=lambda p: p.name)
    )
    kernels = []
    for path, binary in sorted(_kernel_paths(contents.binaries).items()):
        add(path, binary.data)
        kernels.append(_kernel_row(path, binary))
    config = {
        name: add(f"config/{name}_config.json", msgspec.json.format(msgspec.json.encode(value), indent=1))
        for name, value in (("model", contents.model_config), ("runtime", contents.runtime_config))
        if value or kind == "tsd"
    }
    runtime = [add("runtime/launcher.py", LAUNCHER.read_bytes())] if kind == "tsd" else []
    # What nobody asked for goes into deployments alone: a compiled function is 4 KiB without it.
    shipped = (SHIPPED_RUNTIME,) if kind == "tsd" and SHIPPED_RUNTIME.is_file() else ()
    for library in contents.runtime_libraries or shipped:
        path = f"runtime/{encode_name(library.name)}"
        blobs[path] = Blob(path, _file_opener(library), deflate=True)
        runtime.append(path)
    weights = _lay_out_weights(contents.weights, blobs)
    return _Layout(programs, tuple(kernels), weights, config, tuple(sorted(runtime)), blobs)


def _lay_out_weights(weights: Mapping[str, Weight], blobs: dict[str, Blob]) -> tuple[WeightRow, ...]:
    rows = []
    for name, stem in sorted(encode_names(weights).items()):
        path, weight = f"weights/{stem}.bin", weights[name]
        blobs[path] = Blob(path, partial(weight_bytes, weight), deflate=weight.deflate)
        rows.append(WeightRow(name=name, dtype=weight.dtype, shape=tuple(weight.array.shape), path=path))
    return tuple(rows)


def _file_opener(path: Path) -> Callable[[], memoryview]:
    return lambda: memoryview(path.read_bytes())


def _kernel_row(path: str, binary: KernelBinary) -> KernelRow:
    return KernelRow(
        program=binary.program,
        name=binary.name,
        kernels=binary.kernels,
        target=binary.target,
        format=binary.format,
        path=path,
        resources=binary.resources,
    )


def _kernel_paths(binaries: Iterable[KernelBinary]) -> dict[str, KernelBinary]:
    """Every binary by its path: `kernels/<target>/<name>.<format>`.

    Where several programs have a kernel of one name for one target, the program's name comes before it.
    """
    folders: dict[tuple[str, BinaryFormat], list[KernelBinary]] = {}
    for binary in binaries:
        folders.setdefault((binary.target, binary.format), []).append(binary)
    paths: dict[str, KernelBinary] = {}
    for (target, ending), group in folders.items():
        labels: dict[str, KernelBinary] = {}
        shared = Counter(b.name for b in group)
        for binary in sorted(group, key=lambda b: (b.name, b.program)):
            label = binary.name if shared[binary.name] == 1 else f"{binary.program}.{binary.name}"
            if label in labels and (labels[label].program, labels[label].name) == (
                binary.program,
                binary.name,
            ):
                raise PackageError(
                    f"program {binary.program!r} has two binaries {binary.name!r} ({ending}) for {target}",
                    hint="add each compiled kernel once",
                )
            # Only names with dots can meet here, as program `a` with kernel `b.c` and `a.b` with `c`.
            while label in labels:
                label += "-2"
            labels[label] = binary
        paths |= {f"kernels/{target}/{stem}.{ending}": labels[n] for n, stem in encode_names(labels).items()}
    return paths
