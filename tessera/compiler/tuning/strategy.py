"""In which order configurations are tried: all, at random, or led by what was found so far."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tessera.compiler.tuning.record import Value, configuration_key
from tessera.language.tuning import Space
from tessera.program.errors import MissingDependencyError, OptionError

Configuration = Mapping[str, Value]
_ASKS = 32
"""How often a strategy may propose what was tried already before one is drawn at random."""
_LISTED = 20_000
"""Up to so many configurations a random order is of all; beyond, they are drawn one by one."""


class Strategy(Protocol):
    """Proposes configurations, one by one; each once."""

    def ask(self) -> dict[str, Value] | None:
        """The next to try; None if there is no further one."""

    def tell(self, configuration: Configuration, cost_ms: float | None) -> None:
        """Say what the last one costs; None: it failed."""


def make_strategy(name: str, space: Space, *, seed: int, budget: int) -> Strategy:
    """A strategy by name; equal arguments propose equal configurations, given equal costs.

    Args:
        name: One of `STRATEGIES`.
        space: What there is to try.
        seed: Of random draws.
        budget: How many will be asked for.

    Raises:
        OptionError: There is no such strategy.
        MissingDependencyError: It needs Optuna, which is not installed.
    """
    if name not in STRATEGIES:
        raise OptionError(f"there is no strategy {name!r}", hint="one of: " + ", ".join(STRATEGIES))
    return STRATEGIES[name](space, seed, budget)


class _Listed:
    """Configurations in a given order."""

    def __init__(self, order: Any) -> None:
        self._order = iter(order)

    def ask(self) -> dict[str, Value] | None:
        return next(self._order, None)

    def tell(self, configuration: Configuration, cost_ms: float | None) -> None:
        """An order takes no advice."""


def _grid(space: Space, seed: int, budget: int) -> Strategy:
    del seed, budget
    return _Listed(space.configurations())


def _random(space: Space, seed: int, budget: int) -> Strategy:
    del budget
    return _Listed(_shuffled(space, _draw(seed)))


def _draw(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - an order, not a secret


def _shuffled(space: Space, draw: random.Random) -> Any:
    size = 1
    for _, values in space.parameters:
        size *= len(values)
    if size <= _LISTED:
        everything = list(space.configurations())
        draw.shuffle(everything)
        return everything
    return _drawn(space, draw, size)


def _drawn(space: Space, draw: random.Random, size: int) -> Any:
    seen: set[str] = set()
    for _ in range(20 * size):
        found = {name: draw.choice(values) for name, values in space.parameters}
        key = configuration_key(found)
        if key not in seen and space.allows(found):
            seen.add(key)
            yield found


class _Optuna:
    """Optuna's samplers over the index of each value, asked again where a configuration cannot be taken."""

    def __init__(self, space: Space, sampler: Any, seed: int) -> None:
        optuna = _optuna()
        self._space = space
        self._study = optuna.create_study(sampler=sampler)
        self._fail = optuna.trial.TrialState.FAIL
        self._distributions = {
            name: optuna.distributions.CategoricalDistribution(tuple(range(len(values))))
            for name, values in space.parameters
        }
        self._rest = iter(_shuffled(space, _draw(seed)))
        self._seen: set[str] = set()
        self._trial: Any = None
        self._worst = 0.0

    def ask(self) -> dict[str, Value] | None:
        for _ in range(_ASKS):
            trial = self._study.ask(self._distributions)
            found = {name: values[trial.params[name]] for name, values in self._space.parameters}
            if configuration_key(found) not in self._seen and self._space.allows(found):
                return self._proposed(found, trial)
            self._study.tell(trial, state=self._fail)
        unseen = (c for c in self._rest if configuration_key(c) not in self._seen)
        following: dict[str, Value] | None = next(unseen, None)
        return None if following is None else self._proposed(following, None)

    def _proposed(self, found: dict[str, Value], trial: Any) -> dict[str, Value]:
        self._seen.add(configuration_key(found))
        self._trial = trial
        return found

    def tell(self, configuration: Configuration, cost_ms: float | None) -> None:
        # A failure is as bad as ten times the worst: the samplers learn to stay away.
        self._worst = max(self._worst, cost_ms or 0.0)
        value = cost_ms if cost_ms is not None else 10 * (self._worst or 1.0)
        if self._trial is not None:
            self._study.tell(self._trial, value)
            return
        optuna = _optuna()
        params = {
            name: next(i for i, v in enumerate(values) if v == configuration[name])
            for name, values in self._space.parameters
        }
        self._study.add_trial(
            optuna.trial.create_trial(params=params, distributions=self._distributions, value=value)
        )


def _bayesian(space: Space, seed: int, budget: int) -> Strategy:
    sampler = _optuna().samplers.TPESampler(seed=seed, n_startup_trials=max(2, min(10, budget // 4)))
    return _Optuna(space, sampler, seed)


def _genetic(space: Space, seed: int, budget: int) -> Strategy:
    sampler = _optuna().samplers.NSGAIISampler(seed=seed, population_size=max(2, min(20, budget // 4)))
    return _Optuna(space, sampler, seed)


def _optuna() -> Any:
    try:
        # 0.6 s, for two of the strategies alone.
        import optuna
    except ImportError:
        raise MissingDependencyError.extra(
            "optuna", "tune", needed_for="bayesian and genetic search"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


STRATEGIES: dict[str, Callable[[Space, int, int], Strategy]] = {
    "grid": _grid,
    "random": _random,
    "bayesian": _bayesian,
    "genetic": _genetic,
}
"""By name. Grid and random need nothing; bayesian is Optuna's tree of Parzen estimators, genetic its
NSGA-II."""
