"""Rules over numbers from elsewhere, and the page that lists them."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from tessera.profiler.rules import RULES, VOCABULARY, KernelMetrics, LineMetrics, apply

ROOT = Path(__file__).parents[2]


def kernel(
    *lines: LineMetrics, known: frozenset[str] | None = None, limiter: str = "", **values: float
) -> KernelMetrics:
    """A kernel that somebody measured."""
    names = {name for line in lines for name in line.values} | values.keys()
    return KernelMetrics(
        "k", "measured on a stub", known or frozenset(names), lines, values, "k.cu", 3, limiter, "sm_80"
    )


def loads(sectors: float, ideal: float, line: int = 12, **more: float) -> LineMetrics:
    """A line of 1,000 requests of whole warps."""
    values = {
        "global_ld_requests": 1000.0, "global_ld_sectors": 1000 * sectors,
        "global_ld_ideal_sectors": 1000 * ideal, "global_ld_threads": 32000.0, **more,
    }  # fmt: skip
    return LineMetrics("k.cu", line, values, "y[i] = x[i * n];")


def test_measured_numbers_are_judged_like_emulated_ones() -> None:
    (found,) = apply(RULES, kernel(loads(32, 4)))
    assert (found.kind, found.line, found.label) == ("uncoalesced-loads", 12, "measured on a stub")
    assert found.what == "x[i * n] loads 32 sectors per request where 4 suffice"
    assert "make the fastest index threadIdx.x" in found.remedy or "let thread i take" in found.remedy
    assert found.gain == pytest.approx(28 / 32)


def test_rules_are_silent_where_a_number_is_not_known() -> None:
    line = loads(32, 4)
    without = frozenset(line.values) - {"global_ld_ideal_sectors"}
    assert apply(RULES, kernel(line, known=without)) == ()


def test_costliest_finding_comes_first() -> None:
    found = apply(RULES, kernel(loads(8, 4, line=1), loads(32, 4, line=2), loads(5, 4, line=3)))
    assert [(a.line, a.kind) for a in found] == [
        (2, "uncoalesced-loads"), (1, "uncoalesced-loads"), (3, "misaligned-loads"),
    ]  # fmt: skip


@pytest.mark.parametrize(("sectors", "said"), [(4.0, False), (4.7, False), (5.0, True), (6.1, True)])
def test_waste_is_said_from_a_fifth_on(sectors: float, said: bool) -> None:
    assert bool(apply(RULES, kernel(loads(sectors, 4)))) == said


@pytest.mark.parametrize(
    ("blocks", "kind"), [(64.0, "few-blocks"), (108.0, None), (864.0, None), (900.0, "tail"), (1728.0, None)]
)
def test_launches_are_judged_by_waves(blocks: float, kind: str | None) -> None:
    values = {
        "blocks": blocks, "multiprocessors": 108.0, "resident_blocks": 8.0, "occupancy": 1.0,
        "instructions": 2000.0 * 8 * blocks, "warps": 8 * blocks,
    }  # fmt: skip
    found = apply(RULES, kernel(**values))
    assert [a.kind for a in found] == ([kind] if kind else [])
    assert all((a.file, a.line) == ("k.cu", 3) for a in found)
    assert all(0 < a.gain < 1 for a in found)


def test_low_occupancy_names_what_limits_it() -> None:
    values = {
        "blocks": 10_000.0, "multiprocessors": 108.0, "resident_blocks": 2.0, "instructions": 1e6,
        "warps": 40_000.0, "occupancy": 0.125, "tensor_instructions": 0.0, "asynchronous_copies": 0.0,
    }  # fmt: skip
    (found,) = apply(RULES, kernel(limiter="registers", **values))
    assert found.kind == "low-occupancy"
    assert "limited by registers" in found.what
    assert "max_registers" in found.remedy
    assert apply(RULES, kernel(limiter="registers", **(values | {"tensor_instructions": 5.0}))) == ()


def test_accesses_of_no_line_are_judged_together() -> None:
    own = loads(32, 4, line=0)
    others = {f"global_st_{n}": 0.0 for n in ("requests", "sectors", "ideal_sectors", "threads")}
    found = KernelMetrics(
        "k", "measured on a stub", frozenset(own.values | others), (), own.values, "k.cu", 3, lineless=own
    )
    (advice,) = apply(RULES, found)
    assert (advice.kind, advice.file, advice.line) == ("merged-accesses", "k.cu", 3)
    assert advice.what.endswith("take 32 sectors per request where 4 suffice")
    assert advice.gain == pytest.approx(28 / 32)
    assert apply(RULES, replace(found, lineless=loads(4, 4, line=0))) == ()


def test_every_rule_reads_known_names_and_has_a_source() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert set(rule.needs) <= VOCABULARY.keys(), rule.name
        assert (rule.line is None) != (rule.kernel is None), rule.name
        assert rule.source.url.startswith("https://"), rule.name
        assert {*rule.hides, *rule.hides_in_kernel} <= {r.name for r in RULES}, rule.name


def test_page_of_rules_is_current() -> None:
    made = runpy.run_path(str(ROOT / "scripts" / "rules_page.py"))["rules_page"]()
    page = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    assert page == made, "run python scripts/rules_page.py"
