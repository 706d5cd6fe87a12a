"""A server over several replicas: one model to every protocol."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from small_models import WEIGHT, linear_model
from test_serve_load_balancer import FailingModel

from tessera.deploy import BalancerSettings, LoadBalancer, ModelReplica, ProductionServer
from tessera.program.errors import ConfigError, DeviceError


def ask(url: str, count: int) -> list[httpx.Response]:
    rng = np.random.default_rng(5)
    xs = [rng.standard_normal((1, 4)).astype(np.float32) for _ in range(count)]
    with httpx.Client(base_url=url, timeout=20) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda x: client.post("/predict", json={"input": x.tolist()}), xs))
    for x, answer in zip(xs, answers, strict=True):
        if answer.status_code == 200:
            np.testing.assert_allclose(answer.json()["output"], x @ WEIGHT, rtol=1e-5, atol=1e-6)
    return answers


def test_devices_of_a_list_serve_one_model(linear_package: Path) -> None:
    server = ProductionServer(linear_package, {"port": 0, "device": "reference,reference"})
    for _ in range(2):
        with server:
            assert {answer.status_code for answer in ask(server.url, 60)} == {200}
            metrics = httpx.get(f"{server.url}/metrics").text
            memory = httpx.get(f"{server.url}/health").json()["memory"]
            model = httpx.get(f"{server.url}/v2/models/linear").json()
        assert list(memory["replicas"]) == ["reference", "reference#2"]
        assert model["name"] == "linear"
        assert re.search(r'nv_inference_request_success\{model="linear",version="[^"]+"\} 60', metrics)


def test_balancer_in_a_server_answers_while_a_replica_fails_and_503_when_all_do() -> None:
    models = [FailingModel(0.001), FailingModel(0.001)]
    settings = BalancerSettings(breaker={"failures_in_a_row": 1, "open_s": 60.0})
    balancer = LoadBalancer([ModelReplica(m, name=f"r{n}") for n, m in enumerate(models)], settings=settings)
    with ProductionServer(balancer, {"port": 0}) as server:
        models[0].error = DeviceError("away")
        assert {answer.status_code for answer in ask(server.url, 40)} == {200}
        assert [row.state.value for row in balancer.replicas] == ["broken", "ready"]
        np.testing.assert_allclose(balancer.infer_sync([[1, 0, 0, 0]]), WEIGHT[:1], rtol=1e-6)
        models[1].error = DeviceError("away")
        ask(server.url, 1)
        (answer,) = ask(server.url, 1)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 1
        assert "r0 is broken, r1 is broken" in answer.json()["error"]
        wrong = httpx.post(f"{server.url}/predict", json={"input": [["a"]]})
        assert wrong.status_code == 400
    assert all(model.closed for model in models)
    assert not [t for t in threading.enumerate() if t.name.startswith("tessera-worker")]


def test_replicas_come_and_go_under_a_server() -> None:
    models = [linear_model(0.001) for _ in range(3)]
    replicas = [ModelReplica(m, name=f"r{n}") for n, m in enumerate(models)]
    balancer = LoadBalancer(replicas[:2])
    with ProductionServer(balancer, {"port": 0}) as server, ThreadPoolExecutor(1) as pool:
        load = pool.submit(ask, server.url, 200)
        balancer.add_replica(replicas[2])
        balancer.set_strategy("round_robin")
        balancer.remove_replica("r0")
        assert {answer.status_code for answer in load.result(60)} == {200}
        assert [row.name for row in balancer.replicas] == ["r1", "r2"]
        assert models[0].closed


@pytest.mark.parametrize("device", ["reference,", ",", "cpu,,cpu"])
def test_device_without_a_name_is_an_error(linear_package: Path, device: str) -> None:
    with pytest.raises(ConfigError, match="has no name"):
        ProductionServer(linear_package, {"port": 0, "device": device}).start()
    with pytest.raises(ConfigError, match="a model in memory"):
        ProductionServer(linear_model(), {"port": 0, "device": "cpu,cpu"}).start()
