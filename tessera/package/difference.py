"""What differs between two packages: programs, kernels and their registers, weights and their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from tessera.package.manifest import Entry, KernelRow, ProgramRow, WeightRow
from tessera.package.package import Package
from tessera.program.artifact import Resources

Part = Literal["manifest", "program", "kernel", "weight", "config", "runtime"]
"""Which table of the manifest a change is in."""

_CHUNK = 1 << 20
"""Elements that are compared at a time: 8 MiB as float64."""
_RESOURCES = ("registers", "spill_bytes", "shared_bytes", "stack_bytes", "threads", "occupancy")
"""What is told of a kernel that changed."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not the same in both packages."""

    part: Part
    name: str
    """Such as `attention sm_80 cubin` for a kernel; the field's name for the manifest."""
    kind: Literal["added", "removed", "changed"]
    before_bytes: int | None = None
    """Size of its content; None where it is not there, and for the manifest's fields."""
    after_bytes: int | None = None
    detail: str = ""
    """What changed in it: `registers 70 → 64`."""


def differences(before: Package, after: Package) -> list[Change]:
    """Everything in which two packages differ, most telling first; empty if they hold the same.

    How a container stores something, and who signed it, is no difference. Weights that differ are read.

    Raises:
        IntegrityError: A weight that differs is damaged.
    """
    return [
        *_manifest_changes(before, after),
        *_changes("program", _programs(before), _programs(after)),
        *_changes("kernel", _kernels(before), _kernels(after), _kernel_detail),
        *_weight_changes(before, after),
        *_changes("config", _config(before), _config(after)),
        *_changes("runtime", _runtime(before), _runtime(after)),
    ]


_Row = TypeVar("_Row")
"""The row of the table that names a file; None of files that no table has."""


def _entries(package: Package) -> dict[str, Entry]:
    return {entry.path: entry for entry in package.entries}


def _programs(package: Package) -> dict[str, tuple[Entry, ProgramRow]]:
    entries = _entries(package)
    return {row.name: (entries[row.path], row) for row in package.manifest.programs}


def _kernels(package: Package) -> dict[str, tuple[Entry, KernelRow]]:
    entries = _entries(package)
    several = len(package.manifest.programs) > 1
    rows = package.manifest.kernels
    return {_kernel_name(row, several=several): (entries[row.path], row) for row in rows}


def _kernel_name(row: KernelRow, *, several: bool) -> str:
    own = f"{row.program}.{row.name}" if several and row.program != row.name else row.name
    return f"{own} {row.target} {row.format}"


def _weights(package: Package) -> dict[str, tuple[Entry, WeightRow]]:
    entries = _entries(package)
    return {row.name: (entries[row.path], row) for row in package.manifest.weights}


def _config(package: Package) -> dict[str, tuple[Entry, None]]:
    entries = _entries(package)
    return {name: (entries[path], None) for name, path in package.manifest.config.items()}


def _runtime(package: Package) -> dict[str, tuple[Entry, None]]:
    entries = _entries(package)
    return {path.removeprefix("runtime/"): (entries[path], None) for path in package.manifest.runtime}


def _no_detail(before: object, after: object) -> str:  # noqa: ARG001
    return ""


def _changes(
    part: Part,
    before: Mapping[str, tuple[Entry, _Row]],
    after: Mapping[str, tuple[Entry, _Row]],
    detail: Callable[[_Row, _Row], str] = _no_detail,
) -> Iterator[Change]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is None and new is not None:
            yield Change(part, name, "added", None, new[0].size)
        elif new is None and old is not None:
            yield Change(part, name, "removed", old[0].size, None)
        elif old is not None and new is not None:
            words = detail(old[1], new[1])
            if words or old[0].sha256 != new[0].sha256:
                yield Change(part, name, "changed", old[0].size, new[0].size, words)


def _kernel_detail(before: KernelRow, after: KernelRow) -> str:
    old, new = before.resources or Resources(), after.resources or Resources()
    pairs = [(field.replace("_", " "), getattr(old, field), getattr(new, field)) for field in _RESOURCES]
    return ", ".join(f"{words} {_shown(a)} → {_shown(b)}" for words, a, b in pairs if a != b)


def _shown(value: object) -> str:
    return "N/A" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _weight_changes(before: Package, after: Package) -> Iterator[Change]:
    def detail(old: WeightRow, new: WeightRow) -> str:
        if (old.dtype, old.shape) != (new.dtype, new.shape):
            return f"{old.dtype}{list(old.shape)} → {new.dtype}{list(new.shape)}"
        return _value_detail(before, after, new.name)

    yield from _changes("weight", _weights(before), _weights(after), detail)


def _value_detail(before: Package, after: Package, name: str) -> str:
    """How many elements differ, and by how much at most; empty if their bytes are the same."""
    import numpy as np

    rows = [next(w for w in p.weights if w.name == name) for p in (before, after)]
    digests = [_entries(p)[row.path].sha256 for p, row in zip((before, after), rows, strict=True)]
    if digests[0] == digests[1]:
        return ""
    old, new = before.constant(name).reshape(-1), after.constant(name).reshape(-1)
    count, most = 0, 0.0
    for start in range(0, old.size, _CHUNK):
        a, b = old[start : start + _CHUNK], new[start : start + _CHUNK]
        width = a.dtype.itemsize
        count += int(
            (a.view(np.uint8).reshape(-1, width) != b.view(np.uint8).reshape(-1, width)).any(1).sum()
        )
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
        finite = apart[np.isfinite(apart)]
        most = max(most, float(finite.max(initial=0.0)))
    return f"{count} of {old.size} elements, by {most:.3g} at most"


def _manifest_changes(before: Package, after: Package) -> Iterator[Change]:
    old, new = _facts(before), _facts(after)
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield Change("manifest", name, "added", detail=_words(new[name]))
        elif name not in new:
            yield Change("manifest", name, "removed", detail=_words(old[name]))
        elif old[name] != new[name]:
            yield Change("manifest", name, "changed", detail=_what_changed(old[name], new[name]))


_TABLES = {"sources": "source", "toolchain": "tool"}
"""Tables of the provenance, and what one row of them is called."""


def _facts(package: Package) -> dict[str, object]:
    """What the manifest says besides its tables, by name."""
    manifest = package.manifest
    facts: dict[str, object] = {"name": manifest.name, "version": manifest.version, "kind": manifest.kind}
    facts |= {f"metadata {key}": value for key, value in manifest.metadata.items()}
    facts |= {f"requirement {key}": value for key, value in manifest.requirements.items()}
    for key, value in manifest.provenance.items():
        if isinstance(value, dict):
            facts |= {f"{_TABLES.get(key, key)} {name}": inner for name, inner in value.items()}
        elif key == "targets" and isinstance(value, list):
            facts |= {f"target {row.get('target')}": row for row in value if isinstance(row, dict)}
        else:
            facts[key] = value
    return facts


def _what_changed(before: object, after: object) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        return ", ".join(f"{key} {_words(before.get(key))} → {_words(after.get(key))}" for key in keys)
    return f"{_words(before)} → {_words(after)}"


def _words(value: object) -> str:
    if isinstance(value, dict | list):
        return ""
    text = _shown(value)
    return f"{text[:16]}…" if re.fullmatch(r"[0-9a-f]{64}", text) else text
