"""The manual's page on writing kernels: its blocks run as written and print what they say."""

import re
from pathlib import Path

import pytest

from tessera.package import Package

PAGE = (Path(__file__).parents[2] / "docs" / "writing.md").read_text(encoding="utf-8")


def test_examples_run_as_written_and_print_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    # Kernels are read from their file: the blocks are one, as a reader would write them.
    Path("kernels.py").write_text("\n\n".join(blocks))
    (source,) = re.findall(r"```cpp\n(.*?)```", PAGE, re.DOTALL)
    Path("scale.cu").write_text(source)
    namespace: dict[str, object] = {"__name__": "manual"}
    exec(compile(Path("kernels.py").read_text(), str(tmp_path / "kernels.py"), "exec"), namespace)
    expected = re.findall(r"^\s*print\(.*?\)  # (.+)$", "\n".join(blocks), re.MULTILINE)
    said = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in said] == [" ".join(line.split()) for line in expected]
    assert set(Package.load("kernels.tsp").programs) == {"block_sums", "attention"}
    assert not Package.load("smooth.tsc").verify()
