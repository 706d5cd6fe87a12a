"""Faults of a launch in words: what, at which line, which block and thread, at which address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tessera.emulator import layout as at
from tessera.emulator.call_frames import STACK_BYTES
from tessera.emulator.ptx import Function, Instruction, Module, access_bytes
from tessera.program.errors import DeviceError, SourceLocation

if TYPE_CHECKING:
    from tessera.emulator.memory import Memory
    from tessera.emulator.states import State
    from tessera.emulator.translate import Translation
    from tessera.emulator.workers import Fault

TRAPS = {
    "trap": None,
    "stack overflow": f"functions that call themselves have {STACK_BYTES >> 10} KiB per thread",
    "bad function pointer": "call only what is a function of this module, with its parameters",
}
"""Faults without an address, and what to do about each."""
WINDOWS = {126: "shared", 127: "local"}
REFUSED = {
    "ended": (
        "accesses the shared memory of block {} of its cluster, which has ended",
        "end with cluster.sync(): a block's shared memory lasts as long as the block",
    ),
    "arrivals": (
        "arrives at an mbarrier more often than it expects: {} times more",
        "count the threads that arrive in a phase: mbarrier.init says how many",
    ),
}
"""What is wrong, by kind, and what to do about it."""
BUDGET_HINT = (
    "tessera check FILE names the line of the loop; if the kernel is only long, allow more: "
    "tessera run --steps N (profile takes it too), or step_budget=N in Python"
)
SHOWN = 4
"""Blocks that the message of a deadlock names."""


def fault_error(
    fault: Fault,
    module: Module,
    function: Function,
    translation: Translation,
    threads: tuple[int, int, int],
    memory: Memory,
    budget: int,
) -> DeviceError:
    """The error that ends a launch."""
    state = fault.state
    block = tuple(state.word(f"ctaid_{axis}") for axis in "xyz")
    if fault.code == at.DEADLOCK and fault.waiting:
        return _waiting_for_ever(fault, function, translation, threads)
    if fault.code == at.DEADLOCK:
        places = "; ".join(_waiting(state, translation, threads))
        return DeviceError(
            f"{function.name} is deadlocked in block {block}: {places}",
            hint="let every thread of the block reach the same barriers",
            kind="deadlock", block=block,
        )  # fmt: skip
    kind = at.FAULTS[state.word("fault_kind")]
    lane, warp = state.word("fault_lane"), state.word("fault_warp")
    thread = thread_index(32 * warp + lane, threads)
    if kind == "budget":
        line = translation.blocks[state.word("fault_site")]
        return DeviceError(
            f"{function.name} does not end: block {block} made {state.word('steps')} jumps backwards, the "
            f"budget is {budget}; thread {thread} is in the loop at PTX line {line}",
            hint=BUDGET_HINT,
            kind="runaway", ptx_line=line, block=block, thread=thread,
        )  # fmt: skip
    site = translation.sites[state.word("fault_site")]
    location = source_location(module, site, function.name)
    mnemonic = "call" if kind in TRAPS and kind != "trap" else site.mnemonic
    where = f"PTX line {site.line}: {mnemonic} by thread {thread} of block {block}"
    if kind in TRAPS:
        return DeviceError(
            f"{kind} at {where}", hint=TRAPS[kind], location=location, kind=kind, ptx_line=site.line,
            block=block, thread=thread,
        )  # fmt: skip
    address = state.word("fault_address") & 0xFFFF_FFFF_FFFF_FFFF
    if kind in REFUSED:
        text, hint = REFUSED[kind]
        return DeviceError(f"{where}: {text.format(address)}", location=location, kind=kind, hint=hint,
                           ptx_line=site.line, block=block, thread=thread)  # fmt: skip
    return DeviceError(
        f"{kind} access at {where}: {_place(site, address, state, translation, memory, kind)}",
        location=location, kind=kind, ptx_line=site.line, block=block, thread=thread, address=address,
    )  # fmt: skip


def budget_error(kernel: str, block: tuple[int, int, int], budget: int) -> DeviceError:
    """The error that ends a launch in the interpreter, which counts basic blocks."""
    return DeviceError(
        f"{kernel} does not end: block {block} has executed {budget} basic blocks, which is its budget",
        hint=BUDGET_HINT, kind="runaway", block=block,
    )  # fmt: skip


def _waiting_for_ever(
    fault: Fault, function: Function, translation: Translation, threads: tuple[int, int, int]
) -> DeviceError:
    parts, first = [], tuple(fault.state.word(f"ctaid_{axis}") for axis in "xyz")
    for state in fault.waiting[:SHOWN]:
        block = tuple(state.word(f"ctaid_{axis}") for axis in "xyz")
        parts.append(f"block {block}: {', '.join(_waiting(state, translation, threads))}")
    if len(fault.waiting) > SHOWN:
        parts.append(f"{len(fault.waiting) - SHOWN} blocks more")
    hint = "let somebody arrive at, or write, what these threads wait for"
    if fault.left:
        parts.append(
            f"{fault.left} blocks have not begun, as the GPU holds {fault.resident} of these at once"
        )
        hint = f"launch at most {fault.resident} blocks where blocks wait for later ones"
    return DeviceError(
        f"{function.name} is deadlocked: {'; '.join(parts)}", hint=hint, kind="deadlock", block=first
    )


def source_location(module: Module, instruction: Instruction, function: str) -> SourceLocation | None:
    """The line of source that an instruction comes from, where the PTX says it."""
    path = module.files.get(instruction.file)
    if not path or not instruction.source_line:
        return None
    return SourceLocation(path, instruction.source_line, function=function)


def _place(
    site: Instruction, address: int, state: State, translation: Translation, memory: Memory, kind: str
) -> str:
    named = {m.split("::")[0] for m in site.modifiers}
    if site.opcode == "wgmma":
        named.add("shared")
    window = WINDOWS.get(address >> 56) if not named & {"global", "shared", "local", "const"} else None
    space = next((s for s in ("shared", "local") if s in named), window)
    offset = address & ((1 << 56) - 1) if window else address
    size = access_bytes(site)
    if kind == "misaligned":
        return f"{size} bytes at {address:#x}, which is not a multiple of {size}"
    if space == "shared":
        dynamic = f" ({translation.shared_bytes} static)"
        total = state.shared_bytes
        return f"{size} bytes at offset {offset:#x} of shared memory, which has {total} bytes{dynamic}"
    if space == "local":
        return (
            f"{size} bytes at offset {offset:#x} of local memory, which has {translation.local_bytes} bytes"
        )
    return f"{size} bytes at {address:#x}, {memory.describe(address)}"


def thread_index(linear: int, threads: tuple[int, int, int]) -> tuple[int, int, int]:
    """Index by axis of a thread of a block, from its number."""
    x, y, _ = threads
    return linear % x, linear // x % y, linear // (x * y)


def _waiting(state: State, translation: Translation, threads: tuple[int, int, int]) -> list[str]:
    """Which threads wait where."""
    found: dict[tuple[int, str], list[int]] = {}

    def add(block: int, members: list[int]) -> None:
        instruction = translation.waits[block]
        line = instruction.line if instruction is not None else translation.blocks[block]
        found.setdefault((line, instruction.mnemonic if instruction else ""), []).extend(members)

    layout = translation.layout
    for w in range(state.warps):
        area = state.warp(w)
        # Lanes that wait for others of their warp have been told to try again.
        stalled = area[layout.wait_masks : layout.wait_masks + 8 * layout.blocks].view(np.uint32)
        stalled = stalled[: layout.blocks] | stalled[layout.blocks :]
        for block in np.flatnonzero(stalled):
            add(int(block), _lanes(int(stalled[block]), w))
        lanes = area[at.BAR_LANES : at.BAR_LANES + 64].view(np.uint32)
        resume = area[at.RESUME : at.RESUME + 128].view(np.int32)
        for number in np.flatnonzero(lanes):
            for thread in _lanes(int(lanes[number]), w):
                # A barrier's lanes go on at the block after it.
                add(int(resume[thread % 32]) - 1, [thread])
    return [
        f"{len(members)} threads (first: {thread_index(min(members), threads)}) wait at PTX line {line}"
        f"{', ' if what else ''}{what}"
        for (line, what), members in sorted(found.items())
    ]


def _lanes(mask: int, warp: int) -> list[int]:
    return [32 * warp + lane for lane in range(32) if mask >> lane & 1]
