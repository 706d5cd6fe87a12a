"""Requests that are too large, too late, too many or deadly, and models that hang."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from checked_load import CheckedLoad
from process_tree import alive, children_of, kill, until
from server_process import ServerProcess
from small_models import WEIGHT

StartProcess = Callable[..., ServerProcess]

MODEL = """
import os, signal, sys, time
sys.path.insert(0, {tests!r})
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
        if (x == 1002).any():
            os.kill(os.getpid(), signal.SIGKILL)
        if (x == 1003).any():
            raise ValueError("not this one")
        if (x == 1004).any():
            return {{"output": np.zeros((len(x), 7), np.float32)}}
        for row in x[x[:, 0] >= 2000]:
            with open({log!r}, "a") as log:
                log.write(f"{{row[0]:g}}\\n")
        time.sleep({seconds})
        return {{"output": x @ WEIGHT}}

    def memory_usage(self):
        return {{}}

    def close(self):
        pass

server = ProductionServer(Model(), {{"processes": 2, {more}}})
if __name__ == "__main__":
    server.run()
"""


@pytest.fixture
def model_script(tmp_path: Path) -> Callable[..., str]:
    def make(seconds: float = 0.0, more: str = "") -> str:
        tests = str(Path(__file__).parents[1])
        return MODEL.format(tests=tests, log=str(tmp_path / "runs.log"), seconds=seconds, more=more)

    return make


def ask(url: str, rows: object, **more: object) -> httpx.Response:
    return httpx.post(f"{url}/predict", json={"input": rows}, timeout=30, **more)  # type: ignore[arg-type]


def executed(folder: Path) -> list[str]:
    log = folder / "runs.log"
    return log.read_text().split() if log.exists() else []


def test_model_of_the_program_is_made_again_and_its_faults_are_one_requests_own(
    start_process: StartProcess, model_script: Callable[..., str]
) -> None:
    server = start_process(model_script(more='"shared_memory_size": "1MB"'))
    np.testing.assert_allclose(
        ask(server.url, [[1, 2, 3, 4]]).json()["output"], [[1, 2, 3, 4]] @ WEIGHT, rtol=1e-5
    )
    raised = ask(server.url, [[1003, 0, 0, 0]])
    assert raised.status_code == 500
    misshapen = ask(server.url, [[1004, 0, 0, 0]])
    assert misshapen.status_code == 500
    large = ask(server.url, np.ones((60_000, 4)).tolist())
    assert large.status_code == 413
    assert "raise shared_memory_size" in large.json()["hint"]
    half = ask(server.url, np.ones((20_000, 4)).tolist())
    np.testing.assert_allclose(half.json()["output"][-1], np.ones(4) @ WEIGHT, rtol=1e-5)


@pytest.mark.slow
def test_request_that_kills_owners_is_given_to_two_and_harms_no_other(
    start_process: StartProcess, model_script: Callable[..., str]
) -> None:
    server = start_process(model_script(more='"replicas": 2'))
    with CheckedLoad(server.url, 4) as load:
        until(lambda: load.outcomes["ok"] > 20)
        answer = ask(server.url, [[1002, 0, 0, 0]])
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        until(lambda: httpx.get(f"{server.url}/ready").status_code == 200)
        answered = load.outcomes["ok"]
        until(lambda: load.outcomes["ok"] > answered + 20)
    assert load.wrong == []
    # Those that were in a batch with it were run by the second owner, and died with it as well.
    assert set(load.outcomes) <= {"ok", "503"}


@pytest.mark.slow
def test_batch_that_hangs_is_answered_504_and_its_owner_is_started_again(
    start_process: StartProcess, model_script: Callable[..., str]
) -> None:
    server = start_process(model_script(more='"request_timeout_s": 1.0'))
    owner = children_of(server.process.pid)["owner-0"]
    assert ask(server.url, [[1001, 0, 0, 0]]).status_code == 504
    until(lambda: not alive(owner))
    until(lambda: ask(server.url, [[1, 2, 3, 4]]).status_code == 200)


@pytest.mark.slow
def test_request_whose_client_hung_up_or_whose_time_is_over_is_never_run(
    start_process: StartProcess, model_script: Callable[..., str], tmp_path: Path
) -> None:
    server = start_process(model_script(seconds=0.6, more='"max_batch_size": 1'))
    first = threading.Thread(target=ask, args=(server.url, [[2000, 0, 0, 0]]))
    first.start()
    until(lambda: executed(tmp_path) == ["2000"])
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/predict", json={"input": [[2001, 0, 0, 0]]}, timeout=0.1)
    late = httpx.post(
        f"{server.url}/v2/models/linear/infer",
        json={
            "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [2002, 0, 0, 0]}],
            "parameters": {"timeout": 100_000},
        },
    )
    assert late.status_code == 504
    first.join(10)
    assert ask(server.url, [[2003, 0, 0, 0]]).status_code == 200
    assert executed(tmp_path) == ["2000", "2003"]


@pytest.mark.slow
def test_full_queue_is_answered_503_while_what_was_accepted_is_served(
    start_process: StartProcess, model_script: Callable[..., str]
) -> None:
    server = start_process(model_script(seconds=0.05, more='"max_batch_size": 4, "max_queue": 4'))
    with CheckedLoad(server.url, 24) as load:
        until(lambda: load.outcomes["ok"] > 100)
    assert load.wrong == []
    assert set(load.outcomes) == {"ok", "503"}
    metrics = httpx.get(f"{server.url}/metrics").text
    rejected = [line for line in metrics.splitlines() if line.startswith("tessera_inference_rejected_total")]
    assert any(
        "overloaded" in line and float(line.rpartition(" ")[2]) >= load.outcomes["503"] for line in rejected
    )


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            """
def main():
    server = ProductionServer({package!r}, {{"port": 0, "processes": 2, "device": "reference"}})
    @server.endpoint("/mine")
    def mine(): return 1
    server.run()
if __name__ == "__main__":
    main()
""",
            "make the server and its endpoints at the top of the file",
        ),
        (
            """
server = ProductionServer({package!r}, {{"port": 0, "processes": 2, "device": "reference"}})
@server.endpoint("/mine")
def mine(): return 1
if __name__ != "__main__":
    import not_there
server.run()
""",
            "No module named 'not_there'",
        ),
        (
            """
server = ProductionServer({package!r}, {{"port": 0, "processes": 2, "device": "nonsense"}})
server.run()
""",
            "nonsense",
        ),
        (
            """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
server = ProductionServer({package!r}, {{"port": 0, "processes": 2, "device": "reference"}})
server.run()
""",
            "bytes of shared memory",
        ),
    ],
)
def test_what_cannot_start_ends_with_its_reason_and_leaves_no_process(
    program: str, message: str, linear_package: Path, tmp_path: Path
) -> None:
    text = "from tessera.serve import ProductionServer\n" + program.format(package=str(linear_package))
    (tmp_path / "program.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert message in done.stderr


def test_endpoint_that_was_typed_in_is_an_error_with_the_remedy(linear_package: Path) -> None:
    program = f"""
from tessera.serve import ProductionServer
server = ProductionServer({str(linear_package)!r}, {{"port": 0, "processes": 2}})
@server.endpoint("/mine")
def mine(): return 1
server.run()
"""
    done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "the endpoint '/mine' was typed in" in done.stderr
    assert "write the server to a file" in done.stderr


def test_program_that_runs_unguarded_serves_all_the_same(
    start_process: StartProcess, linear_package: Path
) -> None:
    server = start_process(
        f"""
from tessera.serve import ProductionServer
server = ProductionServer({str(linear_package)!r}, {{"processes": 2, "device": "reference"}})
@server.endpoint("/mine")
def mine(request): return {{"output": server.infer_sync(request.input)}}
server.run()
raise SystemExit("only the supervisor comes here")
"""
    )
    answer = httpx.post(f"{server.url}/mine", json={"input": [[1, 0, 0, 0]]})
    np.testing.assert_allclose(answer.json()["output"], WEIGHT[:1], rtol=1e-6)
    server.process.send_signal(signal.SIGTERM)
    _, log = server.finish()
    assert log.count("only the supervisor") == 1


def test_stop_during_the_start_ends_every_process(start_process: StartProcess, linear_package: Path) -> None:
    server = start_process(
        "from tessera.serve import ProductionServer\n"
        f"ProductionServer({str(linear_package)!r}, {{'processes': 2, 'device': 'reference'}}).run()\n",
        ready=False,
    )
    until(lambda: len(children_of(server.process.pid)) == 3)
    children = children_of(server.process.pid)
    server.process.send_signal(signal.SIGTERM)
    server.finish(20)
    assert not any(alive(pid) for pid in children.values())


@pytest.mark.slow
def test_front_that_is_told_to_go_finishes_and_is_replaced(
    start_process: StartProcess, model_script: Callable[..., str]
) -> None:
    server = start_process(model_script())
    before = children_of(server.process.pid)
    with CheckedLoad(server.url, 6) as load:
        until(lambda: load.outcomes["ok"] > 50)
        for pid in (before["front-0"], before["owner-0"]):
            subprocess.run(["kill", "-TERM", str(pid)], check=True)
        until(lambda: children_of(server.process.pid).get("front-0") not in (None, before["front-0"]))
    # An owner waits for the supervisor's word: it is the fronts that know what is under way.
    assert children_of(server.process.pid)["owner-0"] == before["owner-0"]
    assert load.wrong == []
    assert set(load.outcomes) == {"ok"}
    kill(before["owner-0"])
