"""How the kernels of one step are shaped where somebody has tuned it: tiles, warps, stages, threads.

A step is what one group of operators becomes. Its template has a space of tilings; the compiler's own choice,
by sizes, is the one whose every value is `AUTO`. Values are names of shapes and numbers, so that a tiling can
be recorded, compared and written down as text.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tessera.language.tuning import Space, Value
from tessera.program.errors import CompileError

AUTO = "auto"
"""The compiler's own choice."""
Values = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Tiling:
    """Values for one step, and the sizes that they are for."""

    values: tuple[tuple[str, Value], ...]
    """By name, in the order of the space."""
    bucket: tuple[tuple[str, int], ...] = ()
    """Sizes up to which it holds; the last of a step's tilings is for all."""


StepTilings = tuple[tuple[str, tuple[Tiling, ...]], ...]
"""Tilings by step, smallest sizes first."""


@dataclass(frozen=True, slots=True)
class Tilings:
    """What was chosen for the steps of a plan; equal for targets that share one."""

    steps: StepTilings = ()
    shared_bytes: int = 0
    """Most shared memory of a block that was tuned."""

    def of(self, step: str) -> tuple[Tiling, ...]:
        """Those of a step; none where the compiler's own choice stands."""
        return dict(self.steps).get(step, ())


def is_own(values: Values) -> bool:
    """Whether these values leave everything to the compiler."""
    return all(value == AUTO for value in values.values())


def own_values(space: Space) -> dict[str, Value]:
    """The compiler's own choice, as values of a space."""
    return dict.fromkeys(space.names, AUTO)


def make_tile_space(
    parameters: Mapping[str, Sequence[Value]], fits: Iterable[Mapping[str, Value]]
) -> Space | None:
    """The compiler's own choice and every tiling of `fits`; None where there is none of these.

    Args:
        parameters: Values of each name, `AUTO` left out.
        fits: What the template can write, shared memory and registers aside: whether these suffice shows.
    """
    listed = {tuple(values[name] for name in parameters) for values in fits}
    if not listed:
        return None
    used = [
        (name, (AUTO, *(value for value in values if any(row[place] == value for row in listed))))
        for place, (name, values) in enumerate(parameters.items())
    ]

    def allows(configuration: Values) -> bool:
        row = tuple(configuration[name] for name in parameters)
        return row in listed or all(value == AUTO for value in row)

    return Space(tuple(used), allows)


def tilings_of(parameters: Mapping[str, Sequence[Value]]) -> Iterator[Values]:
    """Every combination of values."""
    for values in itertools.product(*parameters.values()):
        yield dict(zip(parameters, values, strict=True))


def check_shared_bytes(what: str, needed: int, limit: int) -> None:
    """Refuse a tile that is too large.

    Raises:
        CompileError: It is.
    """
    if needed > limit:
        raise CompileError(
            f"{what}: a block needs {needed} bytes of shared memory; there are {limit}",
            hint="fewer stages, or a smaller tile",
        )


def label_of(values: Values) -> str:
    """What tells a tuned kernel from the compiler's own, in its name: `64x128_2x2_3`."""
    return "_".join(str(value) for value in values.values() if value != AUTO)


def whole(values: Values, name: str) -> int:
    """A value that is a number.

    Raises:
        CompileError: It is not.
    """
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise CompileError(f"a tiling's {name} is {value!r}, not a number", hint="tessera tune FILE:NAME")
    return value


def pair(values: Values, name: str) -> tuple[int, int]:
    """A value such as `64x128`.

    Raises:
        CompileError: It is not.
    """
    first, cross, second = str(values.get(name)).partition("x")
    if not (cross and first.isdigit() and second.isdigit()):
        raise CompileError(f"a tiling's {name} is {values.get(name)!r}, not like 64x128")
    return int(first), int(second)
