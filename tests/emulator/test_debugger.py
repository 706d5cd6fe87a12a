"""The debugger's way through time: whatever was done, a moment always has the same state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.emulator.debugging import Debugger
from tessera.emulator.debugging.launches import LaunchList
from tessera.emulator.debugging.values import ArrayValue
from tessera.emulator.sanitizer import Sanitizer
from tessera.program.errors import DeviceError, InputError

PTX = """
.version 8.0
.target sm_80
.address_size 64

.visible .shared .align 4 .b8 tile[256];

.func (.param .b32 result) twice(.param .b32 value)
{
    .reg .b32 %r<3>;
    .loc 1 3 0
    ld.param.u32 %r1, [value];
    .loc 1 4 0
    add.u32 %r2, %r1, %r1;
    st.param.b32 [result], %r2;
    ret;
}

.visible .entry work(.param .u64 out)
{
    .reg .b32 %r<12>;
    .reg .b64 %rd<6>;
    .reg .pred %p<4>;
    .loc 1 7 0
    mov.u32 %r1, %tid.x;
    ld.param.u64 %rd1, [out];
    .loc 1 8 0
    mul.wide.u32 %rd2, %r1, 4;
    mov.u64 %rd3, tile;
    add.u64 %rd3, %rd3, %rd2;
    st.shared.u32 [%rd3], %r1;
    .loc 1 9 0
    bar.sync 0;
    .loc 1 10 0
    mov.u32 %r2, 0;
    mov.u32 %r3, 0;
    and.b32 %r4, %r1, 3;
LOOP:
    .loc 1 11 0
    add.u32 %r2, %r2, %r3;
    .loc 1 12 0
    add.u32 %r3, %r3, 1;
    setp.lt.u32 %p1, %r3, %r4;
    @%p1 bra LOOP;
    .loc 1 13 0
    setp.lt.u32 %p2, %r1, 40;
    @!%p2 bra LATER;
    .loc 1 14 0
    {
        .param .b32 given;
        .param .b32 back;
        st.param.b32 [given], %r2;
        call (back), twice, (given);
        ld.param.b32 %r2, [back];
    }
LATER:
    .loc 1 15 0
    bar.sync 0;
    .loc 1 16 0
    xor.b32 %r5, %r1, 63;
    mul.wide.u32 %rd4, %r5, 4;
    mov.u64 %rd3, tile;
    add.u64 %rd4, %rd4, %rd3;
    ld.shared.u32 %r6, [%rd4];
    add.u32 %r6, %r6, %r2;
    mov.u32 %r7, %ctaid.x;
    mad.lo.u32 %r7, %r7, 64, %r1;
    mul.wide.u32 %rd5, %r7, 4;
    add.u64 %rd5, %rd5, %rd1;
    .loc 1 17 0
    st.global.u32 [%rd5], %r6;
    atom.global.add.u32 %r8, [%rd1+512], 1;
    ret;
}
.file 1 "work.py", 1, 1
"""


def start(interval: int = 7) -> Debugger:
    """Two blocks of two warps, with snapshots every few instructions."""
    program = LaunchList(Sanitizer())
    machine = program.load(PTX)
    address = program.place("out", np.zeros(130, np.uint32))
    program.launch_params(machine, "work", (2, 1, 1), (64, 1, 1), [address.to_bytes(8, "little")])
    return Debugger(program, {}, interval=interval)


MOVES = (
    "step", "next", "stepi", "back", "backi", "back_next", "continue_", "reverse_continue", "finish",
    "reverse_finish",
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(MOVES), min_size=1, max_size=14), st.integers(1, 40))
def test_a_moment_has_one_state_however_it_was_reached(moves: list[str], interval: int) -> None:
    debugger = start(interval)
    debugger.break_at(16)
    seen: dict[int, str] = {}
    for move in moves:
        getattr(debugger, move)()
        clock = debugger.timeline.clock
        digest = debugger.timeline.digest()
        assert seen.setdefault(clock, digest) == digest
    for clock, digest in reversed(seen.items()):
        debugger.timeline.seek(clock)
        assert debugger.timeline.digest() == digest


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["step", "stepi", "next"]), min_size=1, max_size=12))
def test_steps_back_return_to_earlier_moments_exactly(moves: list[str]) -> None:
    debugger = start()
    opposite = {"step": "back", "stepi": "backi", "next": "back_next"}
    for move in moves:
        before, digest = debugger.timeline.clock, debugger.timeline.digest()
        stop = getattr(debugger, move)()
        if stop.reason != "step" or stop.message:
            break
        after = debugger.timeline.digest()
        getattr(debugger, opposite[move])()
        # A step that begins in the middle of a line comes back to that line's begin.
        if move == "stepi":
            assert (debugger.timeline.clock, debugger.timeline.digest()) == (before, digest)
        debugger.timeline.seek(stop.clock)
        assert debugger.timeline.digest() == after


def test_few_snapshots_suffice() -> None:
    debugger, reference = start(1), start(1000)
    debugger.timeline.snapshots.most = 5
    debugger.continue_()
    assert len(debugger.timeline.snapshots.kept) <= 6
    for clock in (0, 3, 30, 61):
        debugger.timeline.seek(clock)
        reference.timeline.seek(0)
        reference.timeline.seek(clock)
        assert debugger.timeline.digest() == reference.timeline.digest()


def test_outputs_are_those_of_a_plain_run() -> None:
    debugger = start()
    debugger.step(5)
    debugger.back(3)
    stop = debugger.continue_()
    assert stop.reason == "end"
    address = debugger.program.arrays["out"].address
    out: Any = debugger.program.read(address, 520).view(np.uint32)
    lane = np.arange(64)
    count = np.maximum(lane % 4, 1)
    total = count * (count - 1) // 2 * np.where(lane < 40, 2, 1)
    np.testing.assert_array_equal(out[:128], np.tile((63 - lane) + total, 2))
    assert out[128] == 128


def test_registers_are_values_of_expressions() -> None:
    debugger = start()
    debugger.run_to(16)
    debugger.set_focus(lane=5)
    assert debugger.evaluate("%r1") == 5
    assert debugger.evaluate("%tid.x + %ntid.x") == 69
    assert [lane.value for lane in debugger.lanes("%r1 % 4")] == [lane % 4 for lane in range(32)]


def test_watch_stops_at_each_of_many_atomics() -> None:
    debugger = start()
    point = debugger.watch("out[128]")
    stop = debugger.continue_()
    assert stop.access is not None
    assert (stop.access.before, stop.access.after, stop.line) == ("0", "64", 17)
    stop = debugger.continue_()
    assert stop.access is not None
    assert (stop.access.before, stop.access.after, stop.focus.block) == ("64", "128", (1, 0, 0))
    assert debugger.continue_().reason == "end"
    assert point.hits == 2
    back = debugger.reverse_continue()
    assert back.access is not None
    assert (back.clock, back.access.before) == (stop.clock, "64")


def test_interrupt_stops_at_the_current_instruction() -> None:
    debugger = start()

    def interrupt(*_: object) -> None:
        debugger.timeline.interrupted = True

    debugger.watch("out[128]")
    debugger._watch._heard = interrupt  # type: ignore[method-assign] - any moment in the middle will do
    stop = debugger.continue_()
    assert stop.reason == "interrupted"
    assert stop.clock > 0


PIECES = (
    "%r1", "lane", "warp", "out", "out[3]", "threadIdx.x", "(", ")", "[", "]", "+", "-", "*", "/", "//", "%",
    "**", "<<", ">>", "&", "~", " and ", " not ", "if", "else", "lambda:", "1", "0", "2.5", "'a'", ":", ",",
    ".__class__", "__import__", "min", "abs", "x.shape", "==", "<", "for", " in ",
    "\n", ".x",
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=8))
def test_any_expression_has_a_value_or_is_refused(pieces: list[str]) -> None:
    try:
        value = DEBUGGER.evaluate("".join(pieces))
    except InputError:
        return
    assert isinstance(value, (int, float, bool, str, tuple, np.ndarray, np.generic, ArrayValue))


DEBUGGER = start()


def test_nothing_to_debug_is_refused() -> None:
    with pytest.raises(DeviceError, match="no launch"):
        Debugger(LaunchList(Sanitizer()), {})
