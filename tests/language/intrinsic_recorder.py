"""A pytest plugin: which functions of `tessera.gpu` the emulator ran, as lines of a file.

A function counts when a kernel that calls it was compiled and a run in the emulator then ended well.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

PLACE = "TESSERA_TEST_INTRINSICS"
"""Variable that names the file."""


def pytest_configure(config: pytest.Config) -> None:
    from tessera.language.gpu import assembly
    from tessera.runtime.emulator import EmulatedProgram

    check, run = assembly.check_target, EmulatedProgram.run
    compiled: dict[str, str] = {}
    place = Path(os.environ[PLACE])

    def recorded_check(name: str, needs: Any) -> None:
        check(name, needs)
        compiled[name] = needs.text

    def recorded_run(self: Any, *arguments: Any) -> Sequence[Any]:
        results = run(self, *arguments)
        with place.open("a") as file:
            file.writelines(f"{name} {self.target}\n" for name in compiled)
        compiled.clear()
        return results

    config.add_cleanup(lambda: setattr(assembly, "check_target", check))
    assembly.check_target = recorded_check
    EmulatedProgram.run = recorded_run  # type: ignore[method-assign]
