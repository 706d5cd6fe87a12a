"""The lockstep interpreter on hand-written PTX and on kernels that Numba compiles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.emulator import lanes
from tessera.emulator.lockstep import launch
from tessera.emulator.parser import parse_ptx
from tessera.program.errors import CompileError, DeviceError

HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n"


def kernel(body: str, declarations: str = "") -> str:
    """A kernel `k` with one pointer parameter; `%rd1` is this thread's 4-byte slot in it."""
    return f"""{HEAD}{declarations}
.visible .entry k(.param .u64 out)
{{
    .reg .pred %p<9>;
    .reg .b32 %r<20>;
    .reg .f32 %f<9>;
    .reg .b64 %rd<9>;
    mov.u32 %r1, %tid.x;
    ld.param.u64 %rd0, [out];
    mul.wide.u32 %rd1, %r1, 4;
    add.s64 %rd1, %rd0, %rd1;
{body}
    st.global.u32 [%rd1], %r2;
    ret;
}}
"""


def run(body: str, threads: int = 32, declarations: str = "", blocks: int = 1) -> np.ndarray[Any, Any]:
    out = np.zeros(threads, np.uint32)
    launch(kernel(body, declarations), "k", (blocks,), (threads,), [out])
    return out


def test_divergent_branches_meet_again() -> None:
    body = """
    and.b32 %r3, %r1, 1;
    setp.eq.u32 %p1, %r3, 0;
    @%p1 bra EVEN;
    mov.u32 %r2, 100;
    bra DONE;
EVEN:
    mov.u32 %r2, 200;
DONE:
    add.u32 %r2, %r2, %r1;
"""
    lane = np.arange(32)
    np.testing.assert_array_equal(run(body), np.where(lane % 2 == 0, 200, 100) + lane)


def test_loop_runs_a_different_number_of_times_per_thread() -> None:
    body = """
    mov.u32 %r2, 0;
    mov.u32 %r3, 0;
LOOP:
    add.u32 %r2, %r2, %r3;
    add.u32 %r3, %r3, 1;
    setp.le.u32 %p1, %r3, %r1;
    @%p1 bra LOOP;
"""
    lane = np.arange(32)
    np.testing.assert_array_equal(run(body), lane * (lane + 1) // 2)


def test_barrier_orders_shared_memory_between_warps() -> None:
    body = """
    mov.u32 %r4, buffer;
    shl.b32 %r5, %r1, 2;
    add.u32 %r6, %r4, %r5;
    st.shared.u32 [%r6], %r1;
    bar.sync 0;
    sub.u32 %r7, 95, %r1;
    shl.b32 %r7, %r7, 2;
    add.u32 %r7, %r4, %r7;
    ld.shared.u32 %r2, [%r7];
"""
    found = run(body, threads=96, declarations=".shared .align 4 .b8 buffer[384];")
    np.testing.assert_array_equal(found, 95 - np.arange(96))


def test_barrier_that_some_threads_never_reach_is_a_deadlock_only_if_they_wait_elsewhere() -> None:
    body = """
    setp.lt.u32 %p1, %r1, 16;
    @%p1 bra OTHER;
    bar.sync 0, 32;
    bra DONE;
OTHER:
    bar.sync 1, 32;
DONE:
    mov.u32 %r2, 1;
"""
    with pytest.raises(DeviceError, match=r"deadlocked: 16 threads .* at PTX line \d+; 16 threads"):
        run(body)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("up.b32 %r2|%p1, %r1, 3, 0", lambda lane: np.where(lane >= 3, lane - 3, lane)),
        ("down.b32 %r2|%p1, %r1, 5, 31", lambda lane: np.where(lane + 5 <= 31, lane + 5, lane)),
        ("bfly.b32 %r2|%p1, %r1, 8, 31", lambda lane: lane ^ 8),
        ("idx.b32 %r2|%p1, %r1, 2, 6175", lambda lane: lane // 8 * 8 + 2),
    ],
)
def test_shuffle_modes(mode: str, expected: Any) -> None:
    shuffle, _, rest = mode.partition(".")
    body = f"    shfl.sync.{shuffle}.{rest}, -1;\n"
    np.testing.assert_array_equal(run(body), expected(np.arange(32)))


def test_vote_match_and_redux_agree_with_their_definitions() -> None:
    body = """
    and.b32 %r3, %r1, 3;
    setp.eq.u32 %p1, %r3, 1;
    vote.sync.ballot.b32 %r4, %p1, -1;
    match.any.sync.b32 %r5, %r3, -1;
    redux.sync.add.u32 %r6, %r1, -1;
    xor.b32 %r2, %r4, %r5;
    add.u32 %r2, %r2, %r6;
"""
    lane = np.arange(32)
    ballot = sum(1 << i for i in lane if i % 4 == 1)
    match = [sum(1 << int(j) for j in lane if j % 4 == i % 4) for i in lane]
    expected = [((int(ballot) ^ m) + int(lane.sum())) & 0xFFFFFFFF for m in match]
    np.testing.assert_array_equal(run(body), expected)


def test_atomics_of_many_threads_and_blocks_all_count() -> None:
    body = """
    mov.u64 %rd3, counter;
    atom.global.add.u32 %r2, [%rd3], 1;
    bar.sync 0;
    ld.global.u32 %r2, [%rd3];
"""
    found = run(body, threads=64, declarations=".global .align 4 .u32 counter = 5;", blocks=3)
    assert found[0] == 5 + 3 * 64


def test_device_function_with_parameters_and_result() -> None:
    declarations = """
.func (.param .b32 result) square(.param .b32 value)
{
    .reg .b32 %r<3>;
    ld.param.u32 %r1, [value];
    mul.lo.u32 %r2, %r1, %r1;
    st.param.b32 [result], %r2;
    ret;
}
"""
    body = """
    {
    .param .b32 argument;
    st.param.b32 [argument], %r1;
    .param .b32 back;
    call.uni (back), square, (argument);
    ld.param.b32 %r2, [back];
    }
"""
    np.testing.assert_array_equal(run(body, declarations=declarations), np.arange(32) ** 2)


def test_exit_in_a_device_function_ends_the_thread() -> None:
    declarations = """
.func leave(.param .b32 value)
{
    .reg .b32 %r<3>;
    .reg .pred %p<2>;
    ld.param.u32 %r1, [value];
    setp.ge.u32 %p1, %r1, 20;
    @%p1 exit;
    ret;
}
"""
    body = """
    {
    .param .b32 argument;
    st.param.b32 [argument], %r1;
    call.uni leave, (argument);
    }
    mov.u32 %r2, 5;
"""
    np.testing.assert_array_equal(run(body, declarations=declarations), np.where(np.arange(32) < 20, 5, 0))


def test_thread_that_spins_lets_the_one_it_waits_for_go_on() -> None:
    body = """
    setp.ne.u32 %p1, %r1, 0;
    @!%p1 bra SET;
SPIN:
    ld.volatile.global.u32 %r2, [flag];
    setp.eq.u32 %p2, %r2, 0;
    @%p2 bra SPIN;
    bra DONE;
SET:
    mov.u32 %r2, 8;
    st.volatile.global.u32 [flag], %r2;
DONE:
"""
    found = run(body, threads=48, declarations=".global .align 4 .u32 flag = 0;")
    np.testing.assert_array_equal(found, 8)


def test_functions_may_take_registers_and_addresses_of_parameters() -> None:
    declarations = """
.func (.reg .b32 result) add_up(.reg .b32 first, .param .align 4 .b8 pair[8])
{
    .reg .b32 t;
    .reg .b64 p;
    mov.b64 p, pair;
    ld.param.b32 t, [p+4];
    add.u32 result, first, t;
    ret;
}
"""
    body = """
    {
    .param .align 4 .b8 argument[8];
    st.param.b32 [argument+4], %r1;
    call (%r2), add_up, (%r1, argument);
    }
"""
    np.testing.assert_array_equal(run(body, declarations=declarations), 2 * np.arange(32))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    st.global.u32 [%rd0+400], %r1;", r"thread 0 of block \(0, 0, 0\) accesses 4 bytes of global"),
        ("    mov.u32 %r4, 64;\n    ld.shared.u32 %r2, [%r4];", "of shared memory at 0x40"),
    ],
)
def test_access_outside_memory_names_line_thread_and_address(body: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        run(body)


def test_unknown_instruction_names_its_line() -> None:
    with pytest.raises(CompileError, match=r"PTX line 15: the emulator does not know vmad\.s32"):
        run("    vmad.s32 %r2, %r1, %r1, %r1;")


@pytest.mark.parametrize(
    "text", ["", ".version 8.0\n.entry k( {", HEAD + ".entry k() { add.u32 %r1 ", "\x7f"]
)
def test_torn_text_is_a_compile_error_or_an_empty_module(text: str) -> None:
    try:
        module = parse_ptx(text)
    except CompileError as error:
        assert "PTX line" in error.message  # noqa: PT017 - either outcome is right, nothing else
    else:
        assert not module.functions


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet='.%$abcdefr0123456789[]{}();,:@!+-<>=| \n"/*', max_size=120))
def test_any_text_is_a_module_or_a_compile_error(text: str) -> None:
    try:
        parse_ptx(HEAD + text)
    except CompileError:
        return


def bits_to_floats(bits: Sequence[int]) -> np.ndarray[Any, Any]:
    return np.array(bits, np.uint32).view(np.float32)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 2**32 - 1)] * 3), min_size=1, max_size=30))
def test_float32_fma_rounds_once(rows: list[tuple[int, int, int]]) -> None:
    from fractions import Fraction

    a, b, c = (bits_to_floats([row[i] for row in rows]) for i in range(3))
    with np.errstate(all="ignore"):
        found = lanes.fma(a, b, c)
    for x, y, z, result in zip(a, b, c, found, strict=True):
        if not all(np.isfinite(v) for v in (x, y, z)) or not np.isfinite(result):
            continue
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        error = abs(Fraction(float(result)) - exact)
        for neighbour in (
            np.nextafter(result, np.float32(-np.inf)),
            np.nextafter(result, np.float32(np.inf)),
        ):
            if np.isfinite(neighbour):
                assert error <= abs(Fraction(float(neighbour)) - exact)
