"""A folder of packages: what is found in it, what is served of it, and who may change that."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scaled_models import scale_of, scaled_package
from test_serve_lifecycle import wait_until

from tessera.deploy import MultiModelServer
from tessera.package.package import Package
from tessera.program.errors import ConfigError
from tessera.serve.config import ServerConfig
from tessera.serve.models.registry import State
from tessera.serve.models.repository import Repository
from tessera.serve.models.versions import VersionPolicy, version_key

httpclient = pytest.importorskip("tritonclient.http", reason="pip install 'tritonclient[http]>=2.73'")
X = np.array([[1, 2, 3, 4]], np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`one.tsd`, and `two` in the versions 1, 2 and 10."""
    made = tmp_path / "models"
    made.mkdir()
    scaled_package(made / "one.tsd", 1, "1.2.3")
    for version in (1, 2, 10):
        (made / "two" / str(version)).mkdir(parents=True)
        scaled_package(made / "two" / str(version) / "model.tsd", version)
    return made


def serving(folder: Path, **settings: Any) -> MultiModelServer:
    return MultiModelServer(
        {
            "port": 0,
            "admin_port": 0,
            "device": "reference",
            "repository": str(folder),
            "poll_s": 0.02,
            **settings,
        }
    )


def served(server: MultiModelServer) -> dict[str, list[str | None]]:
    """Versions that answer, by name."""
    found: dict[str, list[str | None]] = {}
    for row in server.list_models():
        if row.state is State.READY:
            found.setdefault(row.name or "", []).append(row.version)
    return found


def scale(server: MultiModelServer, name: str) -> float:
    """The scale of the model that answers; 0 if none does."""
    body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": X.ravel().tolist()}]}
    answer = httpx.post(f"{server.url}/v2/models/{name}/infer", json=body, timeout=20)
    if answer.status_code == 404:
        return 0
    assert answer.status_code == 200, answer.text
    return round(scale_of(X, np.reshape(answer.json()["outputs"][0]["data"], (1, 3))), 3)


@pytest.mark.parametrize(
    ("policy", "versions"),
    [("latest", ["10"]), ("latest:2", ["10", "2"]), ("all", ["10", "2", "1"]), ("1, 2", ["2", "1"])],
)
def test_the_policy_says_which_versions_are_served(folder: Path, policy: str, versions: list[str]) -> None:
    with serving(folder, version_policy=policy) as server:
        assert served(server) == {"one": ["1.2.3"], "two": versions}
        assert scale(server, "two") == float(versions[0])
        assert httpx.get(f"{server.url}/v2/models").json() == {"models": ["one", "two"]}


@given(
    st.lists(st.sampled_from([f"{a}.{b}" for a in range(4) for b in range(12)]), unique=True),
    st.integers(1, 5),
)
def test_latest_takes_the_largest_versions(versions: list[str], count: int) -> None:
    chosen = VersionPolicy.parse(f"latest:{count}").choose(versions)
    rest = set(versions) - set(chosen)
    assert len(chosen) == min(count, len(versions))
    assert all(version_key(c) > version_key(r) for c in chosen for r in rest)
    assert sorted(VersionPolicy.parse("all").choose(versions)) == sorted(versions)


@pytest.mark.parametrize("text", ["latest:0", "latest:x", "all:2", "newest:1", "1,,2"])
def test_policies_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="version policy"):
        VersionPolicy.parse(text)


def test_folders_are_scanned_without_opening_a_package(folder: Path) -> None:
    Package.load(folder / "one.tsd").unpack(folder / "unpacked")
    (folder / "broken.tsd").write_bytes(b"no package")
    (folder / ".hidden.tsd").write_bytes(b"")
    (folder / "notes.txt").write_text("read me")
    (folder / "empty").mkdir()
    (folder / "one").mkdir()
    shutil.copytree(folder / "two" / "1", folder / "one" / "7")
    found = Repository(folder, ServerConfig()).scan()
    assert {name: list(versions) for name, versions in found.models.items()} == {
        "broken": [None],
        "two": ["10", "2", "1"],
        "unpacked": [None],
    }
    assert list(found.problems) == ["one"]
    with pytest.raises(ConfigError, match="no folder"):
        Repository(folder / "one.tsd", ServerConfig())


def test_a_package_that_cannot_be_loaded_leaves_the_others_serving(folder: Path) -> None:
    (folder / "broken.tsd").write_bytes(b"no package")
    with serving(folder) as server:
        assert scale(server, "one") == 1
        index = httpx.post(f"{server.admin_url}/v2/repository/index").json()
        rows = {row["name"]: row for row in index}
        assert rows["broken"]["state"] == "UNAVAILABLE"
        assert "no package" in rows["broken"]["reason"]
        assert str(folder) not in str(index)
        assert scale(server, "broken") == 0


def test_polling_serves_what_the_folder_holds(folder: Path) -> None:
    with serving(folder, repository_mode="poll") as server:
        scaled_package(folder / "one.tsd", 4, "1.2.4")
        scaled_package(folder / "new.tsd", 5)
        shutil.rmtree(folder / "two" / "10")
        assert wait_until(lambda: served(server) == {"new": ["1.0.0"], "one": ["1.2.4"], "two": ["2"]})
        assert [scale(server, name) for name in ("one", "new", "two")] == [4, 5, 2]
        # What cannot be loaded leaves the old one serving, and is taken when it was mended.
        (folder / "torn").write_bytes((folder / "one.tsd").read_bytes()[:-700])
        (folder / "torn").rename(folder / "one.tsd")
        assert wait_until(lambda: any("last load failed" in row.reason for row in server.list_models()))
        assert scale(server, "one") == 4
        scaled_package(folder / "one.tsd", 6)
        assert wait_until(lambda: scale(server, "one") == 6)
        shutil.rmtree(folder / "two")
        assert wait_until(lambda: scale(server, "two") == 0)
        answer = httpx.post(f"{server.admin_url}/v2/repository/models/one/unload")
        assert answer.status_code == 403
        assert "repository_mode" in answer.json()["error"]


def test_a_registered_file_is_reloaded_when_it_is_replaced(tmp_path: Path) -> None:
    server = MultiModelServer({"port": 0, "device": "reference", "poll_s": 0.02})
    path = scaled_package(tmp_path / "m.tsd", 1, "3.0.0")
    server.register_model("m", path, reload=True)
    server.register_model("fixed", path)
    with server:
        scaled_package(path, 2, "2.0.0")
        assert wait_until(lambda: scale(server, "m") == 2)
        assert served(server) == {"fixed": ["3.0.0"], "m": ["2.0.0"]}
        path.unlink()
        httpx.get(f"{server.url}/health")
        assert scale(server, "m") == 2


@pytest.fixture
def explicit(folder: Path) -> Iterator[MultiModelServer]:
    """A server of the folder whose models operators load."""
    with serving(folder, repository_mode="explicit", load_models="one") as server:
        yield server


def test_unmodified_tritonclient_lists_loads_and_unloads(explicit: MultiModelServer, folder: Path) -> None:
    assert explicit.admin_url is not None
    with httpclient.InferenceServerClient(explicit.admin_url.removeprefix("http://")) as client:
        index = client.get_model_repository_index()
        assert [(row["name"], row["version"], row["state"]) for row in index] == [
            ("one", "1.2.3", "READY"),
            ("two", "1", "UNAVAILABLE"),
            ("two", "10", "UNAVAILABLE"),
            ("two", "2", "UNAVAILABLE"),
        ]
        assert not client.is_model_ready("two")
        client.load_model("two")
        assert client.is_model_ready("two", "10")
        assert client.get_model_metadata("two")["versions"] == ["10"]
        assert scale(explicit, "two") == 10
        # Loaded again, it is the file as it is now, and the version that the policy takes now.
        scaled_package(folder / "one.tsd", 7, "1.2.4")
        client.load_model("one")
        assert scale(explicit, "one") == 7
        shutil.rmtree(folder / "two" / "10")
        client.load_model("two")
        assert served(explicit) == {"one": ["1.2.4"], "two": ["2"]}
        client.unload_model("two")
        assert scale(explicit, "two") == 0
        with pytest.raises(httpclient.InferenceServerException, match="no model 'two'"):
            client.unload_model("two")
        assert "model_repository" in client.get_server_metadata()["extensions"]


@pytest.mark.parametrize("name", ["..%2Fmodels%2Fone", "%2Fetc%2Fpasswd", "one.tsd", ".", "two%2F1"])
def test_only_names_within_the_repository_are_loaded(explicit: MultiModelServer, name: str) -> None:
    answer = httpx.post(f"{explicit.admin_url}/v2/repository/models/{name}/load")
    assert answer.status_code in (404, 405), answer.text
    assert served(explicit) == {"one": ["1.2.3"]}


def test_content_that_comes_over_the_network_is_no_model(explicit: MultiModelServer) -> None:
    url = f"{explicit.admin_url}/v2/repository/models/two/load"
    for parameters in ({"config": "{}"}, {"file:1/model.tsd": "AAAA"}):
        answer = httpx.post(url, json={"parameters": parameters})
        assert answer.status_code == 400
        assert next(iter(parameters)) in answer.json()["error"]
    assert httpx.post(url, json={"parameters": []}).status_code == 400
    index = f"{explicit.admin_url}/v2/repository/index"
    assert httpx.post(index, json={"ready": 1}).status_code == 400
    assert [row["name"] for row in httpx.post(index, json={"ready": True}).json()] == ["one"]


def test_the_repository_is_for_operators_and_off_without_one(
    explicit: MultiModelServer, linear_package: Path
) -> None:
    assert httpx.post(f"{explicit.url}/v2/repository/index").status_code == 403
    assert httpx.post(f"{explicit.url}/v2/repository/models/one/unload").status_code == 403
    with MultiModelServer({"port": 0, "admin_port": 0, "device": "reference"}) as server:
        assert httpx.post(f"{server.admin_url}/v2/repository/index").status_code == 404


def test_registered_models_are_loaded_and_unloaded_by_name_too(tmp_path: Path) -> None:
    server = MultiModelServer(
        {"port": 0, "admin_port": 0, "device": "reference", "repository_mode": "explicit"}
    )
    server.register_model("m", scaled_package(tmp_path / "m.tsd", 3))
    with server:
        url = f"{server.admin_url}/v2/repository/models"
        assert httpx.post(f"{url}/m/unload").status_code == 200
        assert wait_until(lambda: scale(server, "m") == 0)
        assert httpx.post(f"{url}/m/load").status_code == 200
        assert scale(server, "m") == 3
        assert httpx.post(f"{url}/n/load").status_code == 404


def test_unmodified_tritonclient_reads_configuration_and_statistics(folder: Path) -> None:
    with (
        serving(folder, version_policy="latest:2", max_batch_size=8) as server,
        httpclient.InferenceServerClient(server.url.removeprefix("http://")) as client,
    ):
        config = client.get_model_config("two")
        assert config["name"] == "two"
        assert config["max_batch_size"] == 8
        assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]
        assert config["output"] == [{"name": "output", "data_type": "TYPE_FP32", "dims": [3]}]
        assert client.get_model_config("two", "2")["parameters"]["version"] == {"string_value": "2"}
        x = httpclient.InferInput("x", [3, 4], "FP32")
        x.set_data_from_numpy(np.ones((3, 4), np.float32))
        for _ in range(5):
            client.infer("two", [x], model_version="2")
        rows = client.get_inference_statistics()["model_stats"]
        assert [(row["name"], row["version"]) for row in rows] == [
            ("one", "1.2.3"),
            ("two", "10"),
            ("two", "2"),
        ]
        (row,) = client.get_inference_statistics("two", "2")["model_stats"]
        assert row["inference_count"] == 15
        assert row["inference_stats"]["success"]["count"] == 5
        assert row["inference_stats"]["success"]["ns"] >= row["inference_stats"]["compute_infer"]["ns"] > 0
        assert row["last_inference"] > 1e12
        assert len(client.get_inference_statistics("two")["model_stats"]) == 2
        with pytest.raises(httpclient.InferenceServerException, match="no model 'three'"):
            client.get_inference_statistics("three")


async def test_reload_while_the_folder_is_polled_answers_every_request(folder: Path) -> None:
    server = serving(folder, repository_mode="poll")
    await asyncio.to_thread(server.start)
    try:
        model = server.get_model("one")
        seen: list[float] = []
        for count in range(2, 8):
            scaled_package(folder / "one.tsd", count)
            while not seen or round(seen[-1]) != count:
                seen.append(scale_of(X, await model.infer(X)))
                await asyncio.sleep(0.001)
        assert np.all(np.diff(seen) >= -1e-3)
    finally:
        await asyncio.to_thread(server.stop)
