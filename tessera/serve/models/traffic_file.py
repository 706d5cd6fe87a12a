"""A file that says how paths are split among models, and that may change while a server runs."""

from __future__ import annotations

import json
import logging
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tessera.program.errors import ConfigError
from tessera.serve.models.route import Route, RoutePlan, make_plan
from tessera.serve.security.files import state_of

logger = logging.getLogger("tessera.serve")

EXAMPLE = '[[routes]]\npath = "/predict"\nsplit = { v1 = 0.9, v2 = 0.1 }'

_KEYS = {"path", "split", "key", "choose", "shadow"}


def read_traffic(path: Path) -> dict[str, RoutePlan]:
    """The plans of a TOML or JSON file, by path.

    Raises:
        ConfigError: It cannot be read, or a route in it makes no sense; the message names it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read the routes {path}: {error.strerror}", key="traffic") from error
    except ValueError as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise ConfigError(f"{path} is not {kind}: {error}", hint=EXAMPLE, key="traffic") from error
    routes = found.get("routes") if isinstance(found, dict) else None
    if not isinstance(routes, list) or not all(isinstance(route, dict) for route in routes):
        raise ConfigError(f"{path} has no list of routes", hint=EXAMPLE, key="traffic")
    plans = {}
    for route in routes:
        where, plan = _plan(path, route)
        plans[where] = plan
    return plans


def _plan(path: Path, route: dict[str, Any]) -> tuple[str, RoutePlan]:
    where, unknown = route.get("path"), route.keys() - _KEYS
    if not isinstance(where, str) or "split" not in route:
        raise ConfigError(f"{path}: a route lacks its path or its split", hint=EXAMPLE, key="traffic")
    if unknown:
        raise ConfigError(
            f"{path}: the route {where!r} has the unknown key {sorted(unknown)[0]!r}",
            hint=f"there are: {', '.join(sorted(_KEYS))}",
            key="traffic",
        )
    try:
        return where, make_plan(where, **{k: v for k, v in route.items() if k != "path"})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint, key="traffic") from error


class TrafficFile:
    """Follows the file of the setting `traffic`.

    Args:
        path: Where it is.
        routes: What it was read into.
    """

    def __init__(self, path: Path, routes: Iterable[Route]) -> None:
        self._path = path
        self._routes = {route.path: route for route in routes}
        self._taken = self._last = state_of(path)

    def look(self) -> None:
        """Take what changed, when two looks find the file equal. What makes no sense changes nothing."""
        state = state_of(self._path)
        settled, self._last = state == self._last, state
        if state is None or state == self._taken or not settled:
            return
        self._taken = state
        try:
            plans = read_traffic(self._path)
        except ConfigError as error:
            logger.error("%s; requests are split as before", error.message)
            return
        for where, plan in plans.items():
            if where in self._routes:
                self._routes[where].plan = plan
            else:
                logger.warning("%s: the route %r is new, and needs a start", self._path, where)
        logger.info("%s was read again", self._path)
