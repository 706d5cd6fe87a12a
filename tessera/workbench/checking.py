"""From a target on the command line to findings: compile with source lines, emulate under the sanitizer."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

from tessera.program.errors import SizeError
from tessera.program.program import Choice, Launch, Program, Step
from tessera.workbench.draw import Inputs, complete, read_files
from tessera.workbench.failure import UsageError
from tessera.workbench.source import Entry

if TYPE_CHECKING:
    from tessera.emulator.findings import Finding
    from tessera.workbench.compilation import Compiled

PRIMES = (67, 61, 71, 59, 73, 53)
"""Sizes of matrices where nobody says otherwise: different ones, no multiples of any block."""
EXTRA = (37, 41, 43, 47)
"""What vectors have beyond one block where nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One program under the sanitizer."""

    program: Program
    target: str
    """`sm_80 ptx`."""
    inputs: Inputs
    findings: tuple[Finding, ...]
    complete: bool
    """Whether it ran to its end, rather than to the limit of findings."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Limits:
    """When a run ends."""

    findings: int
    """Kinds and lines of findings."""
    steps: int
    """Basic blocks that one block of threads may execute."""


def check_entry(
    compiled: Compiled, index: int, given: Sequence[str], sizes: Mapping[str, int], seed: int, limits: Limits
) -> Checked:
    """Run one entry of a file under the sanitizer.

    Args:
        compiled: The file's entries, compiled for a GPU.
        index: Which entry.
        given: Inputs from files, as `read_files` takes them.
        sizes: Symbolic sizes; names that this program has not are left out.
        seed: Of inputs drawn at random.
        limits: When the run ends.

    Raises:
        InputError: The inputs do not fit.
        CompileError: The emulator does not know an instruction.
    """
    from tessera.emulator.findings import TooManyFindingsError
    from tessera.emulator.sanitizer import Sanitizer
    from tessera.program.validate import bound_symbols
    from tessera.runtime import ArtifactSource
    from tessera.runtime.emulator import EmulatorDevice
    from tessera.runtime.inputs import InputReader

    entry, artifact = compiled.entries[index], compiled.kernels[index].artifact
    (program,) = artifact.programs
    own = {name: value for name, value in sizes.items() if name in bound_symbols(program)}
    inputs = complete(program, read_files(program, given), own, seed, assume=default_sizes(program))
    values = InputReader(program).read([inputs.values])
    sanitizer = Sanitizer(limit=limits.findings, block_steps=limits.steps)
    if entry.kind == "kernel":
        from tessera.workbench.shared_arrays import shared_arrays

        sanitizer.shared_names[entry.subject.name] = shared_arrays(entry.subject.fn)  # type: ignore[union-attr]
    start, done, target = time.perf_counter(), True, ""
    device = EmulatorDevice(sanitizer=sanitizer)
    try:
        loaded = device.load(program, ArtifactSource(artifact))
        target = loaded.target
        loaded.run(values, None)
        sanitizer.finish()
    except TooManyFindingsError:
        done = False
    seconds = time.perf_counter() - start
    found = tuple(_with_paths(f, entry, compiled.request.target) for f in sanitizer.findings)
    return Checked(program, target, inputs, found, done, seconds)


def known_sizes(programs: Sequence[Program], sizes: Mapping[str, int]) -> None:
    """Refuse sizes that no program has.

    Raises:
        SizeError: One of them.
    """
    from tessera.program.validate import bound_symbols

    known = {name for program in programs for name in bound_symbols(program)}
    for name in sizes:
        if name not in known:
            hint = "sizes: " + (", ".join(sorted(known)) or "none; every size is fixed")
            raise SizeError(f"there is no size called {name!r}", hint=hint)


def default_sizes(program: Program) -> dict[str, int]:
    """Small sizes that are no multiple of a block: where kernels forget their last block."""
    from tessera.program.validate import bound_symbols

    symbols = sorted(bound_symbols(program))
    blocks = [block for plan in program.plans for step in plan.steps for block in _blocks(step)]
    # Code that was generated takes whole rows; of hand-written kernels one size is often that of the grid.
    vectors = all(len(p.shape) <= 1 for p in program.inputs) or (program.graph is None and len(symbols) == 1)
    if not vectors or any(block[1:] != (1, 1) for block in blocks):
        return {name: PRIMES[i % len(PRIMES)] for i, name in enumerate(symbols)}
    block = max((b[0] for b in blocks), default=1)
    sizes = {}
    for i, name in enumerate(symbols):
        size = block + EXTRA[i % len(EXTRA)]
        sizes[name] = size if block == 1 or size % block else size + 1
    return sizes


def _blocks(step: Step) -> list[tuple[int, int, int]]:
    if isinstance(step, Choice):
        return [block for option in step.options for inner in option.steps for block in _blocks(inner)]
    return [step.block] if isinstance(step, Launch) else []


def one_entry(compiled: Compiled, given: Sequence[str]) -> None:
    """Refuse inputs from files where several things are checked.

    Raises:
        UsageError: There are several.
    """
    if given and len(compiled.entries) > 1:
        names = ", ".join(e.name for e in compiled.entries)
        raise UsageError(
            f"--input: {compiled.request.target} has {len(compiled.entries)} things to check: {names}",
            hint=f"name one: {compiled.request.target}:{compiled.entries[0].name}",
        )


def _with_paths(finding: Finding, entry: Entry, target: str) -> Finding:
    """The finding with paths instead of the bare names that machine code has."""
    other = finding.other
    if other is not None:
        other = replace(other, file=path_of(other.file, entry, target))
    return replace(finding, file=path_of(finding.file, entry, target), other=other)


def path_of(name: str, entry: Entry, target: str) -> str:
    """The path that a bare file name in machine code means; the name itself if no such file is known."""
    """The path of a file that machine code calls by its bare name; the name itself if nothing fits."""
    from tessera.workbench.source import split_target

    if not name:
        return ""
    function = getattr(entry.subject, "fn", None)
    code: CodeType | None = getattr(function, "__code__", None)
    likely = [str(split_target(target)[0].resolve()), *([code.co_filename] if code else [])]
    loaded = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    for path in (*likely, *(p for p in loaded if isinstance(p, str))):
        if Path(path).name == name:
            return path
    return name
