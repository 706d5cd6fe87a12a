"""Draws the pictures of the documentation: the terminal app, the debugger and a report, on real kernels.

.venv/bin/python scripts/pictures.py
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tessera.workbench.app.application import WorkbenchApp
from tessera.workbench.app.debug_app import DebugApp
from tessera.workbench.compilation import compile_request, make_request
from tessera.workbench.debugging import open_session

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


async def debugger(size: tuple[int, int], path: Path) -> None:
    """The debugger in the kernel that its page of the manual is about, as SVG."""
    page = (ROOT / "docs" / "debugging.md").read_text(encoding="utf-8")
    (source, *_) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "blur.py"
        file.write_text(source, encoding="utf-8")
        request = make_request(f"{file}:blur", ["sm_80"], None, debug=True)
        app = DebugApp(open_session(compile_request(request), (), {"n": 128}, seed=0))
        async with app.run_test(size=size) as pilot:
            app.source.go_to(7)
            for key in "bcn":
                await pilot.press(key)
                while app.running:
                    await pilot.pause(0.05)
            await pilot.pause(0.5)
            path.write_text(app.export_screenshot(title="tessera debug"), encoding="utf-8")


SECTIONS = ("sweeps", "source")
"""Sections of the report that are drawn."""


def report(folder: Path) -> None:
    """Parts of a report of `examples/tuned` as PNG, in Chromium: `report-sweeps.png`, `report-source.png`.

    Raises:
        SystemExit: There is no Chromium, or the report cannot be written.
    """
    sys.path.insert(0, str(ROOT / "tests" / "profiler"))
    from chromium import Browser, find_chromium

    executable = find_chromium()
    if executable is None:
        raise SystemExit("no Chromium to draw a report in: apt-get install chromium")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "kernels.py").write_bytes((ROOT / "examples" / "tuned" / "kernels.py").read_bytes())
        tessera = [sys.executable, "-m", "tessera"]
        sizes = ["--size", "rows=1024", "--size", "columns=768", "--arch", "sm_90"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        for words in (
            ["tune", "kernels.py:transpose", *sizes],
            ["report", "kernels.py:transpose", "--recording", "demo", *sizes],
        ):
            subprocess.run([*tessera, *words], cwd=work, env=environment, check=True)
        with Browser(executable, work / "chromium") as browser:
            browser.open(work / "report.html", width=1240)
            browser.evaluate("document.querySelectorAll('.fold')[5].open = true")
            # The charts alone: the table before them has a row for each configuration.
            browser.evaluate("document.querySelector('#sweeps .card').remove()")
            for section in SECTIONS:
                (folder / f"report-{section}.png").write_bytes(browser.picture(f"#{section}", most=1500))


if __name__ == "__main__":
    # The app shows its folder relative to the current one.
    os.chdir(ROOT)
    IMAGES.mkdir(parents=True, exist_ok=True)
    report(IMAGES)
    asyncio.run(workbench((120, 32), IMAGES / "workbench.svg"))
    asyncio.run(debugger((120, 36), IMAGES / "debugger.svg"))
