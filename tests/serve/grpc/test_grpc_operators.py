"""Configurations, statistics, models that come and go, logs and traces, as `tritonclient` asks for them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc_servers import Served, served
from small_models import WEIGHT

grpcclient = pytest.importorskip("tritonclient.grpc")
httpclient = pytest.importorskip("tritonclient.http")

SCRIPT = """
import os
from tessera.serve import ProductionServer
from tessera.serve.models.multi_model_server import MultiModelServer

config = {{"repository": {folder!r}, "repository_mode": "explicit", "load_models": "linear"}}
config |= {{"admin_port": int(os.environ["TESSERA_PORT"]), "device": "reference"}}
MultiModelServer(config).run()
"""


@pytest.fixture(scope="module")
def repository(
    linear_package: Path, pair_package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A server of a folder with both packages; operators ask where everybody does."""
    folder = tmp_path_factory.mktemp("repository")
    for package in (linear_package, pair_package):
        shutil.copy(package, folder / package.name)
    with served(tmp_path_factory.mktemp("server"), SCRIPT.format(folder=str(folder))) as found:
        yield found


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, repository: Served) -> Iterator[Any]:
    if request.param == "http":
        with httpclient.InferenceServerClient(repository.http) as client:
            yield client
    else:
        with grpcclient.InferenceServerClient(repository.grpc) as client:
            yield client


def asked(client: Any, method: str, *arguments: Any, **more: Any) -> Any:
    """The answer as JSON's values, whichever the protocol."""
    if isinstance(client, grpcclient.InferenceServerClient):
        more["as_json"] = True
    return getattr(client, method)(*arguments, **more)


def infer(client: Any, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    module = grpcclient if isinstance(client, grpcclient.InferenceServerClient) else httpclient
    given = module.InferInput("x", list(x.shape), "FP32").set_data_from_numpy(x)
    result: np.ndarray[Any, Any] = client.infer("linear", [given]).as_numpy("output")
    return result


def test_configuration_is_that_of_the_model(client: Any) -> None:
    found = asked(client, "get_model_config", "linear")
    config = found.get("config", found)
    assert config["name"] == "linear"
    assert int(config["max_batch_size"]) == 32
    (port,) = config["input"]
    assert (port["name"], port["data_type"], [int(d) for d in port["dims"]]) == ("x", "TYPE_FP32", [4])


def test_statistics_count_what_was_inferred(client: Any, rng: np.random.Generator) -> None:
    def counted() -> tuple[int, int]:
        (stats,) = asked(client, "get_inference_statistics", "linear")["model_stats"]
        success = stats["inference_stats"]["success"]
        return int(success.get("count", 0)), int(stats.get("inference_count", 0))

    x = rng.standard_normal((3, 4)).astype(np.float32)
    infer(client, x)
    requests, rows = counted()
    np.testing.assert_allclose(infer(client, x), x @ WEIGHT, rtol=1e-5, atol=1e-5)
    assert counted() == (requests + 1, rows + 3)


def states(client: Any) -> dict[str, str]:
    found = asked(client, "get_model_repository_index")
    models = found["models"] if isinstance(found, dict) else found
    return {m["name"]: m["state"] for m in models}


def test_models_are_listed_loaded_and_unloaded(client: Any) -> None:
    assert states(client) == {"linear": "READY", "pair": "UNAVAILABLE"}
    client.load_model("pair")
    assert client.is_model_ready("pair")
    assert states(client) == {"linear": "READY", "pair": "READY"}
    client.unload_model("pair")
    assert states(client)["pair"] in ("UNLOADING", "UNAVAILABLE")
    with pytest.raises(httpclient.InferenceServerException, match=r"'../pair'|nothing at"):
        client.load_model("../pair")
    with pytest.raises(httpclient.InferenceServerException, match="is not taken"):
        client.load_model("pair", config="{}")


def test_log_level_is_read_and_changed(client: Any) -> None:
    before = asked(client, "get_log_settings")
    flat = before.get("settings", before)
    assert set(flat) == {
        *("log_file", "log_info", "log_warning", "log_error", "log_verbose_level", "log_format")
    }
    changed = asked(client, "update_log_settings", {"log_info": False})
    flat = changed.get("settings", changed)
    value = flat["log_info"]
    assert (value["bool_param"] if isinstance(value, dict) else value) is False
    with pytest.raises(httpclient.InferenceServerException, match="stays ''"):
        client.update_log_settings({"log_file": "/tmp/x.log"})
    with pytest.raises(httpclient.InferenceServerException, match="not shown without what is graver"):
        client.update_log_settings({"log_info": True, "log_error": False})
    client.update_log_settings({"log_info": True})


def test_traces_are_read_and_set_elsewhere(client: Any) -> None:
    found = asked(client, "get_trace_settings")
    level = found.get("settings", found)["trace_level"]
    assert (level["value"] if isinstance(level, dict) else level) == ["OFF"]
    with pytest.raises(httpclient.InferenceServerException, match="stay as they are"):
        client.update_trace_settings(settings={"trace_rate": "5"})


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.get_model_repository_index(),
        lambda client: client.load_model("linear"),
        lambda client: client.unload_model("linear"),
        lambda client: client.get_log_settings(),
        lambda client: client.get_trace_settings(),
    ],
)
def test_operators_methods_are_refused_without_an_admin_port(linear: Served, ask: Any) -> None:
    with grpcclient.InferenceServerClient(linear.grpc) as client:
        with pytest.raises(httpclient.InferenceServerException, match="is for operators") as error:
            ask(client)
        assert error.value.status() == "StatusCode.PERMISSION_DENIED"
        assert client.is_model_ready("linear")


def test_keys_open_grpc_as_they_open_http(
    linear_package: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    script = (
        f"from tessera.serve import ProductionServer\nProductionServer({str(linear_package)!r}, "
        "{'device': 'reference', 'rate_limit': 0.001, 'rate_limit_burst': 3}).run()\n"
    )
    key = os.urandom(16).hex()
    x = rng.standard_normal((2, 4)).astype(np.float32)
    with (
        served(tmp_path, script, TESSERA_API_KEYS=f"me:{key}") as server,
        grpcclient.InferenceServerClient(server.grpc) as client,
    ):
        given = grpcclient.InferInput("x", [2, 4], "FP32").set_data_from_numpy(x)
        assert client.is_server_live()
        for headers in (None, {"authorization": "Bearer wrong"}):
            with pytest.raises(httpclient.InferenceServerException, match="API key") as error:
                client.infer("linear", [given], headers=headers)
            assert error.value.status() == "StatusCode.UNAUTHENTICATED"
        for headers in ({"authorization": f"Bearer {key}"}, {"x-api-key": key}, {"x-api-key": key}):
            result = client.infer("linear", [given], headers=headers)
            np.testing.assert_allclose(result.as_numpy("output"), x @ WEIGHT, rtol=1e-5, atol=1e-5)
        with pytest.raises(httpclient.InferenceServerException, match="too many requests") as error:
            client.infer("linear", [given], headers={"x-api-key": key})
        assert error.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
