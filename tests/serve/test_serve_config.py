"""Settings: where they come from, and what is refused."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tessera.program.errors import ConfigError
from tessera.serve.config import ServerConfig

GUIDE = {
    "host": "0.0.0.0",
    "port": 8080,
    "workers": 4,
    "max_batch_size": 32,
    "batch_timeout_ms": 10,
    "memory_pool_size": "8GB",
    "enable_metrics": True,
    "enable_tracing": True,
}


def test_load_takes_the_guides_settings() -> None:
    config = ServerConfig.load(GUIDE, environment={})
    assert {key: getattr(config, key) for key in GUIDE} == GUIDE


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("max_batchsize", "max_batch_size"), ("Port", "port"), ("memory_pool", "memory_pool_size")],
)
def test_load_unknown_key_names_it_and_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ServerConfig.load({key: 1}, environment={})
    assert repr(key) in caught.value.message
    assert caught.value.hint == f"did you mean {nearest!r}?"


def test_load_key_unlike_any_lists_the_known() -> None:
    with pytest.raises(ConfigError) as caught:
        ServerConfig.load({"zzz": 1}, environment={})
    assert "max_queue" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("port", "8080"),
        ("port", 70000),
        ("port", -1),
        ("port", True),
        ("workers", 0),
        ("workers", 1.5),
        ("max_batch_size", None),
        ("batch_timeout_ms", -1),
        ("batch_timeout_ms", float("nan")),
        ("request_timeout_s", 0),
        ("enable_metrics", 1),
        ("host", ""),
        ("device", None),
        ("log_level", "LOUD"),
    ],
)
def test_load_wrong_value_names_key_and_value(key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        ServerConfig.load({key: value}, environment={})
    assert repr(key) in caught.value.message
    assert repr(value) in caught.value.message
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("size", ["much", "8XB", 0, -5, 1.5, True])
def test_load_wrong_pool_size_is_refused(size: Any) -> None:
    with pytest.raises(ConfigError, match="memory_pool_size"):
        ServerConfig.load({"memory_pool_size": size}, environment={})


def test_load_reads_the_environment_of_the_guides_compose_file() -> None:
    environment = {
        "TESSERA_MEMORY_POOL": "8GB",
        "TESSERA_LOG_LEVEL": "debug",
        "TESSERA_MAX_QUEUE": "7",
        "TESSERA_ENABLE_METRICS": "off",
        "TESSERA_REQUEST_TIMEOUT_S": "2.5",
    }
    config = ServerConfig.load(environment=environment)
    assert config.memory_pool_size == "8GB"
    assert config.log_level == "DEBUG"
    assert config.max_queue == 7
    assert config.enable_metrics is False
    assert config.request_timeout_s == 2.5


def test_load_program_wins_over_environment_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        config = ServerConfig.load({"port": 8080}, environment={"TESSERA_PORT": "9090"})
    assert config.port == 8080
    assert "9090" in caplog.text


@pytest.mark.parametrize(
    ("variable", "text"),
    [("TESSERA_PORT", "http"), ("TESSERA_ENABLE_METRICS", "maybe"), ("TESSERA_WORKERS", "0")],
)
def test_load_wrong_variable_is_named(variable: str, text: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        ServerConfig.load(environment={variable: text})


def test_load_ignores_what_kubernetes_sets_for_a_service_of_that_name() -> None:
    assert ServerConfig.load(environment={"TESSERA_PORT": "tcp://10.0.0.7:80"}).port == 8080


@pytest.mark.parametrize("form", ["toml", "project", "json"])
def test_load_from_file_and_environment_wins(form: str, tmp_path: Path) -> None:
    texts = {
        "toml": ("s.toml", "port = 1234\nworkers = 3\n"),
        "project": ("tessera.toml", "[serve]\nport = 1234\nworkers = 3\n"),
        "json": ("s.json", json.dumps({"port": 1234, "workers": 3})),
    }
    name, text = texts[form]
    (tmp_path / name).write_text(text)
    config = ServerConfig.load(tmp_path / name, environment={"TESSERA_PORT": "99"})
    assert (config.port, config.workers) == (99, 3)


def test_load_project_file_without_a_serve_table_sets_nothing(tmp_path: Path) -> None:
    (tmp_path / "tessera.toml").write_text('[project]\nname = "p"\n')
    assert ServerConfig.load(tmp_path / "tessera.toml", environment={}) == ServerConfig()


@pytest.mark.parametrize(("name", "text"), [("s.toml", "port ="), ("s.json", "{"), ("s.json", "[1]")])
def test_load_damaged_file_is_named(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=name):
        ServerConfig.load(tmp_path / name, environment={})


def test_load_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml"):
        ServerConfig.load(tmp_path / "none.toml", environment={})
