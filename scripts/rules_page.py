"""Writes docs/rules.md from the rules of `tessera profile`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PAGE = ROOT / "docs" / "rules.md"

if TYPE_CHECKING:
    from tessera.profiler.rules import Meaning

_HEAD = """# Rules

Made by `scripts/rules_page.py` from the rules themselves; do not edit. [`tessera profile`](profiling.md)
applies them to what it counted and says the costliest findings first; `tessera profile --rules` lists them.

Each rule reads numbers by line or by kernel and says what it saw, with figures, what to try, and what would
go at most. That share is **predicted**: an upper bound by count, no measured time. Where a number is not
known, the rules that need it say nothing. The order is by rough cycles of a multiprocessor: 2 for a sector of
global memory, 1 for a wavefront of shared memory, a quarter for an instruction of a warp.

A corpus of kernels in `tests/profiler/corpus`, each with one fault and a good twin, holds the rules to it:
they name the fault and its line, and none speaks of a twin.
"""
_NUMBERS = """## Numbers

What rules read. Counters and code are those of all launches. What is *traced* is of one block, in the middle
of the grid, that runs once more in the interpreter, access by access (up to 400,000 accesses). Nsight
Compute's names are those of its source page and tables; whoever has such numbers may fill
`tessera.profiler.rules.KernelMetrics` and apply the same rules:

```python
from tessera.profiler.rules import RULES, KernelMetrics, LineMetrics, apply

numbers = {
    "global_ld_requests": 1000.0,
    "global_ld_sectors": 32000.0,
    "global_ld_ideal_sectors": 4000.0,
    "global_ld_threads": 32000.0,
}
line = LineMetrics("k.cu", 12, numbers, "y[i] = x[i * n];")
kernel = KernelMetrics("k", "measured on an H200", frozenset(numbers), (line,))
for found in apply(RULES, kernel):
    print(f"line {found.line}: {found.what}", found.remedy, found.gain_text, sep="\\n")
```

```text
line 12: x[i * n] loads 32 sectors per request where 4 suffice
neighbouring threads reach far apart; let thread i take element i
predicted: at most 88 % of the kernel's sectors of global memory would go
```
"""


def rules_page() -> str:
    """The whole page, as Markdown."""
    from tessera.profiler.rules import RULES, VOCABULARY

    rules = [
        f"| `{r.name}` | {r.fault} | {r.when} | {r.remedy} | {r.resource.name} "
        f"| [{r.source.title}: {r.source.section}]({r.source.url}) |"
        for r in RULES
    ]
    numbers = [
        f"| `{name}` | {meaning.text} | {_origin(meaning)} | {f'`{meaning.ncu}`' if meaning.ncu else ''} |"
        for name, meaning in VOCABULARY.items()
    ]
    return "\n".join(
        (
            _HEAD,
            *_table(("rule", "fault", "speaks from", "remedy", "what would go", "source"), rules),
            "",
            _NUMBERS,
            *_table(("name", "is", "from", "Nsight Compute"), numbers),
            "",
        )
    )


def _origin(meaning: Meaning) -> str:
    return "trace" if meaning.traced else "code" if meaning.code else "counters"


def _table(titles: tuple[str, ...], rows: Iterable[str]) -> list[str]:
    return [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}", *rows]


def main() -> None:
    """Write the page."""
    PAGE.write_text(rules_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
