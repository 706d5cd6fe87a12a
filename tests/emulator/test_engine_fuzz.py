"""Random programs of every scalar family on both implementations: they agree bit for bit."""

# ruff: noqa: E501 - lines of PTX

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.emulator import fuzz_forms as forms
from tests.emulator.differential import (
    COMMON,
    LABELS,
    Array,
    both,
    filled,
    float_inputs,
    half_inputs,
    integer_inputs,
    program,
    whole_warps,
)
from tests.emulator.test_engine_differential import integer_line

HALVES_OUT = "    mov.b32 %t0, {%h0, %h1};\n    xor.b32 %a0, %a0, %t0;\n    mov.b32 %t0, {%h2, %h3};\n    xor.b32 %a1, %a1, %t0;"
"""Make 16-bit registers part of the outputs."""


def lines(table: list[str], most: int = 16) -> st.SearchStrategy[list[str]]:
    """Straight programs of one family."""
    return st.lists(filled(table), min_size=1, max_size=most)


def agree(body: str, inputs: Array, **more: str) -> None:
    ours, theirs = both(program(f"{body}\n{HALVES_OUT}", **more), inputs)
    # Which NaN a float64 is has no meaning.
    wide = [x[:, ::2].copy().view(np.float64) for x in (ours, theirs)]
    same = (ours[:, ::2] == theirs[:, ::2]) | (np.isnan(wide[0]) & np.isnan(wide[1]))
    assert same.all()
    np.testing.assert_array_equal(ours[:, 1::2], theirs[:, 1::2])


@COMMON
@given(lines(forms.HALF), half_inputs())
def test_programs_of_halves_agree(body: list[str], inputs: Array) -> None:
    agree("\n".join(body), inputs)


@COMMON
@given(
    lines([*forms.CONVERSIONS, *forms.BETWEEN]), st.one_of(float_inputs(), half_inputs(), integer_inputs())
)
def test_programs_of_conversions_agree(body: list[str], inputs: Array) -> None:
    agree("\n".join(body), inputs)


@COMMON
@given(lines(forms.PACKED), integer_inputs())
def test_programs_of_packed_integers_agree(body: list[str], inputs: Array) -> None:
    agree("\n".join(body), inputs)


SHARED_MEMORY = ".shared .align 16 .b8 memory[1024];"


def between_barriers(body: list[str]) -> str:
    """Each line for itself, so that no two of them race."""
    return "\n".join(f"{line}\nbar.sync 0;" for line in body)


@COMMON
@given(lines([*forms.ATOMICS, *forms.BETWEEN], 10), integer_inputs())
def test_programs_of_atomics_agree(body: list[str], inputs: Array) -> None:
    agree(between_barriers(body), inputs, declared=SHARED_MEMORY)


@COMMON
@given(lines([*forms.SHARED, *forms.BETWEEN], 10), integer_inputs())
def test_programs_of_shared_memory_agree(body: list[str], inputs: Array) -> None:
    agree(between_barriers(body), inputs, declared=SHARED_MEMORY)


@COMMON
@given(lines([*forms.LOCAL, *forms.BETWEEN]), integer_inputs())
def test_programs_of_local_arrays_agree(body: list[str], inputs: Array) -> None:
    agree("\n".join(body), inputs, declared=".local .align 16 .b8 stack[128];")


@st.composite
def divergent_warps(draw: st.DrawFn, depth: int = 2) -> str:
    """Branches with warp operations on the lanes that took them: `%t5` names those."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        if depth and draw(st.booleans()):
            number, p = next(LABELS), f"%p{draw(st.integers(0, 3))}"
            kept, other = f"%kept{depth}", f"%other{depth}"
            inside, outside = draw(divergent_warps(depth - 1)), draw(divergent_warps(depth - 1))
            found += [
                f"mov.b32 {kept}, %t5;", f"vote.sync.ballot.b32 {other}, {p}, %t5;",
                f"@{p} bra L{number}a;", f"not.b32 %t5, {other};", f"and.b32 %t5, %t5, {kept};", outside,
                f"bra L{number}b;", f"L{number}a:", f"mov.b32 %t5, {other};", inside, f"L{number}b:",
                f"mov.b32 %t5, {kept};", "bar.warp.sync %t5;",
            ]  # fmt: skip
        else:
            found.append(draw(filled(forms.WARP)))
            found += draw(st.lists(integer_line(), max_size=1))
    return "\n".join(found)


@COMMON
@given(divergent_warps(), integer_inputs())
def test_warp_operations_under_divergence_agree(body: str, inputs: Array) -> None:
    declared = ".reg .b32 %kept<4>, %other<4>;"
    agree(f"mov.b32 %t5, -1;\n{body}", whole_warps(inputs), declared=declared)


PARAMETERS = ".param .b32 p0, .param .b64 p1"


def function(name: str, body: str, calls: str) -> str:
    """A device function of an `%a` and a `%d`; `calls` may call it again while `%depth` lasts."""
    return f"""
.func (.param .align 8 .b8 result[16]) {name}(.param .b32 number, .param .b64 wide, .param .b32 left)
{{
    .reg .b32 %a<6>, %i, %t<8>, %depth;
    .reg .b16 %h<4>;
    .reg .b64 %d<6>, %wide;
    .reg .pred %p<4>, %q<8>;
    .local .align 16 .b8 stack[128];
    ld.param.b32 %a0, [number];
    ld.param.b64 %d0, [wide];
    ld.param.b32 %depth, [left];
    mov.u32 %i, %tid.x;
{chr(10).join(f"    add.u32 %a{k}, %a{k - 1}, {k};" for k in range(1, 6))}
{chr(10).join(f"    xor.b64 %d{k}, %d{k - 1}, {k};" for k in range(1, 6))}
    mov.b32 {{%h0, %h1}}, %a2;
    mov.b32 {{%h2, %h3}}, %a3;
    setp.lt.s32 %p0, %a0, 100;
    setp.gt.u32 %p1, %a2, 1000;
    setp.ne.s32 %p2, %a3, 7;
    setp.eq.u32 %p3, %depth, 2;
    st.local.b32 [stack+12], %a1;
    st.local.b64 [stack+40], %d2;
{body}
    setp.eq.u32 %q7, %depth, 0;
    @%q7 bra LAST;
    sub.u32 %depth, %depth, 1;
{calls}
    ld.local.b32 %t1, [stack+40];
    add.u32 %a3, %a3, %t1;
LAST:
    add.u32 %a0, %a0, %a3;
    add.u64 %d0, %d0, %d3;
    st.param.b32 [result], %a0;
    st.param.b64 [result+8], %d0;
    ret;
}}
"""


def call(name: str, guard: str = "", depth: str = "%depth") -> str:
    """A call that changes `%a1` and `%d1`."""
    return f"""{{
    .param .b32 a; .param .b64 b; .param .b32 c; .param .align 8 .b8 r[16];
    st.param.b32 [a], %a1; st.param.b64 [b], %d1; st.param.b32 [c], {depth};
    {guard}call (r), {name}, (a, b, c);
    ld.param.b32 %t2, [r]; ld.param.b64 %wide, [r+8];
    {guard}mov.b32 %a1, %t2; {guard}mov.b64 %d1, %wide;
    }}"""


@COMMON
@given(
    lines([*forms.LOCAL, *forms.BETWEEN], 4), st.lists(integer_line(), min_size=1, max_size=4),
    st.sampled_from(["", "@%p0 ", "@!%p1 "]), st.sampled_from(["one", "two"]), integer_inputs(),
)  # fmt: skip
def test_calls_and_recursion_agree(
    first: list[str], second: list[str], guard: str, other: str, inputs: Array
) -> None:
    declaration = ".func (.param .align 8 .b8 result[16]) two(.param .b32 number, .param .b64 wide, .param .b32 left);\n"
    functions = (
        declaration
        + function("leaf", "\n".join(second), "")
        + function("one", "\n".join(first), call(other, guard) + call("leaf"))
        + function("two", "\n".join(second), call("one") + call("two", "@%p2 "))
    )
    body = f"and.b32 %t3, %i, 3;\n{call('one', depth='%t3')}\nadd.u32 %a1, %a1, %a0;\n{call('leaf', guard, '3')}\n{call('two', depth='2')}"
    agree(body, inputs, functions=functions)


@pytest.mark.parametrize(
    "table", [forms.HALF, forms.CONVERSIONS, forms.PACKED, forms.ATOMICS, forms.SHARED, forms.LOCAL, forms.WARP],
    ids=["halves", "conversions", "packed", "atomics", "shared", "local", "warp"],
)  # fmt: skip
@pytest.mark.slow
def test_every_form_agrees(table: list[str]) -> None:
    rng = np.random.default_rng(7)
    inputs = rng.integers(0, 1 << 64, (40, 6), np.uint64)
    inputs[:10] = rng.standard_normal((10, 12)).astype(np.float32).view(np.uint64)
    inputs[10:20] = rng.standard_normal((10, 24)).astype(np.float16).view(np.uint64)
    inputs[20] = 0
    declared = SHARED_MEMORY + " .local .align 16 .b8 stack[128];"
    for start in range(0, len(table), 8):
        body = "\nbar.sync 0;\n".join(table[start : start + 8])
        for c, count in {"a": 6, "d": 6, "h": 4, "p": 4}.items():
            for k in range(body.count(f"{{{c}}}")):
                body = body.replace(f"{{{c}}}", f"%{c}{k % count}", 1)
        agree(f"mov.b32 %t5, -1;\n{body}", whole_warps(inputs), declared=declared)
