"""What tunes a kernel that is not on record: handed to the compiler, as costs are found in a room above."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tessera.compiler.options import ToolOptions
    from tessera.compiler.tuning.function_step import FunctionStep
    from tessera.compiler.tuning.record import Record
    from tessera.compiler.tuning.record_file import RecordFile
    from tessera.language.kernel import Kernel


class Tuner(Protocol):
    """Tries configurations of a kernel, or of a step of a tensor function, and keeps their records."""

    def __call__(
        self, kernel: Kernel | FunctionStep, options: ToolOptions, records: RecordFile | None
    ) -> list[Record]:
        """Records of the configurations that were tried; none if trying them would take too long."""


_tuner: list[Tuner] = []


def set_tuner(tuner: Tuner) -> None:
    """Say what tunes from now on."""
    _tuner[:] = [tuner]


def current_tuner() -> Tuner | None:
    """What tunes; None if nobody has said so."""
    return _tuner[0] if _tuner else None
