"""The manual's page on debugging: its commands answer what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from .conftest import Tessera

pytest.importorskip("elftools")
PAGE = (Path(__file__).parents[2] / "docs" / "debugging.md").read_text(encoding="utf-8")
TRANSCRIPTS = re.findall(r"```text\n\$ tessera (debug .*?)\n(.*?)\n```", PAGE, re.DOTALL)


@pytest.mark.parametrize(("call", "answer"), TRANSCRIPTS)
def test_transcript_is_what_the_debugger_says(
    call: str, answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tessera: Tessera
) -> None:
    (tmp_path / "blur.py").write_text(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "88")
    words = shlex.split(call.removesuffix("…"))
    if call.endswith("…"):
        # The commands after those that the call shows are in the answer.
        commands = re.findall(r"^\(tdb\) (.+)$", answer, re.MULTILINE)
        words = [*words[: words.index("-x")], *(w for c in commands for w in ("-x", c))]
    assert tessera(*words).out.rstrip() == answer


def test_python_example_runs_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, example = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "blur.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "example", "exec"), {})
    assert capsys.readouterr().out.startswith("8 -2.3250308 Focus(block=(0, 0, 0), warp=0, lane=12)")
