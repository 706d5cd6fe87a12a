"""What the clouds' variables say, and where the model is found."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tessera.program.errors import ConfigError, PackageError
from tessera.serve.config import ServerConfig
from tessera.serve.contracts import clouds
from tessera.serve.contracts.clouds import contract_of, detect_contract
from tessera.serve.contracts.formats import read_npy, write_csv, write_npy
from tessera.serve.contracts.packages import package_in
from tessera.serve.request import RequestError


@pytest.mark.parametrize(
    ("name", "variables", "port"),
    [
        ("sagemaker", {}, 8080),
        ("sagemaker", {"SAGEMAKER_BIND_TO_PORT": "9000"}, 9000),
        ("vertex", {}, 8080),
        ("vertex", {"AIP_HTTP_PORT": "7080"}, 7080),
        ("azure", {}, 5001),
        ("azure", {"TESSERA_PORT": "8501"}, 8501),
    ],
)
def test_contract_sets_port_and_host(name: str, variables: dict[str, str], port: int) -> None:
    config = ServerConfig.load(environment={"TESSERA_CONTRACT": name, **variables})
    assert (config.host, config.port) == ("0.0.0.0", port)


def test_contract_goes_before_a_file_and_after_environment_and_call(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('contract = "sagemaker"\nport = 1\nhost = "127.0.0.1"\nmax_queue = 5\n')
    config = ServerConfig.load(path, environment={"TESSERA_HOST": "127.0.0.2"})
    assert (config.host, config.port, config.max_queue) == ("127.0.0.2", 8080, 5)
    assert ServerConfig.load({"contract": "vertex", "port": 3}, environment={}).port == 3


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"AIP_HTTP_PORT": "http"}, "AIP_HTTP_PORT"),
        ({"AIP_HTTP_PORT": "0"}, "AIP_HTTP_PORT"),
        ({"AIP_HEALTH_ROUTE": "health"}, "AIP_HEALTH_ROUTE"),
        ({"AIP_PREDICT_ROUTE": "/{x}"}, "AIP_PREDICT_ROUTE"),
    ],
)
def test_wrong_variable_is_named(variables: dict[str, str], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        contract_of("vertex", variables)


def test_unknown_contract_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'contract' is 'heroku'.*sagemaker, vertex, azure"):
        ServerConfig.load({"contract": "heroku"}, environment={})


def test_cloud_is_recognized_by_its_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "SAGEMAKER_FOLDER", tmp_path / "none")
    assert detect_contract({}) is None
    assert detect_contract({"AIP_HTTP_PORT": "8080"}) == "vertex"
    assert detect_contract({"AZUREML_MODEL_DIR": "/m"}) == "azure"
    monkeypatch.setattr(clouds, "SAGEMAKER_FOLDER", tmp_path)
    assert detect_contract({}) == "sagemaker"
    assert contract_of("sagemaker", {}).model == str(tmp_path)
    assert contract_of("vertex", {"AIP_STORAGE_URI": "/m"}).model == "/m"
    assert contract_of("azure", {"AZUREML_MODEL_DIR": "/m"}).model == "/m"


def test_only_package_of_a_folder_is_found(tmp_path: Path) -> None:
    deep = tmp_path / "model" / "1"
    deep.mkdir(parents=True)
    (deep / "readme.txt").touch()
    with pytest.raises(PackageError, match="holds no package"):
        package_in(str(tmp_path))
    (deep / "m.tsd").touch()
    assert package_in(str(tmp_path)) == deep / "m.tsd"
    assert package_in(f"file://{tmp_path}") == deep / "m.tsd"
    assert package_in(str(deep / "m.tsd")) == deep / "m.tsd"
    (deep / "kernel.tsc").touch()
    assert package_in(str(tmp_path)) == deep / "m.tsd"
    (tmp_path / "other.tsd").touch()
    with pytest.raises(PackageError, match=r"3 packages: model/1/kernel.tsc, model/1/m.tsd, other.tsd"):
        package_in(str(tmp_path))


def test_unpacked_package_is_found_as_one(tmp_path: Path) -> None:
    unpacked = tmp_path / "model"
    (unpacked / "kernels").mkdir(parents=True)
    (unpacked / "manifest.json").touch()
    (unpacked / "kernels" / "inner.tsc").touch()
    assert package_in(str(tmp_path)) == unpacked
    assert package_in(str(unpacked)) == unpacked


def test_model_elsewhere_is_an_error_that_says_where(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gs://bucket/m"):
        package_in("gs://bucket/m")
    with pytest.raises(PackageError, match="no folder"):
        package_in(str(tmp_path / "none"))


@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int8, np.uint64, np.bool_, np.float16]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    )
)
def test_npy_is_read_as_it_was_written(array: np.ndarray[Any, Any]) -> None:
    read = read_npy(write_npy(array))
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_of_every_version_is_read(version: tuple[int, int]) -> None:
    stream = io.BytesIO()
    array = np.arange(12, dtype=">i4").reshape(3, 4)
    np.lib.format.write_array(stream, array, version=version)
    np.testing.assert_array_equal(read_npy(stream.getvalue()), array)


@given(st.data())
def test_damaged_npy_is_an_array_or_an_error(data: st.DataObject) -> None:
    body = bytearray(write_npy(np.arange(6, dtype=np.float32).reshape(2, 3)))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    for damaged in (bytes(body), bytes(body[:cut])):
        try:
            assert read_npy(damaged).size <= 24
        except RequestError:
            continue


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=3, max_side=4)))
def test_csv_gives_the_same_floats_back(array: np.ndarray[Any, Any]) -> None:
    lines = write_csv(array).decode().splitlines()
    read = np.array([[float(v) for v in line.split(",")] for line in lines], np.float32)
    np.testing.assert_array_equal(read, array.reshape(array.shape[0], -1))
