"""Calls that the engine does not put in place: recursion, function pointers, the driver's functions."""

# ruff: noqa: E501 - lines of PTX

from typing import Any

import numpy as np
import pytest

from tessera.emulator import Emulator
from tessera.emulator.lockstep import launch
from tessera.program.errors import DeviceError

Array = np.ndarray[Any, Any]
HEAD = ".version 8.3\n.target sm_90\n.address_size 64\n"


def kernel(functions: str, body: str) -> str:
    """A module with a kernel `k(out)`: `%r1` is the thread's number, `%r3` what it writes."""
    return f"""{HEAD}{functions}
.visible .entry k(.param .u64 out)
{{
    .reg .b32 %r<10>;
    .reg .b64 %d<9>;
    .reg .pred %p<3>;
    mov.u32 %r1, %tid.x;
    ld.param.u64 %d1, [out];
    mul.wide.u32 %d2, %r1, 4;
    add.u64 %d1, %d1, %d2;
{body}
    st.global.b32 [%d1], %r3;
    ret;
}}
"""


def called(name: str, argument: str, result: str) -> str:
    """A call as compilers write it."""
    return (
        f"{{ .param .b32 a; .param .b32 b; st.param.b32 [a], {argument}; call (b), {name}, (a); "
        f"ld.param.b32 {result}, [b]; }}"
    )


FIBONACCI = f"""
.func (.param .b32 r) fibonacci(.param .b32 n)
{{
    .reg .b32 %r<10>;
    .reg .pred %p<3>;
    .local .align 8 .b8 kept[16];
    .reg .b64 %d<4>;
    ld.param.b32 %r1, [n];
    mov.u64 %d1, kept;
    st.local.b32 [%d1+4], %r1;
    setp.lt.s32 %p1, %r1, 2;
    @%p1 bra SMALL;
    sub.s32 %r2, %r1, 1;
    {called("fibonacci", "%r2", "%r3")}
    ld.local.b32 %r4, [kept+4];
    sub.s32 %r4, %r4, 2;
    {called("fibonacci", "%r4", "%r5")}
    add.s32 %r6, %r3, %r5;
    @!%p1 st.param.b32 [r], %r6;
    ret;
SMALL:
    st.param.b32 [r], %r1;
    ret;
}}
"""
MUTUAL = """
.func (.reg .b32 %o) odd(.reg .b32 %n);
.func (.reg .b32 %o) even(.reg .b32 %n)
{
    .reg .pred %p<2>;
    .reg .b32 %m, %q;
    setp.eq.s32 %p1, %n, 0;
    mov.u32 %o, 1;
    @%p1 ret;
    sub.s32 %m, %n, 1;
    call (%q), odd, (%m);
    add.s32 %o, %q, %n;
    ret;
}
.func (.reg .b32 %o) odd(.reg .b32 %n)
{
    .reg .pred %p<2>;
    .reg .b32 %m;
    setp.eq.s32 %p1, %n, 0;
    mov.u32 %o, 0;
    @%p1 bra END;
    sub.s32 %m, %n, 1;
    call (%o), even, (%m);
END:
    ret;
}
"""
POINTERS = """
.func (.param .b32 r) next(.param .b32 n)
{
    .reg .b32 %r<3>;
    ld.param.b32 %r1, [n];
    add.s32 %r1, %r1, 1;
    st.param.b32 [r], %r1;
    ret;
}
.func (.param .b32 r) twice(.param .b32 n)
{
    .reg .b32 %r<3>;
    ld.param.b32 %r1, [n];
    add.s32 %r1, %r1, %r1;
    st.param.b32 [r], %r1;
    ret;
}
.global .align 8 .u64 table[2] = {next, twice};
"""
THROUGH_TABLE = """
    and.b32 %r2, %r1, 1;
    mul.wide.u32 %d3, %r2, 8;
    mov.u64 %d4, table;
    add.u64 %d4, %d4, %d3;
    ld.global.u64 %d5, [%d4];
    { .param .b32 a; .param .b32 b; st.param.b32 [a], %r1;
    shape: .callprototype (.param .b32 _) _ (.param .b32 _);
    call (b), %d5, (a), shape; ld.param.b32 %r3, [b]; }
"""


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return Emulator(workers=2, memory_bytes=1 << 26, level=0)


def both(emulator: Emulator, text: str, threads: int = 64) -> Array:
    """What a kernel writes, the same on both implementations."""
    ours, theirs = np.zeros(threads, np.uint32), np.zeros(threads, np.uint32)
    emulator.launch(text, "k", 1, threads, [ours])
    launch(text, "k", (1,), (threads,), [theirs])
    np.testing.assert_array_equal(ours, theirs)
    return ours


def test_recursion_returns_to_each_caller(emulator: Emulator) -> None:
    body = "rem.u32 %r2, %r1, 14;\n" + called("fibonacci", "%r2", "%r3")
    found = both(emulator, kernel(FIBONACCI, body))
    numbers = [0, 1]
    while len(numbers) < 14:
        numbers.append(numbers[-1] + numbers[-2])
    np.testing.assert_array_equal(found, [numbers[i % 14] for i in range(64)])


def test_functions_that_call_each_other_keep_their_registers(emulator: Emulator) -> None:
    body = """
    setp.ne.s32 %p1, %r1, 5;
    mov.u32 %r3, 77;
    @%p1 call (%r3), even, (%r1);
    bar.sync 0;
    call (%r4), odd, (%r1);
    mad.lo.s32 %r3, %r4, 1000, %r3;
"""
    found = both(emulator, kernel(MUTUAL, body))

    def even(n: int) -> int:
        return 1 if n == 0 else odd(n - 1) + n

    def odd(n: int) -> int:
        return 0 if n == 0 else even(n - 1)

    expected = [(77 if n == 5 else even(n)) + 1000 * odd(n) for n in range(64)]
    np.testing.assert_array_equal(found, expected)


def test_pointers_in_memory_call_what_they_mean(emulator: Emulator) -> None:
    found = both(emulator, kernel(POINTERS, THROUGH_TABLE))
    np.testing.assert_array_equal(found, [2 * n if n % 2 else n + 1 for n in range(64)])


def test_recursion_without_end_is_a_stack_overflow(emulator: Emulator) -> None:
    text = kernel(FIBONACCI.replace("%r1, 2;", "%r1, -1000000;"), called("fibonacci", "%r1", "%r3"))
    with pytest.raises(
        DeviceError, match=r"stack overflow at PTX line \d+: call by thread \(0, 0, 0\)"
    ) as caught:
        emulator.launch(text, "k", 1, 64, [np.zeros(64, np.uint32)])
    assert caught.value.hint is not None
    assert "16 KiB" in caught.value.hint


def test_a_pointer_to_no_function_is_an_error(emulator: Emulator) -> None:
    text = kernel(POINTERS.replace("{next, twice}", "{next, k}"), THROUGH_TABLE)
    with pytest.raises(
        DeviceError, match=r"bad function pointer at PTX line \d+: call by thread \(1, 0, 0\)"
    ):
        emulator.launch(text, "k", 1, 64, [np.zeros(64, np.uint32)])


def test_large_functions_with_many_callers_are_there_once(emulator: Emulator) -> None:
    steps = "\n".join(f"    mad.lo.s32 %r1, %r1, {2 * i + 3}, {i};" for i in range(1000))
    large = f"""
.func (.param .b32 r) large(.param .b32 n)
{{
    .reg .b32 %r<3>;
    ld.param.b32 %r1, [n];
{steps}
    st.param.b32 [r], %r1;
    ret;
}}
"""
    body = "mov.u32 %r3, %r1;\n" + "\n".join(called("large", "%r3", "%r3") for _ in range(30))
    text = kernel(large, body)
    both(emulator, text)
    module = emulator.load(text)
    assert module.kernels["k"].translation.ir.count(" mul <32 x i32>") < 3000


DRIVER = """
.extern .func (.param .b64 r) malloc(.param .b64 n);
.extern .func free(.param .b64 p);
.extern .func __assertfail(.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e);
.extern .func (.param .b32 r) vprintf(.param .b64 a, .param .b64 b);
.global .align 1 .b8 words[6] = {120, 32, 62, 32, 48, 0};
.global .align 1 .b8 pattern[4] = {37, 100, 10, 0};
"""
TAKE = """
    { .param .b64 a; .param .b64 b; st.param.b64 [a], 40; call (b), malloc, (a); ld.param.b64 %d3, [b]; }
    st.u32 [%d3+8], %r1;
    bar.sync 0;
    ld.u32 %r3, [%d3+8];
"""
GIVE_BACK = "{ .param .b64 a; st.param.b64 [a], %d3; call free, (a); }\n"


def test_kernels_take_memory_and_give_it_back(emulator: Emulator) -> None:
    text = kernel(DRIVER, TAKE + GIVE_BACK)
    for _ in range(3):
        np.testing.assert_array_equal(both(emulator, text), np.arange(64))
    large = kernel(
        DRIVER,
        TAKE.replace("40;", "4000000;")
        .replace("st.u32", "//")
        .replace("ld.u32 %r3, [%d3+8]", "cvt.u32.u64 %r3, %d3"),
    )
    out = np.ones(8, np.uint32)
    emulator.launch(large, "k", 1, 8, [out])
    assert out[0] != 0
    assert (out[2:] == 0).all(), "there are 8 MiB, and 0 says that there is no more"


def test_memory_given_back_twice_is_an_error(emulator: Emulator) -> None:
    with pytest.raises(DeviceError, match="which malloc did not give"):
        emulator.launch(kernel(DRIVER, TAKE + GIVE_BACK + GIVE_BACK), "k", 1, 1, [np.zeros(1, np.uint32)])


def test_a_failed_assertion_names_its_place(emulator: Emulator) -> None:
    body = """
    mov.u32 %r3, 1;
    setp.ne.s32 %p1, %r1, 40;
    @%p1 bra FINE;
    cvta.global.u64 %d5, words;
    { .param .b64 a; .param .b64 b; .param .b32 c; .param .b64 d; .param .b64 e;
    st.param.b64 [a], %d5; st.param.b64 [b], %d5; st.param.b32 [c], 7; st.param.b64 [d], %d5; st.param.b64 [e], 1;
    call __assertfail, (a, b, c, d, e); }
FINE:
"""
    with pytest.raises(
        DeviceError, match=r"x > 0:7: x > 0: block \(0, 0, 0\), thread \(40, 0, 0\): assertion `x > 0` failed"
    ) as caught:
        emulator.launch(kernel(DRIVER, body), "k", 1, 64, [np.zeros(64, np.uint32)])
    assert caught.value.thread == (40, 0, 0)


def test_printed_text_comes_block_by_block(emulator: Emulator) -> None:
    body = """
    .local .align 8 .b8 values[8];
    mov.u32 %r2, %ctaid.x;
    mad.lo.s32 %r3, %r2, 100, %r1;
    mov.u64 %d3, values;
    st.local.b32 [%d3], %r3;
    cvta.local.u64 %d4, %d3;
    cvta.global.u64 %d5, pattern;
    { .param .b64 a; .param .b64 b; .param .b32 c; st.param.b64 [a], %d5; st.param.b64 [b], %d4;
    call (c), vprintf, (a, b); ld.param.b32 %r3, [c]; }
"""
    out = np.zeros(3, np.uint32)
    emulator.printed.clear()
    emulator.launch(kernel(DRIVER, body), "k", 20, 3, [out])
    assert emulator.printed == [f"{100 * block + thread}\n" for block in range(20) for thread in range(3)]
    np.testing.assert_array_equal(out, 1)


def test_clocks_never_go_back(emulator: Emulator) -> None:
    body = """
    mov.u64 %d3, %globaltimer;
    mov.u64 %d4, %globaltimer;
    setp.le.u64 %p1, %d3, %d4;
    mov.u64 %d3, %clock64;
    mov.u64 %d4, %clock64;
    setp.lt.and.u64 %p1, %d3, %d4, %p1;
    selp.b32 %r3, 1, 0, %p1;
"""
    out = np.zeros(40, np.uint32)
    emulator.launch(kernel("", body), "k", 1, 40, [out])
    np.testing.assert_array_equal(out, 1)
