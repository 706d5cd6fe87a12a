"""Who gets which share of the requests.

Without a key, each request is drawn by itself. With one, its target is fixed by a hash, in every process
and after every start: weighted rendezvous hashing. Each target gets the number

    weight / -ln(u),  u = (h + 0.5) / 2^64,  h = BLAKE2b-64(salt, 0, target, 0, key) as big-endian integer

and the largest one wins. A target is so chosen with the probability of its weight; a change of weights
moves no more keys than it must, and only to targets whose share grew; the order of targets is of no
account, and different salts are independent of each other.

Source: C. Schindelhauer, G. Schomaker, "Weighted Distributed Hash Tables", SPAA 2005, the logarithmic
method; BLAKE2b is RFC 7693.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from tessera.program.errors import ConfigError

_HASHES = float(1 << 64)


@dataclass(frozen=True, slots=True)
class TrafficSplit:
    """Targets and their weights."""

    weights: Mapping[str, float]
    """By target, `NAME` or `NAME@VERSION`; their sum need not be 1. One of 0 is only chosen by name."""
    salt: str = ""
    """What tells this split's hashes from those of others."""

    def __post_init__(self) -> None:
        if not self.weights:
            raise ConfigError("a split has no targets", hint='such as {"v1": 0.9, "v2": 0.1}', key="split")
        for target, weight in self.weights.items():
            if (
                isinstance(weight, bool)
                or not isinstance(weight, int | float)
                or not math.isfinite(weight)
                or weight < 0
            ):
                raise ConfigError(
                    f"the weight of {target!r} is {weight!r}, not a number from 0 up",
                    hint='such as {"v1": 0.9, "v2": 0.1}',
                    key="split",
                )
            parse_target(target)
        if not any(self.weights.values()):
            raise ConfigError("every weight of a split is 0", hint="one must be above", key="split")

    def ranked(self, key: str | None, draw: Callable[[], float]) -> list[str]:
        """Targets of a weight above 0: the chosen one, then those that take its place where it is not there.

        Args:
            key: What fixes the choice; None: nothing does.
            draw: Gives a random number, 0 <= x < 1, for requests without a key.
        """
        scores = {
            target: weight / -math.log(_fraction(self.salt, target, key) if key is not None else 1.0 - draw())
            for target, weight in self.weights.items()
            if weight
        }
        return sorted(scores, key=scores.__getitem__, reverse=True)


class Alias:
    """A name that stands for one of several models, drawn at each request. Changes may come from any thread.

    Args:
        name: What clients ask for.
        split: Who answers.
        seed: Of the draws; None: a random one.
    """

    def __init__(self, name: str, split: TrafficSplit, seed: int | None = None) -> None:
        self.name = name
        """What clients ask for."""
        self._split = split
        self._random = random.Random(seed)  # noqa: S311 - shares of requests, no secret

    def set_split(self, weights: Mapping[str, float]) -> None:
        """Change the shares.

        Raises:
            ConfigError: A target or a weight makes no sense.
        """
        self._split = TrafficSplit(dict(weights), self._split.salt)

    def targets(self) -> list[tuple[str, str | None]]:
        """Names and versions for a request, the first one first."""
        return [parse_target(target) for target in self._split.ranked(None, self._random.random)]


def _fraction(salt: str, target: str, key: str) -> float:
    digest = blake2b(f"{salt}\0{target}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    # The largest hashes round to 1, whose logarithm is 0.
    return min((int.from_bytes(digest) + 0.5) / _HASHES, 1.0 - 2.0**-53)


def parse_target(text: str) -> tuple[str, str | None]:
    """Name and version of `NAME` or `NAME@VERSION`.

    Raises:
        ConfigError: It is neither.
    """
    name, at, version = text.partition("@") if isinstance(text, str) else ("", "", "")
    if not name or (at and not version):
        raise ConfigError(f"the target {text!r} names no model", hint='"NAME" or "NAME@VERSION"', key="split")
    return name, version or None
