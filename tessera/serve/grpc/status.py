"""Errors as gRPC's status codes, in the words that HTTP uses."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

import grpc
import orjson

from tessera.serve.answer import answer_for

_CODES: dict[int, grpc.StatusCode] = {
    HTTPStatus.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.CONFLICT: grpc.StatusCode.ALREADY_EXISTS,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.NOT_IMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.INSUFFICIENT_STORAGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""The code that says what a status of HTTP says.

Source: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto, which names HTTP's
status of each code.
"""


_STATUSES: dict[grpc.StatusCode, int] = {code: status for status, code in reversed(_CODES.items())}


def http_status(code: grpc.StatusCode | None) -> int:
    """What HTTP says of a call that ended with `code`; None: it ended well."""
    return HTTPStatus.OK if code is None else _STATUSES.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)


@dataclass(frozen=True, slots=True)
class Failure:
    """What a call that failed is answered."""

    code: grpc.StatusCode
    text: str
    """The message, and what to do about it."""
    metadata: tuple[tuple[str, str], ...] = ()
    """Sent behind the status: when to try again."""


def failure_for(error: Exception, what: str) -> Failure:
    """How a call is answered that raised `error`.

    Errors that are not the client's become INTERNAL with an identifier; the log has the rest.

    Args:
        error: What was raised.
        what: The method, for the log.
    """
    answer = answer_for(error, what)
    body = orjson.loads(answer.body)
    hint = body.get("hint")
    metadata: list[tuple[str, str]] = []
    retry_after = answer.headers.get("Retry-After")
    if retry_after is not None:
        metadata.append(("retry-after", retry_after))
        # What gRPC's own retry policies read.
        metadata.append(("grpc-retry-pushback-ms", str(int(retry_after) * 1000)))
    code = _CODES.get(answer.status)
    if code is None:
        is_client = answer.status < HTTPStatus.INTERNAL_SERVER_ERROR
        code = grpc.StatusCode.INVALID_ARGUMENT if is_client else grpc.StatusCode.INTERNAL
    return Failure(code, f"{body['error']}; {hint}" if hint else body["error"], tuple(metadata))
