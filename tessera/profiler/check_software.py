"""Checks of what is installed: Python, wheels, CUDA libraries, a C compiler."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import sys
from collections.abc import Iterable

from tessera.emulator.cuda_libraries import prefer_wheels, wheel_library
from tessera.profiler.check import Check
from tessera.program.arch import host_cpu_targets
from tessera.program.errors import ToolchainError

MINIMUM_PYTHON = (3, 11)
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*([^;]*)(?:;(.*))?\Z")
_EXTRA = re.compile(r"extra == ['\"]([\w-]+)['\"]")

EXTRAS: dict[str, str] = {
    "compile": "compiling kernels",
    "serve": "the HTTP server",
    "profile": "benchmarks of GPUs and HTML reports",
    "workbench": "the terminal app",
    "cuda": "running on a GPU",
}
"""What each extra of Tessera is for. Of `compile` every package is a check of its own."""

LIBRARIES: dict[str, tuple[str, str]] = {
    "nvJitLink": ("nvJitLink", "links PTX to cubins"),
    "NVRTC": ("nvrtc", "compiles CUDA C++ device code"),
    "NVVM": ("nvvm", "compiles kernels to PTX"),
}
"""Check name → (name that cuda-pathfinder knows it by, what it does)."""


def check_python() -> Check:
    """Whether this Python is new enough."""
    found, needed = ".".join(map(str, sys.version_info[:3])), ".".join(map(str, MINIMUM_PYTHON))
    if sys.version_info[:2] < MINIMUM_PYTHON:
        return Check(
            "Python", "failure", f"{found}, older than {needed}", f"install Python {needed} or newer"
        )
    return Check("Python", "ok", f"{found} (needs {needed} or newer)")


def requirements(extra: str | None) -> dict[str, str]:
    """Package → version range, as Tessera's own metadata states them for `extra`.

    Empty where Tessera runs from a folder without having been installed.
    """
    try:
        lines = importlib.metadata.requires("tessera") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found: dict[str, str] = {}
    for line in lines:
        match = _REQUIREMENT.match(line)
        if match is None:
            continue
        of = _EXTRA.search(match[3] or "")
        if (of[1] if of else None) == extra and "Windows" not in (match[3] or ""):
            found[match[1]] = match[2].strip()
    return found


def version_fits(version: str, bounds: str) -> bool:
    """Whether `version` lies in a range such as `<13,>=12.9`, by its numbers; no range fits all."""
    # 30 ms; the other checks do not need the package room.
    from tessera.package.requirements import VersionSpec

    return not bounds or VersionSpec.parse(bounds).allows(version)


def check_packages() -> Iterable[Check]:
    """One check for each package of the `compile` extra, then one for each other extra."""
    needed = requirements("compile")
    if not needed:
        detail = "N/A: Tessera runs from a folder without metadata, so versions cannot be compared"
        yield Check("packages", "not applicable", detail, "pip install -e .")
    for package, bounds in needed.items():
        yield _check_package(package, bounds)
    for extra, purpose in EXTRAS.items():
        if extra != "compile" and (wanted := requirements(extra)):
            yield _check_extra(extra, purpose, wanted)


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _check_package(package: str, bounds: str) -> Check:
    fix = "pip install 'tessera[compile]'"
    version = _installed(package)
    if version is None:
        return Check(package, "warning", f"not installed (needs {bounds}): nothing can be compiled here", fix)
    if not version_fits(version, bounds):
        return Check(package, "warning", f"{version} is outside {bounds}, which Tessera is tested with", fix)
    return Check(package, "ok", f"{version} (needs {bounds})")


def _check_extra(extra: str, purpose: str, wanted: dict[str, str]) -> Check:
    name, fix = f"extra {extra}", f"pip install 'tessera[{extra}]'"
    versions = {package: _installed(package) for package in wanted}
    missing = [package for package, version in versions.items() if version is None]
    if missing:
        return Check(name, "not applicable", f"{purpose}: {', '.join(missing)} not installed", fix)
    odd = [
        f"{p} {v} (needs {wanted[p]})" for p, v in versions.items() if v and not version_fits(v, wanted[p])
    ]
    if odd:
        return Check(name, "warning", f"outside the tested range: {', '.join(odd)}", fix)
    return Check(name, "ok", f"{purpose}: " + ", ".join(f"{p} {v}" for p, v in versions.items()))


def check_libraries() -> Iterable[Check]:
    """Whether the CUDA libraries that compile kernels load, and from where."""
    # 40 ms, then 50 ms to map each library: only `diag` pays.
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.pathfinder") is None:
        for name, (_, purpose) in LIBRARIES.items():
            yield Check(name, "warning", f"not looked for ({purpose})", "pip install 'tessera[compile]'")
        return
    from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib

    prefer_wheels()
    for name, (library, purpose) in LIBRARIES.items():
        try:
            loaded = load_nvidia_dynamic_lib(library)
        except (DynamicLibNotFoundError, OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            detail = f"does not load, so nothing here {purpose}: {reason}"
            yield Check(name, "warning", detail, "pip install 'tessera[compile]'")
        else:
            wheel = wheel_library(library)
            ours = wheel is not None and wheel.samefile(loaded.abs_path or "")
            via = "the extra compile" if ours else loaded.found_via
            yield Check(name, "ok", f"{loaded.abs_path} (found via {via})")


def check_c_compiler() -> Check:
    """Whether something can link native CPU code: what the compiler itself would take."""
    from tessera.compiler.linker import find_linker

    machine = platform.machine()
    if not host_cpu_targets():
        return Check("C compiler", "not applicable", f"N/A: there is no CPU target for {machine}")
    try:
        linker = find_linker(machine)
    except ToolchainError as error:
        return Check("C compiler", "warning", error.message, error.hint)
    return Check("C compiler", "ok", f"{linker.command[0]}: {linker.description}")
