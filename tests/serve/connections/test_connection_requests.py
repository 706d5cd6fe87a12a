"""What a connection takes for a request, byte by byte: nothing that two readers could read differently."""

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tessera.serve import ProductionServer

HOST = b"Host: a\r\n"
POST = b"POST /predict HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
BODY = b'{"input": [[1, 2, 3, 4]]}'
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def server(linear_package: Path) -> Iterator[ProductionServer]:
    """One server for every test here."""
    config = {"port": 0, "device": "reference", "max_body_bytes": 100_000}
    with ProductionServer(linear_package, config) as server:
        yield server


def connect(server: ProductionServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def until_closed(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def exchange(server: ProductionServer, data: bytes) -> bytes:
    """All that comes back for `data`; the server must end the connection by itself."""
    with connect(server) as connection:
        connection.sendall(data)
        return until_closed(connection)


def statuses(answer: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]


def asking(*lines: bytes, body: bytes = b"") -> bytes:
    return POST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(
            asking(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), id="both"
        ),
        pytest.param(
            asking(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"), id="te-cl"
        ),
        pytest.param(asking(b"Content-Length: 25", b"Content-Length: 25", body=BODY), id="length-twice"),
        pytest.param(asking(b"Content-Length: 25", b"content-length: 6", body=BODY), id="two-lengths"),
        pytest.param(asking(b"Content-Length: 25, 25", body=BODY), id="list"),
        pytest.param(asking(b"Content-Length: +25", body=BODY), id="plus"),
        pytest.param(asking(b"Content-Length: -1", body=BODY), id="negative"),
        pytest.param(asking(b"Content-Length: 0x19", body=BODY), id="hexadecimal"),
        pytest.param(asking(b"Content-Length: 99999999999999999999", body=BODY), id="overflow"),
        pytest.param(asking(b"X: a", b" Content-Length: 25", body=BODY), id="folded"),
        pytest.param(asking(b"Transfer-Encoding:", b" chunked", body=b"0\r\n\r\n"), id="folded-coding"),
        pytest.param(asking(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"), id="blank-before-colon"),
        pytest.param(asking(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), id="odd-blank"),
        pytest.param(asking(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"), id="not-last"),
        pytest.param(
            asking(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
            id="te-te",
        ),
        pytest.param(asking(b"Transfer-Encoding: chunked", body=b"-1\r\n\r\n"), id="negative-chunk"),
        pytest.param(asking(b"Transfer-Encoding: chunked", body=b"0x2\r\n{}\r\n0\r\n\r\n"), id="hex-chunk"),
        pytest.param(asking(b"Transfer-Encoding: chunked", body=b"2\n{}\n0\n\n"), id="chunk-line-feeds"),
        pytest.param(
            asking(b"Transfer-Encoding: chunked", body=b"2;a\nb\r\n{}\r\n0\r\n\r\n"), id="extension"
        ),
        pytest.param(asking(b"Transfer-Encoding: chunked", body=b"2\r\n{}x\r\n0\r\n\r\n"), id="long-chunk"),
        pytest.param(
            asking(b"Transfer-Encoding: chunked", body=b"0\r\nContent-Length: 5\r\n\r\n"),
            id="length-in-trailer",
        ),
        pytest.param(b"GET /ready HTTP/1.1\nHost: a\n\n", id="line-feeds"),
        pytest.param(b"GET /ready HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", id="line-feed"),
        pytest.param(b"GET /ready HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", id="carriage-return"),
        pytest.param(b"GET /ready HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n", id="blank-line-start"),
        pytest.param(b"GET /ready HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", id="nul"),
        pytest.param(b"GET /ready HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", id="no-name"),
        pytest.param(b"GET /ready HTTP/1.1\r\nHost: a\r\na b: c\r\n\r\n", id="blank-in-name"),
        pytest.param(b"GET /ready HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two-hosts"),
        pytest.param(b"GET /ready HTTP/1.1\r\n\r\n", id="no-host"),
        pytest.param(b"GET /ready#x HTTP/1.1\r\nHost: a\r\n\r\n", id="fragment"),
        pytest.param(b"GET ftp://a/ready HTTP/1.1\r\nHost: a\r\n\r\n", id="other-scheme"),
        pytest.param(b"GET /r\xffeady HTTP/1.1\r\nHost: a\r\n\r\n", id="not-ascii"),
        pytest.param(
            b"POST /predict HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="chunks-in-1.0"
        ),
    ],
)
def test_ambiguous_request_is_400_and_ends_the_connection(
    server: ProductionServer, request_bytes: bytes
) -> None:
    answer = exchange(server, request_bytes + SMUGGLED)
    assert statuses(answer) == [400], answer
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert json.loads(body)["error"]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (asking(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
        (asking(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), 501),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"GET /ready\r\n\r\n", 505),
        (b"GET /ready HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (asking(b"Expect: a miracle", b"Content-Length: 25", body=BODY), 417),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", 431),
        (asking(b"Transfer-Encoding: chunked", body=b"0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n"), 431),
    ],
)
def test_request_that_is_not_taken_says_which_status(
    server: ProductionServer, request_bytes: bytes, status: int
) -> None:
    assert statuses(exchange(server, request_bytes + SMUGGLED)) == [status]


def test_refusal_comes_after_the_answers_before_it(server: ProductionServer) -> None:
    good = b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n"
    assert statuses(exchange(server, good + good + b"nonsense\r\n\r\n")) == [200, 200, 400]


def test_request_behind_one_that_closes_is_not_answered(server: ProductionServer) -> None:
    last = b"GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert statuses(exchange(server, last + SMUGGLED)) == [200]


def test_pipeline_is_answered_to_its_end_in_order(server: ProductionServer) -> None:
    asked = [b"/ready", b"/nothing", b"/health"] * 60
    lines = [b"GET %b HTTP/1.1\r\nHost: a\r\n" % path for path in asked]
    answer = exchange(server, b"\r\n".join(lines) + b"Connection: close\r\n\r\n")
    assert statuses(answer) == [200, 404, 200] * 60


def test_chunks_and_pieces_of_any_size_are_one_request(server: ProductionServer) -> None:
    chunked = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(p), p) for p in (BODY[:1], BODY[1:9], BODY[9:]))
    data = asking(b"Transfer-Encoding: chunked", b"Connection: close", body=chunked + b"0\r\nX: y\r\n\r\n")
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), 7):
            connection.sendall(data[start : start + 7])
        answer = until_closed(connection)
    assert statuses(answer) == [200]
    assert b'"output"' in answer


@pytest.mark.parametrize(
    ("line", "body"),
    [(b"Content-Length: 25", BODY), (b"Transfer-Encoding: chunked", b"19\r\n" + BODY + b"\r\n0\r\n\r\n")],
)
def test_offered_upgrade_is_ignored(server: ProductionServer, line: bytes, body: bytes) -> None:
    offer = asking(b"Connection: Upgrade", b"Upgrade: h2c", line, body=body)
    last = b"GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert statuses(exchange(server, offer + last)) == [200, 200]
    probe = b"GET /ready HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert statuses(exchange(server, probe + last)) == [200, 200]


def test_client_that_waits_to_be_told_is_told_to_continue(server: ProductionServer) -> None:
    with connect(server) as connection:
        connection.sendall(asking(b"Content-Length: 25", b"Expect: 100-continue", b"Connection: close"))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert statuses(until_closed(connection)) == [200]


def test_body_that_is_refused_is_never_asked_for(server: ProductionServer) -> None:
    with connect(server) as connection:
        connection.sendall(asking(b"Content-Length: 200000", b"Expect: 100-continue"))
        assert statuses(until_closed(connection)) == [413]


def test_head_has_the_headers_of_get_and_no_body(server: ProductionServer) -> None:
    head = exchange(server, b"HEAD /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    get = exchange(server, b"GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    length = int(re.findall(rb"content-length: (\d+)", head)[0])
    assert head.endswith(b"\r\n\r\n")
    assert len(get.partition(b"\r\n\r\n")[2]) == length > 0
    assert re.search(rb"\r\ndate: \w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT\r\n", get)


def test_http_1_0_closes_unless_asked_to_keep(server: ProductionServer) -> None:
    assert statuses(exchange(server, b"GET /ready HTTP/1.0\r\n\r\n")) == [200]
    kept = b"GET /ready HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    answer = exchange(server, kept + b"GET /ready HTTP/1.0\r\n\r\n")
    assert statuses(answer) == [200, 200]
    assert b"connection: keep-alive" in answer


def test_absolute_target_and_percent_encoding_lead_to_the_same_path(server: ProductionServer) -> None:
    one = b"GET http://elsewhere/ready?a=b HTTP/1.1\r\nHost: a\r\n\r\n"
    two = b"GET /%72eady HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert statuses(exchange(server, one + two)) == [200, 200]


def test_body_that_nobody_wants_is_dropped_and_the_connection_kept(server: ProductionServer) -> None:
    unwanted = b"POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n"
    with connect(server) as connection:
        connection.sendall(unwanted)
        assert b"404" in connection.recv(4096)
        connection.sendall(b"x" * 50_000 + b"GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert statuses(until_closed(connection)) == [200]


def test_halves_and_garbage_leave_the_server_as_it_was(server: ProductionServer) -> None:
    for data in (b"", b"\r\n", b"G", POST, asking(b"Content-Length: 99", body=b"{"), b"\x00\xff" * 500):
        with connect(server) as connection:
            connection.sendall(data)
            time.sleep(0.01)
    assert statuses(exchange(server, b"GET /ready HTTP/1.0\r\n\r\n")) == [200]
