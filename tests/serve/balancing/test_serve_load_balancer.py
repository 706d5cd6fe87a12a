"""The guide's balancer with real models, threads and event loops."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import WEIGHT, linear_model

from tessera.deploy import BalancerSettings, LoadBalancer, ModelReplica
from tessera.program.errors import (
    ConfigError,
    DeviceError,
    InputError,
    OverloadedError,
    PackageError,
    ServeError,
)


class FailingModel:
    """`linear_model`, until it is told to fail or to hang."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._model = linear_model(seconds)
        self.program, self.version, self.device = self._model.program, "1", "test"
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    @property
    def batches(self) -> list[Any]:
        return self._model.batches

    def infer_batch(self, inputs: Any) -> Any:
        result = self._model.infer_batch(inputs)
        self.gate.wait(30)
        if self.error is not None:
            raise self.error
        return result

    def memory_usage(self) -> dict[str, int]:
        return {"in_use_bytes": 7}

    def close(self) -> None:
        self.closed = True


def rows(rng: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    return rng.standard_normal((count, 4)).astype(np.float32)


async def test_packages_answer_from_every_replica_on_the_callers_loop(
    linear_package: Path, rng: np.random.Generator
) -> None:
    replicas = [ModelReplica(linear_package, device="reference", max_batch_size=8) for _ in range(3)]
    xs = [rows(rng, 1 + n % 3) for n in range(48)]
    async with LoadBalancer(replicas) as balancer:
        outputs = await asyncio.gather(*(balancer.infer(x) for x in xs))
        listing = balancer.replicas
    for x, output in zip(xs, outputs, strict=True):
        np.testing.assert_allclose(output, x @ WEIGHT, rtol=1e-5, atol=1e-6)
    assert [row.name for row in listing] == ["reference", "reference#2", "reference#3"]
    assert all(row.answered for row in listing)
    assert sum(row.answered for row in listing) == 48
    assert {row.device for row in listing} == {"reference"}


@pytest.mark.parametrize("strategy", ["least_loaded", "round_robin", "latency_aware"])
def test_any_thread_and_loop_may_ask(strategy: str, rng: np.random.Generator) -> None:
    models = [FailingModel(0.001) for _ in range(2)]
    with LoadBalancer([ModelReplica(m, device="cpu") for m in models], strategy=strategy) as balancer:
        xs = [rows(rng, 1) for _ in range(40)]
        with ThreadPoolExecutor(8) as pool:
            outputs = list(pool.map(balancer.infer_sync, xs))

        async def together() -> list[Any]:
            return await asyncio.gather(*(balancer.infer(x) for x in xs))

        for found in (outputs, asyncio.run(together()), asyncio.run(together())):
            for x, output in zip(xs, found, strict=True):
                np.testing.assert_allclose(output, x @ WEIGHT, rtol=1e-5, atol=1e-6)
    assert all(model.closed for model in models)


def test_first_request_starts_it_and_close_lets_it_start_again(
    linear_package: Path, rng: np.random.Generator
) -> None:
    balancer = LoadBalancer()
    with pytest.raises(ServeError, match="no replica"):
        balancer.infer_sync(rows(rng, 1))
    balancer.add_replica(ModelReplica(linear_package, device="reference"))
    assert [row.state.value for row in balancer.replicas] == ["loading"]
    for _ in range(2):
        x = rows(rng, 2)
        np.testing.assert_allclose(balancer.infer_sync(x), x @ WEIGHT, rtol=1e-5, atol=1e-6)
        assert [row.state.value for row in balancer.replicas] == ["ready"]
        balancer.close()
    assert not [t for t in threading.enumerate() if t.name.startswith(("tessera-balancer", "tessera-worker"))]


def test_replica_that_fails_is_replaced_by_another_and_wrong_inputs_are_not_tried_again(
    rng: np.random.Generator,
) -> None:
    bad, good = FailingModel(), FailingModel()
    replicas = [ModelReplica(bad, name="bad"), ModelReplica(good, name="good")]
    settings = BalancerSettings(breaker={"failures_in_a_row": 2, "open_s": 0.05})
    with LoadBalancer(replicas, strategy="round_robin", settings=settings) as balancer:
        bad.error = DeviceError("the GPU has fallen off the bus")
        for _ in range(6):
            x = rows(rng, 1)
            np.testing.assert_allclose(balancer.infer_sync(x), x @ WEIGHT, rtol=1e-5, atol=1e-6)
        assert balancer.replicas[0].failed == 2
        with pytest.raises(InputError, match="'x'"):
            balancer.infer_sync([["a", "b", "c", "d"]])
        bad.error = None
        for _ in range(200):
            if balancer.replicas[0].state.value == "ready":
                break
            threading.Event().wait(0.02)
        assert balancer.replicas[0].state.value == "ready"


def test_hung_replica_gives_its_requests_to_another(rng: np.random.Generator) -> None:
    hung, good = FailingModel(), FailingModel()
    replicas = [ModelReplica(hung, name="hung"), ModelReplica(good, name="good")]
    settings = BalancerSettings(stall_timeout_s=0.1, probe_timeout_s=0.2)
    with LoadBalancer(replicas, settings=settings) as balancer:
        hung.gate.clear()
        xs = [rows(rng, 1) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            for x, output in zip(xs, pool.map(balancer.infer_sync, xs), strict=True):
                np.testing.assert_allclose(output, x @ WEIGHT, rtol=1e-5, atol=1e-6)
        hung_row, _ = balancer.replicas
        assert hung_row.reason
        hung.gate.set()


def test_replicas_come_and_go_while_it_runs(rng: np.random.Generator) -> None:
    models = [FailingModel(0.002) for _ in range(3)]
    replicas = [ModelReplica(m, name=f"r{n}") for n, m in enumerate(models)]
    with LoadBalancer(replicas[:2]) as balancer, ThreadPoolExecutor(4) as pool:
        xs = [rows(rng, 1) for _ in range(120)]
        answers = [pool.submit(balancer.infer_sync, x) for x in xs]
        balancer.add_replica(replicas[2])
        balancer.remove_replica(replicas[0])
        assert models[0].closed
        assert [row.name for row in balancer.replicas] == ["r1", "r2"]
        with pytest.raises(ConfigError, match="no replica 'r0'"):
            balancer.remove_replica("r0")
        for x, answer in zip(xs, answers, strict=True):
            np.testing.assert_allclose(answer.result(30), x @ WEIGHT, rtol=1e-5, atol=1e-6)


def test_replicas_of_different_programs_are_refused(pair_package: Path, linear_package: Path) -> None:
    replicas = [ModelReplica(package, device="reference") for package in (linear_package, pair_package)]
    with pytest.raises(ConfigError, match="has a program of other inputs"):
        LoadBalancer(replicas).start()


def test_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="no package"):
        ModelReplica(tmp_path / "absent.tsd")
    with pytest.raises(ConfigError, match="max_batch_size"):
        ModelReplica(linear_model(), max_batch_size=0)
    with pytest.raises(ConfigError, match="no strategy 'fastest'"):
        LoadBalancer(strategy="fastest")
    with pytest.raises(ConfigError, match="no replica 'cuda:7'"):
        LoadBalancer().remove_replica("cuda:7")


async def test_infer_sync_on_the_balancers_loop_is_an_error(rng: np.random.Generator) -> None:
    async with LoadBalancer([ModelReplica(linear_model())]) as balancer:
        with pytest.raises(ServeError, match="block the event loop"):
            balancer.infer_sync(rows(rng, 1))
        with pytest.raises(ServeError, match="not its own"):
            balancer.close()
        assert (await balancer.infer(rows(rng, 1))).shape == (1, 3)


def test_device_that_fails_everywhere_reaches_the_caller_then_503(rng: np.random.Generator) -> None:
    models = [FailingModel(), FailingModel()]
    settings = BalancerSettings(breaker={"failures_in_a_row": 1, "open_s": 60.0})
    with LoadBalancer([ModelReplica(m) for m in models], settings=settings) as balancer:
        for model in models:
            model.error = DeviceError("away")
        with pytest.raises(DeviceError, match="away"):
            balancer.infer_sync(rows(rng, 1))
        with pytest.raises(OverloadedError, match="is broken") as caught:
            balancer.infer_sync(rows(rng, 1))
        assert caught.value.retry_after_s > 1
