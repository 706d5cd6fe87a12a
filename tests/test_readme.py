"""The README's and the manual's Python blocks run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_ten_lines_run_and_print_what_they_say(tmp_path: Path) -> None:
    source = BLOCK.findall((ROOT / "README.md").read_text())[0]
    (tmp_path / "ten_lines.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "ten_lines.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[1. 1. 1.]"
    assert source.rstrip().endswith("# [1. 1. 1.]")


def test_raw_kernel_of_the_readme_is_the_example(tmp_path: Path) -> None:
    source = BLOCK.findall((ROOT / "README.md").read_text())[1]
    assert source in (ROOT / "examples/saxpy/kernels.py").read_text()


@pytest.mark.parametrize("path", ["README.md", "CHANGELOG.md"])
def test_links_to_files_exist(path: str) -> None:
    words = re.sub(r"`[^`\n]*`", "", (ROOT / path).read_text())  # code such as kernel[grid](x) is no link
    for target in re.findall(r"\]\(([^)#:]+)\)", words):
        assert (ROOT / target).exists(), target
