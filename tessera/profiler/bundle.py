"""A ZIP for a bug report: what `tessera diag` found, versions, settings; nothing secret."""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import socket
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tessera.package.atomic import atomic_file
from tessera.profiler.check import Check
from tessera.program.errors import ConfigError, PackageError, TesseraError

SETTINGS = re.compile(
    r"(?:TESSERA|CUDA|NVIDIA|NUMBA|CUPY|NVML|OMP|MKL|OPENBLAS)_"
    r"|(?:LD_LIBRARY_PATH|PYTHONPATH|LANG|TERM|NO_COLOR|COLUMNS)\Z"
)
"""Variables of the environment that are told; all others stay home, whatever their names."""
_SECRET_NAME = re.compile(r"TOKEN|KEY|SECRET|PASS|CREDENTIAL|AUTH|COOKIE|SIGN", re.IGNORECASE)
_WITH_PASSWORD = re.compile(r"(\w+://)[^/\s@]+@")
_LIKE_A_SECRET = re.compile(
    r"\b(?:gh[pousr]_|glpat-|sk-|hf_|xox[abprs]-|AKIA|ASIA|eyJ)[\w.-]{12,}"
    r"|(?i:(?:token|secret|password|passwd|api[_-]?key)\s*[=:]\s*)\S+"
)
_UUID = re.compile(r"(?:GPU|MIG)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
HIDDEN = "<hidden>"


def write_bundle(path: str | Path, checks: Sequence[Check]) -> Path:
    """Write the ZIP.

    Args:
        path: The file; must not exist.
        checks: What `diagnose` answered.

    Returns:
        The file.

    Raises:
        ConfigError: It exists, or cannot be written.
    """
    target = Path(path)
    hide = make_hide()
    if os.path.lexists(target):
        raise ConfigError(f"{target} exists", hint=f"choose another name, or rm {target}")
    try:
        with (
            atomic_file(target, replace=False) as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for name, content in contents(checks).items():
                archive.writestr(name, hide(content))
    except PackageError as error:
        raise ConfigError(error.message, hint=error.hint, file=str(target)) from error
    return target


def contents(checks: Sequence[Check]) -> dict[str, str]:
    """Text of each entry, before secrets are hidden."""
    from tessera import __version__
    from tessera.profiler.check_conflicts import installed

    packages = "".join(f"{name}=={version}\n" for name, version in sorted(installed().items()))
    return {
        "README.txt": "Made by `tessera diag --bundle`. Look through it before you send it.\n",
        "diag.json": _json({"tessera": __version__, "checks": [asdict(check) for check in checks]}),
        "packages.txt": packages,
        "environment.json": _json(settings(os.environ)),
        "machine.json": _json(_machine()),
        "gpus.json": _json(_gpus()),
    }


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that matter for Tessera, by a list of what is told; the values of secrets are hidden."""
    return {
        name: HIDDEN if _SECRET_NAME.search(name) else value
        for name, value in sorted(environment.items())
        if SETTINGS.match(name)
    }


def make_hide() -> Callable[[str], str]:
    """A function that takes names of people and machines, ids and what looks like a secret out of a text."""
    home = str(Path.home())
    names = {socket.gethostname(): "<host>", _user(): "<user>"}
    words = {word: mark for word, mark in names.items() if len(word) > 2 and word not in _COMMON}

    def hide(text: str) -> str:
        text = _WITH_PASSWORD.sub(rf"\1{HIDDEN}@", text)
        text = _LIKE_A_SECRET.sub(HIDDEN, text)
        text = _UUID.sub("<uuid>", text)
        if len(home) > 1:
            text = re.sub(rf"{re.escape(home)}(?=[/\"':\s]|\Z)", "~", text)
        for word, mark in words.items():
            text = re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", mark, text)
        return text

    return hide


_COMMON = frozenset({"root", "localhost", "user", "tessera", "python"})
"""Names that tell nothing, and stand in texts for other reasons."""


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _machine() -> dict[str, object]:
    from tessera.profiler.check_machine import available_cores, available_memory, cpu_model

    available, total = available_memory()
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        system = None
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "system": system,
        "libc": " ".join(platform.libc_ver()),
        "cpu": cpu_model(),
        "cores": available_cores(),
        "memory_available_bytes": available,
        "memory_total_bytes": total,
    }


def _gpus() -> object:
    """One sample of every GPU, without its processes: their names are other people's business."""
    from tessera.profiler.live.sampler import Sampler
    from tessera.profiler.live.snapshot import snapshot

    try:
        sampler = Sampler()
    except TesseraError as error:
        return {"none": error.message}
    try:
        sampler.sample()
        found = snapshot(sampler)
    finally:
        sampler.stop()
    for gpu in found["gpus"]:
        del gpu["processes"]
    return found


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"
