"""One process against several: requests a second, latency and CPU time per request.

The model is an MLP 64 -> 256 -> 10 in NumPy, the requests are JSON of one row or the Open Inference
Protocol's bytes, the load is wrk's (`apt-get install wrk`), on the same machine. CPU time is that of
all of the server's processes, from /proc, and is robust to what else the machine does.

    python benchmarks/serve_processes.py [--seconds 3] [--processes 1 2 4]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
import numpy as np

SERVER = """
import sys
import numpy as np
from tessera.program.dim import symbol
from tessera.program.dtype import f32
from tessera.program.graph import Graph, Node
from tessera.program.program import Port, Program
from tessera.serve import ProductionServer

ROWS = symbol("rows")
rng = np.random.default_rng(1)
W1 = (rng.standard_normal((64, 256)) / 8).astype(np.float32)
W2 = (rng.standard_normal((256, 10)) / 16).astype(np.float32)


def program():
    nodes = (
        Node(op="input", attrs={"name": "x"}, shape=(ROWS, 64), dtype=f32),
        Node(op="constant", attrs={"name": "w1"}, shape=(64, 256), dtype=f32),
        Node(op="matmul", inputs=(0, 1), shape=(ROWS, 256), dtype=f32),
        Node(op="relu", inputs=(2,), shape=(ROWS, 256), dtype=f32),
        Node(op="constant", attrs={"name": "w2"}, shape=(256, 10), dtype=f32),
        Node(op="matmul", inputs=(3, 4), shape=(ROWS, 10), dtype=f32),
    )
    return Program(
        name="mlp",
        inputs=(Port(name="x", dtype=f32, shape=(ROWS, 64)),),
        outputs=(Port(name="output", dtype=f32, shape=(ROWS, 10)),),
        graph=Graph(name="mlp", nodes=nodes, outputs=(5,)),
    )


class Mlp:
    program = program()
    version = "1"
    device = "numpy"

    def infer_batch(self, inputs):
        return {"output": np.maximum(inputs["x"] @ W1, 0) @ W2}

    def memory_usage(self):
        return {}

    def close(self):
        pass


port, processes = map(int, sys.argv[1:])
server = ProductionServer(Mlp(), {"port": port, "processes": processes, "log_level": "ERROR"})
if __name__ == "__main__":
    server.run()
"""

LUA = """
wrk.method = "POST"
local file = io.open("{body}", "rb")
wrk.body = file:read("*all")
file:close()
{headers}
"""


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """Of all of the server's processes, per request."""
    errors: int


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def cpu_s(pids: list[int]) -> float:
    """CPU time of processes so far, in seconds."""
    total = 0
    for pid in pids:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(words[11]) + int(words[12])
    return total / os.sysconf("SC_CLK_TCK")


def milliseconds(text: str) -> float:
    """What wrk says of a time, such as `712.00us`."""
    found = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    if found is None:
        raise SystemExit(f"wrk says {text!r} where a time was expected")
    return float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}[found[2]]


def measure(url: str, path: str, lua: Path, clients: int, seconds: float, pids: list[int]) -> Point:
    """Load `path` from `clients` connections."""
    before = cpu_s(pids)
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--latency", "-s", str(lua), url + path]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used = cpu_s(pids) - before
    requests = int(re.search(r"(\d+) requests in", text)[1])  # type: ignore[index]
    failed = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", text)))
    return Point(
        per_s=float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]),  # type: ignore[index]
        p50_ms=milliseconds(re.search(r"50%\s+(\S+)", text)[1]),  # type: ignore[index]
        p99_ms=milliseconds(re.search(r"99%\s+(\S+)", text)[1]),  # type: ignore[index]
        cpu_us=used / requests * 1e6,
        errors=failed,
    )


def bodies(folder: Path) -> dict[str, tuple[str, Path]]:
    """Path and wrk script of each kind of request."""
    x = np.random.default_rng(2).standard_normal((1, 64)).astype(np.float32)
    head = msgspec.json.encode(
        {
            "inputs": [
                {
                    "name": "x",
                    "shape": [1, 64],
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": x.nbytes},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    )
    made = {
        "json": (
            "/predict",
            msgspec.json.encode({"input": x.tolist()}),
            {"Content-Type": "application/json"},
        ),
        "bytes": (
            "/v2/models/mlp/infer",
            head + x.tobytes(),
            {
                "Content-Type": "application/octet-stream",
                "Inference-Header-Content-Length": str(len(head)),
            },
        ),
    }
    found = {}
    for kind, (path, body, headers) in made.items():
        (folder / f"{kind}.body").write_bytes(body)
        lines = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())
        script = folder / f"{kind}.lua"
        script.write_text(LUA.format(body=folder / f"{kind}.body", headers=lines))
        found[kind] = (path, script)
    return found


def serve(folder: Path, processes: int) -> tuple[subprocess.Popen[bytes], str]:
    """A server, ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "server.py").write_text(SERVER)
    # BLAS' own threads spin where the cores are taken, which says nothing of the server.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "server.py", str(port), str(processes)]
    process = subprocess.Popen(command, cwd=folder, env=environment)
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            if httpx.get(f"{url}/ready").status_code == 200:
                return process, url
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise SystemExit("the server does not start")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64])
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("| processes | request | clients | requests/s | p50 ms | p99 ms | CPU us/request | errors |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = bodies(folder)
        for processes in options.processes:
            server, url = serve(folder, processes)
            pids = family(server.pid)
            for kind, (path, script) in kinds.items():
                measure(url, path, script, 16, 1.0, pids)
                for clients in options.clients:
                    point = measure(url, path, script, clients, options.seconds, pids)
                    print(
                        f"| {processes} | {kind} | {clients} | {point.per_s:,.0f} | {point.p50_ms:.2f} "
                        f"| {point.p99_ms:.2f} | {point.cpu_us:.0f} | {point.errors} |",
                        flush=True,
                    )
            server.send_signal(signal.SIGTERM)
            server.wait(30)


if __name__ == "__main__":
    main()
