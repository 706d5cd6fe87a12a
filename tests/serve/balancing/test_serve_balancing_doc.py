"""The manual's page on balancing says what is so."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "serving_balancing.md").read_text()


def test_examples_print_what_the_page_shows(
    linear_package: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(linear_package, tmp_path / "model.tsd")
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n((?:(?!```).)*)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 2
    for code, shown in examples:
        namespace: dict[str, Any] = {"__name__": "manual"}
        # The package of these tests has no code for a CPU, and an output of three columns.
        exec(compile(code.replace('"cpu"', '"reference"'), "docs/serving_balancing.md", "exec"), namespace)
        wanted = re.sub(r"\bcpu\b", "reference", shown).replace("(1, 4)", "(1, 3)")
        said = capsys.readouterr().out
        assert shares_apart(said) == shares_apart(wanted)
        shares = [int(count) for count in SHARE.findall(said)]
        assert not shares or sum(shares) == 64, "every request is answered once"


SHARE = re.compile(r"(?<=ready reference )\d+")
"""How many requests a replica answered: that depends on how fast each one was just then."""


def shares_apart(text: str) -> list[str]:
    plain = re.sub(r"reference(#\d)? ready", "reference ready", text)
    return SHARE.sub("some", plain).splitlines()
