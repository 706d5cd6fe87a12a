"""A server in a process of its own, under attack: what it answers, and what it costs it."""

import functools
import gzip
import io
import json
import os
import pickle
import random
import re
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from server_process import ServerProcess

SCRIPT = """
from tessera.serve import ProductionServer
ProductionServer("model.tsd", {"device": "reference", "contract": "sagemaker", "host": "127.0.0.1"}).run()
"""
JSON = {"Content-Type": "application/json"}
INFER = "/v2/models/linear/infer"
DATA = '{"inputs": [{"name": "x", "datatype": "FP32", '


class Target(ServerProcess):
    """The server under attack."""

    def status(self, name: str) -> int:
        """A figure of its process, in the kernel's units."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
        assert found is not None
        return int(found[1])

    @property
    def memory_kib(self) -> int:
        return self.status("VmRSS")

    @property
    def files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def check(self) -> None:
        """It still infers."""
        answer = httpx.post(f"{self.url}/predict", json={"input": [[1, 2, 3, 4]]}, timeout=20)
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def target(linear_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("attacked")
    (folder / "model.tsd").write_bytes(linear_package.read_bytes())
    server = Target(folder, SCRIPT)
    try:
        server.wait_ready()
        yield server
    finally:
        server.kill()


@pytest.fixture(autouse=True)
def _still_alive(target: Target) -> Iterator[None]:
    yield
    target.check()


def error_of(answer: httpx.Response, *statuses: int) -> str:
    assert answer.status_code in statuses, f"{answer.status_code}: {answer.text[:300]}"
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) <= {"error", "hint"}
    assert "Traceback" not in answer.text
    assert len(answer.content) < 2000
    return str(body["error"])


@pytest.mark.parametrize("path", ["/predict", INFER, "/invocations"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"}",
        b'{"input": ',
        b'{"input": [[1, 2, 3, 4]]} trailing',
        b"null",
        b"true",
        b'"text"',
        b"1e999",
        b"NaN",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"input": ' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"input": [[1,2,3,4]], "input": [[5,6,7,8]]}',
        b'{"inputs": [], "inputs": []}',
        b'{"input": [["\xff"]]}',
        b'{"input": [["\\ud800"]]}',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'{"input": [[1, 2, 3, 4' + b"0" * 100_000 + b"]]}",
        b'{"input": [[1, 2, 3, -1e400]]}',
        b'{"input": [[1, 2, 3, 0.' + b"1" * 100_000 + b'"]]}',
        b'{"input": [[1, 2, 3, 4], [1, 2, 3]]}',
        b'{"input": [[1, 2, 3, {"a": 1}]]}',
        b'{"input": {"x": [[1, 2, 3, 4]], "__class__": "os"}}',
        b"\x00" * 1000,
        b"\x80\x04\x95",
        DATA.encode() + b'"shape": [1, 5], "data": [1, 2, 3, 4]}]}',
        DATA.encode() + b'"shape": [-1, 4], "data": [1, 2, 3, 4]}]}',
        DATA.encode() + b'"shape": [4611686018427387904, 4], "data": [1, 2, 3, 4]}]}',
        DATA.encode() + b'"shape": [99999999999999999999999, 4], "data": []}]}',
        DATA.encode() + b'"shape": [1, 4], "data": [1, 2, 3, 1e39]}]}',
        DATA.encode() + b'"shape": [1, 4], "parameters": {"binary_data_size": 99999999}}]}',
        DATA.encode() + b'"shape": [1, 4], "parameters": {"shared_memory_region": "/etc/passwd"}}]}',
    ],
    ids=lambda body: repr(body[:30]),
)
def test_wrong_json_is_a_well_formed_400(target: Target, path: str, body: bytes) -> None:
    error_of(httpx.post(target.url + path, content=body, headers=JSON, timeout=20), 400)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/predict", '{"input": [[1, 2, 3]]}', "'x' of shape (1, 3): axis 1 is 3, expected 4"),
        ("/predict", '{"input": [[1, 2, 3, "4"]]}', "'x' holds a string at [0][3]"),
        ("/predict", '{"inputs": {"z": 1}}', "'x' is missing"),
        ("/invocations", '{"instances": [[1, 2, 3]]}', "'x' of shape (1, 3)"),
        (
            INFER,
            DATA.replace("FP32", "INT64") + '"shape": [1, 4], "data": [1, 2, 3, 4]}]}',
            "datatype 'INT64'",
        ),
        (INFER, DATA + '"shape": [1, 5], "data": [1, 2, 3, 4, 5]}]}', "'x'"),
        (INFER, DATA.replace('"x"', '"y"') + '"shape": [1, 4], "data": [1, 2, 3, 4]}]}', "'y'"),
    ],
)
def test_wrong_shape_or_dtype_names_the_field(target: Target, path: str, body: str, field: str) -> None:
    assert field in error_of(httpx.post(target.url + path, content=body, headers=JSON), 400)


@pytest.mark.parametrize(
    "name",
    [
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "....//....//etc/passwd",
        "%252e%252e%252fetc%252fpasswd",
        "/etc/passwd",
        "linear%00.tsd",
        "file:///etc/passwd",
        "linear/../../../etc/passwd",
        "%ff%fe",
        "a" * 5000,
        "model.tsd",
        "*",
        "linear;id",
        "$(id)",
        "{7*7}",
        "%0d%0aSet-Cookie:%20a=b",
    ],
)
def test_model_names_lead_to_no_file(target: Target, name: str) -> None:
    for method, path in (
        ("GET", f"/v2/models/{name}"),
        ("GET", f"/v2/models/linear/versions/{name}"),
        ("POST", f"/v2/models/{name}/infer"),
        ("POST", f"/v2/repository/models/{name}/load"),
        ("POST", f"/v2/repository/models/{name}/unload"),
        ("GET", f"/{name}"),
    ):
        request = f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
        with target.connect() as connection:
            connection.sendall(request.encode())
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        assert re.match(rb"HTTP/1\.1 40[0345] ", answer), answer[:200]
        assert b"root:" not in answer
        assert b"\r\nset-cookie" not in answer.lower()
        assert set(json.loads(answer.partition(b"\r\n\r\n")[2])) <= {"error", "hint"}


class Exploit:
    """What a program runs that unpickles it."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return os.system, (f"touch {self._mark}",)


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "application/x-npy", "application/octet-stream", "application/x-pickle", "text/csv"],
)
def test_nothing_that_is_sent_is_unpickled(target: Target, tmp_path: Path, media_type: str) -> None:
    mark = tmp_path / "mark"
    stream = io.BytesIO()
    np.save(stream, np.array([Exploit(mark)], object), allow_pickle=True)
    archive = io.BytesIO()
    np.savez(archive, x=np.array([Exploit(mark)], object))
    for body in (pickle.dumps(Exploit(mark)), stream.getvalue(), archive.getvalue()):
        for path in ("/predict", INFER, "/invocations"):
            headers = {"Content-Type": media_type, "Inference-Header-Content-Length": "0"}
            answer = httpx.post(target.url + path, content=body, headers=headers)
            # Bytes of the right number are a tensor, and no more than that.
            if (path, answer.status_code) != (INFER, 200):
                error_of(answer, 400, 415)
    assert not mark.exists()


BOMB = zlib.compress(b"0" * (1 << 28), 9)
"""256 MiB in 260 KB."""


@functools.cache
def packed(how: str) -> bytes:
    if how == "twice":
        return gzip.compress(gzip.compress(b"[" + b"0," * (1 << 26) + b"0]"))
    if how == "members":
        return gzip.compress(b"") * 100_000
    if how == "cut":
        return gzip.compress(b'{"input": [[1, 2, 3, 4]]}')[:-9]
    if how == "raw":
        return zlib.compressobj(9, zlib.DEFLATED, -15).compress(b"0" * 1000)
    return gzip.compress(b"0" * (1 << 28)) if how == "gzip" else BOMB


@pytest.mark.parametrize(
    ("how", "coding", "status"),
    [
        ("gzip", "gzip", 413),
        ("deflate", "deflate", 413),
        ("twice", "gzip", 400),
        ("twice", "gzip, gzip", 415),
        ("members", "gzip", 400),
        ("cut", "gzip", 400),
        ("raw", "deflate", 400),
        ("gzip", "br", 415),
    ],
)
def test_bomb_is_refused_and_costs_no_memory(target: Target, how: str, coding: str, status: int) -> None:
    before = target.memory_kib
    for path in ("/predict", INFER):
        headers = {**JSON, "Content-Encoding": coding}
        error_of(httpx.post(target.url + path, content=packed(how), headers=headers, timeout=60), status)
    # What was unpacked up to the limit (64 MiB) and given back.
    assert target.memory_kib - before < 160 << 10


def test_huge_bodies_are_413_and_never_in_memory(target: Target) -> None:
    before = target.memory_kib
    chunk = b"0" * (1 << 20)

    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield chunk

    for _ in range(3):
        with target.connect() as connection:
            head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {100 << 20}\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
        try:
            answer = httpx.post(f"{target.url}/predict", content=chunks(), headers=JSON, timeout=60)
        except httpx.TransportError:
            # The server may end the connection while the client still sends.
            continue
        error_of(answer, 413)
    assert target.memory_kib - before < 160 << 10


def test_garbage_leaves_the_server_as_it_was(target: Target) -> None:
    rng = random.Random(5)
    lead = (
        b"",
        b"GET ",
        b"POST /predict HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"PRI * HTTP/2.0\r\n\r\n",
    )
    target.check()
    before = target.files
    for i in range(300):
        with target.connect() as connection:
            connection.sendall(lead[i % len(lead)] + rng.randbytes(rng.randrange(1, 3000)))
            if i % 3 == 0:
                # RST in place of FIN.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif i % 3 == 1:
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(0.02)
                try:
                    while connection.recv(65536):
                        pass
                except (TimeoutError, ConnectionResetError):
                    pass
    target.check()
    for _ in range(100):
        if target.files <= before + 2:
            break
        target.check()
    assert target.files <= before + 2


def test_half_closed_and_half_sent_requests_harm_nobody(target: Target) -> None:
    whole = b'POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 25\r\n\r\n{"input": [[1, 2, 3, 4]]}'
    for end in range(0, len(whole), 7):
        with target.connect() as connection:
            connection.sendall(whole[:end])
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while chunk := connection.recv(65536):
                    answer += chunk
            except ConnectionResetError:
                pass
            assert not answer or re.match(rb"HTTP/1\.1 [24]", answer)


@pytest.mark.slow
def test_memory_is_flat_after_rounds_of_attacks(target: Target) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    huge = b'{"input": [' + b"[1,2,3,4]," * 400_000 + b"[1,2,3]]}"
    headers = {**JSON, "Content-Encoding": "gzip"}
    sizes = []
    with httpx.Client(base_url=target.url, timeout=60) as client:
        for attack in range(16):
            for body in (deep, huge, b'{"input": [["' + b"a" * 5_000_000 + b'"]]}'):
                error_of(client.post("/predict", content=body, headers=JSON), 400)
            error_of(client.post("/predict", content=packed("gzip"), headers=headers), 413)
            for name in range(200):
                error_of(client.get(f"/v2/models/unknown{attack}x{name}"), 404)
            sizes.append(target.memory_kib)
    assert max(sizes[8:]) <= 1.05 * max(sizes[:8]), sizes


SOURCES = Path(__file__).parents[3] / "tessera"
DANGERS = re.compile(
    r"^\s*(?:import|from)\s+(?:pickle|cPickle|_pickle|marshal|shelve|dill|cloudpickle|joblib|jsonpickle)\b"
    r"|\bpickle\.|allow_pickle\s*=\s*True|\beval\(|\bexec\(|yaml\.load\("
    r"|\bos\.system\(|shell\s*=\s*True|tarfile\.open|\.extractall\(",
    re.MULTILINE,
)


def test_no_source_of_a_server_unpickles_or_runs_what_it_reads() -> None:
    found = {
        f"{path.relative_to(SOURCES)}: {match[0].strip()}"
        for room in ("serve", "runtime", "package", "program", "reference")
        for path in (SOURCES / room).rglob("*.py")
        for match in DANGERS.finditer(path.read_text())
    }
    # A child process runs the program again that made the server, as its operator started it.
    assert found == {"serve/processes/origin.py: exec("}
