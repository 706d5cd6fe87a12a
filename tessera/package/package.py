"""Package: programs, kernels and weights, from a container file, a folder, or a compiler's hands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec

from tessera.package.archive import Archive
from tessera.package.atomic import atomic_file, atomic_folder
from tessera.package.content import Finding, Source, check_digest
from tessera.package.draft import Contents, Draft
from tessera.package.limits import DEFAULT_LIMITS, Limits
from tessera.package.manifest import (
    MANIFEST,
    SIGNATURE,
    Entry,
    KernelRow,
    Kind,
    Manifest,
    WeightRow,
)
from tessera.package.statement import SignedFile
from tessera.package.strictjson import check_json
from tessera.package.tree import Tree
from tessera.package.trust import Required, required_policy
from tessera.package.verification import check_signature
from tessera.package.weights import array_over
from tessera.package.writer import write_all
from tessera.program.artifact import Artifact, BinaryFormat, KernelBinary
from tessera.program.codec import program_from_json
from tessera.program.errors import IntegrityError, PackageError, ProgramError
from tessera.program.program import Program

if TYPE_CHECKING:
    import numpy as np

VerifyWeights = Literal["lazy", "first-touch", "upfront"]
"""When digests of weights are checked: by `verify` alone, when a weight is first asked for, or on load."""

_KINDS: dict[str, Kind] = {".tsc": "tsc", ".tsp": "tsp", ".tsd": "tsd"}
_PREFERENCE: tuple[BinaryFormat, ...] = ("cubin", "so", "ptx")
"""Which binary to hand out where several fit: machine code before what a driver must compile."""


class Package:
    """Programs with their kernels and weights. Everything but weights is verified before it is given out.

    A package may be used from several threads. Weights lie in the mapped file: do not change or
    truncate it in place while the package is in use (saving over it is safe).
    """

    def __init__(
        self,
        source: Source,
        *,
        limits: Limits = DEFAULT_LIMITS,
        verify_weights: VerifyWeights = "first-touch",
    ) -> None:
        self._source = source
        self._limits = limits
        self._verify_weights = verify_weights
        self._binaries: dict[str, KernelBinary] = {}
        self._constants: dict[str, np.ndarray[Any, Any]] = {}

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        limits: Limits = DEFAULT_LIMITS,
        verify_weights: VerifyWeights = "first-touch",
        require_signature: Required = False,
    ) -> Self:
        """The package in a `.tsc`, `.tsp` or `.tsd` file, or in a folder where one was unpacked.

        Args:
            path: File or folder.
            limits: Caps on what is read.
            verify_weights: `lazy`, `first-touch` or `upfront` (0.7 s per GiB).
            require_signature: Who must have signed it: a public key, a certificate, a `tessera.toml`
                with a section `[trust]`, a `TrustPolicy`, or True for the project that one stands in.

        Raises:
            IntegrityError: The package is not what it says; `fields["entry"]` names the entry.
            SignatureError: It is not signed as required.
            PackageError: It cannot be read, or is of another major format version.
            ConfigError: A signature is required, and nobody is trusted.
        """
        path = Path(path)
        policy = required_policy(require_signature)
        source: Source = Tree(path, limits) if path.is_dir() else Archive(path, limits)
        package = cls(source, limits=limits, verify_weights=verify_weights)
        if policy is not None:
            # Before anything in it is parsed but the manifest.
            check_signature(package, policy, limits)
        package._check_weights()
        if verify_weights == "upfront":
            for row in package.manifest.weights:
                package._content(row.path)
        return package

    @classmethod
    def from_artifact(
        cls,
        artifact: Artifact,
        *,
        name: str,
        version: str = "0.1.0",
        metadata: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        include_weights: bool = True,
        kind: Kind | None = None,
    ) -> Self:
        """A package in memory of what a compiler made. Weights are shared, not copied.

        Args:
            artifact: Programs, kernel binaries and weights.
            name: Name of the package.
            version: Its version, such as `1.0.0`.
            metadata: JSON data; `requirements` in it is checked.
            config: JSON data for `config/model_config.json`.
            include_weights: Whether the artifact's constants go in.
            kind: `tsc`, `tsp` or `tsd`; None: as the ending of the file that it is saved to, else `tsd`.

        Raises:
            PackageError: A name, version, requirement or weight is not acceptable.
        """
        # builder imports this module: `build` returns packages.
        from tessera.package.builder import contents_of

        contents = contents_of(
            artifact,
            name=name,
            version=version,
            metadata=metadata or {},
            model_config=config or {},
            include_weights=include_weights,
        )
        return cls.from_contents(contents, kind=kind)

    @classmethod
    def from_contents(cls, contents: Contents, *, kind: Kind | None = None) -> Self:
        """A package in memory of these contents."""
        return cls(Draft(contents, kind))

    @property
    def path(self) -> Path | None:
        """The file or folder; None in memory."""
        return self._source.path

    @property
    def manifest(self) -> Manifest:
        """What the package says it holds."""
        return self._source.manifest

    @property
    def name(self) -> str:
        """Name of the package."""
        return self.manifest.name

    @property
    def digest(self) -> str:
        """SHA-256 that names the package and everything in it."""
        return self.manifest.digest

    @property
    def verify_weights(self) -> VerifyWeights:
        """When digests of weights are checked."""
        return self._verify_weights

    @property
    def document(self) -> bytes:
        """The manifest as it is written."""
        return self._source.document

    @property
    def signature(self) -> bytes | None:
        """What is in `META/model.sig`; None where there is none. It says nothing by itself: see `trust`."""
        found = self._source.signature
        return None if found is None else bytes(found)

    @property
    def files(self) -> dict[str, SignedFile]:
        """Everything that a signature covers: every entry and the manifest."""
        document = self.document
        files = {
            entry.path: SignedFile(entry.size, entry.sha256, partial(self._content, entry.path))
            for entry in self.entries
        }
        digest = hashlib.sha256(document).hexdigest()
        return {**files, MANIFEST: SignedFile(len(document), digest, lambda: memoryview(document))}

    @property
    def version(self) -> str:
        """Version of the package."""
        return self.manifest.version

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every file but the manifest, sorted by path."""
        return self.manifest.entries

    @property
    def binaries(self) -> list[KernelRow]:
        """What kernel binaries there are; `binary` hands one out."""
        return list(self.manifest.kernels)

    @property
    def weights(self) -> list[WeightRow]:
        """What constants there are; `constant` hands one out."""
        return list(self.manifest.weights)

    @cached_property
    def programs(self) -> dict[str, Program]:
        """Programs by name.

        Raises:
            PackageError: A program is malformed, or of another major schema version.
        """
        return {row.name: self._program(row.name, row.path) for row in self.manifest.programs}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's configuration, `config/model_config.json`."""
        return self._document("model")

    @cached_property
    def runtime_config(self) -> dict[str, Any]:
        """The runtime's configuration, `config/runtime_config.json`."""
        return self._document("runtime")

    def binary(
        self,
        program: str,
        kernel: str,
        target: str,
        format: BinaryFormat | None = None,  # noqa: A002 — the name of the column in the manifest
    ) -> KernelBinary | None:
        """The verified binary that has the entry `kernel` of `program` for `target`, if there is one.

        Args:
            program: Name of the program.
            kernel: Entry name, as `Launch.kernel` gives it.
            target: Full target name, such as `sm_90` or `cpu-x86_64-v3`.
            format: `cubin`, `ptx` or `so`; None takes machine code before PTX.

        Raises:
            IntegrityError: Its bytes are not what the manifest says.
        """
        rows = {
            row.format: row
            for row in self.manifest.kernels
            if row.program == program and kernel in row.kernels and row.target == target
        }
        row = next((rows[f] for f in ((format,) if format else _PREFERENCE) if f in rows), None)
        if row is None:
            return None
        if row.path not in self._binaries:
            self._binaries[row.path] = KernelBinary(
                program=row.program,
                name=row.name,
                kernels=row.kernels,
                target=row.target,
                format=row.format,
                data=self._copy(row.path),
                resources=row.resources,
            )
        return self._binaries[row.path]

    def constant(self, name: str) -> np.ndarray[Any, Any]:
        """The weight `name` as a read-only array, memory-mapped unless it is stored compressed.

        Raises:
            PackageError: The package has no such weight.
            IntegrityError: Its bytes are not what the manifest says.
        """
        if name not in self._constants:
            row = self._weight_rows.get(name)
            if row is None:
                raise PackageError(
                    f"package {self.name!r} has no weight {name!r}",
                    hint="build it with its weights: include_weights=True, or PackageBuilder.add_weights",
                    weight=name,
                )
            data = self._content(row.path, verified=self._verify_weights != "lazy")
            self._constants[name] = array_over(row, data)
        return self._constants[name]

    def verify(self) -> list[Finding]:
        """Everything that is wrong with the package as it lies on the disk now; empty when all is well.

        Every byte is read and hashed (0.7 s per GiB).
        """
        findings = list(self._source.recheck())
        if not findings:
            findings = [*self._document_findings()]
        return findings

    def save(self, path: str | Path) -> Path:
        """Write the package as one file, atomically: `path` is the old file or the whole new one.

        A package that was loaded from a file is copied byte for byte.

        Raises:
            PackageError: It cannot be written; nothing is left behind.
            IntegrityError: The source is damaged, and nothing was written.
        """
        path = Path(path)
        source = self._source
        if isinstance(source, Draft) and path.suffix.lower() in _KINDS:
            source = source.of_kind(_KINDS[path.suffix.lower()])
        with atomic_file(path) as file:
            source.write(file)
        return path

    def unpack(self, folder: str | Path) -> Path:
        """Write every entry as a file under `folder`, which must be new or empty. It loads like the file.

        Raises:
            PackageError: The folder is in the way or cannot be written; nothing is left behind.
            IntegrityError: An entry is damaged.
        """
        folder = Path(folder)
        with atomic_folder(folder) as root:
            for entry in self.entries:
                _write_file(root / entry.path, self._content(entry.path))
            _write_file(root / MANIFEST, memoryview(self._source.document))
            if (signature := self.signature) is not None:
                _write_file(root / SIGNATURE, memoryview(signature))
        return folder

    def _content(self, path: str, *, verified: bool = True) -> memoryview:
        entry = self._entries[path]
        data = self._source.content(entry)
        if verified:
            check_digest(entry, data)
        return data

    def _copy(self, path: str) -> bytes:
        # Copied first and hashed then: a file that is written to in between cannot have been
        # right for the digest and be wrong for the user.
        entry = self._entries[path]
        data = bytes(self._source.content(entry))
        check_digest(entry, memoryview(data))
        return data

    @cached_property
    def _weight_rows(self) -> dict[str, WeightRow]:
        return {row.name: row for row in self.manifest.weights}

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        return {entry.path: entry for entry in self.manifest.entries}

    def _json(self, path: str) -> bytes:
        size = self._entries[path].size
        if size > self._limits.document_bytes:
            raise IntegrityError(f"{path}: {size} bytes, more than {self._limits.document_bytes}", entry=path)
        data = self._copy(path)
        check_json(data, entry=path, max_bytes=self._limits.document_bytes, max_depth=self._limits.json_depth)
        return data

    def _program(self, name: str, path: str) -> Program:
        try:
            program = program_from_json(self._json(path))
        except ProgramError as error:
            raise PackageError(f"{path}: {error.message}", hint=error.hint, entry=path) from error
        if program.name != name:
            raise PackageError(f"{path}: is program {program.name!r}, the manifest says {name!r}", entry=path)
        return program

    def _document(self, name: str) -> dict[str, Any]:
        path = self.manifest.config.get(name)
        if path is None:
            return {}
        found = msgspec.json.decode(self._json(path))
        if not isinstance(found, dict):
            raise PackageError(f"{path}: is not a JSON object", entry=path)
        return found

    def _check_weights(self) -> None:
        for program in self.programs.values():
            for constant in program.constants:
                row = self._weight_rows.get(constant.name)
                if row and (row.shape, row.dtype.numpy_name) != (constant.shape, constant.dtype.numpy_name):
                    raise PackageError(
                        f"weight {row.name!r} is {row.dtype}{row.shape}, but program {program.name!r}"
                        f" takes {constant.dtype}{constant.shape}",
                        entry=row.path,
                    )

    def _document_findings(self) -> Iterator[Finding]:
        for row in self.manifest.programs:
            try:
                self._program(row.name, row.path)
            except PackageError as error:
                yield Finding.of(error, row.path)
        for name, path in self.manifest.config.items():
            try:
                self._document(name)
            except PackageError as error:
                yield Finding.of(error, path)

    def __repr__(self) -> str:
        where = self.path or "in memory"
        return f"{type(self).__name__}({self.name!r}, {self.version!r}, {where!s})"


def verify(path: str | Path, *, limits: Limits = DEFAULT_LIMITS) -> list[Finding]:
    """Everything that is wrong with the package at `path`; empty when all is well.

    Raises:
        PackageError: The file cannot be read at all.
    """
    try:
        return Package.load(path, limits=limits, verify_weights="lazy").verify()
    except PackageError as error:
        if error.fields.get("entry") is None:
            raise
        return [Finding.of(error, str(path))]


def _write_file(path: Path, data: memoryview) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb", buffering=0) as file:
        write_all(file, data)
