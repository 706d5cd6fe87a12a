"""The compiled engine under a sanitizer: large launches, arrays side by side, what it leaves to others."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.emulator import checked_engine
from tessera.emulator.checked_engine import CheckedEmulator
from tessera.emulator.engine import Emulator
from tessera.emulator.findings import Finding
from tessera.emulator.interpreter import Interpreter
from tessera.emulator.sanitizer import Sanitizer

HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n"
Array = np.ndarray[Any, Any]


def kernel(body: str, declarations: str = "") -> str:
    """A kernel of `x`, `y` and `n`: thread `%r0` has its elements of the arrays at `%rd0` and `%rd1`."""
    return f"""{HEAD}{declarations}
.visible .entry k(.param .u64 x, .param .u64 y, .param .u32 n)
{{
    .reg .pred %p<9>;
    .reg .b32 %r<30>;
    .reg .b64 %rd<20>;
    .reg .b16 %h<9>;
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mad.lo.u32 %r0, %r2, %r3, %r1;
    ld.param.u32 %r4, [n];
    ld.param.u64 %rd2, [x];
    ld.param.u64 %rd3, [y];
    mul.wide.u32 %rd4, %r0, 4;
    add.s64 %rd0, %rd2, %rd4;
    add.s64 %rd1, %rd3, %rd4;
{body}
    ret;
}}
"""


GUARDED = """
    setp.ge.u32 %p1, %r0, %r4;
    @%p1 ret;
"""
ADD_ONE = """
    ld.global.u32 %r5, [%rd0];
    add.u32 %r5, %r5, 1;
    st.global.u32 [%rd1], %r5;
"""


@pytest.fixture
def emulator() -> CheckedEmulator:
    return CheckedEmulator(Sanitizer(limit=50, block_steps=3000), level=0, few_blocks=0)


@pytest.fixture
def no_close_look(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails a test in which anything was noted."""

    def refuse(*_: Any) -> None:
        raise AssertionError("something was noted")

    monkeypatch.setattr(checked_engine.CheckedEmulator, "_look_closely", refuse)
    return iter(())


def numbers(count: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).integers(0, 1 << 30, count, np.uint32)


@pytest.mark.usefixtures("no_close_look")
def test_right_kernel_gives_what_it_gives_without_checks(emulator: CheckedEmulator) -> None:
    x, y, other = numbers(70_001), np.zeros(70_001, np.uint32), np.zeros(70_001, np.uint32)
    text = kernel(GUARDED + ADD_ONE)
    for _ in range(2):
        emulator.launch(text, "k", 274, 256, [x, y, np.uint32(len(x))])
    Emulator(level=0).launch(text, "k", 274, 256, [x, other, np.uint32(len(x))])
    np.testing.assert_array_equal(y, other)
    np.testing.assert_array_equal(y, x + 1)
    assert not emulator.sanitizer.findings


def test_large_launch_names_the_one_block_that_is_wrong(emulator: CheckedEmulator) -> None:
    x, y = numbers(70_001), np.zeros(70_001, np.uint32)
    emulator.launch(kernel(ADD_ONE), "k", 274, 256, [x, y, np.uint32(0)])
    first, second = emulator.sanitizer.findings
    assert (first.kind, first.array, first.index) == ("out-of-bounds", "argument 0", (70_001,))
    assert (first.block, first.thread) == ((273, 0, 0), (113, 0, 0))
    assert (second.instruction, second.array) == ("st.global.u32", "argument 1")
    # What is inside was computed all the same.
    np.testing.assert_array_equal(y, x + 1)


def test_large_launch_finds_blocks_that_write_what_others_read(emulator: CheckedEmulator) -> None:
    shift = "ld.global.u32 %r5, [%rd0+4];\nst.global.u32 [%rd0], %r5;"
    x = numbers(400 * 128 + 1)
    emulator.launch(kernel(shift), "k", 400, 128, [x, x, np.uint32(0)])
    kinds = {f.kind for f in emulator.sanitizer.findings}
    assert kinds == {"race", "race-between-blocks"}
    between = next(f for f in emulator.sanitizer.findings if f.kind == "race-between-blocks")
    assert between.other is not None
    assert abs(between.block[0] - between.other.block[0]) == 1


def test_arrays_that_touch_are_kept_apart(emulator: CheckedEmulator) -> None:
    both = numbers(256)
    x, y = both[:128], both[128:]
    before = both.copy()
    emulator.launch(kernel("st.global.u32 [%rd0+4], %r0;"), "k", 4, 32, [x, y, np.uint32(0)])
    (finding,) = emulator.sanitizer.findings
    assert (finding.kind, finding.array, finding.index) == ("out-of-bounds", "argument 0", (128,))
    np.testing.assert_array_equal(y, before[128:])
    np.testing.assert_array_equal(x[1:], np.arange(127))


def test_block_that_traps_is_left_and_the_others_run(emulator: CheckedEmulator) -> None:
    x, y = numbers(40 * 64), np.zeros(40 * 64, np.uint32)
    body = "setp.eq.u32 %p1, %r2, 7;\n@%p1 trap;\n" + ADD_ONE
    emulator.launch(kernel(body), "k", 40, 64, [x, y, np.uint32(0)])
    (finding,) = emulator.sanitizer.findings
    assert (finding.kind, finding.block) == ("failed", (7, 0, 0))
    expected = (x + 1).reshape(40, 64)
    expected[7] = 0
    np.testing.assert_array_equal(y.reshape(40, 64), expected)


def test_block_that_does_not_end_is_reported(emulator: CheckedEmulator) -> None:
    x = numbers(64)
    body = "LOOP:\nsetp.eq.u32 %p1, %r2, 1;\n@%p1 bra LOOP;"
    emulator.launch(kernel(body), "k", 2, 32, [x, x, np.uint32(0)])
    (finding,) = emulator.sanitizer.findings
    assert (finding.kind, finding.block) == ("runaway", (1, 0, 0))


def test_launch_begins_with_what_the_last_one_wrote(emulator: CheckedEmulator) -> None:
    address = emulator.alloc(1024)
    x = numbers(256)
    half = kernel("setp.ge.u32 %p1, %r0, 128;\n@%p1 ret;\nst.global.u32 [%rd1], %r0;")
    emulator.launch(half, "k", 8, 32, [x, np.uint64(address), np.uint32(0)])
    copy = kernel("ld.global.u32 %r5, [%rd0];\nst.global.u32 [%rd1], %r5;")
    emulator.launch(copy, "k", 4, 32, [np.uint64(address), x, np.uint32(0)])
    assert not emulator.sanitizer.findings
    emulator.launch(copy, "k", 8, 32, [np.uint64(address), x, np.uint32(0)])
    (finding,) = emulator.sanitizer.findings
    assert (finding.kind, finding.block, finding.thread) == ("uninitialized", (4, 0, 0), (0, 0, 0))


TILE = ".shared .align 128 .b8 s[256];"
REVERSE = """
    shl.b32 %r5, %r1, 2;
    mov.u32 %r6, s;
    add.u32 %r6, %r6, %r5;
    st.shared.u32 [%r6], %r1;
    bar.sync 0;
    xor.b32 %r6, %r6, 4;
    ld.shared.u32 %r7, [%r6];
"""


@pytest.mark.usefixtures("no_close_look")
def test_times_that_run_out_begin_anew(emulator: CheckedEmulator) -> None:
    x = numbers(32)
    emulator.launch(kernel(REVERSE, TILE), "k", 200_000, 32, [x, x, np.uint32(0)])
    assert not emulator.sanitizer.findings


@pytest.mark.usefixtures("no_close_look")
@pytest.mark.parametrize("width", ["u8", "u16"])
def test_neighbours_in_one_word_are_no_race(emulator: CheckedEmulator, width: str) -> None:
    size = {"u8": 1, "u16": 2}[width]
    body = f"""
    mul.lo.u32 %r5, %r1, {size};
    mov.u32 %r6, s;
    add.u32 %r6, %r6, %r5;
    mov.u16 %h1, 7;
    st.shared.{width} [%r6], %h1;
    ld.shared.{width} %h2, [%r6];
    mul.wide.u32 %rd5, %r0, {size};
    add.s64 %rd6, %rd2, %rd5;
    st.global.{width} [%rd6], %h2;
"""
    x = numbers(40 * 64)
    emulator.launch(kernel(body, TILE), "k", 40, 64, [x, x, np.uint32(0)])
    assert not emulator.sanitizer.findings


def test_kernel_with_barriers_in_memory_is_interpreted(emulator: CheckedEmulator) -> None:
    body = (
        """
    mov.u32 %r5, m;
    setp.ne.u32 %p1, %r1, 0;
    @%p1 bra READY;
    mbarrier.init.shared.b64 [%r5], 32;
READY:
    bar.sync 0;
    mbarrier.arrive.shared.b64 %rd5, [%r5];
"""
        + ADD_ONE
    )
    x, y = numbers(640), np.zeros(640, np.uint32)
    emulator.launch(kernel(body, ".shared .align 8 .b64 m;"), "k", 20, 32, [x, y, np.uint32(0)])
    assert not emulator.sanitizer.findings
    np.testing.assert_array_equal(y, x + 1)


# -- random kernels -----------------------------------------------------------------------------

PLACES = ("%r1", "%r20", "%r21", "%r22", "7")
"""The thread, its neighbour, that of the other warp, the next one, and one place for all."""
STEPS = st.one_of(
    st.tuples(
        st.sampled_from(["ld", "st", "atom"]), st.sampled_from(PLACES), st.sampled_from([64, 64, 32, 5])
    ),
    st.sampled_from(["bar.sync 0;", "bar.sync 0;", "bar.warp.sync -1;", "bar.sync 1, 64;"]),
)


def written(steps: list[Any]) -> str:
    """A kernel of 64 threads that does these steps on shared memory, which is filled at first."""
    lines = [
        "xor.b32 %r20, %r1, 1;\nxor.b32 %r21, %r1, 32;\nadd.u32 %r22, %r1, 1;\nand.b32 %r22, %r22, 63;",
        "mov.u32 %r6, s;\nshl.b32 %r5, %r1, 2;\nadd.u32 %r7, %r6, %r5;",
        "st.shared.u32 [%r7], %r1;\nbar.sync 0;",
    ]
    for step in steps:
        if isinstance(step, str):
            lines.append(step)
            continue
        operation, place, threads = step
        access = {
            "ld": "ld.shared.u32 %r9, [%r8];", "st": "st.shared.u32 [%r8], %r1;",
            "atom": "atom.shared.add.u32 %r9, [%r8], 1;",
        }[operation]  # fmt: skip
        lines.append(f"setp.lt.u32 %p1, %r1, {threads};\nmov.u32 %r5, {place};\nshl.b32 %r5, %r5, 2;")
        lines.append(f"add.u32 %r8, %r6, %r5;\n@%p1 {access}")
    return kernel("\n".join(lines), TILE)


def findings_of(machine: Any, text: str) -> list[tuple[Any, ...]]:
    address = machine.alloc(4)
    params = [np.uint64(address).tobytes()] * 2 + [np.uint32(0).tobytes()]
    machine.launch_params(machine.load(text), "k", (3, 1, 1), (64, 1, 1), params)
    found: tuple[Finding, ...] = machine.sanitizer.findings
    return [(f.kind, f.ptx_line, f.array, f.index, f.block, f.thread, f.other) for f in found]


def compare(steps: list[Any]) -> None:
    text = written(steps)
    expected = findings_of(Interpreter(Sanitizer(block_steps=3000)), text)
    for whole in (0, 1 << 20):
        checked = CheckedEmulator(
            Sanitizer(block_steps=3000), level=0, few_blocks=0, whole_threads=whole, workers=1
        )
        assert findings_of(checked, text) == expected


@settings(max_examples=25, deadline=None)
@given(st.lists(STEPS, min_size=2, max_size=8))
def test_random_kernels_have_the_same_findings_in_both(steps: list[Any]) -> None:
    compare(steps)


@pytest.mark.soak
@settings(max_examples=2000, deadline=None)
@given(st.lists(STEPS, min_size=2, max_size=12))
def test_many_random_kernels_have_the_same_findings_in_both(steps: list[Any]) -> None:
    compare(steps)
