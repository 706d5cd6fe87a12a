"""Every opcode that is not control flow, with what writes its LLVM IR."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tessera.emulator import (
    translate_arithmetic,
    translate_atomics,
    translate_barriers,
    translate_bits,
    translate_bulk,
    translate_choices,
    translate_convert,
    translate_copies,
    translate_memory,
    translate_services,
    translate_video,
    translate_warp,
)

if TYPE_CHECKING:
    from tessera.emulator.ptx import Instruction
    from tessera.emulator.translate import Translator

EMITTERS: dict[str, Callable[[Translator, Instruction], None]] = {
    **translate_arithmetic.TABLE,
    **translate_atomics.TABLE,
    **translate_bits.TABLE,
    **translate_choices.TABLE,
    **translate_convert.TABLE,
    **translate_copies.TABLE,
    **translate_memory.TABLE,
    **translate_services.TABLE,
    **translate_video.TABLE,
    **translate_warp.TABLE,
    **translate_barriers.TABLE,
    **translate_bulk.TABLE,
}
