"""The sanitizer on a corpus: every seeded bug is found on its line, and nothing in the corrected kernels."""

import pytest

from tessera.emulator.findings import Finding
from tests.emulator.checked import check
from tests.emulator.corpus import initialization, memory, races, synchronization
from tests.emulator.corpus.case import Case

CORPUS = [*memory.CASES, *initialization.CASES, *races.CASES, *synchronization.CASES]
BY_NAME = [pytest.param(case, id=case.wrong.name) for case in CORPUS]


def said(findings: tuple[Finding, ...]) -> str:
    """The findings, for the message of a failed test."""
    return "\n".join(f"{f.kind} {f.file}:{f.line} {f.message}" for f in findings) or "nothing found"


@pytest.mark.parametrize("case", BY_NAME)
def test_seeded_bug_is_found_on_its_line(case: Case) -> None:
    findings = check(case.wrong, case.sizes, case.inputs)
    hits = [f for f in findings if f.kind == case.kind and f.line in case.lines]
    assert hits, f"expected {case.kind} in {case.lines}, found {said(findings)}"
    assert findings[0].line in case.lines, said(findings)
    if case.index is not None:
        assert hits[0].index == case.index, said(findings)


@pytest.mark.parametrize("case", BY_NAME)
def test_corrected_kernel_is_clean(case: Case) -> None:
    findings = check(case.right, case.sizes, case.inputs)
    assert not findings, said(findings)
