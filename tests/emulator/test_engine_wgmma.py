"""`wgmma` on both implementations: every type, size, layout and descriptor."""

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.emulator import Emulator
from tessera.emulator.lockstep import launch
from tessera.program.errors import DeviceError
from tests.emulator.fragments import registers

Array = np.ndarray[Any, Any]
ENGINE = Emulator(workers=1, memory_bytes=1 << 24, level=0)
EXAMPLES = int(os.environ.get("TESSERA_FUZZ_EXAMPLES", "3"))
IMAGE = 72 << 10
"""Bytes of shared memory, all of them operands."""
KINDS = [
    # D, A, B, k
    *((d, "f16", "f16", 16) for d in ("f16", "f32")), ("f32", "bf16", "bf16", 16), ("f32", "tf32", "tf32", 8),
    *((d, a, b, 32) for d in ("f16", "f32") for a in ("e4m3", "e5m2") for b in ("e4m3", "e5m2")),
    *(("s32", a, b, 32) for a in ("s8", "u8") for b in ("s8", "u8")), ("s32", "b1", "b1", 256),
]  # fmt: skip


def program(d: str, a: str, b: str, k: int, n: int, *, a_text: str, flags: str, after: str = "") -> str:
    """`k(image, in, out, a, b, scale)`: shared memory begins as the image; a lane's first words are `%a0`…"""
    count = n // 4 if d == "f16" else n // 2
    names = [f"%c{i}" for i in range(count)]
    saturates = ".satfinite" if "satfinite" in flags else ""
    popc = ".and.popc" if a == "b1" else ""
    rest = flags.replace("satfinite", "")
    return f""".version 8.7
.target sm_90a
.address_size 64
.visible .entry k(
    .param .u64 image, .param .u64 in, .param .u64 out, .param .u64 a, .param .u64 b, .param .u32 scale
)
{{
    .reg .b32 %c<{count}>, %a<4>, %i, %s, %t, %n;
    .reg .b64 %p<3>, %w, %x, %y;
    .reg .pred %go, %q;
    .shared .align 1024 .b8 memory[{IMAGE}];
    ld.param.u64 %p0, [image]; ld.param.u64 %p1, [in]; ld.param.u64 %p2, [out];
    ld.param.u64 %x, [a]; ld.param.u64 %y, [b]; ld.param.u32 %s, [scale];
    setp.ne.u32 %go, %s, 0;
    mov.u32 %i, %tid.x;
    mad.wide.u32 %w, %i, 4, %p0; mov.u32 %s, memory; mad.lo.u32 %s, %i, 4, %s; mov.u32 %n, 0;
COPY:
    ld.global.b32 %t, [%w]; st.shared.b32 [%s], %t;
    add.u64 %w, %w, 512; add.u32 %s, %s, 512; add.u32 %n, %n, 1;
    setp.lt.u32 %q, %n, {IMAGE // 512};
    @%q bra COPY;
    mad.wide.u32 %p1, %i, {4 * (count + 4)}, %p1;
    mad.wide.u32 %p2, %i, {4 * count}, %p2;
    {" ".join(f"ld.global.b32 %a{i}, [%p1+{4 * i}];" for i in range(4))}
    {" ".join(f"ld.global.b32 {name}, [%p1+{16 + 4 * i}];" for i, name in enumerate(names))}
    fence.proxy.async;
    bar.sync 0;
    wgmma.fence.sync.aligned;
    wgmma.mma_async.sync.aligned.m64n{n}k{k}.{d}.{a}.{b}{popc}{saturates}
        {{{", ".join(names)}}}, {a_text}, %y, %go{rest};
    wgmma.commit_group.sync.aligned;
    wgmma.wait_group.sync.aligned 0;
    {after}
    {" ".join(f"st.global.b32 [%p2+{4 * i}], {name};" for i, name in enumerate(names))}
    ret;
}}
"""


def elements(rng: np.random.Generator, kind: str, count: int) -> Array:
    """(count,) uint32: words full of elements."""
    return registers(rng, kind, 64, -(-count // 64)).ravel()[:count].astype(np.uint32)


def descriptor(draw: st.DrawFn, columns: int) -> int:
    """Any place that fits the image: `columns` groups of eight."""
    mode = draw(st.integers(0, 3))
    start = draw(st.integers(0, 1024)) * 16
    leading = draw(st.sampled_from([16, 128, 256, 512, 1024, 8 * 16]))
    stride = draw(st.sampled_from([128, 256, 512, 1024]))
    return start >> 4 | leading >> 4 << 16 | stride >> 4 << 32 | mode << 62


@st.composite
def descriptors(draw: st.DrawFn) -> tuple[int, int]:
    return descriptor(draw, 8), descriptor(draw, 32)


@settings(deadline=None, max_examples=EXAMPLES)
@given(data=st.data())
@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: "-".join(kinds[:3]))
def test_every_product_agrees(kinds: tuple[str, str, str, int], data: st.DataObject) -> None:
    d, a, b, k = kinds
    n = 8 * data.draw(st.integers(1, 32))
    places = data.draw(descriptors())
    in_registers = data.draw(st.booleans())
    flags = data.draw(st.sampled_from(["", "satfinite"] if a in ("s8", "u8") else [""]))
    if d != "s32":
        flags += "".join(f", {data.draw(st.sampled_from([1, -1]))}" for _ in range(2))
    if a in ("f16", "bf16"):
        flags += "".join(f", {data.draw(st.integers(0, 1))}" for _ in range(1 if in_registers else 2))
    a_text = "{%a0, %a1, %a2, %a3}" if in_registers else "%x"
    text = program(d, a, b, k, n, a_text=a_text, flags=flags)
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    count = n // 4 if d == "f16" else n // 2
    image = elements(rng, a, IMAGE // 4)
    words = np.concatenate([registers(rng, a, 128, 4), registers(rng, d, 128, count)], axis=1)
    scale = data.draw(st.sampled_from([0, 1, 1]))
    found = []
    for run in (ENGINE.launch, launch):
        out = np.zeros((128, count), np.uint32)
        values = [image, words.copy(), out, *(np.uint64(p) for p in places), np.uint32(scale)]
        run(text, "k", (1,), (128,), values)
        found.append(out)
    np.testing.assert_array_equal(found[0], found[1])
    assert found[1].any()


PLAIN = {"d": "f32", "a": "f16", "b": "f16", "k": 16, "n": 16, "a_text": "%x", "flags": ", 1, 1, 0, 0"}
LINES = 16 >> 4 << 16 | 256 >> 4 << 32 | 3 << 62
"""Rows of 32 bytes, swizzled, eight of them together."""


def launch_plain(run: Any, text: str, a: int = LINES, b: int = LINES | 4096 >> 4) -> tuple[Array, Array]:
    rng = np.random.default_rng(7)
    image = rng.integers(-4, 5, IMAGE // 2).astype(np.float16)
    out = np.zeros((128, 8), np.float32)
    words = np.zeros((128, 12), np.uint32)
    run(text, "k", (1,), (128,), [image, words, out, np.uint64(a), np.uint64(b), np.uint32(0)])
    return out, image


@pytest.mark.parametrize("run", [ENGINE.launch, launch], ids=["engine", "interpreter"])
def test_operands_may_be_overwritten_once_a_warp_has_waited(run: Any) -> None:
    expected, _ = launch_plain(run, program(**PLAIN))
    overwrite = (
        "mov.u32 %s, memory; mad.lo.u32 %s, %i, 64, %s; st.shared.b32 [%s], 0; st.shared.b32 [%s+4096], 0;"
    )
    found, _ = launch_plain(run, program(**PLAIN, after=overwrite))
    np.testing.assert_array_equal(found, expected)
    assert expected.any(axis=1).all()


@pytest.mark.parametrize("run", [ENGINE.launch, launch], ids=["engine", "interpreter"])
def test_a_warp_that_does_not_come_to_the_wait_is_a_deadlock(run: Any) -> None:
    text = (
        program(**PLAIN)
        .replace("wgmma.wait_group", "setp.gt.u32 %q, %i, 95;\n@%q bra PAST;\nwgmma.wait_group")
        .replace("st.global.b32 [%p2+0]", "PAST:\nbar.sync 0;\nst.global.b32 [%p2+0]")
    )
    with pytest.raises(DeviceError, match="deadlock") as caught:
        launch_plain(run, text)
    line = next(i for i, each in enumerate(text.splitlines(), 1) if "wait_group" in each)
    assert f"line {line}" in str(caught.value)


@pytest.mark.parametrize("run", [ENGINE.launch, launch], ids=["engine", "interpreter"])
@pytest.mark.parametrize("side", ["a", "b"])
def test_descriptors_that_point_outside_of_shared_memory_are_found(run: Any, side: str) -> None:
    with pytest.raises(DeviceError, match=r"wgmma\.mma_async.*shared memory"):
        launch_plain(run, program(**PLAIN), **{side: LINES | IMAGE - 256 >> 4})
