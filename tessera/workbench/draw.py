"""Inputs for a run: those from files, and random ones for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.program.dim import as_symbol
from tessera.program.errors import InputError
from tessera.workbench.failure import UsageError

if TYPE_CHECKING:
    import numpy as np

    from tessera.program.program import Port, Program


@dataclass(frozen=True, slots=True)
class Inputs:
    """Values for every input of a program."""

    values: dict[str, np.ndarray[Any, Any]]
    """By name; scalars as arrays of rank 0."""
    drawn: tuple[str, ...] = ()
    """Names of those drawn at random."""
    assumed: dict[str, int] = field(default_factory=dict)
    """Sizes that nobody gave."""


def read_files(program: Program, texts: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays by input name, from `x.npy` (the inputs in order) or `name=x.npy`.

    Raises:
        UsageError: A file is not there, or an input is unknown or given twice.
        InputError: A file is not a NumPy array.
    """
    names = [p.name for p in program.inputs]
    found: dict[str, np.ndarray[Any, Any]] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not equals:
            free = [n for n in names if n not in found]
            if not free:
                raise UsageError(f"--input {text}: the program takes {len(names)} inputs: {', '.join(names)}")
            name, file = free[0], text
        if name not in names:
            raise UsageError(f"--input {text}: no such input", hint=f"inputs: {', '.join(names)}")
        if name in found:
            raise UsageError(f"--input {text}: input {name!r} is given twice")
        found[name] = _read(name, file)
    return found


def _read(name: str, file: str) -> np.ndarray[Any, Any]:
    # numpy costs 67 ms.
    import numpy as np

    if not Path(file).is_file():
        raise UsageError(f"--input: there is no file {file}", hint="numpy.save writes one")
    try:
        array: np.ndarray[Any, Any] = np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        message = f"{file} is no .npy file: {error}"
        raise InputError(message, hint="numpy.save('x.npy', x)", input=name) from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{file} holds several arrays; give one .npy file per input", input=name)
    return array


def complete(
    program: Program, given: Mapping[str, np.ndarray[Any, Any]], sizes: Mapping[str, int], seed: int,
    *, assume: Mapping[str, int] | None = None,
) -> Inputs:  # fmt: skip
    """Values for every input: those given, the rest drawn at random.

    Args:
        program: Whose inputs.
        given: Arrays by input name.
        sizes: Values of symbols that no given array fixes.
        seed: Seed of the draw.
        assume: Values for symbols that nothing else fixes, instead of the usual one.

    Raises:
        UsageError: A size names no symbol, or contradicts a given array.
    """
    from tessera.profiler.sizes import choose_sizes, random_inputs

    try:
        choose_sizes(program, batch=None, given=sizes)
    except InputError as error:
        raise UsageError(f"--size: {error.message}", hint=error.hint) from None
    known, assumed = choose_sizes(program, batch=None, given=_known_sizes(program, given, sizes))
    known |= {name: assume[name] for name in assumed if name in assume} if assume else {}
    values = {**random_inputs(program, known, seed=seed), **given}
    drawn = [p.name for p in program.inputs if p.name not in given and not _is_size(p, known)]
    return Inputs(values, tuple(drawn), {name: known[name] for name in assumed})


def _is_size(port: Port, sizes: Mapping[str, int]) -> bool:
    return port.kind == "scalar" and port.name in sizes


def _known_sizes(
    program: Program, given: Mapping[str, np.ndarray[Any, Any]], sizes: Mapping[str, int]
) -> dict[str, int]:
    known = dict(sizes)
    for port in program.inputs:
        value = given.get(port.name)
        if value is None:
            continue
        if port.kind == "scalar":
            if not port.dtype.is_float:
                known[port.name] = int(value)
            continue
        for dim, size in zip(port.shape, value.shape, strict=False):
            symbol = as_symbol(dim)
            if symbol is not None and known.setdefault(symbol, size) != size:
                raise UsageError(
                    f"--size {symbol}={known[symbol]}, but input {port.name!r} has {size} there",
                    hint="leave --size out: the input says it",
                )
    return known


def say_drawn(inputs: Inputs, seed: int) -> None:
    """Say on stderr what nobody gave: sizes assumed, inputs drawn."""
    from tessera.workbench.output import note

    for name, value in inputs.assumed.items():
        note(f"size {name} = {value}, as nobody says otherwise; --size {name}=…")
    if inputs.drawn:
        note(f"drawn at random (--seed {seed}): {', '.join(inputs.drawn)}")
