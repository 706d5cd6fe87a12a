"""Tuned configurations as kernels of one program: each under a name of its own, with the sizes it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tessera.compiler.options import ToolOptions
from tessera.compiler.tuning.record import Pick, configuration_key
from tessera.language.kernel import Kernel
from tessera.program.dim import symbol
from tessera.program.program import Compare

Way = tuple[Kernel, tuple[Compare, ...]]
"""A kernel, and what must hold of the sizes."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One configuration of a kernel."""

    kernel: Kernel
    targets: frozenset[str]
    """Architectures that take it."""


@dataclass(frozen=True, slots=True)
class Variants:
    """All configurations of a kernel that a program holds."""

    kernels: tuple[Variant, ...]
    plans: tuple[tuple[tuple[str, ...], tuple[Way, ...]], ...]
    """Architectures, and what they choose from: the first whose condition holds. The last has none."""


def kernel_variants(
    kernel: Kernel, targets: Sequence[ToolOptions], picks: Mapping[str, Sequence[Pick]]
) -> Variants:
    """The kernels to compile and how each target chooses.

    Args:
        kernel: A kernel in its own configuration, which targets without picks take.
        targets: GPU targets.
        picks: By target, smallest sizes first.
    """
    own = Pick(kernel.configuration, {}, "predicted")
    chosen = {options.target: tuple(picks.get(options.target) or (own,)) for options in targets}
    users: dict[str, set[str]] = {}
    values: dict[str, Pick] = {}
    for target, ways in chosen.items():
        for pick in ways:
            key = configuration_key(pick.configuration)
            users.setdefault(key, set()).add(target)
            values.setdefault(key, pick)
    kernels = {key: _named(kernel, values[key], index, len(values)) for index, key in enumerate(values)}
    plans: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for target, ways in chosen.items():
        form = tuple((configuration_key(p.configuration), configuration_key(p.bucket)) for p in ways)
        plans.setdefault(form, []).append(target)
    return Variants(
        tuple(Variant(kernels[key], frozenset(users[key])) for key in values),
        tuple(
            (
                tuple(group),
                tuple(_way(kernels, pick, pick is chosen[group[0]][-1]) for pick in chosen[group[0]]),
            )
            for group in plans.values()
        ),
    )


def _named(kernel: Kernel, pick: Pick, index: int, count: int) -> Kernel:
    if not pick.configuration or (count == 1 and pick.configuration == kernel.configuration):
        return kernel
    return kernel.configured(pick.configuration, name=kernel.name if count == 1 else f"{kernel.name}_{index}")


def _way(kernels: Mapping[str, Kernel], pick: Pick, last: bool) -> Way:
    guard = tuple(Compare(lhs=symbol(name), op="<=", rhs=size) for name, size in pick.bucket.items())
    return kernels[configuration_key(pick.configuration)], () if last else guard
