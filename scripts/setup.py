"""Makes the virtual environment in .venv and installs Tessera into it, if that is not done yet.

    python3 scripts/setup.py [--extras dev]

Needs only python3 (3.11 or newer). The standard library alone: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extras", default="dev", help="extras to install, separated by commas")
    extras = set(parser.parse_args().extras.split(","))
    if sys.version_info < (3, 11):
        return fail(
            f"Tessera needs Python 3.11 or newer; this is {sys.version.split()[0]}",
            "PYTHON=python3.12 make demo",
        )
    if linker_is_missing():
        print("No C compiler found: installing one as a wheel (ziglang) for the cpu target.")
        extras.add("toolchain")
    stamp = VENV / ".tessera-setup"
    wanted = fingerprint(extras)
    if stamp.is_file() and stamp.read_text() == wanted and PYTHON.exists():
        return 0
    if not PYTHON.exists() and not make_environment():
        return 1
    print("Installing Tessera and what it needs into .venv (about a minute)…", flush=True)
    requirement = f"{ROOT}[{','.join(sorted(extras))}]"
    command = [
        str(PYTHON),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--editable",
        requirement,
    ]
    if subprocess.run(command, check=False).returncode:
        return fail("pip could not install Tessera", "see the message above; is the package index reachable?")
    stamp.write_text(wanted)
    return 0


def fingerprint(extras: set[str]) -> str:
    """What the environment depends on: when it changes, pip runs again."""
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes())
    digest.update(f"{sys.version}{ROOT}{sorted(extras)}".encode())
    return digest.hexdigest()


def linker_is_missing() -> bool:
    return not any(shutil.which(name) for name in (os.environ.get("CC", "cc"), "gcc", "clang"))


def make_environment() -> bool:
    """A virtual environment with pip, also where Debian has split ensurepip off."""
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return True
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    if shutil.which("apt-get") and os.geteuid() == 0:
        print(f"Python's venv module is incomplete here: installing Debian's {package}…", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package]):
            subprocess.run(["apt-get", *arguments], env=environment, stdout=subprocess.DEVNULL, check=False)
        if subprocess.run(command, check=False).returncode == 0:
            return True
    shutil.rmtree(VENV, ignore_errors=True)
    print(result.stdout + result.stderr, file=sys.stderr)
    return not fail("python3 cannot make a virtual environment", f"sudo apt-get install {package}")


def fail(message: str, hint: str) -> int:
    print(f"error: {message}\nhint: {hint}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
