"""Which function answers which path, and how it is called."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.routing import compile_path

from tessera.program.errors import ServeError
from tessera.serve.request import Request, RequestError

Handler = Callable[..., Any]
Call = Callable[[Request], Any]

_METHOD = re.compile(r"[A-Z]+\Z")
_CONVERSIONS: dict[Any, Callable[[str], Any]] = {int: int, float: float}
_CONVERSIONS |= {"int": int, "float": float}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A function behind a path."""

    path: str
    """As given, with parameters in braces."""
    methods: tuple[str, ...]
    """Methods that it answers, upper case."""
    call: Call
    """Takes the request, gives a value, an `Answer`, a Starlette response, or an awaitable of one."""
    is_async: bool
    """Whether `call` gives an awaitable; otherwise it runs in a thread."""
    reads_body: bool
    """Whether the body is read at all."""
    is_default: bool = False
    """Whether an endpoint of the user's may take its place."""
    admin: bool = False
    """Whether it is for operators: answered on the admin port alone."""
    summary: str = ""
    """What it is for, in a line."""

    @property
    def is_direct(self) -> bool:
        """Whether a connection may call it without the messages of ASGI."""
        return self.is_async and not self.admin


@dataclass(frozen=True, slots=True)
class Match:
    """An endpoint that a path leads to."""

    endpoint: Endpoint
    path_params: Mapping[str, Any]


def make_endpoint(
    path: str, handler: Handler, methods: Sequence[str] | None, *, admin: bool = False
) -> Endpoint:
    """The endpoint for a user's function.

    Args:
        path: Such as `/predict` or `/predict/{model_name}`.
        handler: `async def` or `def`, with or without a parameter for the request, and with
            parameters for any of the path's.
        methods: Methods that it answers. None: GET, and POST too if it takes the request.
        admin: Whether it is for operators.

    Raises:
        ServeError: The path or the function's parameters do not make sense.
    """
    if not isinstance(path, str) or not path.startswith("/"):
        raise ServeError(f"endpoint path {path!r} must begin with /", hint='@server.endpoint("/predict")')
    try:
        _, _, converters = compile_path(path)
    except (ValueError, AssertionError) as error:
        raise ServeError(f"endpoint path {path!r}: {error}", hint='such as "/predict/{name}"') from error
    request_name, path_names = _parameters(path, handler, set(converters))
    chosen = tuple(m.upper() for m in methods or (("GET", "POST") if request_name else ("GET",)))
    if not all(_METHOD.match(m) for m in chosen):
        raise ServeError(f"endpoint {path!r}: {list(chosen)} are not HTTP methods", hint='methods=["POST"]')
    return Endpoint(
        path=path,
        methods=chosen,
        call=_caller(handler, request_name, path_names),
        is_async=inspect.iscoroutinefunction(handler)
        or inspect.iscoroutinefunction(getattr(handler, "__call__", None)),  # noqa: B004
        reads_body=request_name is not None,
        admin=admin,
        summary=(inspect.getdoc(handler) or "").partition("\n")[0],
    )


def _parameters(path: str, handler: Handler, known: set[str]) -> tuple[str | None, dict[str, Any]]:
    """Name of the request's parameter, and the conversion of each path parameter that is taken."""
    name = getattr(handler, "__qualname__", repr(handler))
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError) as error:
        raise ServeError(f"endpoint {path!r}: {name} cannot be called: {error}") from error
    request_name: str | None = None
    path_names: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ServeError(f"endpoint {path!r}: {name} takes {parameter.name!r} only by position")
        if parameter.name in known:
            path_names[parameter.name] = _CONVERSIONS.get(parameter.annotation)
        elif request_name is None and (parameter.name == "request" or parameter.default is parameter.empty):
            request_name = parameter.name
        elif parameter.default is parameter.empty:
            raise ServeError(
                f"endpoint {path!r}: {name} takes {parameter.name!r}, "
                "which is neither the request nor in the path",
                hint=f"@server.endpoint({path.rstrip('/') + '/{' + parameter.name + '}'!r})",
            )
    return request_name, path_names


def _caller(handler: Handler, request_name: str | None, path_names: Mapping[str, Any]) -> Call:
    if not path_names:
        if request_name is None:
            return lambda _: handler()
        return lambda request: handler(**{request_name: request})

    def call(request: Request) -> Any:
        arguments = {n: _converted(n, request.path_params[n], kind) for n, kind in path_names.items()}
        if request_name is not None:
            arguments[request_name] = request
        return handler(**arguments)

    return call


def _converted(name: str, value: Any, convert: Callable[[str], Any] | None) -> Any:
    if convert is None or not isinstance(value, str):
        return value
    try:
        return convert(value)
    except ValueError as error:
        raise RequestError(
            f"{name!r} in the path is {value[:80]!r}, not {convert.__name__}", status=404
        ) from error


class Routes:
    """Endpoints by path. A literal path goes before one with parameters, whichever came first."""

    def __init__(self) -> None:
        self._literal: dict[str, Endpoint] = {}
        self._patterns: list[tuple[re.Pattern[str], Mapping[str, Any], Endpoint]] = []

    def add(self, endpoint: Endpoint) -> None:
        """Add `endpoint`, in place of a default at the same path.

        Raises:
            ServeError: The user has another endpoint there.
        """
        present = self.at(endpoint.path)
        if present is not None and not present.is_default:
            raise ServeError(
                f"there are two endpoints for {endpoint.path!r}", hint="give one of them another path"
            )
        pattern, _, converters = compile_path(endpoint.path)
        if not converters:
            self._literal[endpoint.path] = endpoint
            return
        self._patterns = [entry for entry in self._patterns if entry[2].path != endpoint.path]
        self._patterns.append((pattern, converters, endpoint))
        # More literal text first: /models/{name}/infer before /models/{rest:path}.
        self._patterns.sort(key=lambda e: (":path}" in e[2].path, -len(re.sub(r"{.*?}", "", e[2].path))))

    def add_default(
        self, path: str, method: str | tuple[str, ...], call: Call, *, admin: bool = False
    ) -> None:
        """Let the server's own `call` answer `path`, unless something else does already.

        Args:
            path: As for `add`.
            method: What it answers, or a tuple of several; with POST its body is read.
            call: Takes the request, gives an awaitable.
            admin: Whether it is for operators.
        """
        if self.at(path) is not None:
            return
        methods = (method,) if isinstance(method, str) else method
        endpoint = Endpoint(
            path=path,
            methods=methods,
            call=call,
            is_async=True,
            reads_body="POST" in methods,
            is_default=True,
            admin=admin,
        )
        self.add(endpoint)

    def restrict(self, path: str) -> None:
        """Leave what answers `path` to operators, if anything does."""
        if path in self._literal:
            self._literal[path] = replace(self._literal[path], admin=True)

    def at(self, path: str) -> Endpoint | None:
        """The endpoint that was added with exactly this path."""
        found = self._literal.get(path)
        return found or next((e for _, _, e in self._patterns if e.path == path), None)

    def match(self, path: str) -> Match | None:
        """Where a request's path leads."""
        endpoint = self._literal.get(path)
        if endpoint is not None:
            return Match(endpoint, {})
        for pattern, converters, candidate in self._patterns:
            found = pattern.match(path)
            if found:
                values = {k: converters[k].convert(v) for k, v in found.groupdict().items()}
                return Match(candidate, values)
        return None

    @property
    def endpoints(self) -> list[Endpoint]:
        """Every endpoint."""
        return [*self._literal.values(), *(e for _, _, e in self._patterns)]

    @property
    def paths(self) -> list[str]:
        """Every path, sorted."""
        return sorted([*self._literal, *(e.path for _, _, e in self._patterns)])
