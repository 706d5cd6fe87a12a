"""Models that are loaded, replaced and unloaded while requests come."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from scaled_models import ScaledModel, scale_of, scaled_package

from tessera.deploy import MultiModelServer
from tessera.package.keys import generate_key
from tessera.program.errors import ConfigError, PackageError, ServeError, SignatureError, TesseraError
from tessera.serve.config import ServerConfig
from tessera.serve.metrics import MOST_MODELS, Metrics
from tessera.serve.models.lifecycle import Lifecycle
from tessera.serve.models.registry import ModelNotFoundError, ModelStatus, Registry, State
from tessera.serve.models.spec import model_spec
from tessera.serve.service import Service

PREDICT = "/predict/{model_name}"


def make_server(**settings: Any) -> MultiModelServer:
    """A server that answers at `/predict/NAME`."""
    server = MultiModelServer({"port": 0, "device": "reference", **settings})

    @server.endpoint(PREDICT)
    async def predict(model_name: str, request: Any) -> Any:
        return {"output": await server.get_model(model_name).infer(request.input)}

    return server


@pytest.fixture
def server() -> Iterator[MultiModelServer]:
    """A running server that has the model `m` of scale 1."""
    made = make_server()
    made.register_model("m", ScaledModel(1), version="1")
    with made:
        yield made


def ask(server: MultiModelServer, name: str, rng: np.random.Generator, rows: int = 2) -> float:
    """The scale of the model that answers."""
    x = rng.uniform(1, 2, (rows, 4)).astype(np.float32)
    answer = httpx.post(f"{server.url}/predict/{name}", json={"input": x.tolist()}, timeout=20)
    assert answer.status_code == 200, answer.text
    return scale_of(x, answer.json()["output"])


class Load:
    """Clients that ask without a pause and check every answer."""

    def __init__(self, server: MultiModelServer, clients: int = 4) -> None:
        self.url = server.url
        self.current = 1.0
        """Scale of the newest model that is known to serve."""
        self.newest = 1.0
        """Scale of the newest model that may serve."""
        self.answers = 0
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._clients = [self._pool.submit(self._ask, seed) for seed in range(clients)]

    def _ask(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        with httpx.Client(base_url=self.url, timeout=20) as client:
            while not self._stop.is_set():
                x = rng.uniform(1, 2, (int(rng.integers(1, 5)), 4)).astype(np.float32)
                oldest = self.current
                answer = client.post("/predict/m", json={"input": x.tolist()})
                assert answer.status_code == 200, answer.text
                scale = scale_of(x, answer.json()["output"])
                assert oldest - 1e-3 <= scale <= self.newest + 1e-3
                self.answers += 1

    def finish(self) -> None:
        self._stop.set()
        for client in self._clients:
            client.result(30)
        self._pool.shutdown()


def test_replacing_a_model_every_few_ms_drops_and_mixes_no_request(server: MultiModelServer) -> None:
    load = Load(server)
    models = [ScaledModel(float(scale), seconds=0.001) for scale in range(2, 102)]
    for model in models:
        load.newest = model.scale
        server.register_model("m", model, version="1")
        load.current = model.scale
        time.sleep(0.003)
    load.finish()
    assert load.answers > 100
    assert server.list_models() == [ModelStatus("m", "1", State.READY, "")]
    assert not models[-1].closed
    assert wait_until(lambda: all(model.closed for model in models[:-1]))


def wait_until(condition: Any, seconds: float = 10) -> bool:
    """Whether `condition` came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def test_unloading_finishes_what_was_accepted_and_answers_404_from_then_on(
    server: MultiModelServer, rng: np.random.Generator
) -> None:
    slow = ScaledModel(5, seconds=0.2)
    server.register_model("slow", slow, version="1", max_batch_size=2)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, server, "slow", np.random.default_rng(i)) for i in range(4)]
        assert wait_until(lambda: server._running().registry.waiting == 3)
        server.unregister_model("slow")
        assert slow.closed
        assert [round(each.result(20)) for each in asked] == [5] * 4
    answer = httpx.post(f"{server.url}/predict/slow", json={"input": [[1, 2, 3, 4]]})
    assert answer.status_code == 404
    assert answer.json() == {
        "error": "there is no model 'slow': unloaded",
        "hint": "there is 'm' of version '1'",
    }
    assert ModelStatus("slow", "1", State.UNAVAILABLE, "unloaded") in server.list_models()
    with pytest.raises(ModelNotFoundError):
        server.unregister_model("slow")
    assert ask(server, "m", rng) == pytest.approx(1)


def test_model_that_cannot_be_loaded_leaves_the_old_one_serving(
    server: MultiModelServer, tmp_path: Path, rng: np.random.Generator
) -> None:
    torn = scaled_package(tmp_path / "torn.tsd", 2)
    torn.write_bytes(torn.read_bytes()[:-700])
    with pytest.raises(PackageError):
        server.register_model("m", torn, version="1")
    (row,) = server.list_models()
    assert row.state is State.READY
    assert row.reason.startswith("the last load failed: ")
    unsigned, public = scaled_package(tmp_path / "m.tsd", 2), generate_key(tmp_path / "release").public
    with pytest.raises(SignatureError):
        server.register_model("m", unsigned, version="1", require_signature=public)
    assert ask(server, "m", rng) == pytest.approx(1)
    with pytest.raises(PackageError):
        server.register_model("n", torn)
    assert {row.name: row.state for row in server.list_models()} == {
        "m": State.READY,
        "n": State.UNAVAILABLE,
    }
    server.register_model("n", scaled_package(torn, 3))
    assert [(row.name, row.version) for row in server.list_models()] == [("m", "1"), ("n", "1.0.0")]
    assert ask(server, "n", rng) == pytest.approx(3)


async def test_reload_takes_the_file_as_it_is_now_whatever_its_version(tmp_path: Path) -> None:
    server = make_server()
    path = scaled_package(tmp_path / "m.tsd", 2, "2.0.0")
    server.register_model("m", path)
    x = np.ones((1, 4), np.float32)
    await asyncio.to_thread(server.start)
    try:
        model = server.get_model("m")
        assert scale_of(x, await model.infer(x)) == pytest.approx(2)
        scaled_package(path, 3, "1.5.0")
        await server.reload_model("m")
        assert scale_of(x, await model.infer(x)) == pytest.approx(3)
        assert model.metadata["versions"] == ["1.5.0"]
        assert (model.metadata["version"], model.metadata["device"]) == ("1.5.0", "reference")
        # In one step: the file that is served is mapped, and may not change under the model.
        (tmp_path / "torn").write_bytes(path.read_bytes()[:-700])
        (tmp_path / "torn").rename(path)
        with pytest.raises(TesseraError):
            await server.reload_model("m")
        assert scale_of(x, await model.infer(x)) == pytest.approx(3)
    finally:
        await asyncio.to_thread(server.stop)


def test_endpoints_load_and_unload_models(tmp_path: Path, rng: np.random.Generator) -> None:
    server = make_server()
    server.register_model("m", ScaledModel(1), version="1")
    package = scaled_package(tmp_path / "new.tsd", 4)

    @server.endpoint("/swap", methods=["POST"])
    async def swap() -> Any:
        model = await server.load_model("new", package, max_batch_size=4)
        await server.unload_model("m")
        with pytest.raises(ServeError, match="would block"):
            server.register_model("newer", package)
        return {"inputs": model.metadata["inputs"]}

    with server:
        answer = httpx.post(f"{server.url}/swap", timeout=20).json()
        assert answer["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
        assert ask(server, "new", rng) == pytest.approx(4)
        assert httpx.post(f"{server.url}/predict/m", json={"input": [[1, 2, 3, 4]]}).status_code == 404
    # A second start serves what the first one served last.
    with server:
        assert [(row.name, row.state) for row in server.list_models()] == [("new", State.READY)]


def test_registering_is_checked_before_anything_is_loaded(tmp_path: Path) -> None:
    server = make_server()
    with pytest.raises(ConfigError, match="name"):
        server.register_model("a/b", ScaledModel(1))
    with pytest.raises(ConfigError, match="'port' is no setting of a model"):
        server.register_model("m", ScaledModel(1), port=80)
    with pytest.raises(ConfigError, match="max_batch_size"):
        server.register_model("m", ScaledModel(1), max_batch_size=0)
    with pytest.raises(PackageError, match="no package"):
        server.register_model("m", tmp_path / "missing.tsd")
    with pytest.raises(ConfigError, match="in memory"):
        server.register_model("m", ScaledModel(1), reload=True)
    server.register_model("m", ScaledModel(1), version="1")
    with pytest.raises(ServeError, match="two models"):
        server.register_model("m", ScaledModel(2), version="1")
    assert server.get_model("m", "1").name == "m"
    with pytest.raises(ModelNotFoundError):
        server.get_model("m", "2")
    server.unregister_model("m")
    with pytest.raises(ModelNotFoundError):
        server.get_model("m")


def test_models_in_memory_cannot_be_loaded_again(server: MultiModelServer) -> None:
    with pytest.raises(ServeError, match="given loaded"):
        asyncio.run(server.reload_model("m"))


class Bench:
    """A registry and its lifecycle without a server."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.lifecycle = Lifecycle(self.registry, self._backend, drain_timeout_s=5)
        self.models: list[ScaledModel] = []

    def _backend(self, spec: Any) -> Service:
        return Service(spec.open, spec.config, name=spec.name, version=spec.version)

    async def load(self, name: str, version: str, seconds: float = 0.0) -> None:
        model = ScaledModel(len(self.models) + 1, seconds)
        self.models.append(model)
        await self.lifecycle.load(model_spec(model, ServerConfig(), name=name, version=version))

    async def close(self) -> None:
        await self.lifecycle.close(5)
        assert self.registry.close(1.0)


async def test_what_is_held_stays_open_until_it_is_let_go() -> None:
    bench = Bench()
    await bench.load("m", "1")
    with bench.registry.hold("m") as backend:
        await bench.load("m", "1")
        await asyncio.sleep(0.05)
        assert not bench.models[0].closed
        x = np.ones((1, 4), np.float32)
        assert scale_of(x, await backend.infer(x)) == pytest.approx(1)
    await bench.close()
    assert all(model.closed for model in bench.models)


async def test_load_goes_on_when_its_caller_is_gone() -> None:
    bench = Bench()
    call = asyncio.create_task(bench.load("m", "1", seconds=0.05))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    while bench.registry.listing()[0].state is not State.READY:
        await asyncio.sleep(0.005)
    await bench.close()


async def test_loads_and_unloads_at_the_same_time_leave_no_model_behind(rng: np.random.Generator) -> None:
    bench = Bench()
    before = set(threading.enumerate())

    async def churn(seed: int) -> None:
        own = np.random.default_rng(seed)
        for _ in range(20):
            name, version = f"m{own.integers(2)}", str(own.integers(2))
            if own.random() < 0.6:
                await bench.load(name, version, seconds=float(own.uniform(0, 0.003)))
                continue
            with contextlib.suppress(ModelNotFoundError):
                await bench.lifecycle.unload(name, version, wait=bool(own.integers(2)))

    await asyncio.gather(*(churn(int(seed)) for seed in rng.integers(1 << 30, size=8)))
    await bench.lifecycle.close(5)
    serving = bench.registry.entries(State.READY)
    assert len({(entry.name, entry.version) for entry in serving}) == len(serving)
    assert sum(not model.closed for model in bench.models) == len(serving)
    await bench.close()
    assert all(model.closed for model in bench.models)
    # asyncio's own threads stay; those of closed models do not.
    assert wait_until(
        lambda: (
            not any(
                thread.name.startswith("tessera-worker") for thread in set(threading.enumerate()) - before
            )
        )
    )


def test_counts_of_versions_long_gone_are_dropped() -> None:
    metrics = Metrics()
    for version in range(MOST_MODELS + 44):
        metrics.model().bind("m", str(version))
        metrics.forget_models({("m", str(version)), ("m", str(version - 1))})
    assert len(metrics.figures()) <= MOST_MODELS
    assert ("m", str(MOST_MODELS + 43)) in metrics.figures()


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
async def test_memory_stays_flat_over_200_reloads(tmp_path: Path) -> None:
    registry = Registry()
    lifecycle = Lifecycle(
        registry,
        lambda spec: Service(spec.open, spec.config, name=spec.name, version=spec.version),
        drain_timeout_s=5,
    )
    config = ServerConfig(device="reference")
    path = scaled_package(tmp_path / "m.tsd", 1)
    await lifecycle.load(model_spec(path, config, name="m"))
    x = np.ones((1, 4), np.float32)
    after_warm_up = 0
    for count in range(1, 251):
        scaled_package(path, count, f"1.0.{count}")
        await lifecycle.reload("m")
        assert scale_of(x, await registry.resolve("m").infer(x)) == pytest.approx(count)
        if count == 50:
            after_warm_up = rss_bytes()
    await lifecycle.close(5)
    assert rss_bytes() < 1.05 * after_warm_up
    assert [row.version for row in registry.listing()] == ["1.0.250"]
    assert registry.close(1.0)
