"""The table of what each PTX instruction does, put together from the families of opcodes.

Source: PTX ISA 8.8, chapter 9.7.
"""

from __future__ import annotations

from collections.abc import Callable

from tessera.emulator import arithmetic, async_copies, atomics, bits, clusters, mbarriers, transfers, video
from tessera.emulator.conversions import convert
from tessera.emulator.instructions import Executor
from tessera.emulator.lanes import Array
from tessera.emulator.ptx import Instruction

Handler = Callable[[Executor, Instruction, Array], None]

HANDLERS: dict[str, Handler] = {
    **arithmetic.HANDLERS,
    **bits.HANDLERS,
    **transfers.HANDLERS,
    **atomics.HANDLERS,
    **async_copies.HANDLERS,
    **mbarriers.HANDLERS,
    **clusters.HANDLERS,
    **video.HANDLERS,
    "cvt": convert,
}
"""What each opcode does."""
