"""Writes docs/rules.md from the rules of `tessera profile`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PAGE = ROOT / "docs" / "rules.md"


def main() -> None:
    """Write the page."""
    from tessera.profiler.rules.page import rules_page

    PAGE.write_text(rules_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
