"""docs/operator_table.md: it is made from the cases and from what was measured, and still so."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.operators.test_against_numpy import BY_NAME
from tests.operators.test_every_dtype import SAMPLE, pick


@pytest.fixture(scope="module")
def table() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "operator_table.py"
    spec = importlib.util.spec_from_file_location("operator_table", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


AGAIN = "python scripts/operator_table.py"


def test_page_is_made_from_the_cases_and_the_figures(table: ModuleType) -> None:
    assert table.PAGE.read_text() == table.page(BY_NAME, table.read()), AGAIN


def test_figures_are_there_for_every_case_and_dtype_and_nothing_spills(table: ModuleType) -> None:
    data = table.read()
    assert set(data) == set(BY_NAME), AGAIN
    for name, case in BY_NAME.items():
        assert set(data[name]) == set(case.claimed()) & set(table.MEASURED), f"{name}: {AGAIN}"
        for by_target in data[name].values():
            assert set(by_target) == set(table.ARCHITECTURES)
            assert not any(spilled for _, spilled, _ in by_target.values())


def check(table: Any, name: str, dtypes: Sequence[str]) -> None:
    """Compile a case again: no spills, and about as many registers as the table says."""
    known = table.read()[name]
    compiler = table.compiler()
    for dtype in (d for d in dtypes if d in known):
        found = table.measured(BY_NAME[name], dtype, compiler)
        for target, (registers, spilled, stack) in found.items():
            before = known[dtype][target]
            assert (spilled, stack) == (0, before[2]), f"{name} {dtype} {target}"
            # A template that changes a little changes these a little; twice as many is another kernel.
            near = before[0] / 2 - 8 <= registers <= 2 * before[0] + 8
            assert near, f"{name} {dtype} {target}: {registers} registers, not {before[0]}: {AGAIN} --all"


@pytest.mark.parametrize("name", [n for n in BY_NAME if pick(n) % (2 * SAMPLE) == 0])
def test_sampled_figures_are_current(table: ModuleType, name: str) -> None:
    check(table, name, ["f32"])


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_NAME)
def test_figures_are_current(table: ModuleType, name: str) -> None:
    check(table, name, table.MEASURED)
