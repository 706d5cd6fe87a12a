"""Writes docs/operator_table.md: every operator by dtype and by architecture, as compiled here.

    python scripts/operator_table.py             what is new or gone, and the page
    python scripts/operator_table.py --all       everything again (half an hour on one core)
    python scripts/operator_table.py --only NAME one operator's cases again

The cases are those of tests/operators; each of seven dtypes, where the language takes it, is compiled for
every architecture. The figures are kept in tests/operators/resources.json, from which the page is made.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

DATA = ROOT / "tests" / "operators" / "resources.json"
PAGE = ROOT / "docs" / "operator_table.md"
ARCHITECTURES = tuple(f"sm_{n}" for n in (70, 75, 80, 86, 87, 89, 90, 100, 103, 120, 121))
MEASURED = ("f64", "f32", "f16", "bf16", "f8e4m3", "i32", "u8")
"""Dtypes compiled for every architecture: code for the others differs in how it loads and stores."""
HEAD = """# Operators by dtype and architecture

Made by `scripts/operator_table.py` from the cases of `tests/operators`; do not edit. What the operators
mean, and how the tolerances are counted, is in [Operators](operators.md).

## Dtypes

Where there is a number, the language takes the dtype, and the reference, compiled code on the CPU and PTX
in the emulator all agree within that error, relative to the largest result ({pairs} pairs of case and dtype;
`tests/operators/test_every_dtype.py`). `=` says exactly. All operands that vary have the dtype; a result may
have another.

"""
MIDDLE = """
## Architectures

Registers per thread as ptxas reports them, of the kernel that takes most: the fewest and the most over
{dtypes}. Spills: {spills}. Stack: {stack}.

"""


def measured(case: Any, dtype: str, compiler: Any) -> dict[str, list[int]]:
    """Registers, spilled bytes and stack by architecture: the most of a program's kernels."""
    artifact = compiler.compile(case.traced(dtype), case.specs(dtype)).artifact
    found: dict[str, list[int]] = {}
    for binary in artifact.binaries:
        if binary.format == "cubin":
            r = binary.resources
            row = [r.registers or 0, r.spill_bytes or 0, r.stack_bytes or 0]
            found[binary.target] = [
                max(pair) for pair in zip(found.get(binary.target, row), row, strict=True)
            ]
    return found


def compiler() -> Any:
    from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget

    targets = [CompilationTarget(name) for name in ARCHITECTURES]
    return AOTCompiler(AOTConfig(targets=targets, generate_ptx=False))


def error_of(case: Any, dtype: str, result: str) -> str:
    """What a cell of the table of dtypes says."""
    from tests.operators.cases import TOLERANCE

    if not result:
        return "="
    tolerance = 1e-3 if dtype == "tf32" and case.multiplies else TOLERANCE[result]
    return f"{tolerance * case.slack:.0e}".replace("e-0", "e-")


def result_dtype(case: Any, dtype: str) -> str:
    """The dtype that rounds most, of operands and results; nothing where all are exact."""
    from tests.operators.test_against_numpy import FLOAT_ORDER

    graph = case.traced(dtype).trace(case.specs(dtype)).graph
    results = {str(graph.nodes[i].dtype) for i in graph.outputs}
    floats = [d for d in (dtype, *results) if d in FLOAT_ORDER]
    return min(floats, key=FLOAT_ORDER.index) if results & set(FLOAT_ORDER) else ""


def span(values: Iterable[int]) -> str:
    found = sorted(values)
    if not found:
        return ""
    return str(found[0]) if found[0] == found[-1] else f"{found[0]}–{found[-1]}"


def page(cases: dict[str, Any], data: dict[str, dict[str, dict[str, list[int]]]]) -> str:
    """The whole page."""
    from tessera.program.dtype import DTYPES

    names = [n for n in cases if n in data]
    claimed = {name: cases[name].claimed() for name in names}
    pairs = sum(map(len, claimed.values()))
    dtypes = [d for d in DTYPES if any(d in found for found in claimed.values())]
    lines = [HEAD.format(pairs=pairs), *_head(dtypes)]
    for name in names:
        case = cases[name]
        cells = [error_of(case, d, result_dtype(case, d)) if d in claimed[name] else "" for d in dtypes]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    rows = [(n, d, a, r) for n in names for d, by in data[n].items() for a, r in by.items()]
    spilled = sorted({f"{n} of {d} on {a} ({r[1]} bytes)" for n, d, a, r in rows if r[1]})
    stacked = ", ".join(f"`{n}`" for n in sorted({n for n, _, _, r in rows if r[2]}))
    spills = ", ".join(spilled) or "none"
    lines.append(MIDDLE.format(dtypes=", ".join(MEASURED), spills=spills, stack=stacked or "none"))
    lines += _head(ARCHITECTURES)
    for name in names:
        cells = [span(by[a][0] for by in data[name].values() if a in by) for a in ARCHITECTURES]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _head(columns: Sequence[str]) -> list[str]:
    return ["| case | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]


def read() -> dict[str, dict[str, dict[str, list[int]]]]:
    found: dict[str, dict[str, dict[str, list[int]]]] = json.loads(DATA.read_text()) if DATA.exists() else {}
    return found


def write(data: dict[str, Any]) -> None:
    rows = [f"{json.dumps(n)}: {json.dumps(data[n], separators=(',', ':'))}" for n in sorted(data)]
    DATA.write_text("{\n" + ",\n".join(rows) + "\n}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    from tests.operators.test_against_numpy import BY_NAME

    data = {} if args.all else {n: row for n, row in read().items() if n in BY_NAME}
    made = compiler()
    for name, case in BY_NAME.items():
        claimed = [d for d in case.claimed() if d in MEASURED]
        if set(data.get(name, ())) == set(claimed) and not (args.only and name.startswith(args.only)):
            continue
        data[name] = {dtype: measured(case, dtype, made) for dtype in claimed}
        write(data)
        print(f"{name}: {len(claimed)} dtypes", flush=True)
    write(data)
    PAGE.write_text(page(BY_NAME, data))
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
