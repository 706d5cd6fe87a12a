"""Checks of packages and libraries that get into each other's way."""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from tessera.profiler.check import Check
from tessera.profiler.gpu import GpuState, read_gpus

_CUPY = re.compile(r"cupy(?:-(?:cuda|rocm).*)?\Z")
_CUPY_CUDA = re.compile(r"cupy-cuda(\d+)x\Z")
_SHADOWING = ("libnvJitLink.so", "libnvrtc.so", "libnvvm.so", "libcudart.so")
_COMPILERS = ("nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvcc-cu12")


def installed() -> dict[str, str]:
    """Version of every distribution of this Python, by its name in lower case with dashes."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found[re.sub(r"[-_.]+", "-", name).lower()] = distribution.version
    return found


def check_conflicts(
    versions: Mapping[str, str] | None = None, state: GpuState | None = None
) -> Iterable[Check]:
    """A check for each conflict; one that says ok where there is none."""
    versions = installed() if versions is None else versions
    state = read_gpus() if state is None else state
    found = [
        *_several_cupys(versions),
        *_cupy_newer_than_driver(versions, state),
        *_two_pynvmls(versions),
        *_linker_older_than_compiler(versions),
    ]
    yield from found or [Check("package conflicts", "ok", f"none among {len(versions)} packages")]


def _several_cupys(versions: Mapping[str, str]) -> Iterable[Check]:
    cupys = sorted(name for name in versions if _CUPY.match(name))
    if len(cupys) > 1:
        detail = f"{', '.join(f'{n} {versions[n]}' for n in cupys)} overwrite each other's files"
        fix = f"pip uninstall -y {' '.join(cupys)} && pip install 'tessera[cuda]'"
        yield Check("package conflict: CuPy", "failure", detail, fix)


def _cupy_newer_than_driver(versions: Mapping[str, str], state: GpuState) -> Iterable[Check]:
    for name in versions:
        match = _CUPY_CUDA.match(name)
        if match and state.cuda_version is not None and int(match[1]) > state.cuda_version[0]:
            have = ".".join(map(str, state.cuda_version))
            detail = f"{name} needs a driver of CUDA {match[1]}, this one takes {have}"
            fix = f"pip uninstall -y {name} && pip install cupy-cuda{state.cuda_version[0]}x"
            yield Check("package conflict: CuPy and driver", "failure", detail, fix)


def _two_pynvmls(versions: Mapping[str, str]) -> Iterable[Check]:
    own = versions.get("pynvml")
    # From 12 on, pynvml is an empty package that asks for nvidia-ml-py.
    if own is not None and "nvidia-ml-py" in versions and _numbers(own) < (12,):
        detail = f"pynvml {own} and nvidia-ml-py {versions['nvidia-ml-py']} both bring pynvml.py"
        fix = "pip uninstall -y pynvml nvidia-ml-py && pip install nvidia-ml-py"
        yield Check("package conflict: pynvml", "warning", detail, fix)


def _linker_older_than_compiler(versions: Mapping[str, str]) -> Iterable[Check]:
    linker = versions.get("nvidia-nvjitlink-cu12")
    for name in _COMPILERS:
        compiler = versions.get(name)
        if linker and compiler and _numbers(linker)[:2] < _numbers(compiler)[:2]:
            detail = f"nvidia-nvjitlink-cu12 {linker} may not read the PTX of {name} {compiler}"
            least = ".".join(map(str, _numbers(compiler)[:2]))
            fix = f"pip install --upgrade 'nvidia-nvjitlink-cu12>={least},<13'"
            yield Check("package conflict: nvJitLink", "warning", detail, fix)
            return


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def check_library_path(value: str | None = None) -> Check:
    """Whether LD_LIBRARY_PATH puts other CUDA libraries before those that came with the packages."""
    value = os.environ.get("LD_LIBRARY_PATH", "") if value is None else value
    found = []
    for folder in dict.fromkeys(filter(None, value.split(":"))):
        found += [
            str(library) for prefix in _SHADOWING for library in sorted(Path(folder).glob(f"{prefix}*"))[:1]
        ]
    if not found:
        return Check("library path", "ok", "LD_LIBRARY_PATH names no CUDA libraries")
    detail = f"LD_LIBRARY_PATH puts {', '.join(found)} before the libraries of the packages"
    return Check("library path", "warning", detail, "unset LD_LIBRARY_PATH")
