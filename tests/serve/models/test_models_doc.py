"""The manual's page on several models says what is so."""

import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from scaled_models import scale_of, scaled_package

from tessera.serve.models.spec import MODEL_SETTINGS
from tessera.serve.models.traffic_file import read_traffic

PAGE = (Path(__file__).parents[3] / "docs" / "serving_models.md").read_text()


def example(having: str) -> str:
    return next(code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if having in code)


def test_first_example_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in (1, 2):
        scaled_package(tmp_path / f"model_v{version}.tsd", version)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TESSERA_DEVICE", "reference")
    namespace: dict[str, Any] = {"__name__": "manual"}
    exec(compile(example("/predict/old"), "manual", "exec"), namespace)
    x = np.ones((2, 4), np.float32)
    with namespace["server"] as server:
        answers = [
            httpx.post(f"{server.url}/predict/{name}", json={"input": x.tolist()}).json()["output"]
            for name in ("scores", "old")
        ]
    assert [round(scale_of(x, answer)) for answer in answers] == [2, 1]


def test_split_and_shadow_run_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in (1, 2):
        scaled_package(tmp_path / f"model_v{version}.tsd", version)
    (tmp_path / "traffic.toml").write_text(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TESSERA_DEVICE", "reference")
    namespace: dict[str, Any] = {"__name__": "manual"}
    exec(compile(example("server.route("), "manual", "exec"), namespace)
    exec(compile(example("set_shadow("), "manual", "exec"), namespace)
    plan = read_traffic(tmp_path / "traffic.toml")["/predict"]
    assert plan.split == namespace["route"].plan.split
    assert plan.shadow == namespace["route"].plan.shadow
    with namespace["server"] as server:
        body = {"input": np.ones((2, 4)).tolist()}
        answer = httpx.post(f"{server.url}/predict", json=body, headers={"X-Variant": "scores@2.0.0"})
        assert answer.headers["X-Tessera-Model"] == "scores@2.0.0"
        text = httpx.get(f"{server.url}/metrics").text
    names = set(re.findall(r"^\| `(tessera_\w+)\{", PAGE, re.MULTILINE))
    assert {name for name in names if name not in text} == set()


def test_every_setting_of_a_model_is_named() -> None:
    assert {name for name in MODEL_SETTINGS if f"`{name}`" not in PAGE} == set()
