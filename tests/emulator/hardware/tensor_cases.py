"""Bulk tensor copies that were recorded on a GPU, and the kernels that make them.

Tensors hold the bytes of `contents`; a kernel writes shared memory, with the box in it, to `out`.
"""

# ruff: noqa: E501 - a case is one line

from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.program.tensor_map import Im2col, TensorMap

Array = np.ndarray[Any, Any]
SHARED = 32768
"""Bytes of shared memory that a kernel reports."""
TENSOR = 1 << 18
"""Bytes of device memory of a tensor."""


@dataclass(frozen=True, slots=True)
class Case:
    """One copy."""

    map: TensorMap
    at: tuple[int, ...]
    """Coordinates."""
    what: str = "load"
    """`load`, `load+N` (N bytes into shared memory), `store`, or the operation of a reduction."""
    offsets: tuple[int, ...] = ()
    """Of an im2col load."""


def case(
    element: str, sizes: tuple[int, ...], box: tuple[int, ...], at: tuple[int, ...], *, what: str = "load",
    pad: int = 0, offsets: tuple[int, ...] = (), **more: Any,
) -> Case:  # fmt: skip
    """A copy of a tensor whose rows lie `pad` times 16 bytes apart."""
    itemsize = {"u8": 1, "u16": 2, "f16": 2, "bf16": 2, "f64": 8, "u64": 8, "i64": 8}.get(element, 4)
    strides, step = [], -(-sizes[0] * itemsize // 16) * 16 + 16 * pad
    for size in sizes[1:]:
        strides.append(step)
        step *= size
    map_ = TensorMap(element, 0, sizes, tuple(strides), box, **more)  # type: ignore[arg-type]
    return Case(map_, at, what, offsets)


PIXELS = Im2col((-1, -1), (-1, -1), 16, 24)
CASES = [
    *(case("u16", (80, 40), (w // 2, 24), (x, y), swizzle=w, pad=1)
      for w in (32, 64, 128) for x, y in ((0, 0), (8, 3), (72, 30), (-8, -5))),
    *(case("u16", (80, 40), (64, 16), (x, y)) for x, y in ((0, 0), (16, 5), (64, 33), (-24, -2), (200, 100))),
    case("u8", (500,), (256,), (-96,)), case("u8", (500,), (256,), (304,)),
    case("u32", (64, 20, 6), (8, 8, 4), (4, 17, 4), swizzle=32),
    case("u32", (24, 10, 6, 5), (12, 4, 4, 3), (-4, 8, -1, 3)),
    case("u32", (12, 5, 4, 3, 3), (8, 3, 3, 2, 2), (8, 3, 2, -1, 2), pad=1),
    case("u64", (30, 20), (8, 8), (28, -3), swizzle=64),
    *(case(e, (40, 20), (16, 8), (32, -3), fill="nan") for e in ("f16", "bf16", "f32", "tf32", "f32_ftz")),
    case("f64", (40, 20), (8, 8), (36, 15), fill="nan"),
    *(case("u16", (80, 40), (32, 24), (x, y), steps=(1, s))
      for s in (2, 3) for x, y in ((0, 0), (56, 31), (-8, -4))),
    case("u16", (80, 40), (32, 24), (8, 1), steps=(2, 1)),
    case("u32", (40, 12, 9), (8, 7, 9), (4, -2, -1), steps=(1, 3, 4)),
    case("tf32", (40, 20), (16, 8), (0, 0)), case("f32_ftz", (40, 20), (16, 8), (0, 0)),
    *(case("u16", (80, 40), (w // 2, 24), (x, y), swizzle=w, pad=1, what="store")
      for w in (32, 64, 128) for x, y in ((8, 3), (72, 30))),
    case("u16", (80, 40), (32, 24), (56, 4), steps=(1, 3), what="store"),
    case("u32", (24, 10, 6, 5), (12, 4, 4, 3), (4, 8, 3, 3), what="store"),
    *(case("u32", (40, 20), (16, 8), (32, 15), what=op)
      for op in ("add", "min", "max", "and", "or", "xor", "inc", "dec")),
    *(case(e, (40, 20), (16, 8), (32, 3), what=op) for e in ("f16", "bf16") for op in ("add", "min", "max")),
    case("i32", (40, 20), (16, 8), (4, 2), what="min"), case("f32", (40, 20), (16, 8), (4, 2), what="add"),
    case("u64", (40, 20), (16, 8), (4, 2), what="add"), case("i64", (40, 20), (16, 8), (4, 2), what="min"),
    *(case("u16", (80, 40), (w // 2, 16), (8, 2), swizzle=w, what="load+128") for w in (32, 64, 128)),
    *(case("u16", (32, 12, 10, 3), (), at, im2col=PIXELS, offsets=o, **m)
      for at, o in (((0, -1, -1, 0), (0, 0)), ((16, 5, 7, 0), (2, 1)), ((8, -1, 8, 2), (1, 2)),
                    ((24, 10, 0, 1), (0, 2)))
      for m in ({}, {"swizzle": 32}, {"steps": (1, 2, 2, 1)})),
    case("u32", (16, 20, 4), (), (4, -2, 1), im2col=Im2col((-2,), (1,), 8, 40), offsets=(1,)),
    case("u8", (32, 7, 6, 5, 2), (), (0, -1, 2, 3, 0),
         im2col=Im2col((-1, -1, -1), (-1, -1, -1), 32, 50), offsets=(2, 0, 1)),
    *(Case(TensorMap("u16", 0, sizes, strides, box, interleave=16, **m), at)  # type: ignore[arg-type]
      for sizes, strides, box, at, m in (
          ((8, 10, 6), (16, 160), (8, 4, 3), (0, 1, 2), {}), ((3, 10, 6), (64, 640), (8, 4, 3), (1, 1, 2), {}),
          ((32, 10, 6, 4), (512, 5120, 30720), (16, 4, 3, 2), (0, 1, 2, 1), {}),
          ((8, 40, 6), (128, 5120), (8, 16, 3), (0, 1, 2), {}), ((8, 5, 6), (128, 640), (8, 24, 2), (0, 3, 1), {}),
          ((8, 40, 6), (128, 5120), (8, 8, 3), (-2, -1, 4), {}), ((8, 40, 6), (128, 5120), (8, 9, 3), (0, 1, 2), {}),
          ((32, 10, 6, 4), (512, 5120, 30720), (16, 4, 17, 2), (0, 1, 2, 1), {}),
          ((32, 10, 6, 4), (512, 5120, 30720), (16, 4, 8, 2), (1, 8, 2, 3), {"steps": (2, 3, 1, 1)}),
          ((32, 10, 6, 4), (512, 5120, 30720), (16, 4, 8, 2), (1, 8, 2, 3), {"swizzle": 128}),
          ((32, 10, 6, 4), (512, 5120, 30720), (16, 4, 8, 2), (1, 8, 2, 3), {"swizzle": 32}),
          ((8, 5, 6, 4, 3), (128, 640, 3840, 15360), (8, 3, 2, 8, 2), (1, 2, 3, 1, 0), {}))),
    Case(TensorMap("u8", 0, (16, 10, 6), (512, 5120), (16, 4, 3), interleave=16), (0, 1, 2)),
    Case(TensorMap("u8", 0, (16, 10, 6), (512, 5120), (16, 17, 3), interleave=16), (0, 1, 2)),
    *(Case(TensorMap("u16", 0, (16, 10, 6), (512, 5120), box, interleave=32, swizzle=32), (0, 1, 2))
      for box in ((16, 4, 3), (16, 17, 3))),
    # What a GPU stops at: a first coordinate that is no multiple of 16 bytes, a negative one when it writes.
    case("u16", (80, 40), (64, 16), (3, 5)), case("u8", (500,), (256,), (-100,)),
    case("u16", (80, 40), (64, 16), (12, 5), what="store"), case("u32", (40, 20), (16, 8), (4, -3), what="store"),
    case("u32", (40, 20), (16, 8), (-4, 3), what="add"),
]  # fmt: skip
"""The copies, in the order of the records."""


def contents(case_: Case) -> Array:
    """(TENSOR,) uint8: the tensor, with ordinary numbers for floats."""
    rng = np.random.default_rng(9)
    element = case_.map.element
    if element in ("f32", "tf32", "f32_ftz", "f64"):
        kind = np.float64 if element == "f64" else np.float32
        values = rng.standard_normal(TENSOR // np.dtype(kind).itemsize).astype(kind)
        values[::7] *= kind(1e-40) if element == "f32_ftz" else kind(1)
        if element == "tf32":
            # Halfway between two numbers of tf32.
            bits = values.view(np.uint32)
            bits[::3] = bits[::3] & ~np.uint32(0x1FFF) | np.uint32(0x1000)
        return values.view(np.uint8)
    if element in ("f16", "bf16"):
        values = rng.standard_normal(TENSOR // 2).astype(np.float32)
        return (
            values.astype(np.float16).view(np.uint8)
            if element == "f16"
            else values.view(np.uint16)[1::2].copy().view(np.uint8)
        )
    return rng.integers(0, 256, TENSOR).astype(np.uint8)


def shared_before(case_: Case) -> Array:
    """(SHARED,) uint8: what shared memory holds before the copy."""
    if case_.what.startswith("load"):
        return np.full(SHARED, 0xEE, np.uint8)
    return np.roll(contents(case_), 4711 * 8)[:SHARED]


def program(case_: Case) -> str:
    """A kernel `k(map, before, out)` of 128 threads."""
    m, rank = case_.map, case_.map.rank
    where = ", ".join(map(str, case_.at))
    mode = "im2col" if m.im2col else "tile"
    start = int(case_.what.partition("+")[2] or 0)
    if case_.what.startswith("load"):
        extra = ", {" + ", ".join(map(str, case_.offsets)) + "}" if m.im2col else ""
        copy = f"""
    mbarrier.init.shared.b64 [%r3], 1;
    fence.mbarrier_init.release.cluster;
    mbarrier.arrive.expect_tx.shared.b64 _, [%r3], {m.bytes};
    cp.async.bulk.tensor.{rank}d.shared::cluster.global.{mode}.mbarrier::complete_tx::bytes [%r2+{start}], [%rd1, {{{where}}}], [%r3]{extra};
    mov.u32 %r8, 0;
LOOP:
    mbarrier.try_wait.parity.shared.b64 %p1, [%r3], 0, 1000;
    add.u32 %r8, %r8, 1;
    setp.gt.u32 %p0, %r8, 5000;
    or.pred %p1, %p1, %p0;
    @!%p1 bra LOOP;"""
    else:
        kind = "cp.async.bulk" if case_.what == "store" else "cp.reduce.async.bulk"
        operation = "" if case_.what == "store" else f".{case_.what}"
        copy = f"""
    {kind}.tensor.{rank}d.global.shared::cta{operation}.{mode}.bulk_group [%rd1, {{{where}}}], [%r2];
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group 0;"""
    return f""".version 8.3
.target sm_90a
.address_size 64
.visible .entry k(.param .align 64 .b8 map[128], .param .u64 before, .param .u64 out)
{{
    .reg .b32 %r<9>;
    .reg .b64 %rd<9>;
    .reg .pred %p<4>;
    .shared .align 1024 .b8 tile[{SHARED}];
    .shared .align 8 .b8 barrier[8];
    mov.b64 %rd0, map;
    cvta.param.u64 %rd1, %rd0;
    ld.param.u64 %rd2, [before];
    ld.param.u64 %rd3, [out];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, tile;
    mov.u32 %r3, barrier;
    shl.b32 %r4, %r1, 2;
    cvt.u64.u32 %rd4, %r4;
    add.u64 %rd2, %rd2, %rd4;
    add.u64 %rd3, %rd3, %rd4;
    mov.u32 %r5, 0;
    add.u32 %r6, %r2, %r4;
FILL:
    ld.global.b32 %r7, [%rd2];
    st.shared.b32 [%r6], %r7;
    add.u64 %rd2, %rd2, 512;
    add.u32 %r6, %r6, 512;
    add.u32 %r5, %r5, 512;
    setp.lt.u32 %p2, %r5, {SHARED};
    @%p2 bra FILL;
    fence.proxy.async;
    bar.sync 0;
    setp.ne.u32 %p3, %r1, 0;
    @%p3 bra DONE;{copy}
DONE:
    bar.sync 0;
    mov.u32 %r5, 0;
    add.u32 %r6, %r2, %r4;
KEEP:
    ld.shared.b32 %r7, [%r6];
    st.global.b32 [%rd3], %r7;
    add.u64 %rd3, %rd3, 512;
    add.u32 %r6, %r6, 512;
    add.u32 %r5, %r5, 512;
    setp.lt.u32 %p2, %r5, {SHARED};
    @%p2 bra KEEP;
    ret;
}}
"""
