"""Stepping through kernels, forwards and backwards: a `Debugger`, and what it shows. No terminal in here."""

from __future__ import annotations

from tessera.emulator.debugging.debugger import Debugger
from tessera.emulator.debugging.stop import Focus, Stop

__all__ = ["Debugger", "Focus", "Stop"]
