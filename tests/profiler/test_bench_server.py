"""Benchmarks of running servers: real ones, and some that misbehave."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from profiled_programs import linear_artifact

from tessera.package import Package
from tessera.profiler import BenchResult, bench_server
from tessera.profiler.bench_client import NoAnswerError, ask_once, parse_address
from tessera.program.errors import InputError, OptionError, ServeError
from tessera.serve import ProductionServer

QUICK: dict[str, Any] = {"seconds": 0.15, "warmup_seconds": 0.02, "concurrency": (1, 3), "timeout_s": 5.0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProductionServer]:
    path = tmp_path_factory.mktemp("served") / "linear.tsd"
    Package.from_artifact(linear_artifact(), name="linear").save(path)
    with ProductionServer(path, {"port": 0, "device": "reference"}) as running:
        yield running


@pytest.mark.parametrize("path", ["", "/", "/v2", "/v2/models/linear", "/v2/models/linear/"])
def test_server_is_measured_with_every_number_of_clients(server: ProductionServer, path: str) -> None:
    result = bench_server(server.url + path, batch_sizes=(2,), **QUICK)
    assert (result.program, result.device, result.kind) == ("linear", "server", "measured")
    assert [row.load.concurrency for row in result.batches if row.load] == [1, 3]
    assert any("tessera" in note for note in result.notes)
    for row in result.batches:
        assert row.load is not None
        assert row.load.failures == {}
        assert row.load.requests == row.timing.repetitions > 0
        assert row.load.per_second == pytest.approx(row.load.requests / row.load.seconds)
        assert row.per_second == pytest.approx(2 * row.load.per_second)
        assert row.timing.p5_ms <= row.timing.median_ms <= row.timing.p95_ms <= row.load.p99_ms * 1.0001
    assert BenchResult.from_json(result.to_json()) == result


def test_server_is_measured_inside_a_running_loop(server: ProductionServer) -> None:
    async def inside() -> BenchResult:
        return bench_server(server.url, **QUICK)

    assert asyncio.run(inside()).program == "linear"


def test_model_that_is_not_there_is_told(server: ProductionServer) -> None:
    with pytest.raises(ServeError, match=r"404.*no model 'other'"):
        bench_server(server.url, model="other", **QUICK)
    with pytest.raises(InputError, match="no size called 'depth'"):
        bench_server(server.url, sizes={"depth": 3}, **QUICK)


def test_server_that_is_not_there_says_how_to_start_one() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ServeError, match="connection refused") as caught:
        bench_server(f"http://127.0.0.1:{port}", **QUICK)
    assert f"tessera serve PKG --port {port}" in (caught.value.hint or "")


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:99999", "127.0.0.1:80", "http://[::1", ""])
def test_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ServeError, match="no address"):
        parse_address(url)


def test_address_parts() -> None:
    address = parse_address("https://[::1]:8443/a/v2/models/m/")
    assert (address.host, address.port, address.path) == ("::1", 8443, "/a/v2/models/m")
    assert address.origin == "https://[::1]:8443"
    assert parse_address("http://x").port == 80


@pytest.mark.parametrize(
    "wrong", [{"concurrency": (0,)}, {"batch_sizes": (0,)}, {"timeout_s": 0}, {"seconds": 0}]
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        bench_server("http://127.0.0.1:1", **{**QUICK, **wrong})


Reply = Callable[[str, int], bytes | None]
"""(path, number of requests to infer before) → bytes to answer; None: hang up."""


@contextmanager
def odd_server(reply: Reply) -> Iterator[str]:
    """A server that answers as `reply` says, a thread for each connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    count, lock = [0], threading.Lock()

    def connection(client: socket.socket) -> None:
        with client, client.makefile("rb") as stream:
            while line := stream.readline():
                path, length = line.split()[1].decode(), 0
                while (header := stream.readline()).strip():
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                stream.read(length)
                with lock:
                    number = count[0]
                    count[0] += path.endswith("/infer")
                answer = reply(path, number)
                if answer is None:
                    return
                client.sendall(answer)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_quiet, args=(connection, client), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _quiet(work: Callable[[socket.socket], None], client: socket.socket) -> None:
    try:
        work(client)
    except (OSError, ValueError, IndexError):
        # Whatever else was sent is no HTTP: the connection ends.
        return


def answer(data: object, status: int = 200, *, chunked: bool = False, close: bool = False) -> bytes:
    body = json.dumps(data).encode()
    more = b"Connection: close\r\n" if close else b""
    if chunked:
        head = b"HTTP/1.1 %d X\r\n%sTransfer-Encoding: chunked\r\n\r\n" % (status, more)
        return head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return b"HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n%s" % (status, more, len(body), body)


METADATA = {"name": "m", "inputs": [{"name": "x.0", "datatype": "FP32", "shape": [-1, -1]}]}


def replies(infer: Callable[[int], bytes | None], **others: bytes | None) -> Reply:
    """What a server of the model `m` answers, `infer` deciding on requests."""

    def reply(path: str, number: int) -> bytes | None:
        table = {
            "/v2/health/ready": answer({"ready": True}),
            "/v2/repository/index": answer([{"name": "m"}]),
            "/v2/models/m": answer(METADATA),
            "/v2": answer({"name": "odd", "version": "1"}),
            **{key.replace("_", "/"): value for key, value in others.items()},
        }
        return infer(number) if path.endswith("/infer") else table.get(path, answer({}, 404))

    return reply


@pytest.mark.parametrize("how", [{}, {"chunked": True}, {"close": True}], ids=["plain", "chunked", "closing"])
def test_other_servers_are_measured_too(how: dict[str, bool]) -> None:
    with odd_server(replies(lambda _: answer({"outputs": []}, **how))) as url:
        result = bench_server(url, sizes={"x_0_1": 3}, **QUICK)
    assert result.batches[0].sizes == {"batch": 1, "x_0_1": 3}
    assert all(row.load is not None and not row.load.failures for row in result.batches)


def test_open_size_that_nobody_gave_is_assumed_and_said() -> None:
    with odd_server(replies(lambda _: answer({}))) as url:
        result = bench_server(url, **QUICK)
    assert any("Assumed x_0_1 = 256" in note for note in result.notes)


def test_refusals_and_hang_ups_are_counted_beside_what_was_answered() -> None:
    def infer(number: int) -> bytes | None:
        return None if number % 7 == 3 else answer({"error": "busy"}, 503) if number % 7 == 5 else answer({})

    with odd_server(replies(infer)) as url:
        result = bench_server(url, **QUICK)
    failures = {what for row in result.batches if row.load for what in row.load.failures}
    assert failures == {"503", "hung up"}
    assert any("some requests failed" in note for note in result.notes)


def test_server_that_refuses_from_the_start_says_what_it_said() -> None:
    with (
        odd_server(replies(lambda _: answer({"error": "the queue is full"}, 503))) as url,
        pytest.raises(ServeError, match=r"503.*the queue is full"),
    ):
        bench_server(url, **QUICK)


@pytest.mark.parametrize("kind", ["hangs up", "refuses"])
def test_server_that_stops_answering_ends_the_measurement(kind: str) -> None:
    def infer(number: int) -> bytes | None:
        return answer({}) if number < 5 else None if kind == "hangs up" else answer({}, 500)

    with odd_server(replies(infer)) as url, pytest.raises(ServeError, match="answered") as caught:
        bench_server(url, **{**QUICK, "seconds": 60})
    assert set(caught.value.fields["failures"]) == {"hung up" if kind == "hangs up" else "500"}


def test_server_that_is_silent_is_given_up_after_the_timeout() -> None:
    def infer(number: int) -> bytes | None:
        # The head alone: the rest never comes.
        return answer({}) if number % 5 != 4 else b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"

    with odd_server(replies(infer)) as url:
        result = bench_server(url, **{**QUICK, "timeout_s": 0.3, "warmup_seconds": 0, "concurrency": (2,)})
    (row,) = result.batches
    assert row.load is not None
    assert set(row.load.failures) == {"no answer in 0.3 s"}


def test_server_that_is_not_ready_is_told() -> None:
    others = {"_v2_health_ready": answer({"error": "loading"}, 503)}
    with odd_server(replies(lambda _: None, **others)) as url, pytest.raises(ServeError, match="not ready"):
        bench_server(url, **QUICK)


@pytest.mark.parametrize(
    ("others", "part"),
    [
        ({"_v2_health_ready": answer({}, 404)}, "does not speak"),
        ({"_v2_repository_index": answer([{"name": "a"}, {"name": "b"}])}, "there are a, b"),
        ({"_v2_repository_index": answer({}, 404)}, "does not say which"),
        ({"_v2_repository_index": answer({"x": 1})}, "does not say which"),
        ({"_v2_models_m": answer({"name": 3})}, "no metadata"),
        ({"_v2_models_m": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n<p>"}, "no metadata"),
        ({"_v2_health_ready": b"SSH-2.0-OpenSSH\r\n"}, "not HTTP"),
        ({"_v2_health_ready": None}, "hung up"),
    ],
)
def test_server_that_speaks_otherwise_is_told(others: dict[str, bytes | None], part: str) -> None:
    with odd_server(replies(lambda _: answer({}), **others)) as url, pytest.raises(ServeError, match=part):
        bench_server(url, **QUICK)


def test_input_of_texts_is_refused() -> None:
    texts = {"name": "m", "inputs": [{"name": "t", "datatype": "BYTES", "shape": [1]}]}
    others = {"_v2_models_m": answer(texts)}
    with odd_server(replies(lambda _: None, **others)) as url, pytest.raises(InputError, match="BYTES"):
        bench_server(url, **QUICK)


async def test_silent_server_ends_a_single_request_in_time() -> None:
    silent = odd_server(lambda *_: b"HTTP/1.1 200 OK\r\n")
    with silent as url, pytest.raises(NoAnswerError, match="no answer in"):
        await ask_once(parse_address(url), "GET", "/", b"", 0.2)


def test_tls_that_cannot_be_trusted_is_told(tmp_path: Path) -> None:
    with odd_server(lambda *_: b"no TLS here") as url, pytest.raises(ServeError, match="no answer"):
        bench_server(url.replace("http:", "https:"), **{**QUICK, "timeout_s": 2.0})
