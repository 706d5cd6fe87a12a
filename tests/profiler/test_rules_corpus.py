"""Rules name the one fault of each kernel of a corpus and its line, and are silent on its twin."""

import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tessera.profiler.rules import RULES
from tessera.workbench.cli import main

CORPUS = Path(__file__).parent / "corpus"
_MARK = re.compile(r"(?:#|//) fault: ([\w -]+)")
_HEAD = re.compile(r"^(?:def |.*__global__ void )(\w+)\(")


def marked(path: Path) -> dict[str, set[tuple[str, int]]]:
    """The faults of each kernel of a file: their kinds and lines."""
    found: dict[str, set[tuple[str, int]]] = {}
    kernel = ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        head = _HEAD.match(line)
        if head:
            kernel = head[1]
            found[kernel] = set()
        mark = _MARK.search(line)
        if mark:
            found[kernel] |= {(kind, number) for kind in mark[1].split()}
    return found


def sizes_of(name: str) -> dict[str, dict[str, int]]:
    """With what sizes each kernel of a module runs."""
    return importlib.import_module(f"tests.profiler.corpus.{name}").SIZES  # type: ignore[no-any-return]


FILES = {
    "access": "access.py", "reuse": "reuse.py", "blocks": "blocks.py", "arithmetic": "arithmetic.py",
    "cpp": "kernels.cu",
}  # fmt: skip
FAULTS = {
    (module, kernel): faults
    for module, file in FILES.items()
    for kernel, faults in marked(CORPUS / file).items()
    if kernel in sizes_of(module)
}


@pytest.fixture
def advice(capsys: pytest.CaptureFixture[str]) -> Callable[[str, str], list[dict[str, Any]]]:
    """What `tessera profile` says of a kernel."""

    def run(module: str, kernel: str) -> list[dict[str, Any]]:
        sizes = [f"--size={name}={value}" for name, value in sizes_of(module)[kernel].items()]
        status = main(["profile", f"{CORPUS / module}.py:{kernel}", "--arch", "sm_80", "--json", *sizes])
        said = capsys.readouterr()
        assert status == 0, said.out + said.err
        (program,) = json.loads(said.out)["programs"]
        found: list[dict[str, Any]] = program["advice"]
        return found

    return run


@pytest.mark.parametrize(("module", "kernel"), [key for key, faults in FAULTS.items() if faults])
def test_fault_is_named_with_its_line(
    advice: Callable[[str, str], list[dict[str, Any]]], module: str, kernel: str
) -> None:
    found = advice(module, kernel)
    assert {(a["kind"], a["line"]) for a in found} == FAULTS[module, kernel], found
    assert all(a["kernel"].endswith(kernel) for a in found)
    assert all(Path(a["file"]).name == FILES[module] for a in found)
    assert all(0 <= a["gain"] <= 1 and a["label"] == "emulated, PTX level" for a in found)
    assert all(a["source"]["url"].startswith("https://") and a["remedy"] for a in found)


@pytest.mark.parametrize(("module", "kernel"), [key for key, faults in FAULTS.items() if not faults])
def test_no_rule_speaks_of_a_good_twin(
    advice: Callable[[str, str], list[dict[str, Any]]], module: str, kernel: str
) -> None:
    assert advice(module, kernel) == []


def test_every_rule_has_a_faulty_kernel_and_every_faulty_kernel_a_twin() -> None:
    kinds = {kind for faults in FAULTS.values() for kind, _ in faults}
    assert kinds == {rule.name for rule in RULES}
    faulty = [key for key, faults in FAULTS.items() if faults]
    assert len(faulty) >= 25
    assert all((module, f"{kernel}_good") in FAULTS for module, kernel in faulty)
