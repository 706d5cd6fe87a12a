"""Loads, stores, asynchronous copies and atomics of every width and type."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tessera.program.errors import CompileError, DeviceError
from tests.emulator.warp import run, widened

Array = np.ndarray[Any, Any]


def words(rng: np.random.Generator, threads: int = 32) -> Array:
    return rng.integers(0, 1 << 32, (threads, 8)).astype(np.uint32)


@pytest.mark.parametrize("form", ["", ".volatile", ".relaxed.cta", ".weak"])
def test_vectors_of_every_width_come_back(form: str, rng: np.random.Generator) -> None:
    load, store = f"ld{form}.shared", f"st{form}.shared"
    given = words(rng)
    body = f"""
    shl.b32 %w, %i, 6; add.u32 %w, %w, %s;
    {store}.v4.b32 [%w], {{%a0, %a1, %a2, %a3}};
    mov.b64 %d0, {{%a4, %a5}}; mov.b64 %d1, {{%a6, %a7}};
    {store}.v2.b64 [%w+16], {{%d0, %d1}};
    {load}.v2.b32 {{%o0, %o1}}, [%w];
    {load}.v4.b16 {{%h0, %h1, %h2, %h3}}, [%w+8];
    mov.b32 %o2, {{%h0, %h1}}; mov.b32 %o3, {{%h2, %h3}};
    {load}.v2.u8 {{%h4, %h5}}, [%w+16]; mov.b32 %o4, {{%h4, %h5}};
    {load}.s8 %o5, [%w+21]; {load}.s16 %o6, [%w+26]; {load}.b32 %o7, [%w+28];
"""
    out = run(body, given)
    np.testing.assert_array_equal(out[:, :4], given[:, :4])
    raw = given.view(np.uint8).reshape(32, 32)
    np.testing.assert_array_equal(out[:, 4], raw[:, 16] | raw[:, 17].astype(np.uint32) << 16)
    np.testing.assert_array_equal(out[:, 5].view(np.int32), raw[:, 21].view(np.int8))
    np.testing.assert_array_equal(out[:, 6].view(np.int32), raw[:, 26:28].copy().view(np.int16)[:, 0])
    np.testing.assert_array_equal(out[:, 7], given[:, 7])


def test_registers_of_sixteen_bytes(rng: np.random.Generator) -> None:
    given = words(rng)
    body = """
    .reg .b128 %q<3>;
    mov.b64 %d0, {%a0, %a1}; mov.b64 %d1, {%a2, %a3};
    mov.b128 %q0, {%d0, %d1};
    shl.b32 %w, %i, 4; add.u32 %w, %w, %s;
    st.shared.b128 [%w], %q0;
    ld.shared.b128 %q1, [%w];
    mov.b128 {%d2, %d3}, %q1;
    mov.b64 {%o2, %o3}, %d2; mov.b64 {%o0, %o1}, %d3;
"""
    np.testing.assert_array_equal(run(body, given)[:, :4], given[:, [2, 3, 0, 1]])


def test_spaces_of_generic_addresses() -> None:
    body = """
    .local .align 4 .b8 mine[16];
    cvt.u64.u32 %d0, %s; cvta.shared.u64 %d0, %d0;
    mov.u64 %d1, mine; cvta.local.u64 %d1, %d1;
    isspacep.shared %p0, %d0; isspacep.local %p1, %d1; isspacep.global %p2, %in; isspacep.shared %p3, %d1;
    selp.b32 %o0, 1, 0, %p0; selp.b32 %o1, 1, 0, %p1; selp.b32 %o2, 1, 0, %p2; selp.b32 %o3, 1, 0, %p3;
    st.b32 [%d1+4], %a0; ld.local.b32 %o4, [mine+4];
"""
    out = run(body, np.array([[7]], np.uint32))
    np.testing.assert_array_equal(out[0, :5], [1, 1, 1, 0, 7])


@pytest.mark.parametrize("size", [4, 8, 16])
def test_asynchronous_copies_fill_with_zeros(size: int, rng: np.random.Generator) -> None:
    given = words(rng)
    kind = "cg" if size == 16 else "ca"
    body = f"""
    shl.b32 %w, %i, 5; add.u32 %w, %w, %s;
    and.b32 %t0, %i, {size - 1};
    st.shared.v4.b32 [%w], {{%i, %i, %i, %i}};
    cp.async.{kind}.shared.global [%w], [%in], {size}, %t0;
    cp.async.commit_group;
    cp.async.{kind}.shared.global [%w+16], [%in+16], {size};
    cp.async.commit_group; cp.async.wait_group 1; cp.async.wait_all;
    ld.shared.v4.b32 {{%o0, %o1, %o2, %o3}}, [%w]; ld.shared.b32 %o4, [%w+16];
"""
    raw = run(body, given).view(np.uint8).reshape(32, 32)
    for i in range(32):
        expected = np.repeat(np.array([i], np.uint32), 4).view(np.uint8)
        expected[:size] = 0
        expected[: i % size] = given.view(np.uint8).reshape(32, 32)[i, : i % size]
        np.testing.assert_array_equal(raw[i, :16], expected)
        np.testing.assert_array_equal(raw[i, 16:20], given.view(np.uint8).reshape(32, 32)[i, 16:20])


ATOMICS: dict[str, tuple[Any, Callable[[int, int], int]]] = {
    "add.u32": (np.uint32, lambda a, b: a + b),
    "min.s32": (np.int32, min),
    "max.u32": (np.uint32, max),
    "and.b32": (np.uint32, lambda a, b: a & b),
    "or.b32": (np.uint32, lambda a, b: a | b),
    "xor.b32": (np.uint32, lambda a, b: a ^ b),
    "inc.u32": (np.uint32, lambda a, b: 0 if a >= b else a + 1),
    "dec.u32": (np.uint32, lambda a, b: b if a == 0 or a > b else a - 1),
    "exch.b32": (np.uint32, lambda a, b: b),
    "add.u64": (np.uint64, lambda a, b: a + b),
    "min.s64": (np.int64, min),
    "max.u64": (np.uint64, max),
    "xor.b64": (np.uint64, lambda a, b: a ^ b),
}


@pytest.mark.parametrize("space", ["shared", "global"])
@pytest.mark.parametrize("name", ATOMICS)
def test_atomics_return_the_old_value(name: str, space: str, rng: np.random.Generator) -> None:
    dtype, function = ATOMICS[name]
    given = words(rng)
    wide = np.dtype(dtype).itemsize == 8
    place = "[%w]" if space == "shared" else "[%in]"
    if wide:
        body = f"""shl.b32 %w, %i, 3; add.u32 %w, %w, %s;
        mov.b64 %d0, {{%a0, %a1}}; mov.b64 %d1, {{%a2, %a3}}; st.{space}.b64 {place}, %d0;
        atom.{space}.{name} %d2, {place}, %d1; red.{space}.or.b64 {place}, 0; ld.{space}.b64 %d3, {place};
        mov.b64 {{%o0, %o1}}, %d2; mov.b64 {{%o2, %o3}}, %d3;"""
    else:
        body = f"""shl.b32 %w, %i, 2; add.u32 %w, %w, %s; st.{space}.b32 {place}, %a0;
        atom.{space}.{name} %o0, {place}, %a2; ld.{space}.b32 %o2, {place};"""
    out = run(body, given)
    half = 2 if wide else 1
    old, new, second = (
        np.ascontiguousarray(x).view(dtype)[:, 0]
        for x in (out[:, :half], out[:, 2 : 2 + half], given[:, 2 : 2 + half])
    )
    first = np.ascontiguousarray(given[:, :half]).view(dtype)[:, 0]
    np.testing.assert_array_equal(old, first)
    mask = (1 << 32 * half) - 1
    for a, b, got in zip(first, second, new, strict=True):
        assert int(got) & mask == function(int(a), int(b)) & mask


@pytest.mark.parametrize(
    ("form", "dtype"),
    [("add.f32", np.float32), ("add.noftz.f16x2", np.float16), ("add.noftz.bf16x2", ml_dtypes.bfloat16)],
)
def test_atomic_sums_of_floats(form: str, dtype: Any, rng: np.random.Generator) -> None:
    count = 4 // np.dtype(dtype).itemsize
    values = rng.integers(-8, 8, (32, count)).astype(dtype)
    body = f"""st.shared.b32 [%s], 0; bar.warp.sync -1;
    red.shared.{form} [%s], %a0; bar.warp.sync -1; ld.shared.b32 %o0, [%s];"""
    out = run(body, values.view(np.uint32).reshape(32, 1))
    total = widened(out[3, :1].copy().view(dtype))
    np.testing.assert_array_equal(total, widened(values).sum(axis=0))


def test_atomic_sum_of_doubles_and_of_vectors(rng: np.random.Generator) -> None:
    given = words(rng)
    given[:, :4] = rng.integers(-9, 9, (32, 4)).astype(np.float32).view(np.uint32)
    given[:, 4:6] = rng.integers(-9, 9, (32, 1)).astype(np.float64).view(np.uint32)
    body = """
    mov.b64 %d0, {%a4, %a5};
    setp.ne.u32 %p0, %i, 0;
    ld.param.u64 %d1, [inputs];
    st.shared.b64 [%s], 0; bar.warp.sync -1;
    red.shared.add.f64 [%s], %d0; bar.warp.sync -1;
    ld.shared.b64 %d2, [%s]; mov.b64 {%o4, %o5}, %d2;
    @%p0 red.global.add.v4.f32 [%d1], {%a0, %a1, %a2, %a3};
    bar.warp.sync -1;
    ld.global.v4.b32 {%o0, %o1, %o2, %o3}, [%d1];
"""
    out = run(body, given)
    np.testing.assert_array_equal(out[5, :4].view(np.float32), given[:, :4].view(np.float32).sum(axis=0))
    np.testing.assert_array_equal(
        out[5, 4:6].copy().view(np.float64)[0], np.ascontiguousarray(given[:, 4:6]).view(np.float64).sum()
    )


def test_compare_and_swap_of_halves_and_words() -> None:
    body = """
    st.shared.b32 [%s], 5;
    atom.shared.cas.b32 %o0, [%s], 5, 9; atom.shared.cas.b32 %o1, [%s], 5, 11; ld.shared.b32 %o2, [%s];
    mov.u16 %h0, 9; mov.u16 %h1, 77;
    atom.shared.cas.b16 %h2, [%s], %h0, %h1; ld.shared.b32 %o3, [%s];
"""
    np.testing.assert_array_equal(run(body, np.zeros((1, 1), np.uint32))[0, :4], [5, 9, 9, 77])


def test_barriers_that_vote_and_that_let_producers_go_on() -> None:
    body = """
    setp.lt.u32 %p0, %i, 40;
    bar.red.popc.u32 %o0, 0, %p0;
    bar.red.and.pred %p1, 0, %p0; selp.b32 %o1, 1, 0, %p1;
    barrier.sync.aligned 0; bar.red.or.pred %p2, 0, %p0; selp.b32 %o2, 1, 0, %p2;
    setp.lt.u32 %p3, %i, 32;
    @%p3 bra PRODUCE;
    bar.sync 3, 64; ld.shared.b32 %o3, [%s];
    bra DONE;
PRODUCE:
    st.shared.b32 [%s], 321; bar.arrive 3, 64;
DONE:
    bar.sync 0;
"""
    out = run(body, np.zeros((64, 1), np.uint32))
    np.testing.assert_array_equal(out[:, 0], 40)
    np.testing.assert_array_equal(out[:, 1], 0)
    np.testing.assert_array_equal(out[:, 2], 1)
    np.testing.assert_array_equal(out[32:, 3], 321)


def test_misaligned_access_is_an_error() -> None:
    with pytest.raises(DeviceError, match=r"thread 0 .* accesses 8 bytes of shared .* not a multiple of 8"):
        run("ld.shared.v2.b32 {%o0, %o1}, [%s+4];", np.zeros((1, 1), np.uint32))


@pytest.mark.parametrize(
    "text", ["atom.shared.frob.b32 %o0, [%s], %a0", "cvt.rn.s32.q8 %o0, %a0", "vmad.s32 %o0, %a0"]
)
def test_unknown_forms_name_their_line(text: str) -> None:
    with pytest.raises(
        CompileError, match=r"PTX line \d+.*does not know " + text.split()[0].replace(".", r"\.")
    ):
        run(text + ";", np.zeros((1, 1), np.uint32))
