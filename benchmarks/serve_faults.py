"""What a server does when more comes than it can run, and when its processes are killed.

Overload: a model of 40 ms a batch of 8 rows is sent twice what it can run, at a steady rate, with a
queue of one batch. Kills: a child is killed with SIGKILL while clients ask, five times for each kind.
Status 1 means a missed goal: refused within 10 ms, accepted within twice the time of an idle server
(99th percentiles), serving again within 1 s, no answer lost but those on a killed front's connections.

    python benchmarks/serve_faults.py [--processes 2]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SERVER = """
import sys
import time
from tessera.program.dim import symbol
from tessera.program.dtype import f32
from tessera.program.graph import Graph, Node
from tessera.program.program import Port, Program
from tessera.serve import ProductionServer

ROWS = symbol("rows")
port, processes, replicas, queue = map(int, sys.argv[1:5])
seconds = float(sys.argv[5])


class Twice:
    program = Program(
        name="twice",
        inputs=(Port(name="x", dtype=f32, shape=(ROWS, 4)),),
        outputs=(Port(name="output", dtype=f32, shape=(ROWS, 4)),),
        graph=Graph(
            name="twice",
            nodes=(
                Node(op="input", attrs={"name": "x"}, shape=(ROWS, 4), dtype=f32),
                Node(op="add", inputs=(0, 0), shape=(ROWS, 4), dtype=f32),
            ),
            outputs=(1,),
        ),
    )
    version = "1"
    device = "numpy"

    def infer_batch(self, inputs):
        time.sleep(seconds)
        return {"output": inputs["x"] * 2}

    def memory_usage(self):
        return {}

    def close(self):
        pass


config = {"port": port, "processes": processes, "replicas": replicas, "max_queue": queue}
server = ProductionServer(Twice(), {**config, "max_batch_size": 8, "log_level": "CRITICAL"})
if __name__ == "__main__":
    server.run()
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, or none."""

    status: int
    """0: the connection was lost."""
    ms: float
    right: bool
    """Whether it is the answer to what was asked; of a refusal, whether it says when to come back."""
    at_s: float


class Clients:
    """Asks from as many connections as are needed at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._numbers = itertools.count()
        self.replies: list[Reply] = []

    async def ask(self) -> None:
        """One request, with a number of its own."""
        number = next(self._numbers)
        body = json.dumps({"input": [[number, 1, 2, 3]]}).encode()
        head = "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}"
        started = time.perf_counter()
        try:
            pair = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = pair
            writer.write(head.encode() + b"\r\n\r\n" + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(answer.split(b"content-length: ")[1].split(b"\r")[0])
            value = json.loads(await reader.readexactly(length))
        except (OSError, asyncio.IncompleteReadError):
            self._note(0, started, right=False)
            return
        status = int(answer[9:12])
        right = value["output"][0][0] == 2 * number if status == 200 else b"retry-after" in answer
        self._note(status, started, right=right)
        self._idle.append(pair)

    def _note(self, status: int, started: float, *, right: bool) -> None:
        now = time.perf_counter()
        self.replies.append(Reply(status, (now - started) * 1e3, right, time.monotonic()))


def start(folder: Path, *arguments: float) -> tuple[subprocess.Popen[bytes], int]:
    """A server, ready, and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "server.py").write_text(SERVER)
    command = [sys.executable, "server.py", str(port), *map(str, arguments)]
    process = subprocess.Popen(command, cwd=folder)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if is_ready(port):
            return process, port
        time.sleep(0.05)
    raise SystemExit("the server does not start")


def is_ready(port: int) -> bool:
    """Whether `/ready` says so."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def stop(process: subprocess.Popen[bytes]) -> None:
    """Let it finish."""
    process.send_signal(signal.SIGTERM)
    if process.wait(60) != 0:
        raise SystemExit(f"the server ended with {process.returncode}")


async def overload(port: int, seconds: float) -> tuple[list[Reply], list[Reply]]:
    """Replies of an idle server, and of one that is sent twice what it can run."""
    idle, busy = Clients(port), Clients(port)
    for _ in range(60):
        await idle.ask()
    per_s = 2 * 8 / 0.04
    began = time.perf_counter()
    asked = []
    for number in range(int(per_s * seconds)):
        wait_s = began + number / per_s - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        asked.append(asyncio.create_task(busy.ask()))
    await asyncio.gather(*asked)
    return idle.replies[10:], busy.replies


def child(parent: int, name: str) -> int:
    """The process of a server's child."""
    for pid in map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()):
        if Path(f"/proc/{pid}/comm").read_text().strip() == name:
            return pid
    return 0


async def kills(process: subprocess.Popen[bytes], port: int, name: str) -> tuple[list[Reply], list[float]]:
    """Replies to four clients while a child is killed five times, and ms until each next good answer."""
    clients = Clients(port)
    done = asyncio.Event()

    async def client() -> None:
        while not done.is_set():
            await clients.ask()

    tasks = [asyncio.create_task(client()) for _ in range(4)]
    killed: list[float] = []
    for _ in range(5):
        await asyncio.sleep(2.0)
        killed.append(time.monotonic())
        os.kill(child(process.pid, name), signal.SIGKILL)
    await asyncio.sleep(2.0)
    done.set()
    await asyncio.gather(*tasks)
    good = [reply.at_s for reply in clients.replies if reply.status == 200]
    return clients.replies, [(min(at for at in good if at > t) - t) * 1e3 for t in killed]


def percentile(replies: list[Reply], share: float) -> float:
    """Of their times, in ms."""
    return float(np.percentile([reply.ms for reply in replies], share)) if replies else 0.0


def main() -> int:
    """Print both, and whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    met = True
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.processes} fronts")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process, port = start(folder, options.processes, 1, 8, 0.04)
        idle, busy = asyncio.run(overload(port, options.seconds))
        stop(process)
        taken = [reply for reply in busy if reply.status == 200]
        refused = [reply for reply in busy if reply.status == 503]
        ratio = percentile(taken, 99) / percentile(idle, 99)
        met &= all(reply.right for reply in busy) and len(taken) + len(refused) == len(busy)
        met &= percentile(refused, 99) <= 10 and ratio <= 2
        print(
            f"overload x 2: {len(taken)} answered, p99 {percentile(taken, 99):.1f} ms "
            f"(idle {percentile(idle, 99):.1f} ms: x {ratio:.2f}); {len(refused)} refused, "
            f"p99 {percentile(refused, 99):.1f} ms, most {percentile(refused, 100):.1f} ms"
        )
        for replicas, victim in ((1, "owner-0"), (2, "owner-0"), (1, "front-0")):
            process, port = start(folder, max(2, options.processes), replicas, 1024, 0.002)
            replies, again_ms = asyncio.run(kills(process, port, victim))
            stop(process)
            statuses = Counter(reply.status for reply in replies)
            met &= all(reply.right for reply in replies if reply.status)
            met &= max(again_ms) <= 1000 and percentile([r for r in replies if r.status == 503], 100) <= 1000
            met &= statuses[0] == 0 or victim.startswith("front")
            print(
                f"kill -9 of {victim}, {replicas} owners: {statuses[200]} answered, {statuses[503]} refused, "
                f"{statuses[0]} connections lost; next answer after {max(again_ms):.0f} ms at most"
            )
    print("goals are met" if met else "goals are missed")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
