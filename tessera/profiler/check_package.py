"""Checks of a package: is it whole, and does it fit this machine?"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import tessera
from tessera.package import Package, VersionSpec, parse_bytes
from tessera.profiler.check import Check
from tessera.profiler.check_machine import available_memory
from tessera.profiler.gpu import GpuState, read_gpus
from tessera.program.arch import best_match, host_cpu_targets, is_cpu
from tessera.program.bytesize import format_bytes
from tessera.program.errors import PackageError, TesseraError

if TYPE_CHECKING:
    from tessera.program.program import Program


def check_package(package: str | Path | Package, *, gpus: GpuState | None = None) -> Iterator[Check]:
    """Whether it loads, is what it says, has code for this machine, and finds what it requires."""
    try:
        opened = package if isinstance(package, Package) else Package.load(package)
        programs = opened.programs
    except (TesseraError, OSError) as error:
        message = error.message if isinstance(error, TesseraError) else str(error)
        hint = error.hint if isinstance(error, TesseraError) else None
        yield Check("package loads", "failure", message, hint or "build or download the package again")
        return
    kernels = f"programs: {len(programs)}, kernel binaries: {len(opened.binaries)}"
    yield Check("package loads", "ok", f"{opened.name} {opened.version}: {kernels}")
    yield check_integrity(opened)
    state = read_gpus() if gpus is None else gpus
    yield _check_cpu(programs.values())
    yield from _check_gpus(programs.values(), state)
    yield from check_requirements(opened, state)


def check_integrity(package: Package) -> Check:
    """Whether every byte is what the manifest says."""
    findings = package.verify()
    if not findings:
        total = sum(entry.size for entry in package.entries)
        detail = f"all {len(package.entries)} entries, {format_bytes(total)}, fit their digests"
        return Check("package integrity", "ok", detail)
    first = findings[0]
    more = f", and {len(findings) - 1} more" if len(findings) > 1 else ""
    return Check(
        "package integrity",
        "failure",
        f"{first.entry}: {first.problem}{more}",
        "copy or download the package again, or build it again",
    )


def _check_cpu(programs: Iterable[Program]) -> Check:
    name, host = "package on cpu", host_cpu_targets()
    found = {p.name: next((t for t in host if p.plan_for(t)), None) for p in programs}
    lacking = [p for p, target in found.items() if target is None]
    if not lacking:
        used = ", ".join(sorted({target for target in found.values() if target}))
        return Check(name, "ok", f"native code for this processor: {used}")
    level = host[0] if host else platform.machine()
    slow = " (device='reference' runs what has a graph, slowly)" if any(p.graph for p in programs) else ""
    return Check(
        name,
        "warning",
        f"no native code for this processor ({level}) of: {', '.join(lacking)}{slow}",
        "compile it for this processor too: add the architecture 'cpu'",
    )


def _check_gpus(programs: Iterable[Program], state: GpuState) -> Iterator[Check]:
    programs = list(programs)
    built = sorted({t for p in programs for t in p.targets if not is_cpu(t)})
    if state.reason is not None or not state.gpus:
        reason = state.reason or "the driver sees no GPU"
        detail = f"N/A: {reason}; the package holds {', '.join(built) or 'no GPU code'}"
        yield Check("package on GPU", "not applicable", detail)
        return
    for gpu in state.gpus:
        name = f"package on GPU {gpu.index}"
        if gpu.capability is None:
            yield Check(name, "warning", f"{gpu.name}: its architecture is not known")
            continue
        arch = f"sm_{gpu.capability[0]}{gpu.capability[1]}"
        fits = {p.name: best_match([t for t in p.targets if not is_cpu(t)], gpu.capability) for p in programs}
        lacking = [p for p, target in fits.items() if target is None]
        if lacking:
            detail = f"{gpu.name} is {arch}: no code for it of {', '.join(lacking)}"
            yield Check(name, "warning", detail, f"compile it for {arch} too: add the architecture {arch!r}")
        else:
            used = ", ".join(sorted({t for t in fits.values() if t}))
            yield Check(name, "ok", f"{gpu.name} ({arch}) takes {used}")


def check_requirements(package: Package, state: GpuState) -> Iterator[Check]:
    """One check for each requirement that the package's author wrote down."""
    for name, wanted in package.manifest.requirements.items():
        what = f"package requires {name}"
        ask = _FOUND.get(name)
        found = None if ask is None else ask(state)
        if found is None:
            on_gpu = name in ("cuda", "driver", "compute_capability", "memory")
            why = "no GPU here" if on_gpu and not state.gpus else "this machine does not say"
            yield Check(what, "not applicable", f"{wanted}; found N/A ({why})")
            continue
        try:
            fits, shown = _compare(name, wanted, found)
        except PackageError as error:
            yield Check(what, "failure", error.message, error.hint)
            continue
        detail = f"{wanted}; found {shown}"
        fix = None if fits else f"use a machine with {name} {wanted}"
        yield Check(what, "ok" if fits else "failure", detail, fix)


def _compare(name: str, wanted: str, found: str | int) -> tuple[bool, str]:
    if isinstance(found, int):
        return found >= parse_bytes(wanted, what=name), format_bytes(found)
    return VersionSpec.parse(wanted, what=name).allows(found), found


def _best_capability(state: GpuState) -> str | None:
    known = [gpu.capability for gpu in state.gpus if gpu.capability]
    return ".".join(map(str, max(known))) if known else None


def _largest_memory(state: GpuState) -> int | None:
    return max((gpu.memory_total_bytes for gpu in state.gpus if gpu.memory_total_bytes), default=None)


_FOUND: dict[str, Callable[[GpuState], str | int | None]] = {
    "cuda": lambda state: ".".join(map(str, state.cuda_version)) if state.cuda_version else None,
    "driver": lambda state: state.driver,
    "compute_capability": _best_capability,
    "memory": _largest_memory,
    "host_memory": lambda _: available_memory()[1],
    "python": lambda _: platform.python_version(),
    "tessera": lambda _: tessera.__version__,
}
"""What this machine has, by requirement: a version as text, or bytes."""
