"""What an endpoint is given: a request with its body read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import orjson
from starlette.datastructures import Headers, QueryParams

from tessera.program.errors import ServeError
from tessera.serve.security.json_flaws import flaw_of

Scope = Mapping[str, Any]

CALLER = "tessera.caller"
"""Where a scope says whose key the request came with."""

_UNREAD = object()

_BLANK_BYTES = 64
"""Bodies below this size are looked at for being nothing but blanks; copying large ones would cost."""


class RequestError(ServeError):
    """A request that is refused; raise it in an endpoint to answer with a status of your own.

    Args:
        message: What is wrong, for the client.
        hint: What to send instead.
        status: HTTP status, 400 to 599.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        status: int = 400,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, hint=hint, status=status, headers=dict(headers or {}))


class MissingFieldError(RequestError, KeyError):
    """A field that the body lacks; also a KeyError, as indexing a mapping raises."""


class JsonObject(dict[str, Any]):
    """A JSON object; indexing a field that is not there is the client's error (400), not the server's."""

    def __missing__(self, key: str) -> Any:
        fields = ", ".join(list(self)[:8]) or "no fields"
        raise MissingFieldError(f"the body has no field {key!r}", hint=f"it has: {fields}"[:200])


class JsonArray(list[Any]):
    """A JSON array; indexing it by a field's name is the client's error."""

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            raise MissingFieldError(
                f"the body has no field {index!r}: it is an array",
                hint=f'send an object, such as {{"{index}": …}}',
            )
        return super().__getitem__(index)


class Request:
    """One HTTP request.

    Args:
        scope: The ASGI scope.
        body: The whole body, unpacked.
        path_params: Values of the path's parameters.
    """

    def __init__(self, scope: Scope, body: bytes = b"", path_params: Mapping[str, Any] | None = None) -> None:
        self._scope = scope
        self._json: Any = _UNREAD
        self.body = body
        """The body, unpacked if it came compressed."""
        self.path_params: dict[str, Any] = dict(path_params or {})
        """Values of the parameters in the endpoint's path, by name."""

    @property
    def method(self) -> str:
        """`GET`, `POST`…"""
        return str(self._scope["method"])

    @property
    def path(self) -> str:
        """The path, without the query."""
        return str(self._scope["path"])

    @property
    def client(self) -> str | None:
        """The address that the connection comes from."""
        client = self._scope.get("client")
        return str(client[0]) if client else None

    @property
    def caller(self) -> str | None:
        """The name of the API key that it came with; None if the server asks for none."""
        caller = self._scope.get(CALLER)
        return None if caller is None else str(caller)

    @cached_property
    def headers(self) -> Headers:
        """The headers; names are found in any case."""
        return Headers(scope=dict(self._scope))

    @cached_property
    def query(self) -> QueryParams:
        """The query's parameters, by name."""
        return QueryParams(self._scope.get("query_string", b""))

    @property
    def json(self) -> Any:
        """The body, parsed.

        Raises:
            RequestError: It is empty, of another type, or not JSON.
        """
        if self._json is _UNREAD:
            self._json = self._parse()
        return self._json

    def _parse(self) -> Any:
        self.check_json()
        return parse_json(self.body)

    def check_json(self) -> None:
        """The body must be said to be JSON; without a header it is.

        Raises:
            RequestError: It is of another type.
        """
        content_type = self.content_type
        if content_type != "application/json" and not content_type.endswith("+json"):
            raise RequestError(
                f"the body is {content_type[:80]!r}, this endpoint takes JSON",
                hint="send the header Content-Type: application/json",
                status=415,
            )

    @property
    def content_type(self) -> str:
        """The body's media type, in lower case and without parameters; JSON if no header says it."""
        return self._header(b"content-type", "application/json").partition(";")[0].strip().lower()

    def header_values(self, name: str) -> list[str]:
        """Every value of the header `name`, in the order in which they came."""
        wanted = name.lower().encode("latin-1")
        return [v.decode("latin-1").strip() for k, v in self._scope["headers"] if k == wanted]

    def _header(self, name: bytes, default: str) -> str:
        # `headers` decodes all of them, which costs more than parsing a small body.
        return next((v.decode("latin-1") for k, v in self._scope["headers"] if k == name), default)

    @property
    def input(self) -> Any:
        """The body's field `input`.

        Raises:
            RequestError: There is none.
        """
        return self.object["input"]

    @property
    def object(self) -> JsonObject:
        """The body, which is a JSON object.

        Raises:
            RequestError: It is something else.
        """
        value = self.json
        if not isinstance(value, JsonObject):
            raise RequestError(
                "the body is not a JSON object", hint='send an object, such as {"input": [[…]]}'
            )
        return value


def parse_json(body: bytes | memoryview) -> Any:
    """The value that `body` holds.

    Raises:
        RequestError: It is empty, or not JSON.
    """
    if not body or (len(body) < _BLANK_BYTES and not bytes(body).strip()):
        raise RequestError("the body is empty, this endpoint takes JSON", hint='such as {"input": [[…]]}')
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(
            f"the body is not JSON: {error}",
            hint="numbers are finite decimals; NaN and Infinity are not JSON",
        ) from error
    flaw = flaw_of(bytes(body), value)
    if flaw is not None:
        raise RequestError(f"the body is JSON that is not taken: {flaw}")
    if isinstance(value, dict):
        return JsonObject(value)
    return JsonArray(value) if isinstance(value, list) else value
