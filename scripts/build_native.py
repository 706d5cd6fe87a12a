"""Builds libtessera_rt.so, the runtime for C and C++ programs, into tessera/native/ if it is not up to date.

    python3 scripts/build_native.py [--output PATH] [--require] [--force] [--sanitize]

Compiles with $CXX, c++, g++ or clang++, or else with the ziglang wheel. Where there is no compiler it
says so and goes on: Tessera works without the library, only C++ programs and `add_runtime_library` need
it. `--require` makes that an error. The standard library alone: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "native"
OUTPUT = ROOT / "tessera" / "native" / "libtessera_rt.so"
BUILD = NATIVE / "build"

COMPILE = ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden"]
COMPILE += ["-ffunction-sections", "-fdata-sections", "-ffp-contract=fast", "-pthread", "-DTESSERA_BUILDING"]
EXPORTS = NATIVE / "exports.map"
LINK = ["-shared", "-pthread", "-s", "-Wl,--gc-sections", "-Wl,-soname,libtessera_rt.so", "-ldl"]
LINK += [f"-Wl,--version-script={EXPORTS}"]
# Nothing but libc and libm is needed where the library runs.
STATIC_RUNTIME = ["-static-libstdc++", "-static-libgcc"]
SANITIZE = [
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-g",
    "-O1",
]


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler: the words that start it, and what only it is told."""

    command: tuple[str, ...]
    link: tuple[str, ...]
    name: str
    version: str


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the library goes")
    parser.add_argument("--require", action="store_true", help="fail where it cannot be built")
    parser.add_argument("--force", action="store_true", help="build even if it is up to date")
    parser.add_argument(
        "--sanitize", action="store_true", help="with checks of addresses and undefined behaviour"
    )
    options = parser.parse_args()
    compiler = find_compiler()
    if compiler is None:
        print("libtessera_rt: no C++ compiler found, so not built; C++ programs need it: apt install g++")
        return int(options.require)
    try:
        print(build(compiler, options.output, force=options.force, sanitize=options.sanitize))
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"libtessera_rt: not built with {compiler.name}:\n{reason(error)}", file=sys.stderr)
        return int(options.require)
    return 0


def reason(error: subprocess.CalledProcessError | OSError) -> str:
    """The compiler's first complaints."""
    if isinstance(error, subprocess.CalledProcessError):
        return "\n".join(str(error.stderr).splitlines()[:12])
    return str(error)


def find_compiler() -> Compiler | None:
    """The compiler to use; a wheel's only where the system has none."""
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        words = shlex.split(name)
        if words and shutil.which(words[0]) and (version := answer([*words, "--version"])):
            return Compiler(tuple(words), tuple(STATIC_RUNTIME), name, version)
    for python in (sys.executable, str(ROOT / ".venv" / "bin" / "python")):
        command = (python, "-m", "ziglang")
        if version := answer([*command, "version"]):
            # zig links its own libc++; 2.17 is the glibc of the oldest systems in use.
            target = f"{os.uname().machine}-linux-gnu.2.17"
            return Compiler((*command, "c++", "-target", target), (), "ziglang", version)
    return None


def answer(command: list[str]) -> str:
    """What a command prints; empty where it fails or is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def build(compiler: Compiler, output: Path, *, force: bool = False, sanitize: bool = False) -> str:
    """Compile what changed and link; the library appears whole or not at all.

    Returns:
        One line that says what happened.

    Raises:
        subprocess.CalledProcessError: The compiler refused.
    """
    sources = sorted((NATIVE / "src").glob("*.cpp"))
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    checks = SANITIZE if sanitize else []
    flags = [*COMPILE, f'-DTESSERA_VERSION="{version[1] if version else "unknown"}"', *checks]
    # Programs with checks bring the C++ library that the checkers know.
    link = [*LINK, *(checks or compiler.link)]
    shared, folder = fingerprint(compiler, flags), BUILD / ("sanitized" if sanitize else "objects")
    objects = {source: folder / f"{source.stem}-{digest(shared, source)}.o" for source in sources}
    stamp = digest(shared + repr(link), EXPORTS, *sources)
    recorded = folder / f"{hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:16]}.stamp"
    if not force and output.is_file() and recorded.is_file() and recorded.read_text() == stamp:
        return f"libtessera_rt: {shown(output)} is up to date"
    folder.mkdir(parents=True, exist_ok=True)
    compiled = [(source, target) for source, target in objects.items() if force or not target.is_file()]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(lambda pair: compile_one(compiler, flags, *pair), compiled))
    output.parent.mkdir(parents=True, exist_ok=True)
    run_to(output, [*compiler.command, *map(str, objects.values())], link)
    recorded.write_text(stamp)
    for source, current in objects.items():
        for stale in set(folder.glob(f"{source.stem}-*.o")) - {current}:
            stale.unlink(missing_ok=True)
    size = output.stat().st_size
    return f"libtessera_rt: built {shown(output)} with {compiler.name}, {size / 1e6:.1f} MB"


def fingerprint(compiler: Compiler, flags: list[str]) -> str:
    """What every object depends on: the compiler, the flags, the headers."""
    headers = sorted((NATIVE / "src").glob("*.h")) + sorted((NATIVE / "include" / "tessera").glob("*.h"))
    return digest(repr((compiler.command, compiler.version, flags)), *headers)


def digest(text: str, *files: Path) -> str:
    found = hashlib.sha256(text.encode())
    for file in files:
        found.update(file.read_bytes())
    return found.hexdigest()[:32]


def compile_one(compiler: Compiler, flags: list[str], source: Path, target: Path) -> None:
    run_to(target, [*compiler.command, "-c", str(source)], [*flags, "-I", str(NATIVE / "include")])


def run_to(target: Path, command: list[str], rest: list[str]) -> None:
    """Run a command that writes `target`; nobody ever sees half a file."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    os.close(handle)
    try:
        subprocess.run([*command, "-o", name, *rest], capture_output=True, text=True, check=True)
        Path(name).chmod(0o755 if target.suffix == ".so" else 0o644)
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)


def shown(path: Path) -> str:
    resolved = path.resolve()
    return str(resolved.relative_to(ROOT)) if resolved.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    sys.exit(main())
