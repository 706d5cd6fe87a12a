"""mbarrier, bulk copies and warpgroup products, with layouts written out from the ISA's figures."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tessera.emulator import Emulator
from tessera.program.errors import DeviceError
from tests.emulator.warp import run, widened

Array = np.ndarray[Any, Any]
ENGINE = Emulator(workers=1, memory_bytes=1 << 24, level=0)


def test_mbarrier_counts_arrivals_and_turns_its_phase() -> None:
    body = """
    setp.ne.u32 %p0, %i, 0;
    @!%p0 mbarrier.init.shared.b64 [%s], 64;
    bar.sync 0;
    mbarrier.test_wait.parity.shared.b64 %p1, [%s], 0; selp.b32 %o0, 1, 0, %p1;
    mbarrier.test_wait.parity.shared.b64 %p1, [%s], 1; selp.b32 %o1, 1, 0, %p1;
    bar.sync 0;
    setp.lt.u32 %p2, %i, 32;
    @%p2 bra WAIT;
    st.shared.b32 [%s+16], 99;
    mbarrier.arrive.shared.b64 %d0, [%s];
    mbarrier.pending_count.b64 %o4, %d0;
WAIT:
    @%p2 mbarrier.arrive.shared.b64 _, [%s];
LOOP:
    mbarrier.try_wait.parity.shared.b64 %p3, [%s], 0;
    @!%p3 bra LOOP;
    ld.shared.b32 %o2, [%s+16];
    mbarrier.test_wait.parity.shared.b64 %p1, [%s], 1; selp.b32 %o3, 1, 0, %p1;
"""
    out = run(body, np.zeros((64, 1), np.uint32))
    np.testing.assert_array_equal(out[:, :4], np.tile([0, 1, 99, 0], (64, 1)))
    # Each arrival saw how many were still to come: together, all counts down to one.
    assert set(out[32:, 4]) <= set(range(1, 65))
    assert len(set(out[32:, 4])) == 32


def test_bulk_copy_completes_its_bytes_before_the_wait_ends(rng: np.random.Generator) -> None:
    given = rng.integers(0, 1 << 32, (32, 8)).astype(np.uint32)
    body = """
    setp.ne.u32 %p0, %i, 0;
    @%p0 bra WAIT;
    mbarrier.init.shared.b64 [%s], 1;
    fence.mbarrier_init.release.cluster;
    mbarrier.arrive.expect_tx.shared.b64 _, [%s], 1024;
    add.u32 %t0, %s, 1024;
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%t0], [%in], 1024, [%s];
WAIT:
    bar.sync 0;
LOOP:
    mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 %p1, [%s], 0;
    @!%p1 bra LOOP;
    shl.b32 %w, %i, 5; add.u32 %w, %w, %s;
    ld.shared.v4.b32 {%o0, %o1, %o2, %o3}, [%w+1024]; ld.shared.v4.b32 {%o4, %o5, %o6, %o7}, [%w+1040];
"""
    np.testing.assert_array_equal(run(body, given), given)


def test_more_arrivals_than_an_mbarrier_expects_are_found() -> None:
    body = "mbarrier.init.shared.b64 [%s], 1; mbarrier.arrive.noComplete.shared.b64 %d0, [%s], 2;"
    with pytest.raises(DeviceError, match="arrives at an mbarrier 2 times, which expects 1 more"):
        run(body, np.zeros((1, 1), np.uint32))


# -- wgmma --------------------------------------------------------------------------------------------

KINDS: dict[str, tuple[Any, str, int]] = {
    "f16": (np.float16, "f32", 16), "bf16": (ml_dtypes.bfloat16, "f32", 16), "tf32": (np.float32, "f32", 8),
    "e4m3": (ml_dtypes.float8_e4m3fn, "f32", 32), "e5m2": (ml_dtypes.float8_e5m2, "f32", 32),
    "s8": (np.int8, "s32", 32), "u8": (np.uint8, "s32", 32),
}  # fmt: skip
CODES = {16: 0, 128: 1, 64: 2, 32: 3}


def chunk_of(chunk: int, row: int, swizzle: int) -> int:
    """Where a 16-byte chunk of a row lies: the figures of section 9.7.15.5.1.2 by row of eight."""
    return chunk ^ {16: 0, 32: row % 8 // 4, 64: row % 8 // 2, 128: row % 8}[swizzle]


def place_lines(image: Array, at: int, matrix: Array, swizzle: int) -> tuple[int, int]:
    """Put a matrix whose rows are 32 bytes of k into shared memory; returns leading and stride offsets."""
    raw = np.ascontiguousarray(matrix).view(np.uint8)
    groups = len(matrix) // 8
    for row in range(len(matrix)):
        for chunk in range(2):
            if swizzle == 16:
                place = at + chunk * groups * 128 + row // 8 * 128 + row % 8 * 16
            else:
                place = at + row // 8 * 8 * swizzle + row % 8 * swizzle + chunk_of(chunk, row, swizzle) * 16
            image[place : place + 16] = raw[row, chunk * 16 : chunk * 16 + 16]
    return (groups * 128, 128) if swizzle == 16 else (16, 8 * swizzle)


def place_columns(image: Array, at: int, matrix: Array, swizzle: int) -> tuple[int, int]:
    """Put a 16-bit matrix (rows, 16) into shared memory with its columns contiguous."""
    raw = np.ascontiguousarray(matrix.T).view(np.uint8)
    width = raw.shape[1]
    for k in range(16):
        for chunk in range(width // 16):
            if swizzle == 16:
                place = at + chunk * 128 + k // 8 * width * 8 + k % 8 * 16
            else:
                assert width == swizzle
                place = at + k // 8 * 8 * swizzle + k % 8 * swizzle + chunk_of(chunk, k, swizzle) * 16
            image[place : place + 16] = raw[k, chunk * 16 : chunk * 16 + 16]
    return (width * 8, 128) if swizzle == 16 else (width * 8, 8 * swizzle)


def descriptor(at: int, leading: int, stride: int, swizzle: int) -> str:
    high = leading >> 4 << 16 | stride >> 4 << 32 | CODES[swizzle] << 62
    return f"cvt.u64.u32 %d9, %s; add.u64 %d9, %d9, {at}; shr.u64 %d9, %d9, 4; or.b64 %d{{}}, %d9, {high:#x};"


@pytest.mark.parametrize("engine", [None, ENGINE], ids=["interpreter", "engine"])
@pytest.mark.parametrize(
    ("kind", "a_form", "b_form"),
    [("f16", a, b) for a in ("k16", "k32", "k64", "k128", "m16", "m128") for b in ("k128", "k16")]
    + [("bf16", "k128", b) for b in ("k32", "k64", "m16", "m32")]
    + [("f16", "registers", "k128"), ("f16", "registers", "m32")]
    + [(kind, "k128", "k128") for kind in ("tf32", "e4m3", "e5m2", "s8", "u8")],
)  # fmt: skip
def test_warpgroup_product_of_matrices_in_shared_memory(
    kind: str, a_form: str, b_form: str, engine: Emulator | None, rng: np.random.Generator
) -> None:
    dtype, sums, k = KINDS[kind]
    low, high = (0, 9) if kind == "u8" else (-4, 5)
    a, b = (rng.integers(low, high, (rows, k)).astype(dtype) for rows in (64, 16))
    image = np.zeros(16384, np.uint8)
    text = []
    for index, (matrix, form, at) in enumerate(((a, a_form, 0), (b, b_form, 8192))):
        if form == "registers":
            place_lines(image, at, matrix, 32)
            continue
        swizzle = int(form[1:])
        put = place_columns if form[0] == "m" else place_lines
        leading, stride = put(image, at, matrix, swizzle)
        text.append(descriptor(at, leading, stride, swizzle).format(index))
    names = ",".join(f"%t{i}" for i in range(8))
    a_name = "%d0"
    loads = ""
    if a_form == "registers":
        # Row and column of each pair, read from the image with its 32-byte rows in the clear.
        raw = np.ascontiguousarray(a).view(np.uint8).reshape(-1)
        image[: raw.size] = raw
        a_name = "{%t10,%t11,%t12,%t13}"
        loads = """shr.u32 %t20, %i, 5; and.b32 %t20, %t20, 3; and.b32 %t21, %i, 31;
        shr.u32 %t22, %t21, 2; mad.lo.u32 %t22, %t20, 16, %t22; and.b32 %t21, %t21, 3;
        mad.lo.u32 %w, %t22, 32, %s; mad.lo.u32 %w, %t21, 4, %w;
        ld.shared.b32 %t10, [%w]; ld.shared.b32 %t11, [%w+256]; ld.shared.b32 %t12, [%w+16];
        ld.shared.b32 %t13, [%w+272];"""
    flags = "p" if sums == "s32" else "p, 1, 1"
    if kind in ("f16", "bf16"):
        across = [] if a_form == "registers" else [int(a_form[0] == "m")]
        flags += "".join(f", {f}" for f in [*across, int(b_form[0] == "m")])
    body = f"""
    mad.lo.u32 %w, %i, 32, %s;
    st.shared.v4.b32 [%w], {{%a0, %a1, %a2, %a3}}; st.shared.v4.b32 [%w+16], {{%a4, %a5, %a6, %a7}};
    fence.proxy.async; bar.sync 0;
    {" ".join(text)} {loads}
    {" ".join(f"mov.b32 %t{i}, {'0f40000000' if sums == 'f32' else 2};" for i in range(8))}
    setp.eq.u32 %p0, 0, 0;
    wgmma.fence.sync.aligned;
    wgmma.mma_async.sync.aligned.m64n16k{k}.{sums}.{kind}.{kind} {{{names}}}, {a_name}, %d1, {flags};
    wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;
    {" ".join(f"mov.b32 %o{i}, %t{i};" for i in range(8))}
""".replace(" p,", " %p0,").replace(" p;", " %p0;")
    out = run(body, image.view(np.uint32).reshape(512, 8), engine)[:128]
    expected = widened(a) @ widened(b).T + 2
    values = out.view(np.float32 if sums == "f32" else np.int32)
    for thread in range(128):
        warp, lane = thread // 32, thread % 32
        for i in range(8):
            row = 16 * warp + lane // 4 + 8 * (i // 2 % 2)
            assert values[thread, i] == expected[row, i // 4 * 8 + lane % 4 * 2 + i % 2]
