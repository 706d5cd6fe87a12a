"""Processes killed at random under load, for a while: no answer is another's, and nothing is left behind."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from checked_load import CheckedLoad
from process_tree import alive, children_of, descriptors, kill, mapped_memories, resident_bytes, until
from server_process import ServerProcess

StartProcess = Callable[..., ServerProcess]

SCRIPT = """
from tessera.serve import ProductionServer
config = {{"processes": 2, "replicas": {replicas}, "device": "reference", "shared_memory_size": "8MB"}}
server = ProductionServer({package!r}, config)
server.run()
"""


def kill_at_random(server: ServerProcess, seconds: float, seed: int) -> int:
    """Kill a child now and then; how many."""
    rng = random.Random(seed)
    until_s = time.monotonic() + seconds
    killed = 0
    while time.monotonic() < until_s:
        time.sleep(rng.uniform(0.2, 1.5))
        children = children_of(server.process.pid)
        if children:
            kill(children[rng.choice(sorted(children))])
            killed += 1
    return killed


def whole(server: ServerProcess, count: int) -> bool:
    """Whether every child is there and answers."""
    if len(children_of(server.process.pid)) != count:
        return False
    try:
        answers = [httpx.get(f"{server.url}/health", timeout=2).json() for _ in range(6)]
    except httpx.TransportError:
        return False
    return all(answer["phase"] == "ready" for answer in answers)


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("seconds", [8, pytest.param(120, marks=pytest.mark.soak)])
def test_random_kills_under_load_mix_up_nothing_and_leak_nothing(
    replicas: int, seconds: int, start_process: StartProcess, linear_package: Path
) -> None:
    server = start_process(SCRIPT.format(package=str(linear_package), replicas=replicas))
    supervisor = server.process.pid
    children = 2 + max(2, replicas)
    # Let everything that is made once be made: threads, metrics, connections.
    with CheckedLoad(server.url, 8) as load:
        until(lambda: load.outcomes["ok"] > 100)
    until(lambda: whole(server, children))
    before = descriptors(supervisor)
    resident = resident_bytes(supervisor)

    with CheckedLoad(server.url, 8) as load:
        killed = kill_at_random(server, seconds, seed=seconds + replicas)
        answered = load.outcomes["ok"]
        until(lambda: load.outcomes["ok"] > answered + 100, 30)
    assert killed >= 5
    assert load.wrong == []
    # Its own connections are lost with a front; an owner's requests are run again, or refused in time.
    lost = {"ReadError", "RemoteProtocolError", "WriteError"}
    assert set(load.outcomes) <= {"ok", "503", *lost}

    until(lambda: whole(server, children), 30)
    until(lambda: descriptors(supervisor) <= before)
    assert resident_bytes(supervisor) < resident + (8 << 20)
    alive_now = children_of(supervisor)
    for name, pid in alive_now.items():
        # An owner has the memory of each front and of the supervisor; a front has its own.
        wanted = {"front": 1, "owner": 3}[name.partition("-")[0]] if name != "owner-spare" else 0
        until(lambda: mapped_memories(pid) == wanted)  # noqa: B023
    server.process.send_signal(signal.SIGTERM)
    status, log = server.finish(30)
    assert status == 0, log
    assert not any(alive(pid) for pid in alive_now.values())


@pytest.mark.slow
def test_memory_stays_flat_while_requests_of_all_sizes_come(
    start_process: StartProcess, linear_package: Path
) -> None:
    server = start_process(SCRIPT.format(package=str(linear_package), replicas=1))
    pids = children_of(server.process.pid)

    def load_once() -> None:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            for rows in (1, 3, 1000, 20, 7000, 300) * 5:
                answer = client.post("/predict", json={"input": [[1.0, 2.0, 3.0, 4.0]] * rows})
                assert len(answer.raise_for_status().json()["output"]) == rows

    for _ in range(4):
        load_once()
    before = {name: resident_bytes(pid) for name, pid in pids.items()}
    for _ in range(8):
        load_once()
    for name, pid in pids.items():
        assert resident_bytes(pid) < before[name] * 1.05 + (2 << 20), name
