"""A server of several processes: it answers as one, stops as one, and leaves nothing behind."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from checked_load import CheckedLoad
from process_tree import alive, children_of, kill, until
from server_process import ServerProcess
from small_models import WEIGHT

from tessera.program.errors import ConfigError
from tessera.serve.models.multi_model_server import MultiModelServer

LINEAR_REQUEST = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'

StartProcess = Callable[..., ServerProcess]

SCRIPT = """
from tessera.serve import ProductionServer
import asyncio, os

server = ProductionServer({package!r}, {{"processes": 2, "device": "reference", {more}}})

@server.endpoint("/mine")
async def mine(request):
    {before}
    return {{"output": await server.infer(request.json["input"]), "pid": os.getpid()}}

if __name__ == "__main__":
    server.run()
"""


def script(package: Path, before: str = "pass", more: str = "") -> str:
    return SCRIPT.format(package=str(package), before=before, more=more)


def test_server_of_processes_answers_its_endpoints_in_several_processes(
    start_process: StartProcess, linear_package: Path, rng: np.random.Generator
) -> None:
    server = start_process(script(linear_package))
    pids = set()
    for _ in range(24):
        x = rng.standard_normal((2, 4)).astype(np.float32)
        answer = httpx.post(f"{server.url}/mine", json={"input": x.tolist()}).raise_for_status().json()
        np.testing.assert_allclose(answer["output"], x @ WEIGHT, rtol=1e-5, atol=1e-5)
        pids.add(answer["pid"])
    children = children_of(server.process.pid)
    # With one owner, another process is held at hand.
    until(lambda: sorted(children_of(server.process.pid)) == ["front-0", "front-1", "owner-0", "owner-spare"])
    children = children_of(server.process.pid)
    assert pids == {children["front-0"], children["front-1"]}
    metadata = httpx.get(f"{server.url}/v2/models/linear").json()
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    wrong = httpx.post(f"{server.url}/predict", json={"input": [[1, 2]]})
    assert wrong.status_code == 400
    assert "'x'" in wrong.json()["error"]
    assert httpx.get(f"{server.url}/health").json()["memory"]["weights_bytes"] == WEIGHT.nbytes
    server.process.send_signal(signal.SIGTERM)
    status, log = server.finish()
    assert status == 0, log
    assert not any(alive(pid) for pid in children.values())


def test_metrics_are_those_of_all_processes_and_never_go_back(
    start_process: StartProcess, linear_package: Path
) -> None:
    server = start_process(script(linear_package))
    wanted = 'tessera_http_requests_total{method="POST",path="/mine",status="200"}'

    def counted(name: str) -> float:
        text = httpx.get(f"{server.url}/metrics").text
        found = [line for line in text.splitlines() if line.startswith(name)]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    for _ in range(20):
        httpx.post(f"{server.url}/mine", json={"input": [[1, 2, 3, 4]]}).raise_for_status()
    assert counted(wanted) == 20
    assert counted("tessera_batch_requests_sum") == 20
    assert counted("tessera_ready") == 1
    before = children_of(server.process.pid)
    kill(before["front-0"])
    until(lambda: children_of(server.process.pid).get("front-0") not in (None, before["front-0"]))
    assert counted(wanted) == 20
    for _ in range(20):
        httpx.post(f"{server.url}/mine", json={"input": [[1, 2, 3, 4]]}).raise_for_status()
    assert counted(wanted) == 40


@pytest.mark.slow
def test_sigterm_under_load_answers_every_request(start_process: StartProcess, linear_package: Path) -> None:
    server = start_process(script(linear_package, before="await asyncio.sleep(0.02)"))
    children = children_of(server.process.pid)
    with CheckedLoad(server.url, 24, "/mine") as load:
        until(lambda: load.outcomes["ok"] > 100)
        server.process.send_signal(signal.SIGTERM)
        status, log = server.finish()
    assert status == 0, log
    assert load.wrong == []
    assert set(load.outcomes) <= {"ok", "refused"}
    assert not any(alive(pid) for pid in children.values())


def test_kill_of_the_supervisor_ends_every_process(start_process: StartProcess, linear_package: Path) -> None:
    server = start_process(script(linear_package))
    children = children_of(server.process.pid)
    kill(server.process.pid)
    until(lambda: not any(alive(pid) for pid in children.values()), 5)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/ready")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["front-0", "owner-0"])
def test_kill_under_load_mixes_up_no_answer_and_serves_again(
    kind: str, start_process: StartProcess, linear_package: Path
) -> None:
    server = start_process(script(linear_package))
    with CheckedLoad(server.url, 8) as load:
        for _ in range(3):
            answered = load.outcomes["ok"]
            until(lambda: load.outcomes["ok"] > answered + 50)  # noqa: B023
            children = children_of(server.process.pid)
            kill(children[kind])
            until(lambda: children_of(server.process.pid).get(kind) not in (None, children[kind]))  # noqa: B023
            until(lambda: httpx.get(f"{server.url}/ready").status_code == 200)
    assert load.wrong == []
    if kind == "owner-0":
        assert set(load.outcomes) <= {"ok", "503"}
    else:
        # Only the connections of the front that was killed.
        assert set(load.outcomes) <= {"ok", "ReadError", "RemoteProtocolError", "WriteError"}
        assert load.outcomes["ok"] > load.outcomes.total() - 3 * 8 - 1
    server.process.send_signal(signal.SIGTERM)
    status, log = server.finish()
    assert status == 0, log


@pytest.mark.slow
def test_requests_of_a_killed_owner_are_run_by_another(
    start_process: StartProcess, linear_package: Path
) -> None:
    server = start_process(script(linear_package, more='"replicas": 2'))
    with CheckedLoad(server.url, 8) as load:
        for kind in ("owner-0", "owner-1", "owner-0"):
            answered = load.outcomes["ok"]
            until(lambda: load.outcomes["ok"] > answered + 50)  # noqa: B023
            children = children_of(server.process.pid)
            kill(children[kind])
            assert httpx.get(f"{server.url}/ready").status_code == 200
            until(lambda: children_of(server.process.pid).get(kind) not in (None, children[kind]))  # noqa: B023
            time.sleep(1.5)
    assert load.wrong == []
    assert set(load.outcomes) == {"ok"}


def test_started_server_of_processes_is_asked_from_its_program(linear_package: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        f"""
import asyncio, httpx
from tessera.serve import ProductionServer

server = ProductionServer({str(linear_package)!r}, {{"port": 0, "processes": 2, "device": "reference"}})
if __name__ == "__main__":
    with server:
        assert server.phase.value == "ready"
        one = httpx.post(server.url + "/predict", json={{"input": [[1, 2, 3, 4]]}}).json()["output"]
        two = server.infer_sync([[1, 2, 3, 4]])
        three = asyncio.run(server.infer([[1, 2, 3, 4]]))
        assert abs(two - one).max() < 1e-5 and (two == three).all(), (one, two, three)
        assert server.get_memory_usage()["device"] == "reference"
    assert server.phase.value == "stopped"
"""
    )
    subprocess.run([sys.executable, "program.py"], cwd=tmp_path, check=True, timeout=60)


def test_grpc_is_spoken_by_every_process_on_one_port(linear_package: Path, tmp_path: Path) -> None:
    grpc = pytest.importorskip("tritonclient.grpc")
    (tmp_path / "program.py").write_text(
        f"""
import sys
from tessera.serve import ProductionServer

config = {{"port": 0, "grpc_port": 0, "processes": 2, "device": "reference"}}
server = ProductionServer({str(linear_package)!r}, config)
if __name__ == "__main__":
    with server:
        print(server.grpc_address, flush=True)
        sys.stdin.read()
"""
    )
    with subprocess.Popen(
        [sys.executable, "program.py"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        x = np.random.default_rng(3).standard_normal((2, 4)).astype(np.float32)
        for number in range(8):
            # A channel argument of its own lets each client have a connection of its own.
            client = grpc.InferenceServerClient(address, channel_args=[("tessera.number", number)])
            given = grpc.InferInput("x", [2, 4], "FP32")
            given.set_data_from_numpy(x)
            np.testing.assert_allclose(
                client.infer("linear", [given]).as_numpy("output"), x @ WEIGHT, rtol=1e-5, atol=1e-6
            )
            client.close()
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_server_of_several_models_and_several_processes_is_refused() -> None:
    server = MultiModelServer({"port": 0, "processes": 2})
    with pytest.raises(ConfigError, match="a server of several models runs in one process"):
        server.start()


def test_connections_that_a_killed_front_had_not_taken_are_answered_by_its_successor(
    start_process: StartProcess, linear_package: Path
) -> None:
    server = start_process(script(linear_package))
    kill(children_of(server.process.pid)["front-1"])
    connections = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(16)]
    body = b'{"input": [[1, 2, 3, 4]]}'
    head = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    for number, connection in enumerate(connections):
        path = b"/predict" if number % 2 else b"/v2/models/linear/infer"
        sent = body if number % 2 else LINEAR_REQUEST
        connection.sendall(head % (path, len(sent)) + sent)
    answers = [connection.recv(4096) for connection in connections]
    for connection in connections:
        connection.close()
    assert [answer[:15] for answer in answers] == [b"HTTP/1.1 200 OK"] * 16


def test_command_serves_from_several_processes_within_limits_and_with_a_cache(
    linear_package: Path, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "tessera",
        "serve",
        str(linear_package),
        "--port",
        "0",
        "--processes",
        "2",
    ]
    settings = ["--device", "reference", "--set", "max_tensor_bytes=1600", "--set", "cache_bytes=1000000"]
    with subprocess.Popen(
        [*command, *settings, "--json"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert said["device"] == "reference"
        answers = [
            httpx.post(f"{said['url']}/predict", json={"input": [[1, 2, 3, 4]]}).json() for _ in range(4)
        ]
        assert all(answer == answers[0] for answer in answers)
        large = httpx.post(f"{said['url']}/predict", json={"input": [[1, 2, 3, 4]] * 101})
        assert large.status_code in (400, 413)
        assert "'x'" in large.json()["error"]
        assert not any("tessera" in entry.name for entry in Path("/dev/shm").iterdir())
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == ""
    assert process.returncode == 0


def test_each_of_several_devices_has_an_owner(start_process: StartProcess, linear_package: Path) -> None:
    server = start_process(script(linear_package, more='"device": "reference,reference"'))
    assert sorted(children_of(server.process.pid)) == ["front-0", "front-1", "owner-0", "owner-1"]
    owners = httpx.get(f"{server.url}/health").json()["memory"]["owners"]
    assert len(owners) == 2
