"""A path whose requests are split among models."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tessera.program.errors import ConfigError
from tessera.serve.answer import Answer, json_answer
from tessera.serve.defaults import inputs_of, outputs_of
from tessera.serve.models.registry import Backend, Registry
from tessera.serve.models.shadow import Shadow, ShadowTraffic
from tessera.serve.models.split import TrafficSplit, parse_target
from tessera.serve.observe.figures import Family, Snapshot
from tessera.serve.request import Request, RequestError

MODEL_HEADER = "X-Tessera-Model"
"""The header of an answer that says which model gave it, `NAME@VERSION`."""

_MISSING = object()


def _field(request: Request, name: str) -> Any:
    return request.object.get(name, _MISSING)


def _header(request: Request, name: str) -> Any:
    return next(iter(request.header_values(name)), _MISSING)


def _query(request: Request, name: str) -> Any:
    return request.query.get(name, _MISSING)


def _path(request: Request, name: str) -> Any:
    return request.path_params.get(name, _MISSING)


_PLACES: dict[str, Callable[[Request, str], Any]] = {
    "field": _field,
    "header": _header,
    "query": _query,
    "path": _path,
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where in a request a value is: `user` or `field:user`, `header:X-User`, `query:user`, `path:user`."""

    place: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Source:
        """The source that `text` stands for.

        Raises:
            ConfigError: There is no such place.
        """
        place, colon, name = text.partition(":") if isinstance(text, str) else ("", "", "")
        if not colon:
            place, name = "field", place
        if place not in _PLACES or not name:
            raise ConfigError(
                f"{text!r} is no place in a request",
                hint='"user" (a field of the body), "header:X-User", "query:user" or "path:user"',
                key="key",
            )
        return cls(place, name.lower() if place == "header" else name)

    def read(self, request: Request) -> str | None:
        """The value in `request`; None if there is none.

        Raises:
            RequestError: It is no string and no integer.
        """
        value = _PLACES[self.place](request, self.name)
        if value is _MISSING or value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise RequestError(
                f"the {self.place} {self.name!r} is {type(value).__name__}, not a string or an integer"
            )
        return str(value)


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """How requests to a path are treated; replaced as a whole."""

    split: TrafficSplit
    key: Source | None = None
    """What fixes a request's target; None, or not in the request: each is drawn by itself."""
    choose: Source | None = None
    """Where a request may name its target; it must be one of the split's."""
    shadow: Shadow | None = None

    def targets(self, request: Request, draw: Callable[[], float]) -> list[str]:
        """Targets for a request, the first one first.

        Raises:
            RequestError: It names a target that the split does not have.
        """
        named = self.choose.read(request) if self.choose else None
        if named is None:
            return self.split.ranked(self.key.read(request) if self.key else None, draw)
        if named not in self.split.weights:
            raise RequestError(
                f"there is no variant {named[:80]!r}", hint=f"there is {', '.join(self.split.weights)}"
            )
        return [named]


class Route:
    """A path that answers as `/predict` does, by one of several models. Changes may come from any thread.

    Args:
        path: Such as `/predict`.
        plan: How requests are treated.
        registry: Gives the models of the server that runs.
        seed: Of the draws of requests without a key; None: a random one.
    """

    def __init__(
        self, path: str, plan: RoutePlan, registry: Callable[[], Registry], seed: int | None = None
    ) -> None:
        self.path = path
        """Where it answers."""
        self._plan = plan
        self._registry = registry
        self._random = random.Random(seed)  # noqa: S311 - shares of requests, no secret
        self._shadows = ShadowTraffic()
        self._counts: Counter[str] = Counter()

    @property
    def plan(self) -> RoutePlan:
        """How requests are treated now."""
        return self._plan

    @plan.setter
    def plan(self, plan: RoutePlan) -> None:
        # One assignment: a request sees the old plan or the new one.
        self._plan = plan

    def set_split(self, weights: Mapping[str, float]) -> None:
        """Change the shares. Requests that were accepted are finished where they are.

        Raises:
            ConfigError: A target or a weight makes no sense.
        """
        self._plan = replace(self._plan, split=TrafficSplit(dict(weights), self._plan.split.salt))

    def set_shadow(self, shadow: Shadow | str | None) -> None:
        """Copy requests elsewhere, or no more.

        Raises:
            ConfigError: The target makes no sense.
        """
        self._plan = replace(self._plan, shadow=Shadow(shadow) if isinstance(shadow, str) else shadow)

    @property
    def counts(self) -> dict[str, int]:
        """Requests so far, by target."""
        return dict(self._counts)

    @property
    def shadow_counts(self) -> dict[tuple[str, str], int]:
        """Copies so far, by target and result: `equal`, `different`, `failed`, `dropped`."""
        return dict(self._shadows.counts)

    async def answer(self, request: Request) -> Answer:
        """The answer of the model that a request goes to."""
        plan, registry = self._plan, self._registry()
        target, backend = self._resolve(plan.targets(request, self._random.random), registry)
        self._counts[target] += 1
        data = inputs_of(backend, request.object)
        given = f"{backend.name}@{backend.version}"
        outputs = await backend.infer_all(data)
        if plan.shadow is not None:
            self._shadows.send(plan.shadow, registry, data, outputs)
        return replace(json_answer(outputs_of(outputs)), headers={MODEL_HEADER: given})

    def _resolve(self, targets: Iterable[str], registry: Registry) -> tuple[str, Backend]:
        """The first of `targets` that answers: a model that is not there costs no request."""
        first: Exception | None = None
        for target in targets:
            try:
                backend = registry.resolve(*parse_target(target))
            except RequestError as error:
                first = first or error
                continue
            if backend.loaded:
                return target, backend
        if first is None:
            raise RequestError("no model of this path is loaded", hint="try again in 1 s", status=503)
        raise first


def make_plan(
    path: str,
    split: Mapping[str, float],
    *,
    key: str | None = None,
    choose: str | None = None,
    shadow: Shadow | Mapping[str, Any] | str | None = None,
) -> RoutePlan:
    """The plan that these settings stand for.

    Raises:
        ConfigError: One of them makes no sense; the message names it.
    """
    if not isinstance(split, Mapping):
        raise ConfigError(
            f"the split of {path!r} is {split!r}", hint='such as {"v1": 0.9, "v2": 0.1}', key="split"
        )
    if isinstance(shadow, Mapping):
        try:
            shadow = Shadow(**shadow)
        except TypeError as error:
            raise ConfigError(f"the shadow of {path!r}: {error}", key="shadow") from error
    return RoutePlan(
        TrafficSplit(dict(split), salt=path),
        Source.parse(key) if key is not None else None,
        Source.parse(choose) if choose is not None else None,
        Shadow(shadow) if isinstance(shadow, str) else shadow,
    )


def traffic_families(routes: Iterable[Route]) -> Snapshot:
    """The metrics of `routes`."""
    requests = Family("tessera_route_requests", "counter", "Requests by target.", ("route", "target"))
    copies = Family(
        "tessera_shadow_requests", "counter", "Copies of requests by result.", ("route", "target", "result")
    )
    for route in routes:
        for target, count in route.counts.items():
            requests.add((route.path, target), count)
        for (target, result), count in route.shadow_counts.items():
            copies.add((route.path, target, result), count)
    return [requests, copies]
