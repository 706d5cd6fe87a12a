"""The manual's page on metrics, traces and logs says what is so."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import prometheus_client
import pytest

from tessera.serve.observe.log_queue import QueuedHandler

PAGE = (Path(__file__).parents[3] / "docs" / "serving_observability.md").read_text()


def example(having: str) -> tuple[str, str]:
    """The example that says `having`, and the output that the page shows for it."""
    for code, output in re.findall(r"```python\n((?:(?!```).)*)```\n+```text\n(.*?)```", PAGE, re.DOTALL):
        if having in code:
            return code, output
    raise AssertionError(having)


def test_collectors_example_prints_what_the_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    code, output = example("MetricsCollector")
    before = set(prometheus_client.REGISTRY._collector_to_names)
    try:
        exec(compile(code, "manual", "exec"), {"__name__": "manual"})
    finally:
        for collector in set(prometheus_client.REGISTRY._collector_to_names) - before:
            prometheus_client.REGISTRY.unregister(collector)
    assert capsys.readouterr().out == output


def test_logging_example_writes_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = example("LoggingConfig")
    monkeypatch.chdir(tmp_path)
    root, level = logging.getLogger(), logging.getLogger().level
    try:
        exec(compile(code, "manual", "exec"), {"__name__": "manual"})
        (handler,) = (h for h in root.handlers if isinstance(h, QueuedHandler))
        handler.close()
        root.removeHandler(handler)
    finally:
        root.setLevel(level)
    written: dict[str, Any] = json.loads((tmp_path / "model.log").read_text())
    shown = json.loads(output)
    assert {**written, "time": 0} == {**shown, "time": 0}
