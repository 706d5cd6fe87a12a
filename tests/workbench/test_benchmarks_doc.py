"""The page on benchmarks names options and functions that are there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import tessera.profiler
from tessera.profiler.bench_baseline import NAMES
from tessera.profiler.bench_export import FORMATS, MARKDOWN
from tessera.workbench.bench_table import RATES, SERVER, TIMES

PAGE = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()


def test_every_option_on_the_page_is_one_of_the_command() -> None:
    asked = [sys.executable, "-m", "tessera", "bench", "--help"]
    options = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE))
    assert named
    assert not [option for option in named if option not in options]


def test_python_on_the_page_parses_and_imports_what_is_there() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "tessera.profiler":
                assert all(hasattr(tessera.profiler, alias.name) for alias in node.names)


def test_tables_on_the_page_have_the_columns_of_the_command() -> None:
    heads = [line.split() for line in PAGE.splitlines() if line.startswith(" Batch ")]
    known = {word for titles in (TIMES, RATES, SERVER) for title in titles for word in title.split()}
    assert heads
    assert not [word for head in heads for word in head if word not in known | {"Batch"}]
    assert "| target | device | batch | median_ms |" in PAGE
    assert set(re.findall(r"\b\w+_ms\b", PAGE.partition("$ cat bench.md")[2])) <= set(MARKDOWN)


def test_every_baseline_and_form_is_on_the_page() -> None:
    assert all(f"| `{name}` |" in PAGE for name in NAMES)
    assert all(ending in PAGE for ending in FORMATS)
