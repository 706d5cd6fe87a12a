"""HTTP servers with the same network, under the same load, in one run.

    .venv/bin/python benchmarks/serve.py [--peers FOLDER [--install]] [--seconds 3] [--only NAME]

Needs `wrk` (apt install wrk) and two cores: the server has one, the load the other. Requests are 64 distinct
inputs in turn. Before a server is measured, 64 connections ask it for all of them at once, and while it is
measured another connection goes on asking; every one of those answers is compared with NumPy. Tessera runs
with metrics, validation, limits and traces of 1 % of the requests, which are sent to a collector.

Peers live in environments of their own under `--peers` (`--install` makes them); what is not there is left
out, and said so. On a shared machine only ratios and the processor's time for a request mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from serve_peers import SERVERS, Server

Array = np.ndarray[Any, Any]

INPUTS = 64
CONNECTIONS = (1, 16, 64)
NETWORKS = {"mlp": (64, 256, 10), "wide": (64, 2048, 2048, 10)}
"""Widths of the layers: the small network, and one of 17 MB."""

GOALS: tuple[tuple[str, str, str, float], ...] = (
    ("mlp", "Tessera, tensors as bytes", "uvicorn hello", 0.6),
    ("mlp", "Tessera, OIP as JSON", "MLServer", 10.0),
    ("mlp", "Tessera, /predict", "LitServe", 30.0),
    ("mlp", "Tessera, /predict", "BentoML", 30.0),
    ("wide", "Tessera, OIP as JSON", "MLServer", 2.5),
    ("wide", "Tessera, /predict", "LitServe", 6.0),
)
"""Network, ours, theirs, and the least ratio of requests a second with 64 connections."""


@dataclass(frozen=True, slots=True)
class Point:
    """One server with one number of connections."""

    network: str
    server: str
    connections: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """Of the server's processes, for a request."""
    mb: float
    """Resident, of the server's processes."""
    checked: int
    """Answers that were compared with NumPy; all were right."""
    errors: int
    """Answers other than 200, and connections that broke."""


class Sink(BaseHTTPRequestHandler):
    """Takes traces."""

    def do_POST(self) -> None:
        """Take one batch of them."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def network_of(widths: tuple[int, ...], seed: int = 7) -> dict[str, Array]:
    """Weights and biases, float32."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for i, (a, b) in enumerate(pairwise(widths)):
        found[f"w{i}"] = (rng.standard_normal((b, a)) / np.sqrt(a)).astype(np.float32)
        found[f"b{i}"] = (rng.standard_normal(b) / 10).astype(np.float32)
    return found


def computed(weights: dict[str, Array], x: Array) -> Array:
    """The network in float64."""
    count = len(weights) // 2
    y = x.astype(np.float64)
    for i in range(count):
        y = y @ weights[f"w{i}"].T.astype(np.float64) + weights[f"b{i}"]
        y = np.maximum(y, 0) if i + 1 < count else y
    return y


def save_package(folder: Path, name: str, widths: tuple[int, ...], weights: dict[str, Array]) -> None:
    """The network as a package for the CPU."""
    import tessera as ts
    from tessera.compiler.aot import AOTCompiler

    layers: list[ts.Module] = []
    for i, (a, b) in enumerate(pairwise(widths)):
        layers += [ts.ReLU()] * (i > 0)
        linear = ts.Linear(a, b)
        linear.load_state_dict({"weight": weights[f"w{i}"], "bias": weights[f"b{i}"]})
        layers.append(linear)
    specs = [ts.TensorSpec(("batch", widths[0]), ts.f32)]
    AOTCompiler(target_architectures=["cpu"]).compile(ts.Sequential(*layers), specs).save(
        folder / f"{name}.tsd"
    )


def request_of(kind: str, x: Array) -> tuple[bytes, dict[str, str]]:
    """Body and headers for one input."""
    if kind == "input":
        return json.dumps({"input": x.tolist()}).encode(), {"Content-Type": "application/json"}
    tensor: dict[str, Any] = {"name": "x", "shape": list(x.shape), "datatype": "FP32"}
    if kind == "v2":
        body = json.dumps({"inputs": [{**tensor, "data": x.ravel().tolist()}]}).encode()
        return body, {"Content-Type": "application/json"}
    tensor["parameters"] = {"binary_data_size": x.nbytes}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    return head + x.tobytes(), {"Content-Type": "application/octet-stream", **length}


def answer_of(body: bytes, json_length: str | None) -> Array:
    """The output in an answer of any of the servers."""
    if json_length is not None:
        return np.frombuffer(body, np.float32, offset=int(json_length))
    found = json.loads(body)
    if isinstance(found, dict):
        found = found["outputs"][0]["data"] if "outputs" in found else found["output"]
    return np.asarray(found, np.float64).ravel()


class Checker(threading.Thread):
    """A connection that asks for inputs in turn and compares every answer."""

    def __init__(
        self, port: int, server: Server, path: str, inputs: Array, expected: Array, first: int
    ) -> None:
        super().__init__(daemon=True)
        self._port, self._server, self._path = port, server, path
        self._inputs, self._expected, self._next = inputs, expected, first
        self.checked = 0
        self.wrong: str | None = None
        self.limit = 0
        self.stop = threading.Event()

    def run(self) -> None:
        """Ask until stopped, or `limit` times."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            while not self.stop.is_set() and (not self.limit or self.checked < self.limit):
                self._ask(connection)
                self._next = (self._next + 1) % INPUTS
                self.checked += 1
                if not self.limit:
                    time.sleep(0.01)
        except Exception as error:  # noqa: BLE001 - told to whoever measures
            self.wrong = self.wrong or repr(error)
        finally:
            connection.close()

    def _ask(self, connection: HTTPConnection) -> None:
        body, headers = request_of(self._server.body, self._inputs[self._next])
        connection.request("POST", self._path, body, headers)
        response = connection.getresponse()
        data = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {data[:200]!r}")
        found = answer_of(data, response.getheader("Inference-Header-Content-Length"))
        if not np.allclose(found, self._expected[self._next], rtol=1e-3, atol=1e-4):
            raise RuntimeError(f"the answer to input {self._next} is another's")


def write_load(path: Path, kind: str, target: str, inputs: Array) -> None:
    """A script by which wrk sends the inputs in turn."""
    lines = ["local requests = {}", "local bodies = {}", "local n = 0"]
    for i, x in enumerate(inputs):
        body, headers = request_of(kind, x)
        lines.append(f'bodies[{i + 1}] = "' + "".join(f"\\{b:03d}" for b in body) + '"')
    shown = ", ".join(f'["{k}"] = "{v}"' for k, v in headers.items())
    lines += [
        "function init(arguments)",
        f"  for i = 1, {len(inputs)} do",
        f'    requests[i] = wrk.format("POST", "{target}", {{{shown}}}, bodies[i])',
        "  end",
        "end",
        f"function request() n = n % {len(inputs)} + 1 return requests[n] end",
    ]
    path.write_text("\n".join(lines))


def processes_of(root: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def spent(root: int) -> tuple[float, float]:
    """Seconds of the processor, and resident megabytes."""
    ticks = pages = 0
    for process in processes_of(root):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
        pages += int(fields[21])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 1e6


_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


def wrk(
    port: int, path: str, script: Path | None, connections: int, seconds: float
) -> tuple[float, int, float, float, int]:
    """Requests a second, requests, p50 and p99 in ms, errors."""
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency"]
    command += ["-s", str(script)] if script else []
    text = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True
    ).stdout

    def latency(share: str) -> float:
        found = re.search(rf"{share}%\s+([\d.]+)(us|ms|s|m)\b", text)
        return float(found[1]) * _UNITS[found[2]] if found else float("nan")

    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    total = re.search(r"(\d+) requests in", text)
    bad = sum(
        int(n) for n in re.findall(r"(?:Non-2xx or 3xx responses|connect|read|write|timeout):? (\d+)", text)
    )
    if rate is None or total is None:
        raise RuntimeError(text)
    return float(rate[1]), int(total[1]), latency("50"), latency("99"), bad


class Bench:
    """Runs servers one after the other.

    Args:
        folder: For packages and scripts.
        peers: Where the peers' environments are; None: nowhere.
        seconds: Of each point.
        sink: URL of the collector of traces.
    """

    def __init__(self, folder: Path, peers: Path | None, seconds: float, sink: str) -> None:
        self._folder, self._peers, self._seconds, self._sink = folder, peers, seconds, sink
        self._port = 18100
        self.points: list[Point] = []

    def run(self, network: str, server: Server) -> None:
        """Measure one server with one network."""
        python = self._python(server)
        if python is None:
            print(f"{server.name}: not installed (--peers FOLDER --install), left out", file=sys.stderr)
            return
        weights = network_of(NETWORKS[network])
        inputs = (
            np.random.default_rng(3).standard_normal((INPUTS, 1, NETWORKS[network][0])).astype(np.float32)
        )
        expected = np.stack([computed(weights, x).ravel() for x in inputs])
        self._port += 1
        with self._serving(network, server, python) as process:
            path = server.path.replace("NAME", "Sequential")
            script = None
            if server.body:
                script = self._folder / "load.lua"
                write_load(script, server.body, path, inputs)
                self._check(server, path, inputs, expected)
            wrk(self._port, path, script, 16, 1.0)
            for connections in CONNECTIONS:
                self._measure(network, server, path, script, connections, process.pid, inputs, expected)

    def _check(self, server: Server, path: str, inputs: Array, expected: Array) -> None:
        checkers = [Checker(self._port, server, path, inputs, expected, i) for i in range(INPUTS)]
        for checker in checkers:
            checker.limit = 4
            checker.start()
        for checker in checkers:
            checker.join(120)
            if checker.wrong:
                raise RuntimeError(f"{server.name}: {checker.wrong}")

    def _measure(
        self,
        network: str,
        server: Server,
        path: str,
        script: Path | None,
        connections: int,
        process: int,
        inputs: Array,
        expected: Array,
    ) -> None:
        checker = Checker(self._port, server, path, inputs, expected, 0)
        if script is not None:
            checker.start()
        before_s, _ = spent(process)
        rate, total, p50_ms, p99_ms, errors = wrk(self._port, path, script, connections, self._seconds)
        after_s, mb = spent(process)
        checker.stop.set()
        if script is not None:
            checker.join(60)
        if checker.wrong:
            raise RuntimeError(f"{server.name}: {checker.wrong}")
        cpu_us = (after_s - before_s) / (total + checker.checked) * 1e6
        point = Point(
            network, server.name, connections, rate, p50_ms, p99_ms, cpu_us, mb, checker.checked, errors
        )
        self.points.append(point)
        print(
            f"{network:5} {server.name:26} {connections:3} {rate:9.0f}/s"
            f"  p50 {p50_ms:7.2f}  p99 {p99_ms:7.2f} ms  {cpu_us:6.0f} us"
            f"  {mb:4.0f} MB  {checker.checked} checked  {errors} errors",
            flush=True,
        )

    def _python(self, server: Server) -> Path | None:
        if not server.venv:
            return Path(sys.executable)
        found = self._peers / server.venv / "bin" / "python" if self._peers else None
        return found if found and found.exists() else None

    @contextmanager
    def _serving(self, network: str, server: Server, python: Path) -> Iterator[subprocess.Popen[bytes]]:
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        batch = 64 if network == "wide" else 1
        words = {
            "PYTHON": str(python),
            "BIN": str(python.parent),
            "PORT": str(self._port),
            "MODEL": str(self._folder / network),
            "SINK": self._sink,
            "BATCH_TIME": "0.002" if batch > 1 else "0",
            "BATCH": str(batch),
        }

        def filled(text: str) -> str:
            for word, value in words.items():
                text = text.replace(word, value)
            return text

        for name, text in server.files.items():
            (folder / name).write_text(filled(text))
        command = ["taskset", "-c", "0", *(filled(part) for part in server.command)]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "BENTOML_DO_NOT_TRACK": "1"}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
            try:
                self._wait(server, process, folder / "log")
                yield process
            finally:
                family = processes_of(process.pid)
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                for left in family[1:]:
                    # Some peers leave workers behind.
                    if Path(f"/proc/{left}").exists():
                        os.kill(left, 9)

    def _wait(self, server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{server.ready}", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"{server.name} did not start:\n{log.read_text()[-2000:]}")


def verdicts(points: list[Point]) -> Iterator[tuple[str, float, float]]:
    """Each goal that both sides were measured for: what it is, the ratio, the least."""
    found = {(p.network, p.server): p for p in points if p.connections == 64}
    for network, ours, theirs, least in GOALS:
        a, b = found.get((network, ours)), found.get((network, theirs))
        if a and b:
            yield f"{network}: {ours} / {theirs}, requests/s", a.requests_per_s / b.requests_per_s, least
            if theirs != "uvicorn hello":
                yield f"{network}: p99 of {theirs} / ours", b.p99_ms / a.p99_ms, 1.0


def install(peers: Path) -> None:
    """Make the peers' environments."""
    for server in SERVERS:
        if server.venv and not (peers / server.venv).exists():
            subprocess.run([sys.executable, "-m", "venv", str(peers / server.venv)], check=True)
            pip = [str(peers / server.venv / "bin" / "pip"), "install", "-q", *server.packages]
            subprocess.run(pip, check=True)


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", default="", help="servers whose name holds this")
    parser.add_argument("--network", choices=[*NETWORKS], help="one of them; both if left out")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is not installed: apt install wrk", file=sys.stderr)
        return 2
    if options.install and options.peers:
        install(options.peers)
    sink = HTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    os.sched_setaffinity(0, {1})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench = Bench(folder, options.peers, options.seconds, f"http://127.0.0.1:{sink.server_port}")
        for network, widths in NETWORKS.items():
            if options.network in (None, network):
                weights = network_of(widths)
                np.savez(folder / f"{network}.npz", **weights)
                save_package(folder, network, widths, weights)
                for server in SERVERS:
                    if options.only.lower() in server.name.lower() and (network == "mlp" or server.body):
                        bench.run(network, server)
    for text, ratio, least in verdicts(bench.points):
        print(f"{'reached' if ratio >= least else 'missed '}  {text}: {ratio:.2f}, goal {least:g}")
    if options.json:
        options.json.write_text(json.dumps([asdict(p) for p in bench.points], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
