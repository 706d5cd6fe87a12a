"""Every operator on every dtype that the language takes: on the reference, the CPU and the emulator."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tessera.language import rules
from tessera.language.operators import OPERATORS
from tessera.program.dtype import DTYPES
from tessera.reference import run_graph
from tests.operators.cases import TOLERANCE, Array, Case, close
from tests.operators.running import compiled_runs
from tests.operators.test_against_numpy import BY_NAME, tolerance_of

SIZES = (0, 1, 2, 17, 40)
"""Of symbolic axes: none, one that might be taken for a broadcast one, and beside what a block works on."""
SAMPLE = 16
"""One case in so many is compiled for all its dtypes in the fast tests."""


def pick(name: str) -> int:
    return zlib.crc32(name.encode())


def test_every_operator_has_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[str] = set()

    def recorded(op: str, rule: Any) -> Any:
        return lambda *args, **settings: (used.add(op), rule(*args, **settings))[1]

    for op, rule in list(rules.RULES.items()):
        monkeypatch.setitem(rules.RULES, op, recorded(op, rule))
    for case in BY_NAME.values():
        case.traced(case.dtypes[0]).trace(case.specs(case.dtypes[0]))
    assert set(OPERATORS) <= used


def check(case: Case, dtype: str) -> None:
    """Compiled code of one case, at random sizes, with those of no element and of one."""
    rng = np.random.default_rng(pick(f"{case.name} {dtype}"))
    fn = case.traced(dtype)
    trace = fn.trace(case.specs(dtype))
    symbols = case.symbols()
    drawn = [dict.fromkeys(symbols, size) for size in SIZES[:2]] if symbols else [{}]
    drawn += [{s: int(rng.choice(SIZES)) for s in symbols} for _ in range(3 if symbols else 0)]
    drawn = [{s: max(n, case.least - 1) for s, n in sizes.items()} for sizes in drawn]
    if case.make:
        drawn = [sizes for sizes in drawn if min(sizes.values(), default=1) >= case.least]
    runs = [case.operands(dtype, sizes, rng) for sizes in drawn]
    names = trace.graph.leaves("input")
    wanted = [run_graph(trace.graph, dict(zip(names, run, strict=True)), trace.constants) for run in runs]
    for device, number, results in compiled_runs(fn, case.specs(dtype), runs):
        for found, expected in zip(results, wanted[number].values(), strict=True):
            assert found.dtype == expected.dtype
            what = f"{case.name} {dtype} on {device} with {drawn[number]}"
            exact = expected.astype(np.float64) if expected.dtype.kind in "fV" else expected
            if expected.dtype.name == "float8_e5m2":
                # Every store of a kernel saturates, that of an infinity which was only moved too.
                exact = np.clip(exact, -57344, 57344)
            close(found, exact, *allowed(case, dtype, found), what)


def allowed(case: Case, dtype: str, found: Array) -> tuple[str, float]:
    if dtype == "tf32" and case.multiplies:
        # What was rounded away is relative to the products, of numbers up to 2, which may cancel each other.
        largest = float(np.abs(found).max(initial=0))
        return "tf32", case.slack * 1e-3 / TOLERANCE["tf32"] / min(max(largest, 1e-3), 1)
    # Whole numbers up to 9 make scores of thousands, whose exponentials multiply every rounding.
    steep = 100 if case.name.startswith("attention") and not DTYPES[dtype].is_float else 1
    return tolerance_of(dtype, found), case.slack * steep


def dtypes_of(names: Sequence[str]) -> list[Any]:
    return [pytest.param(BY_NAME[name], id=name) for name in names]


@pytest.mark.parametrize("case", dtypes_of([n for n in BY_NAME if pick(n) % SAMPLE == 0]))
def test_compiled_code_of_every_dtype_gives_the_references_answer(case: Case) -> None:
    for dtype in case.claimed():
        check(case, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("case", dtypes_of([n for n in BY_NAME if pick(n) % SAMPLE]))
def test_compiled_code_of_every_dtype_gives_the_references_answer_everywhere(case: Case) -> None:
    for dtype in case.claimed():
        check(case, dtype)
