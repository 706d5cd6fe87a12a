"""PackageBuilder: collects what goes into a package and checks that it fits together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import msgspec

from tessera.package.draft import SHIPPED_RUNTIME, Contents
from tessera.package.manifest import Kind
from tessera.package.package import Package
from tessera.package.requirements import check_requirements
from tessera.package.safetensors import METADATA_KEY, read_safetensors
from tessera.package.strictjson import json_data
from tessera.package.weights import Weight, as_weight, check_shapes, weight_bytes
from tessera.program.arch import is_cpu, resolve_target
from tessera.program.artifact import Artifact
from tessera.program.dtype import DType
from tessera.program.errors import PackageError
from tessera.program.program import Program
from tessera.program.validate import validate

Compression = Literal["gzip"] | None
"""`gzip`: deflated in the file, inflated into memory when read. None: memory-mapped."""


@runtime_checkable
class Compiled(Protocol):
    """Anything that a compiler hands over."""

    @property
    def artifact(self) -> Artifact:
        """What was compiled."""


@runtime_checkable
class Stateful(Protocol):
    """A model that hands over its parameters by name: `ts.Module`, `torch.nn.Module`."""

    def state_dict(self) -> Mapping[str, object]:
        """Its parameters by name."""


class PackageBuilder:
    """Collects kernels, weights and configuration, and builds a deployment package of them."""

    package_class: ClassVar[type[Package]] = Package
    """What `build` makes; a layer that adds to `Package` sets its own class here."""

    def __init__(self) -> None:
        self._artifacts: list[Artifact] = []
        self._weights: dict[str, Weight] = {}
        self._model_config: dict[str, Any] = {}
        self._runtime_config: dict[str, Any] = {}
        self._libraries: dict[str, Path] = {}
        self._file_metadata: dict[str, str] = {}

    def add_kernels(
        self,
        compiled_kernels: Compiled | Artifact | Iterable[Compiled | Artifact],
        architectures: Iterable[str] | None = None,
    ) -> Self:
        """Add compiled kernels with their programs and constants.

        Args:
            compiled_kernels: What a compiler returned, or a list of that.
            architectures: Keep only these targets (`cpu` keeps every CPU level); None keeps all.

        Raises:
            PackageError: Nothing was compiled for one of `architectures`.
            ArchitectureError: One of `architectures` does not exist.
        """
        wanted = None if architectures is None else tuple(architectures)
        for artifact in _artifacts(compiled_kernels):
            self._artifacts.append(artifact if wanted is None else _only(artifact, wanted))
        return self

    def add_weights(
        self, state_dict: Mapping[str, object] | str | Path | Stateful, compression: Compression = None
    ) -> Self:
        """Add weights by constant name; they take the place of what `add_kernels` brought under that name.

        Args:
            state_dict: NumPy arrays, torch tensors, or objects with `.numpy()` or `__array__`, by name; the
                path of a `.safetensors` file, which is memory-mapped; or a model with `state_dict()`.
            compression: `gzip` to compress them; random weights shrink by about 7 %, and are then
                no longer memory-mapped.

        Raises:
            PackageError: A name was added before, a value is no array, or the file cannot be read.
            IntegrityError: The file is torn, or is no safetensors file.
        """
        if compression not in ("gzip", None):
            raise PackageError(f"compression: {compression!r} is unknown", hint="'gzip' or None")
        tensors, metadata = _state_of(state_dict)
        for name, value in tensors.items():
            if name in self._weights:
                raise PackageError(f"weight {name!r} was added before")
            self._weights[name] = as_weight(value, name, deflate=compression == "gzip")
        self._file_metadata.update(metadata)
        return self

    def add_config(self, config: Mapping[str, Any], name: Literal["model", "runtime"] = "model") -> Self:
        """Add settings to `config/model_config.json` or `config/runtime_config.json`; later ones win.

        Raises:
            PackageError: A value has no exact form in JSON.
        """
        if name not in ("model", "runtime"):
            raise PackageError(f"config {name!r} is unknown", hint="'model' or 'runtime'")
        into = self._model_config if name == "model" else self._runtime_config
        into.update(json_data(config, f"{name} config"))
        return self

    def add_runtime_library(self, library: str | Path) -> Self:
        """Add the native runtime: a path, or the name of the library that this installation brings.

        Raises:
            PackageError: There is no such file.
        """
        path = Path(library)
        shipped = SHIPPED_RUNTIME.parent / path.name
        found = next((p for p in (path, shipped) if p.is_file()), None)
        if found is None:
            raise PackageError(
                f"no runtime library {str(library)!r}: not at that path, and not in {SHIPPED_RUNTIME.parent}",
                hint="give the path of a built libtessera_rt.so, or leave this call out:"
                " only C++ programs need the library",
                file=str(library),
            )
        self._libraries[found.name] = found
        return self

    def build(
        self,
        name: str,
        version: str = "0.1.0",
        metadata: Mapping[str, Any] | None = None,
        *,
        kind: Kind | None = None,
    ) -> Package:
        """The package, in memory; `save` writes it.

        Args:
            name: Name of the package.
            version: Its version, such as `1.0.0`.
            metadata: JSON data; `requirements` in it is checked.
            kind: `tsc`, `tsp` or `tsd`; None: as the ending of the file that it is saved to, else `tsd`.

        Raises:
            PackageError: Something does not fit together; the message names it.
        """
        kept = {METADATA_KEY: self._file_metadata} if self._file_metadata else {}
        contents = contents_of(
            _joined(self._artifacts),
            name=name,
            version=version,
            metadata={**kept, **(metadata or {})},
            model_config=self._model_config,
            runtime_config=self._runtime_config,
            weights=self._weights,
            libraries=tuple(self._libraries.values()),
        )
        return self.package_class.from_contents(contents, kind=kind)


def _state_of(given: object) -> tuple[Mapping[str, object], Mapping[str, str]]:
    """Tensors by name, and the metadata of the file that they are from."""
    if isinstance(given, str | Path):
        file = read_safetensors(given)
        return file.tensors, file.metadata
    if not isinstance(given, Mapping) and isinstance(given, Stateful):
        given = given.state_dict()
    if not isinstance(given, Mapping):
        raise PackageError(
            f"add_weights: {type(given).__name__} is no state_dict",
            hint="give arrays by name, the path of a .safetensors file, or a model with state_dict()",
        )
    return given, {}


def contents_of(
    artifact: Artifact,
    *,
    name: str,
    version: str,
    metadata: Mapping[str, Any],
    model_config: Mapping[str, Any],
    runtime_config: Mapping[str, Any] | None = None,
    weights: Mapping[str, Weight] | None = None,
    libraries: tuple[Path, ...] = (),
    include_weights: bool = True,
) -> Contents:
    """What goes into a package, once it is known to fit together.

    Raises:
        PackageError: A name, version, requirement, program or weight is not acceptable.
    """
    _check_identity(name, version)
    declared = {c.name: (p.name, c.dtype, c.shape) for p in artifact.programs for c in p.constants}
    for program in artifact.programs:
        validate(program)
        for c in program.constants:
            _check_same(c.name, declared[c.name], (program.name, c.dtype, c.shape))
    dtypes = {key: dtype for key, (_, dtype, _) in declared.items()}
    constants = artifact.constants if include_weights else {}
    found = {key: as_weight(value, key, dtype=dtypes.get(key)) for key, value in constants.items()}
    for key, weight in (weights or {}).items():
        found[key] = as_weight(weight.array, key, dtype=dtypes.get(key), deflate=weight.deflate)
    check_shapes(found, declared)
    _check_binaries(artifact)
    extra = json_data(metadata, "metadata")
    requirements = check_requirements(extra.pop("requirements", {}))
    return Contents(
        name=name,
        version=version,
        programs=artifact.programs,
        binaries=artifact.binaries,
        weights=found,
        metadata=extra,
        requirements=requirements,
        model_config=json_data(model_config, "config"),
        runtime_config=json_data(runtime_config or {}, "runtime config"),
        runtime_libraries=libraries,
        provenance=json_data(artifact.provenance, "provenance"),
        notes=artifact.notes,
    )


def _check_identity(name: str, version: str) -> None:
    if not isinstance(name, str) or not name.strip() or len(name) > 200 or not name.isprintable():
        raise PackageError(f"name: {name!r} must be 1 to 200 printable characters")
    if not isinstance(version, str) or not re.fullmatch(
        r"[0-9A-Za-z][0-9A-Za-z.+!_-]{0,63}", version, re.ASCII
    ):
        raise PackageError(f"version: {version!r} is not a version", hint="write it like '1.0.0'")


def _check_same(
    name: str, one: tuple[str, DType, tuple[int, ...]], other: tuple[str, DType, tuple[int, ...]]
) -> None:
    if one[1:] != other[1:]:
        raise PackageError(
            f"programs {one[0]!r} and {other[0]!r} take the weight {name!r} as {one[1]}{one[2]}"
            f" and as {other[1]}{other[2]}",
            hint="give the weights different names, or build two packages",
        )


def _check_binaries(artifact: Artifact) -> None:
    programs = {program.name for program in artifact.programs}
    for binary in artifact.binaries:
        if binary.program not in programs:
            raise PackageError(f"kernel {binary.name!r} is of program {binary.program!r}, which is not there")
        if resolve_target(binary.target) != binary.target:
            raise PackageError(f"kernel {binary.name!r}: {binary.target!r} is not a full target name")


def _artifacts(compiled: object) -> Iterable[Artifact]:
    if isinstance(compiled, Artifact):
        return (compiled,)
    if isinstance(compiled, Compiled) and isinstance(compiled.artifact, Artifact):
        return (compiled.artifact,)
    if isinstance(compiled, Iterable) and not isinstance(compiled, str | bytes | Mapping):
        return [artifact for item in compiled for artifact in _artifacts(item)]
    raise PackageError(
        f"add_kernels: {type(compiled).__name__} is not compiled",
        hint="give what AOTCompiler.compile() or BatchCompiler.compile_all() returned",
    )


def _only(artifact: Artifact, architectures: tuple[str, ...]) -> Artifact:
    """`artifact` with the plans and binaries of some targets."""
    wanted = {name if name == "cpu" else resolve_target(name) for name in architectures}

    def keeps(target: str) -> bool:
        return target in wanted or ("cpu" in wanted and is_cpu(target))

    there = sorted({b.target for b in artifact.binaries} | {t for p in artifact.programs for t in p.targets})
    for name in sorted(wanted):
        if name not in there and not (name == "cpu" and any(map(is_cpu, there))):
            raise PackageError(
                f"add_kernels: nothing was compiled for {name}; there is {', '.join(there) or 'nothing'}",
                hint=f"compile with target_architectures=[..., {name!r}]",
            )
    return Artifact(
        programs=tuple(_narrowed(p, keeps) for p in artifact.programs),
        binaries=tuple(b for b in artifact.binaries if keeps(b.target)),
        constants=artifact.constants,
        provenance=artifact.provenance,
        notes=artifact.notes,
    )


def _narrowed(program: Program, keeps: Callable[[str], bool]) -> Program:
    plans = [msgspec.structs.replace(p, targets=tuple(filter(keeps, p.targets))) for p in program.plans]
    return msgspec.structs.replace(program, plans=tuple(p for p in plans if p.targets))


def _joined(artifacts: list[Artifact]) -> Artifact:
    """All of `artifacts` as one.

    Raises:
        PackageError: Two have a program of one name, or different weights of one name.
    """
    # The order in which they were added must not show in the package.
    artifacts = sorted(artifacts, key=lambda a: sorted(p.name for p in a.programs))
    programs: dict[str, Program] = {}
    constants: dict[str, Any] = {}
    for artifact in artifacts:
        for program in artifact.programs:
            if program.name in programs:
                raise PackageError(
                    f"add_kernels: two programs are called {program.name!r}",
                    hint="compile one of them with another name=",
                )
            programs[program.name] = program
        for name, value in artifact.constants.items():
            if name in constants and not _same_bytes(name, constants[name], value):
                raise PackageError(
                    f"add_kernels: two different weights are called {name!r}",
                    hint="give the weights different names, or build two packages",
                )
            constants[name] = value
    return Artifact(
        programs=tuple(programs.values()),
        binaries=tuple(b for artifact in artifacts for b in artifact.binaries),
        constants=constants,
        provenance=_joined_provenance(artifacts),
        notes=tuple(dict.fromkeys(note for artifact in artifacts for note in artifact.notes)),
    )


def _same_bytes(name: str, one: object, other: object) -> bool:
    if one is other:
        return True
    first, second = as_weight(one, name), as_weight(other, name)
    same = (first.dtype, first.array.shape) == (second.dtype, second.array.shape)
    # As bytes: a NaN in a weight is the same weight.
    return same and weight_bytes(first) == weight_bytes(second)


def _joined_provenance(artifacts: list[Artifact]) -> Mapping[str, Any]:
    if len(artifacts) == 1:
        return artifacts[0].provenance
    return {p.name: dict(artifact.provenance) for artifact in artifacts for p in artifact.programs}
