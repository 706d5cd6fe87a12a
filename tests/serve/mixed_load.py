"""Clients of all kinds at once: good ones, whose every answer is checked, and those that do all wrong."""

from __future__ import annotations

import http.client
import json
import random
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

DOCUMENTED = {400, 401, 403, 404, 405, 408, 413, 415, 429, 431, 500, 503, 504}
"""Statuses of errors in `docs/serving.md`."""

PATIENCE_S = 30.0
"""An answer that does not come within this is lost."""

HUGE_BYTES = 100_000_000
INFER = "/v2/models/linear/infer"
INPUTS = np.random.default_rng(64).standard_normal((64, 4)).astype(np.float32)
"""Of the good clients."""

Check = Callable[[np.ndarray[Any, Any], np.ndarray[Any, Any]], bool]
"""Whether the second is a right answer to the first."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A good request that was not answered 200."""

    what: str
    """The status, or the kind of a connection's error."""
    connected_s: float
    begun_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def flaw(self) -> str | None:
        """What is wrong with it as an error of the documented form."""
        shown = f"{self.status} {self.headers} {self.body[:200]!r}"
        if self.status not in DOCUMENTED:
            return f"not a documented status: {shown}"
        if self.headers.get("content-type") != "application/json":
            return f"not JSON by its type: {shown}"
        try:
            said = json.loads(self.body)
        except ValueError:
            return f"not JSON: {shown}"
        if not isinstance(said, dict) or not set(said) <= {"error", "hint"} or not said.get("error"):
            return f"not of the documented form: {shown}"
        if self.status in (429, 503) and "retry-after" not in self.headers:
            return f"does not say when to come back: {shown}"
        return None


def request_bytes(body: bytes, path: str = INFER, method: str = "POST", *lines: str) -> bytes:
    """A whole request."""
    head = [f"{method} {path} HTTP/1.1", "Host: a", "Content-Type: application/json", *lines]
    if not any(line.startswith(("Transfer-Encoding:", "Content-Length:")) for line in lines):
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def infer_body(x: np.ndarray[Any, Any], name: str = "x", datatype: str = "FP32") -> bytes:
    """An inference of the Open Inference Protocol in JSON."""
    tensor = {"name": name, "shape": list(x.shape), "datatype": datatype, "data": x.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


class MixedLoad:
    """Clients that go on until told to stop.

    Args:
        port: Of the server, on this machine.
        check: Whether an output is the right one.
        good: How many good clients.
        hostile: What the others do, one client each; see `HOSTILE`.
        seed: Of everything that is drawn.
    """

    def __init__(self, port: int, check: Check, *, good: int, hostile: tuple[str, ...], seed: int) -> None:
        self.port = port
        self._check = check
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.ok = 0
        self.losses: list[Loss] = []
        self.findings: list[str] = []
        """Wrong answers, malformed errors, answers that never came."""
        self.seen: Counter[str] = Counter()
        """What hostile clients were answered."""
        clients: list[tuple[Callable[[random.Random], None], int]] = [(self._good, i) for i in range(good)]
        clients += [(self._hostile(HOSTILE[name], name), 1000 + i) for i, name in enumerate(hostile)]
        self._threads = [
            threading.Thread(target=run, args=(random.Random(seed * 10_000 + number),))
            for run, number in clients
        ]

    def __enter__(self) -> MixedLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE_S)
            assert not thread.is_alive()

    def find(self, what: str) -> None:
        """Take note of a fault of the server."""
        with self._lock:
            self.findings.append(what)

    def saw(self, what: str) -> None:
        """Take note of what a hostile client was answered."""
        with self._lock:
            self.seen[what] += 1

    def _good(self, rng: random.Random) -> None:
        while not self._stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
            connected_s = time.monotonic()
            try:
                while not self._stop.is_set():
                    begun_s = time.monotonic()
                    what = self._ask(connection, rng)
                    if what is not None:
                        self._lose(Loss(what, connected_s, begun_s, time.monotonic()))
                    if connection.sock is None:
                        break
            except TimeoutError:
                self.find(f"no answer in {PATIENCE_S} s")
            except (OSError, http.client.HTTPException) as error:
                self._lose(Loss(type(error).__name__, connected_s, begun_s, time.monotonic()))
            finally:
                connection.close()

    def _ask(self, connection: http.client.HTTPConnection, rng: random.Random) -> str | None:
        """Ask once; the status if it is not 200."""
        x = INPUTS[[rng.randrange(64) for _ in range(rng.randint(1, 3))]]
        if rng.random() < 0.5:
            body, headers = infer_body(x), {}
        else:
            tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32"}
            tensor["parameters"] = {"binary_data_size": x.nbytes}
            head = json.dumps({"inputs": [tensor]}).encode()
            body, headers = head + x.tobytes(), {"Inference-Header-Content-Length": str(len(head))}
        connection.request("POST", INFER, body, headers)
        answer = _read(connection.getresponse())
        if answer.status != 200:
            self._examine(answer)
            time.sleep(0.02)
            return str(answer.status)
        tensor = json.loads(answer.body)["outputs"][0]
        if not self._check(x, np.array(tensor["data"]).reshape(tensor["shape"])):
            self.find(f"{x.tolist()} gave {tensor}")
        with self._lock:
            self.ok += 1
        return None

    def _lose(self, loss: Loss) -> None:
        with self._lock:
            self.losses.append(loss)

    def _examine(self, answer: Answer) -> None:
        if flaw := answer.flaw():
            self.find(flaw)

    def _hostile(self, act: Callable[..., Iterator[Answer]], name: str) -> Callable[[random.Random], None]:
        def run(rng: random.Random) -> None:
            while not self._stop.wait(rng.uniform(0.01, 0.3)):
                try:
                    with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as client:
                        for answer in act(self, client, rng):
                            self.saw(f"{name}: {answer.status}")
                            if answer.status >= 300:
                                self._examine(answer)
                except TimeoutError:
                    self.find(f"{name}: no answer in {PATIENCE_S} s")
                except (OSError, http.client.HTTPException) as error:
                    self.saw(f"{name}: {type(error).__name__}")

        return run


def _read(response: http.client.HTTPResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


def answer_of(client: socket.socket, method: str = "POST") -> Answer:
    """The next answer on a connection."""
    response = http.client.HTTPResponse(client, method=method)
    response.begin()
    return _read(response)


def _hang_up(load: MixedLoad, client: socket.socket, rng: random.Random) -> Iterator[Answer]:
    """Ask, and be gone before the answer; half of the times with a reset."""
    client.sendall(request_bytes(infer_body(INPUTS[:3])) * rng.randint(1, 3))
    if rng.random() < 0.5:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    yield from ()


def _halves(load: MixedLoad, client: socket.socket, rng: random.Random) -> Iterator[Answer]:
    """Send a part of a request, wait a little, and hang up."""
    whole = request_bytes(infer_body(INPUTS[:3]))
    client.sendall(whole[: rng.randrange(1, len(whole))])
    time.sleep(rng.uniform(0.0, 0.5))
    yield from ()


def _garbage(load: MixedLoad, client: socket.socket, rng: random.Random) -> Iterator[Answer]:
    """Bytes that are no HTTP, or no JSON."""
    noise = rng.randbytes(rng.randint(40, 400))
    if rng.random() < 0.5:
        client.sendall(noise + b"\r\n\r\n")
    else:
        client.sendall(request_bytes(noise))
    yield answer_of(client)


def _huge(load: MixedLoad, client: socket.socket, rng: random.Random) -> Iterator[Answer]:
    """A body of 100 MB, until the server has had enough."""
    chunk = rng.randbytes(1 << 16)
    line = f"Content-Length: {HUGE_BYTES}"
    if rng.random() < 0.5:
        line = "Transfer-Encoding: chunked"
        chunk = b"%x\r\n%b\r\n" % (len(chunk), chunk)
    client.sendall(request_bytes(b"", INFER, "POST", line))
    for _ in range(HUGE_BYTES // len(chunk)):
        # Whoever sends on when the answer is there loses it: the server ends the connection.
        if select.select([client], [], [], 0)[0]:
            break
        client.sendall(chunk)
    answer = answer_of(client)
    if answer.status not in (413, 503):
        load.find(f"{line} of {HUGE_BYTES} bytes is answered {answer.status} {answer.body!r}")
    yield answer


_ROW = infer_body(INPUTS[:1])
_WRONG: list[tuple[int, bytes]] = [
    (400, request_bytes(infer_body(INPUTS[:2, :3]))),
    (400, request_bytes(infer_body(INPUTS[0]))),
    (400, request_bytes(infer_body(INPUTS[:2], name="y"))),
    (400, request_bytes(infer_body(INPUTS[:2], datatype="INT64"))),
    (400, request_bytes(infer_body(INPUTS[:2], datatype="BYTES"))),
    (400, request_bytes(_ROW.replace(b"[1, 4]", b"[7, 4]"))),
    (400, request_bytes(_ROW.replace(b"[1, 4]", b"[-1, 4]"))),
    (400, request_bytes(b'{"inputs": [' * 500)),
    (400, request_bytes(_ROW, INFER, "POST", "Inference-Header-Content-Length: 99999")),
    (404, request_bytes(_ROW, "/v2/models/nobody/infer")),
    (404, request_bytes(_ROW, "/../../etc/passwd")),
    (405, request_bytes(b"", INFER, "GET")),
    (415, request_bytes(_ROW, INFER, "POST", "Content-Encoding: br")),
]


def _wrong(load: MixedLoad, client: socket.socket, rng: random.Random) -> Iterator[Answer]:
    """Requests with one thing wrong, on one connection; each must be told so."""
    for wanted, request in rng.sample(_WRONG, 4):
        client.sendall(request)
        answer = answer_of(client, request.split(b" ", 1)[0].decode())
        if answer.status not in (wanted, 503):
            load.find(f"{request[:300]!r} is answered {answer.status} {answer.body!r}, not {wanted}")
        yield answer
        if answer.headers.get("connection") == "close":
            return


HOSTILE: dict[str, Callable[..., Iterator[Answer]]] = {
    "hang up": _hang_up,
    "halves": _halves,
    "garbage": _garbage,
    "huge": _huge,
    "wrong": _wrong,
}
"""What clients may do, by name."""


def asks_for(path: str, body: bytes, right: Callable[[Answer], bool]) -> Callable[..., Iterator[Answer]]:
    """A client that asks for one thing and gets the one right answer, or 503 or 504."""

    def ask(load: MixedLoad, client: socket.socket, _: random.Random) -> Iterator[Answer]:
        client.sendall(request_bytes(body, path))
        answer = answer_of(client)
        if answer.status not in (503, 504) and not right(answer):
            load.find(f"{body!r} is answered {answer.status} {answer.body!r}")
        yield answer

    return ask
