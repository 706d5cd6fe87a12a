"""One compilation in a process of its own, which can be stopped at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessera.workbench.failure import short_path


@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """One kernel on one architecture, as the compiler reports it. Unknown is None."""

    name: str
    """Name of the kernel."""
    program: str
    """The function or kernel in the source that it belongs to."""
    arch: str
    registers: int | None
    spill_bytes: int | None
    shared_bytes: int | None
    occupancy: float | None
    """0 to 1."""
    limited_by: str | None
    """What allows no more occupancy."""
    cached: bool
    ptx: str
    """Empty if the compiler kept none."""

    @property
    def status(self) -> str:
        """`sm_90 · 14 regs · 0 spills · 100 % occupancy (registers)`."""
        parts = [self.arch]
        parts.append("N/A regs" if self.registers is None else f"{self.registers} regs")
        spills = "N/A spills" if self.spill_bytes is None else f"{self.spill_bytes} B spills"
        parts.append("0 spills" if self.spill_bytes == 0 else spills)
        if self.shared_bytes:
            parts.append(f"{self.shared_bytes} B shared")
        occupied = "N/A occupancy" if self.occupancy is None else f"{self.occupancy:.0%} occupancy"
        reason = f" ({self.limited_by})" if self.limited_by else ""
        parts.append(occupied.replace("%", " %") + reason)
        return " · ".join(parts)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a compilation did not succeed, in words."""

    message: str
    hint: str | None = None
    file: str | None = None
    line: int | None = None
    """1-based."""

    @property
    def text(self) -> str:
        """All of it, one thing a line."""
        where = f"\n--> {short_path(self.file)}:{self.line}" if self.file and self.line else ""
        hint = f"\n\nhint: {self.hint}" if self.hint else ""
        return f"error: {self.message}{where}{hint}"


Outcome = list[CompiledKernel] | Failure


class CompileJob:
    """`tessera inspect TARGET --ptx --json` in a subprocess and process group of its own."""

    def __init__(self, target: str, arches: Sequence[str], folder: Path) -> None:
        self.target = target
        self.arches = tuple(arches)
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self.stopped = False
        """Whether `stop` was called."""

    async def run(self) -> Outcome:
        """The kernels, or why there are none."""
        command = [sys.executable, "-m", "tessera", "inspect", self.target, "--ptx", "--json"]
        command += [word for arch in self.arches for word in ("--arch", arch)]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=self._folder,
                start_new_session=True,
            )
        except OSError as error:
            return Failure(f"the compiler could not be started: {error}")
        try:
            output, errors = await self._process.communicate()
        finally:
            self.stop()
        return _read(output, errors, self._process.returncode)

    def stop(self) -> None:
        """End the process and everything that it started, at once."""
        process = self._process
        if process is not None and process.returncode is None:
            self.stopped = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _read(output: bytes, errors: bytes, status: int | None) -> Outcome:
    try:
        data = json.loads(output)
    except ValueError:
        said = errors.decode("utf-8", "replace").strip().splitlines()
        return Failure(said[-1] if said else f"the compiler ended with status {status} and said nothing")
    if "error" in data:
        return _failure(data["error"])
    texts = {(p["name"], p["arch"]): p["text"] for p in data.get("ptx", ())}
    return [
        CompiledKernel(
            **{key: row[key] for key in _COPIED},
            ptx=texts.get((row["name"], row["arch"]), ""),
        )
        for row in data["kernels"]
    ]


_COPIED = (
    "name",
    "program",
    "arch",
    "registers",
    "spill_bytes",
    "shared_bytes",
    "occupancy",
    "limited_by",
    "cached",
)


def _failure(error: dict[str, Any]) -> Failure:
    place = error.get("location") or {}
    return Failure(error["message"], error.get("hint"), place.get("file"), place.get("line"))
