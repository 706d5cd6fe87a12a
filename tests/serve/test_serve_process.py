"""A server in a process of its own: signals, load, exit status, what it leaves behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from server_process import ServerProcess
from small_models import WEIGHT

StartProcess = Callable[..., ServerProcess]

GUIDE = """
from tessera.serve import ProductionServer
import asyncio

server = ProductionServer(
    model_package={package!r},
    config={{
        "workers": 4,
        "max_batch_size": 32,
        "batch_timeout_ms": 10,
        "memory_pool_size": "8GB",
        "enable_metrics": True,
        "enable_tracing": True,
        "device": "reference",
        {more}
    }}
)

@server.endpoint("/predict")
async def predict(request):
    input_data = request.json["input"]
    {before}
    output = await server.infer(input_data)
    return {{"output": output}}

@server.endpoint("/health")
async def health():
    return {{"status": "healthy", "gpu_memory": server.get_memory_usage()}}

if __name__ == "__main__":
    server.run()
"""


def script(package: Path, before: str = "pass", more: str = "") -> str:
    return GUIDE.format(package=str(package), before=before, more=more)


def processes_of_group(group: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getpgid(int(entry.name)) == group:
                    found.append(int(entry.name))
            except ProcessLookupError:
                continue
    return found


def test_guides_server_answers_and_ends_well_on_sigterm(
    start_process: StartProcess, linear_package: Path, rng: np.random.Generator
) -> None:
    server = start_process(script(linear_package))
    x = rng.standard_normal((3, 4)).astype(np.float32)
    with httpx.Client(base_url=server.url) as client:
        output = client.post("/predict", json={"input": x.tolist()}).raise_for_status().json()["output"]
        np.testing.assert_allclose(output, x @ WEIGHT, rtol=1e-5, atol=1e-5)
        assert client.get("/health").json()["status"] == "healthy"
        # The connection stays open and idle while the server stops.
        server.process.send_signal(signal.SIGTERM)
        status, log = server.finish(10)
    assert status == 0, log
    assert server.url in log
    assert "Traceback" not in log


class Load:
    """Clients that send distinct requests on kept connections until the server refuses."""

    def __init__(self, url: str, clients: int) -> None:
        self._url = url
        self.answered = 0
        self.wrong: list[str] = []
        self._lock = threading.Condition()
        self._threads = [threading.Thread(target=self._client, args=(i,)) for i in range(clients)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait_for(self, answers: int) -> None:
        """Until that many came."""
        with self._lock:
            assert self._lock.wait_for(lambda: self.answered >= answers, 30)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _client(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        with httpx.Client(base_url=self._url, timeout=20) as client:
            while True:
                x = rng.standard_normal((1, 4)).astype(np.float32)
                try:
                    response = client.post("/predict", json={"input": x.tolist()})
                except httpx.ConnectError:
                    return
                except httpx.TransportError as error:
                    with self._lock:
                        self.wrong.append(repr(error))
                    return
                with self._lock:
                    if response.status_code != 200:
                        self.wrong.append(response.text)
                    elif not np.allclose(response.json()["output"], x @ WEIGHT, rtol=1e-4, atol=1e-5):
                        self.wrong.append(f"another's answer for {x}")
                    else:
                        self.answered += 1
                        self._lock.notify_all()


@pytest.mark.parametrize("clients", [1, 24])
def test_sigterm_under_load_answers_every_request_and_exits_zero(
    clients: int, start_process: StartProcess, linear_package: Path
) -> None:
    server = start_process(script(linear_package, before="await asyncio.sleep(0.02)"))
    load = Load(server.url, clients)
    load.start()
    load.wait_for(2 * clients)
    server.process.send_signal(signal.SIGTERM)
    status, log = server.finish()
    load.join()
    assert load.wrong == []
    assert status == 0, log


def test_sigterm_accepts_what_the_kernel_had_accepted(
    start_process: StartProcess, linear_package: Path
) -> None:
    server = start_process(script(linear_package))
    # While the process is stopped, the kernel completes connections that it has not seen yet.
    server.process.send_signal(signal.SIGSTOP)
    connections = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(50)]
    for connection in connections:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    server.process.send_signal(signal.SIGTERM)
    server.process.send_signal(signal.SIGCONT)
    answers = [connection.recv(4096) for connection in connections]
    for connection in connections:
        connection.close()
    assert [a[:15] for a in answers] == [b"HTTP/1.1 200 OK"] * 50
    status, log = server.finish()
    assert status == 0, log


def test_ready_is_503_and_new_connections_are_refused_while_draining(
    start_process: StartProcess, linear_package: Path
) -> None:
    server = start_process(script(linear_package, before="await asyncio.sleep(1.5)"))
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(httpx.post(f"{server.url}/predict", json={"input": [[1, 2, 3, 4]]}, timeout=20))

    thread = threading.Thread(target=ask)
    with httpx.Client(base_url=server.url) as kept:
        assert kept.get("/ready").status_code == 200
        thread.start()
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.15)
        draining = kept.get("/ready")
        assert draining.status_code == 503
        assert "draining" in draining.json()["error"]
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/ready")
    thread.join(20)
    status, log = server.finish()
    assert answers[0].status_code == 200
    assert status == 0, log


def test_second_signal_does_not_wait(start_process: StartProcess, linear_package: Path) -> None:
    server = start_process(script(linear_package, before="await asyncio.sleep(20)"))
    answers: list[Any] = []

    def ask() -> None:
        answers.append(httpx.post(f"{server.url}/predict", json={"input": [[1, 2, 3, 4]]}, timeout=20))

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.3)
    server.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert server.process.poll() is None
    server.process.send_signal(signal.SIGINT)
    status, log = server.finish(10)
    thread.join(10)
    assert answers[0].status_code == 503
    assert status == 1, log


def test_drain_timeout_ends_a_stuck_server_with_an_error(
    start_process: StartProcess, linear_package: Path
) -> None:
    server = start_process(
        script(
            linear_package,
            before="await asyncio.sleep(60)",
            more='"drain_timeout_s": 0.5',
        )
    )
    thread = threading.Thread(
        target=lambda: httpx.post(f"{server.url}/predict", json={"input": [[1, 2, 3, 4]]}, timeout=20)
    )
    thread.start()
    time.sleep(0.3)
    server.process.send_signal(signal.SIGTERM)
    status, log = server.finish(10)
    thread.join(10)
    assert status == 1
    assert "drain_timeout_s" in log


def test_stop_leaves_no_process_behind(linear_package: Path, tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(script(linear_package))
    environment = {**os.environ, "TESSERA_PORT": "0"}
    process = subprocess.Popen(
        [sys.executable, "server.py"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        while "is ready" not in process.stderr.readline():
            assert process.poll() is None
        assert processes_of_group(process.pid) == [process.pid]
        process.terminate()
        process.communicate(timeout=10)
        assert process.returncode == 0
        assert processes_of_group(process.pid) == []
    finally:
        process.kill()
        process.communicate()


def test_port_in_use_ends_the_process_with_the_remedy(
    start_process: StartProcess, linear_package: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = start_process(script(linear_package, more=f'"port": {port}'), ready=False)
        status, log = server.finish()
    assert status == 1
    assert f"port {port} of 127.0.0.1 is in use" in log


def test_damaged_package_ends_the_process(start_process: StartProcess, tmp_path: Path) -> None:
    (tmp_path / "bad.tsd").write_bytes(b"PK\x03\x04 not really")
    server = start_process(script(tmp_path / "bad.tsd"), ready=False)
    status, log = server.finish()
    assert status == 1
    assert "is no package" in log


def test_memory_pool_and_package_come_from_the_environment(
    start_process: StartProcess, linear_package: Path
) -> None:
    server = start_process(
        "from tessera.serve import ProductionServer\nProductionServer().run()\n",
        MODEL_PACKAGE=str(linear_package),
        TESSERA_DEVICE="reference",
        TESSERA_MEMORY_POOL="64MB",
        TESSERA_LOG_LEVEL="WARNING",
    )
    output = httpx.post(f"{server.url}/predict", json={"input": [[1, 0, 0, 0]]}).json()["output"]
    np.testing.assert_allclose(output, WEIGHT[:1], rtol=1e-6)
    server.process.send_signal(signal.SIGTERM)
    assert server.finish() == (0, "")


def test_serving_imports_no_compiler_and_no_terminal(linear_package: Path) -> None:
    code = f"""
import sys
from tessera.serve import ProductionServer
import httpx
with ProductionServer({str(linear_package)!r}, {{"port": 0, "device": "reference"}}) as server:
    assert httpx.post(server.url + "/predict", json={{"input": [[1, 2, 3, 4]]}}).status_code == 200
heavy = {{"numba", "llvmlite", "textual", "typer", "plotly", "tessera.language", "tessera.compiler"}}
assert not heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_settings_alone_import_no_http_stack() -> None:
    code = """
import sys, tessera.serve
from tessera.serve import ServerConfig
ServerConfig.load({"port": 1})
stack = {"httptools", "uvloop", "starlette", "orjson", "prometheus_client", "grpc", "opentelemetry", "numpy"}
assert not stack & set(sys.modules), stack & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_missing_http_stack_names_the_extra() -> None:
    code = """
import sys
sys.modules["starlette"] = None
from tessera.program.errors import MissingDependencyError
try:
    from tessera.serve import ProductionServer
except MissingDependencyError as error:
    assert error.hint == "pip install 'tessera[serve]'", error.hint
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
