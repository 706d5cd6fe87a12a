"""Every setting is reachable from a file, the environment and the command line, and means the same."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tessera.program.errors import ConfigError
from tessera.serve.config import ServerConfig, parse_settings

TEXTS = (
    "7",
    "0.25",
    "true",
    "false",
    "WARNING",
    "8GB",
    "sagemaker",
    "poll",
    "some-text",
    "key=value",
    "a:0123456789abcdef",
)
KEYS = [f.name for f in fields(ServerConfig)]


def sample(key: str) -> tuple[str, Any]:
    """A text that the setting takes, and its value, which is not the default."""
    # What a setting may be is in the words that refuse anything else.
    try:
        refusal = str(parse_settings([f"{key}="]))
    except ConfigError as error:
        refusal = error.message
    for text in (*TEXTS, *re.findall(r"\w+", refusal)):
        try:
            value = parse_settings([f"{key}={text}"])[key]
        except ConfigError:
            continue
        if value != ServerConfig.__dataclass_fields__[key].default:
            return text, value
    raise AssertionError(f"no text of {TEXTS} is a value of {key!r}: add one")


@pytest.mark.parametrize("key", KEYS)
def test_every_setting_is_reachable_by_file_environment_and_flag(key: str, tmp_path: Path) -> None:
    text, value = sample(key)
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({key: value}))
    toml = tmp_path / "settings.toml"
    toml.write_text(f"{key} = {json.dumps(value)}\n")
    by_file = ServerConfig.load(path, environment={})
    assert getattr(by_file, key) == value
    assert ServerConfig.load(toml, environment={}) == by_file
    assert ServerConfig.load(environment={f"TESSERA_{key.upper()}": text}) == by_file
    assert ServerConfig.load(parse_settings([f"{key}={text}"]), environment={}) == by_file


@pytest.mark.parametrize(
    ("assignment", "part"),
    [
        ("max_queue", "no KEY=VALUE"),
        ("max_queu=3", "unknown server setting 'max_queu'"),
        ("max_queue=many", "'max_queue' is 'many'; it must be an integer"),
        ("max_queue=0", "'max_queue' is 0"),
        ("enable_metrics=perhaps", "true or false"),
        ("=3", "unknown server setting ''"),
    ],
)
def test_wrong_assignment_is_named(assignment: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings([assignment])
    assert part in caught.value.message


def test_none_takes_a_setting_back() -> None:
    assert parse_settings(["rate_limit=none", "admin_port=None"]) == {"rate_limit": None, "admin_port": None}
