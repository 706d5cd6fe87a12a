"""Draws the pictures of the documentation: the terminal app, on a real project.

.venv/bin/python scripts/pictures.py
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tessera.workbench.app.application import WorkbenchApp

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"


async def workbench(size: tuple[int, int], path: Path) -> None:
    """The app with `examples/saxpy` compiled, as SVG."""
    app = WorkbenchApp(ROOT / "examples" / "saxpy")
    async with app.run_test(size=size) as pilot:
        await pilot.pause(1.0)
        await pilot.press("c")
        for _ in range(80):
            await pilot.pause(0.25)
        path.write_text(app.export_screenshot(title="tessera-workbench"), encoding="utf-8")


if __name__ == "__main__":
    # The app shows its folder relative to the current one.
    os.chdir(ROOT)
    IMAGES.mkdir(parents=True, exist_ok=True)
    asyncio.run(workbench((120, 32), IMAGES / "workbench.svg"))
