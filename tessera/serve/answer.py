"""What goes back: values as JSON, errors as `{"error", "hint"}` with the right status."""

from __future__ import annotations

import inspect
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import msgspec
import numpy as np
import orjson

from tessera.program.errors import (
    InputError,
    OutOfMemoryError,
    OverloadedError,
    ServeError,
    SpecError,
    TesseraError,
)
from tessera.serve.request import RequestError

logger = logging.getLogger("tessera.serve")

JSON = "application/json"
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP response."""

    status: int
    body: bytes
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers beside Content-Type and Content-Length."""
    tail: tuple[memoryview, ...] = ()
    """Buffers that follow `body`, which are sent without being copied."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the body and what follows it."""
        return len(self.body) + sum(part.nbytes for part in self.tail)

    @property
    def parts(self) -> tuple[bytes | memoryview, ...]:
        """The body and what follows it."""
        return (self.body, *self.tail)

    def raw_headers(self, *, close: bool) -> list[tuple[bytes, bytes]]:
        """Headers as ASGI wants them; with `close`, the connection ends after this answer."""
        headers = [
            (b"content-type", self.media_type.encode("latin-1")),
            (b"content-length", str(self.size_bytes).encode()),
        ]
        headers.extend((k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in self.headers.items())
        if close:
            headers.append((b"connection", b"close"))
        return headers


def to_json(value: Any) -> bytes:
    """`value` as JSON in UTF-8.

    Arrays become nested lists, in the shortest decimals that give the same float back; bf16,
    fp8 and other small floats are written by way of float32, exactly. NaN and infinities,
    which JSON does not have, become `null`.

    Raises:
        ServeError: It holds something that has no JSON form.
    """
    try:
        return orjson.dumps(value, _encode, _OPTIONS)
    except TypeError as error:
        cause = error.__cause__
        if isinstance(cause, ServeError):
            raise cause from None
        raise ServeError(f"the endpoint's result cannot be written as JSON: {error}") from error


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _plain(value)
    if isinstance(value, np.generic):
        return _plain(np.asarray(value))
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if inspect.iscoroutine(value):
        value.close()
        raise ServeError(
            "the endpoint's result holds a coroutine: server.infer(…) was not awaited",
            hint="write `async def` and `await server.infer(…)`, or call server.infer_sync(…)",
        )
    if hasattr(value, "__array__"):
        return _plain(np.asarray(value))
    raise ServeError(
        f"the endpoint's result holds a {type(value).__name__}, which has no JSON form",
        hint="return dicts, lists, strings, numbers, arrays",
    )


def _plain(array: np.ndarray[Any, Any]) -> Any:
    """`array` as something that orjson writes itself."""
    dtype = array.dtype
    # 2: registered with NumPy by ml_dtypes. Its types (bfloat16, float8) are all exact in float32.
    if dtype.isbuiltin == 2 or dtype.kind not in "biuf" or dtype.itemsize > 8:
        array = array.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64)
    if array.ndim == 0:
        return array.item()
    return np.ascontiguousarray(array)


def json_answer(value: Any, status: int = 200) -> Answer:
    """A response that holds `value`."""
    return Answer(status, to_json(value))


def error_answer(
    status: int, message: str, hint: str | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """A response that says what is wrong."""
    body: dict[str, str] = {"error": message}
    if hint:
        body["hint"] = hint
    return Answer(status, orjson.dumps(body), headers=headers or {})


def _requested(error: RequestError) -> Answer:
    return error_answer(error.fields["status"], error.message, error.hint, error.fields["headers"])


def _invalid(error: TesseraError) -> Answer:
    return error_answer(HTTPStatus.BAD_REQUEST, error.message, error.hint)


def _unavailable(error: TesseraError) -> Answer:
    retry_after_s = str(error.fields.get("retry_after_s", 1))
    return error_answer(
        HTTPStatus.SERVICE_UNAVAILABLE, error.message, error.hint, {"Retry-After": retry_after_s}
    )


_ANSWERS: tuple[tuple[type[TesseraError], Callable[[Any], Answer]], ...] = (
    (RequestError, _requested),
    (InputError, _invalid),
    (SpecError, _invalid),
    (OverloadedError, _unavailable),
    (OutOfMemoryError, _unavailable),
)
"""How errors that a client should hear about are answered; the first that fits."""


def answer_for(error: Exception, what: str) -> Answer:
    """The response to a request whose endpoint raised `error`.

    Errors that are not the client's become a 500 with an identifier; the log has the rest.

    Args:
        error: What was raised.
        what: Method and path, for the log.
    """
    for kind, make in _ANSWERS:
        if isinstance(error, kind):
            return make(error)
    identifier = secrets.token_hex(6)
    logger.error("%s failed, error %s", what, identifier, exc_info=error)
    return error_answer(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal error", f"the server's log explains error {identifier}"
    )
