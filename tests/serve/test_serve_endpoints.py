"""Endpoints: which function answers, and what it is given."""

import json
from typing import Any

import pytest

from tessera.program.errors import ServeError
from tessera.serve.endpoints import Routes, make_endpoint
from tessera.serve.request import MissingFieldError, Request, RequestError


def request(
    body: bytes = b"", headers: dict[str, str] | None = None, query: str = "", **params: Any
) -> Request:
    raw = [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()]
    scope = {"method": "POST", "path": "/p", "headers": raw, "query_string": query.encode()}
    return Request({**scope, "type": "http"}, body, params)


def test_request_shows_body_headers_query_and_path() -> None:
    given = request(b'{"input": [1, 2]}', {"X-Key": "v"}, "a=1&b=2", name="m")
    assert given.json == {"input": [1, 2]}
    assert given.input == [1, 2]
    assert given.headers["x-key"] == "v"
    assert dict(given.query) == {"a": "1", "b": "2"}
    assert given.path_params == {"name": "m"}
    assert given.method == "POST"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"  ", {}, 400),
        (b"{", {}, 400),
        (b"NaN", {}, 400),
        (b'"\xff"', {}, 400),
        (b"[" * 5000, {}, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
    ],
)
def test_request_json_unreadable_is_the_clients_error(
    body: bytes, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(RequestError) as caught:
        request(body, headers).json  # noqa: B018
    assert caught.value.fields["status"] == status


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/x+json"]
)
def test_request_json_takes_json_types(kind: str) -> None:
    assert request(b"[1]", {"Content-Type": kind}).json == [1]


@pytest.mark.parametrize("body", [b'{"a": 1}', b"[1]"])
def test_request_json_missing_field_is_the_clients_error_and_a_key_error(body: bytes) -> None:
    with pytest.raises(MissingFieldError, match="'input'") as caught:
        request(body).json["input"]
    assert isinstance(caught.value, KeyError)
    assert caught.value.fields["status"] == 400


def test_make_endpoint_calls_with_what_the_function_takes() -> None:
    async def nothing() -> str:
        return "nothing"

    async def whole(request: Request) -> Any:
        return request.json

    def other_name(req: Request) -> Any:
        return req.json

    def mixed(n: int, request: Request, flag: bool = False) -> Any:
        return n, request.json, flag

    assert make_endpoint("/p", nothing, None).methods == ("GET",)
    assert make_endpoint("/p", whole, None).methods == ("GET", "POST")
    assert make_endpoint("/p", whole, ["put"]).methods == ("PUT",)
    assert make_endpoint("/p", other_name, None).call(request(b"[1]")) == [1]
    assert make_endpoint("/p/{n}", mixed, None).call(request(b"[2]", n="5")) == (5, [2], False)
    assert make_endpoint("/p", nothing, None).is_async
    assert not make_endpoint("/p", other_name, None).is_async


def test_make_endpoint_path_value_of_the_wrong_type_is_not_found() -> None:
    def handler(n: int) -> int:
        return n

    with pytest.raises(RequestError) as caught:
        make_endpoint("/p/{n}", handler, None).call(request(n="five"))
    assert caught.value.fields["status"] == 404


@pytest.mark.parametrize(
    ("path", "handler", "part"),
    [
        ("predict", lambda: 1, "begin with /"),
        ("/p/{a}/{a}", lambda: 1, "a"),
        ("/p", lambda request, model: 1, "'model'"),
        ("/p", lambda request, /: 1, "by position"),
        ("/p", 5, "cannot be called"),
    ],
)
def test_make_endpoint_nonsense_is_named(path: str, handler: Any, part: str) -> None:
    with pytest.raises(ServeError, match=part):
        make_endpoint(path, handler, None)


def test_make_endpoint_odd_method_is_refused() -> None:
    with pytest.raises(ServeError, match="not HTTP methods"):
        make_endpoint("/p", lambda: 1, ["GET IT"])


def test_routes_literal_path_wins_whichever_came_first() -> None:
    routes = Routes()
    for path in ("/predict/{model}", "/predict/ab", "/predict/{model}/stats", "/files/{rest:path}"):
        routes.add(make_endpoint(path, lambda: 1, None))
    found = {
        p: routes.match(p) for p in ("/predict/ab", "/predict/m", "/predict/m/stats", "/files/a/b", "/x")
    }
    assert {p: m.endpoint.path if m else None for p, m in found.items()} == {
        "/predict/ab": "/predict/ab",
        "/predict/m": "/predict/{model}",
        "/predict/m/stats": "/predict/{model}/stats",
        "/files/a/b": "/files/{rest:path}",
        "/x": None,
    }
    match = found["/predict/m"]
    assert match is not None
    assert match.path_params == {"model": "m"}


def test_routes_second_endpoint_at_a_path_is_refused() -> None:
    routes = Routes()
    routes.add(make_endpoint("/p", lambda: 1, None))
    with pytest.raises(ServeError, match="two endpoints"):
        routes.add(make_endpoint("/p", lambda: 2, None))
    assert json.dumps(routes.paths) == '["/p"]'
