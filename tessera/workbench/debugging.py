"""From a target on the command line to a debugger that stands at the first line of its first kernel."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.program.errors import CompileError
from tessera.program.program import Program
from tessera.workbench.checking import default_sizes, known_sizes, path_of
from tessera.workbench.draw import Inputs, complete, read_files
from tessera.workbench.source import Entry

if TYPE_CHECKING:
    from tessera.emulator.debugging import Debugger
    from tessera.emulator.debugging.source import SourceFile
    from tessera.workbench.compilation import Compiled


@dataclass(frozen=True, slots=True)
class Session:
    """A program under the debugger."""

    debugger: Debugger
    program: Program
    target: str
    """`sm_80`."""
    inputs: Inputs
    optimized: bool
    """Whether the code is the optimized one, whose variables nobody knows."""
    seconds: float
    """Wall clock, compiling not included."""


def open_session(
    compiled: Compiled, given: Sequence[str], sizes: Mapping[str, int], seed: int, limit: int = 100
) -> Session:
    """Place the inputs of a file's only entry, and stop its first kernel at its first line.

    Args:
        compiled: The file, compiled for a GPU.
        given: Inputs from files, as `read_files` takes them.
        sizes: Symbolic sizes.
        seed: Of inputs drawn at random.
        limit: Findings of the sanitizer after which it says no more.

    Raises:
        InputError: The inputs do not fit.
        CompileError: The emulator does not know an instruction, or the program launches nothing.
    """
    from tessera.emulator.debugging import Debugger
    from tessera.emulator.debugging.launches import LaunchList
    from tessera.emulator.sanitizer import Sanitizer
    from tessera.program.validate import bound_symbols
    from tessera.runtime import ArtifactSource
    from tessera.runtime.emulator import EmulatorDevice
    from tessera.runtime.inputs import InputReader

    start = time.perf_counter()
    entry, artifact = compiled.entries[0], compiled.kernels[0].artifact
    (program,) = artifact.programs
    known_sizes([program], sizes)
    own = {name: value for name, value in sizes.items() if name in bound_symbols(program)}
    inputs = complete(program, read_files(program, given), own, seed, assume=default_sizes(program))
    sanitizer = Sanitizer(limit=limit)
    if entry.kind == "kernel":
        from tessera.workbench.shared_arrays import shared_arrays

        sanitizer.shared_names[entry.subject.name] = shared_arrays(entry.subject.fn)  # type: ignore[union-attr]
    launches = LaunchList(sanitizer)
    device = EmulatorDevice(sanitizer=sanitizer, engine=launches)
    loaded = device.load(program, ArtifactSource(artifact))
    loaded.run(InputReader(program).read([inputs.values]), None)
    if not launches.launches:
        raise CompileError(f"{program.name} launches no kernel: there is nothing to debug")
    files = {name for launch in launches.launches for name in launch.code.lines()}
    sources = read_sources(files, entry, compiled.request.target)
    debugger = Debugger(launches, sources)
    seconds = time.perf_counter() - start
    target = loaded.target.removesuffix(" ptx")
    return Session(debugger, program, target, inputs, not compiled.request.debug, seconds)


def read_sources(names: set[str], entry: Entry, target: str) -> dict[str, SourceFile]:
    """The files that code comes from, by the name that it has for them; those that can be read."""
    from tessera.emulator.debugging.source import SourceFile

    found = {}
    for name in names:
        path = Path(path_of(name, entry, target))
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        found[name] = SourceFile(name, str(path), text, _numbers(getattr(entry.subject, "fn", None)))
    return found


def _numbers(function: Callable[..., Any] | None) -> dict[str, Any]:
    """The numbers that a function knows from outside."""
    if function is None:
        return {}
    try:
        closed = inspect.getclosurevars(function)
    except (TypeError, ValueError):
        return {}
    known = {**closed.globals, **closed.nonlocals}
    return {name: value for name, value in known.items() if isinstance(value, (int, float, bool))}
