"""Copies of requests for another model, whose answers nobody gets but which are compared."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.program.errors import ConfigError, OverloadedError, TesseraError
from tessera.serve.inputs import Arrays
from tessera.serve.models.registry import Registry
from tessera.serve.models.split import parse_target

logger = logging.getLogger("tessera.serve")


@dataclass(frozen=True, slots=True)
class Shadow:
    """Which requests are copied, where to, and what counts as equal."""

    target: str
    """`NAME` or `NAME@VERSION`."""
    share: float = 1.0
    """Share of the requests, 0 to 1."""
    rtol: float = 1e-3
    """Largest difference of two numbers, as a share of the answer's."""
    atol: float = 1e-5
    """What may be added to it."""
    max_pending: int = 64
    """Copies that are under way at the same time; further ones are dropped."""
    timeout_s: float = 10.0
    """Longest that a copy may take."""

    def __post_init__(self) -> None:
        parse_target(self.target)
        limits = {"share": 1.0, "rtol": math.inf, "atol": math.inf, "max_pending": 65536, "timeout_s": 3600.0}
        for name, high in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
                raise ConfigError(
                    f"a shadow's {name} is {value!r}; it must be a number from 0 to {high:g}", key="shadow"
                )


class ShadowTraffic:
    """Sends copies and counts what comes of them. Lives on one event loop.

    A copy leaves when its request was answered, so that it delays none; it waits in the other model's
    own queue.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        """Copies by target and result: `equal`, `different`, `failed`, `dropped`."""
        self._pending: set[asyncio.Task[None]] = set()

    def send(self, shadow: Shadow, registry: Registry, data: Any, outputs: Arrays) -> None:
        """Copy a request, if it is its turn.

        Args:
            shadow: Where to.
            registry: The models.
            data: The request's inputs.
            outputs: What it was answered with.
        """
        if shadow.share < 1.0 and random.random() >= shadow.share:  # noqa: S311 - a sample, no secret
            return
        if len(self._pending) >= shadow.max_pending:
            self.counts[shadow.target, "dropped"] += 1
            return
        task = asyncio.get_running_loop().create_task(self._compare(shadow, registry, data, outputs))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _compare(self, shadow: Shadow, registry: Registry, data: Any, outputs: Arrays) -> None:
        try:
            backend = registry.resolve(*parse_target(shadow.target))
            others = await backend.infer_all(data, timeout_s=shadow.timeout_s or None)
            same = await asyncio.to_thread(alike, outputs, others, shadow.rtol, shadow.atol)
            result = "equal" if same else "different"
        except OverloadedError:
            result = "dropped"
        except (TesseraError, TimeoutError) as error:
            logger.debug("the shadow %s gave no answer: %s", shadow.target, error)
            result = "failed"
        self.counts[shadow.target, result] += 1


def alike(outputs: Arrays, others: Arrays, rtol: float, atol: float) -> bool:
    """Whether two models' answers have the same names and shapes, and numbers within a tolerance.

    NaN is equal to NaN. Floats are compared in float64.
    """
    if outputs.keys() != others.keys():
        return False
    for name, value in outputs.items():
        other = others[name]
        if value.shape != other.shape:
            return False
        if value.dtype.kind in "biu" and other.dtype.kind in "biu":
            if not np.array_equal(value, other):
                return False
        elif not np.allclose(
            other.astype(np.float64), value.astype(np.float64), rtol=rtol, atol=atol, equal_nan=True
        ):
            return False
    return True
