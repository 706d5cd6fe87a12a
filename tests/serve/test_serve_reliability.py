"""Servers under everything at once, for a while: what they lose, mix up and leave behind.

`TESSERA_RELIABILITY_S` sets how many seconds the load lasts.
"""

import json
import os
import random
import re
import signal
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from mixed_load import HOSTILE, INPUTS, Answer, MixedLoad, asks_for, infer_body
from process_tree import alive, children_of, descriptors, kill, mapped_memories, resident_bytes, until
from server_process import ServerProcess
from small_models import WEIGHT, linear_program, log_program, save

from tessera.package.package import Package
from tessera.program.artifact import Artifact

StartProcess = Callable[..., ServerProcess]

FILE_LIMIT = 16 << 20
"""Bytes of the largest file that servers may write: the disk is full for their logs."""
LOG_ROOM = 1 << 16
TIMEOUT_S = 2.0
"""`request_timeout_s`."""
GRACE_S = 25.0
"""`drain_timeout_s`."""
SECONDS = [
    pytest.param(float(os.environ.get("TESSERA_RELIABILITY_S", "30")), marks=pytest.mark.slow, id="short"),
    pytest.param(600.0, marks=pytest.mark.soak, id="ten_minutes"),
]

HEAD = f"""
import os, resource, sys, time
resource.setrlimit(resource.RLIMIT_FSIZE, ({FILE_LIMIT}, {FILE_LIMIT}))
sys.path.insert(0, {str(Path(__file__).parent)!r})
COMMON = {{
    "device": "reference", "max_body_bytes": 8 << 20, "request_timeout_s": {TIMEOUT_S},
    "drain_timeout_s": {GRACE_S}, "log_file": "server.log", "log_max_bytes": 0, "log_format": "json",
    "access_log": 1.0,
}}
"""

PROCESSES = (
    HEAD
    + """
import numpy as np
from small_models import WEIGHT, linear_program
from tessera.serve import ProductionServer

class Model:
    program = linear_program()
    version = "1"
    device = "test"

    def infer_batch(self, inputs):
        x = inputs["x"]
        if (x == 1001).any():
            time.sleep(3600)
        if (x == 1003).any():
            raise ValueError("not this one")
        output = x @ WEIGHT
        output[x[:, 0] == 1005] = np.nan
        return {"output": output}

    def memory_usage(self):
        return {}

    def close(self):
        pass

server = ProductionServer(Model(), COMMON | {"processes": 2, "replicas": 2, "shared_memory_size": "8MB"})
if __name__ == "__main__":
    server.run()
"""
)

MODELS = (
    HEAD
    + """
from tessera.serve.models.multi_model_server import MultiModelServer

server = MultiModelServer(COMMON | {"poll_s": 0.3})
server.register_model(name="linear", package="linear.tsd", reload=True)
server.register_model(name="log", package="log.tsd")
server.run()
"""
)


def marked(value: float) -> bytes:
    """The body of an inference whose first number is `value`."""
    x = INPUTS[:1].copy()
    x[0, 0] = value
    return infer_body(x)


def is_null(answer: Answer) -> bool:
    """NaN in JSON."""
    return answer.status == 200 and set(json.loads(answer.body)["outputs"][0]["data"]) == {None}


def is_internal(answer: Answer) -> bool:
    """An error of the model, of which nothing leaks."""
    return answer.status == 500 and b"not this one" not in answer.body


INFER = "/v2/models/linear/infer"
HOSTILE["raise"] = asks_for(INFER, marked(1003), is_internal)
HOSTILE["nan"] = asks_for(INFER, marked(1005), is_null)
HOSTILE["log of a negative"] = asks_for(
    "/v2/models/log/infer", infer_body(np.array([[-1.0, -2.0]], np.float32)), is_null
)
CLIENTS = ("hang up", "halves", "garbage", "huge", "wrong")


def linear(x: np.ndarray, output: np.ndarray) -> bool:
    """Whether it is `x @ WEIGHT`, computed in float64."""
    wanted = x.astype(np.float64) @ WEIGHT.astype(np.float64)
    return output.shape == wanted.shape and np.allclose(output, wanted, rtol=1e-4, atol=1e-5)


def fill_disk(folder: Path) -> None:
    """Leave little room for the log; the rest is a hole in the file."""
    with (folder / "server.log").open("wb") as log:
        log.truncate(FILE_LIMIT - LOG_ROOM)


def lines_lost(server: ServerProcess) -> float:
    text = httpx.get(f"{server.url}/metrics", timeout=30).text
    found = re.findall(r"^tessera_log_lines_lost_total(?:\{.*\})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


class Killer:
    """Kills fronts and owners with `kill -9`, and makes owners hang, at random moments."""

    def __init__(self, server: ServerProcess, seed: int) -> None:
        self._server = server
        self._rng = random.Random(seed)
        self.fronts_s: list[float] = []
        """When a front was killed."""
        self.owners_s: list[float] = []
        """When an owner was killed, or one may have been for hanging."""
        self.hangs_s: list[tuple[float, float]] = []
        """When a batch may have hung."""
        self.statuses: list[int | str] = []
        """How requests that hang were answered."""

    def run(self, seconds: float) -> None:
        """Kill for so long."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            time.sleep(self._rng.uniform(0.3, 2.5))
            if self._rng.random() < 0.15:
                self._hang()
                continue
            children = children_of(self._server.process.pid)
            name = self._rng.choice(sorted(children))
            (self.fronts_s if name.startswith("front") else self.owners_s).append(time.monotonic())
            kill(children[name])

    def _hang(self) -> None:
        begun_s = time.monotonic()
        try:
            answer = httpx.post(f"{self._server.url}{INFER}", content=marked(1001), timeout=30)
            self.statuses.append(answer.status_code)
        except httpx.TransportError as error:
            self.statuses.append(type(error).__name__)
        # The owner is started again some time after the answer.
        self.hangs_s.append((begun_s, time.monotonic() + 2 * TIMEOUT_S))


def unexcused(load: MixedLoad, killer: Killer) -> list[str]:
    """Good requests that were lost for no reason that the documentation gives."""
    found = []
    for loss in load.losses:
        hung = any(a - 0.1 <= loss.ended_s and loss.begun_s <= b for a, b in killer.hangs_s)
        if loss.what == "503":
            excused = hung or any(loss.begun_s - 5 <= s <= loss.ended_s for s in killer.owners_s)
        elif loss.what == "504":
            excused = hung
        elif loss.what == "ConnectionRefusedError" or loss.what.isdigit():
            excused = False
        else:
            excused = any(loss.connected_s - 0.1 <= s <= loss.ended_s for s in killer.fronts_s)
        if not excused:
            found.append(f"{loss.what} after {loss.ended_s - loss.begun_s:.3f} s")
    return found


def whole(server: ServerProcess) -> bool:
    """Whether all four processes are there and serve."""
    if sorted(children_of(server.process.pid)) != ["front-0", "front-1", "owner-0", "owner-1"]:
        return False
    try:
        return all(httpx.get(f"{server.url}/ready", timeout=5).status_code == 200 for _ in range(8))
    except httpx.TransportError:
        return False


def watch_memory(pids: dict[str, int], seconds: float, warm_s: float) -> None:
    """Sample resident memory for `seconds`: its medians differ by 5 % at most after `warm_s`."""
    samples: dict[str, list[int]] = {name: [] for name in pids}
    time.sleep(warm_s)
    until_s = time.monotonic() + seconds - warm_s
    while time.monotonic() < until_s:
        for name, pid in pids.items():
            samples[name].append(resident_bytes(pid))
        time.sleep(0.2)
    for name, found in samples.items():
        quarter = max(1, len(found) // 4)
        first, last = statistics.median(found[:quarter]), statistics.median(found[-quarter:])
        print(f"memory of {name}: {first / 2**20:.1f} MiB, then {last / 2**20:.1f} MiB")
        assert 0.95 * first <= last <= 1.05 * first, f"{name}: {first} bytes, then {last}"


def end_under_load(server: ServerProcess, check: Callable[..., bool], pids: list[int]) -> None:
    """SIGTERM while clients ask: all that was accepted is answered, and the process ends well."""
    with MixedLoad(server.port, check, good=6, hostile=CLIENTS, seed=9) as load:
        until(lambda: load.ok > 100, 30)
        server.process.send_signal(signal.SIGTERM)
        status, log = server.finish(GRACE_S)
    assert status == 0, log
    assert load.findings == []
    assert {loss.what for loss in load.losses} <= {"ConnectionRefusedError"}, load.losses
    assert not any(alive(pid) for pid in (server.process.pid, *pids))


def segments() -> set[str]:
    return {entry.name for entry in Path("/dev/shm").iterdir() if "tessera" in entry.name}


@pytest.mark.parametrize("seconds", SECONDS)
def test_processes_under_all_faults_lose_nothing_that_is_promised(
    seconds: float, start_process: StartProcess, tmp_path: Path
) -> None:
    before_shm = segments()
    fill_disk(tmp_path)
    server = start_process(PROCESSES)
    supervisor = server.process.pid
    hostile = (*CLIENTS, "raise", "nan")
    with MixedLoad(server.port, linear, good=6, hostile=hostile, seed=1):
        time.sleep(min(5.0, seconds / 4))
    until(lambda: whole(server), 30)
    held, resident = descriptors(supervisor), resident_bytes(supervisor)

    killer = Killer(server, seed=int(seconds))
    with MixedLoad(server.port, linear, good=6, hostile=hostile, seed=2) as load:
        killer.run(0.5 * seconds)
        answered = load.ok
        until(lambda: load.ok > answered + 100, 30)
    print(load.ok, "good;", len(load.losses), "lost;", dict(load.seen), killer.statuses)
    print(len(killer.fronts_s), "fronts and", len(killer.owners_s), "owners killed")
    assert load.findings == []
    assert unexcused(load, killer) == []
    assert set(killer.statuses) <= {503, 504, "ReadError", "RemoteProtocolError"}

    until(lambda: whole(server), 30)
    pids = children_of(supervisor)
    for name, pid in pids.items():
        # An owner has the memory of each front and of the supervisor, and of none that was killed.
        until(lambda: mapped_memories(pid) == (1 if name.startswith("front") else 3))  # noqa: B023
    idle = {name: descriptors(pid) for name, pid in pids.items()}
    with MixedLoad(server.port, linear, good=6, hostile=hostile, seed=3) as load:
        watch_memory({"supervisor": supervisor, **pids}, 0.5 * seconds, min(60.0, seconds / 6))
    assert load.findings == []
    assert load.losses == []
    assert children_of(supervisor) == pids
    assert lines_lost(server) > 0
    for name, pid in pids.items():
        until(lambda: descriptors(pid) <= idle[name] + 1)  # noqa: B023
    until(lambda: descriptors(supervisor) <= held)
    assert resident_bytes(supervisor) <= 1.05 * resident
    end_under_load(server, linear, list(pids.values()))
    assert segments() <= before_shm
    assert (tmp_path / "server.log").stat().st_size <= FILE_LIMIT


class Replaced:
    """The package `linear.tsd`, replaced again and again by one with another scale."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.scales: list[int] = []
        self.replace()

    def replace(self) -> None:
        """Put the next one in its place."""
        scale = len(self.scales) + 1
        self.scales.append(scale)
        artifact = Artifact((linear_program(),), (), {"w": WEIGHT * np.float32(scale)})
        Package.from_artifact(artifact, name="linear", version="1.0.0").save(self._path)

    def check(self, x: np.ndarray, output: np.ndarray) -> bool:
        """Whether one of the last packages, and that one alone, gave all of an output."""
        return any(linear(x, output / scale) for scale in self.scales[-4:])


@pytest.mark.parametrize("seconds", SECONDS)
def test_reloads_under_all_faults_refuse_nothing_and_keep_memory_flat(
    seconds: float, start_process: StartProcess, tmp_path: Path
) -> None:
    before_shm = segments()
    fill_disk(tmp_path)
    save(tmp_path, log_program())
    package = Replaced(tmp_path / "linear.tsd")
    server = start_process(MODELS)
    pid = server.process.pid
    hostile = (*CLIENTS, "log of a negative")
    ended = threading.Event()

    def replace() -> None:
        while not ended.wait(2.0):
            package.replace()

    replacing = threading.Thread(target=replace)
    replacing.start()
    try:
        with MixedLoad(server.port, package.check, good=6, hostile=hostile, seed=4):
            time.sleep(min(5.0, seconds / 4))
        held = descriptors(pid)
        with MixedLoad(server.port, package.check, good=6, hostile=hostile, seed=5) as load:
            watch_memory({"server": pid}, seconds, min(60.0, seconds / 3))
    finally:
        ended.set()
        replacing.join()
    print(load.ok, "good;", dict(load.seen), len(package.scales), "packages")
    assert load.findings == []
    assert load.losses == []
    assert len(package.scales) >= seconds / 4

    def newest() -> bool:
        answer = httpx.post(f"{server.url}{INFER}", content=infer_body(INPUTS), timeout=30).json()
        output = np.array(answer["outputs"][0]["data"]).reshape(64, 3)
        return linear(INPUTS, output / package.scales[-1])

    until(newest)
    assert lines_lost(server) > 0
    until(lambda: descriptors(pid) <= held + 1)
    assert children_of(pid) == {}
    end_under_load(server, package.check, [])
    assert segments() <= before_shm
