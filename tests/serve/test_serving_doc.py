"""The manual's page on serving says what is so."""

import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from small_models import WEIGHT

from tessera.serve import ProductionServer, ServerConfig

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()


def test_settings_table_lists_every_key_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", PAGE, re.MULTILINE)
    assert rows == [(f.name, str(f.default)) for f in fields(ServerConfig)]


def test_example_runs_as_written(
    linear_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(linear_package, tmp_path / "model.tsd")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TESSERA_DEVICE", "reference")
    example, *_ = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    namespace: dict[str, Any] = {"__name__": "manual"}
    exec(compile(example, "docs/serving.md", "exec"), namespace)
    server: ProductionServer = namespace["server"]
    with server, httpx.Client(base_url=server.url, timeout=20) as client:
        body = {"input": [[1, 0, 0, 0]]}
        answer = client.post("/predict", json=body).json()
        np.testing.assert_allclose(answer["output"], WEIGHT[:1], rtol=1e-6)
        assert answer["best"] == [int(WEIGHT[0].argmax())]
        assert client.get("/classes/a?verbose=1").json() == {"model": "a", "verbose": True}
        assert client.post("/slow", json=body).json()["output"] == answer["output"]
