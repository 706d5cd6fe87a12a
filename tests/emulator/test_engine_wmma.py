"""`wmma` on both implementations: loads, products and stores of every shape, type and layout."""

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.emulator import Emulator
from tessera.emulator.lockstep import launch
from tessera.program.errors import CompileError, DeviceError
from tests.emulator.fragments import BITS, agree, registers

Array = np.ndarray[Any, Any]
ENGINE = Emulator(workers=1, memory_bytes=1 << 24, level=0)
EXAMPLES = int(os.environ.get("TESSERA_FUZZ_EXAMPLES", "3"))
WIDE = ("m16n16k16", "m32n8k16", "m8n32k16")
FORMS = [
    # shape, A and B, C, D, registers of A, B, C, D
    *((shape, "f16", c, d, 8, 8, 4 if c == "f16" else 8, 4 if d == "f16" else 8)
      for shape in WIDE for c in ("f16", "f32") for d in ("f16", "f32")),
    *((shape, kind, sums, sums, a, b, 8, 8)
      for kind, sums, unit in (("bf16", "f32", 2), ("s8", "s32", 1), ("u8", "s32", 1))
      for shape, a, b in (("m16n16k16", 2 * unit, 2 * unit), ("m32n8k16", 4 * unit, unit),
                          ("m8n32k16", unit, 4 * unit))),
    ("m16n16k8", "tf32", "f32", "f32", 4, 4, 8, 8), ("m8n8k4", "f64", "f64", "f64", 1, 1, 2, 2),
    *(("m8n8k32", kind, "s32", "s32", 1, 1, 2, 2) for kind in ("s4", "u4")),
    ("m8n8k128", "b1", "s32", "s32", 1, 1, 2, 2),
]  # fmt: skip
SIZES = {**BITS, "s4": 4, "u4": 4, "b1": 1}


def sizes(shape: str) -> tuple[int, int, int]:
    m, _, rest = shape[1:].partition("n")
    n, _, k = rest.partition("k")
    return int(m), int(n), int(k)


def names(letter: str, count: int) -> str:
    return "{" + ", ".join(f"%{letter}{i}" for i in range(count)) + "}"


def _copied(index: int, *, inwards: bool) -> str:
    """Moves an array of 8 KiB to its place in shared memory, or back, 64 times 32 words."""
    label = f"{'IN' if inwards else 'OUT'}{index}"
    lines = ["ld.global.b32 %t, [%w];", "st.shared.b32 [%y], %t;"]
    if not inwards:
        lines = ["ld.shared.b32 %t, [%y];", "st.global.b32 [%w], %t;"]
    return f"""
    mov.u32 %n, 0; add.u64 %w, %p{index}, %l; cvt.u32.u64 %y, %l; add.u32 %y, %y, %s{index};
{label}:
    {" ".join(lines)}
    add.u64 %w, %w, 128; add.u32 %y, %y, 128; add.u32 %n, %n, 1;
    setp.lt.u32 %q, %n, 64;
    @%q bra {label};
"""


def program(form: tuple[Any, ...], layouts: tuple[str, str, str], space: str, pads: tuple[int, ...]) -> str:
    """`k(a, b, c, d)` of one warp, with rows (or columns) that many elements apart; through shared memory or
    not.
    """
    shape, kind, c_kind, d_kind, *counts = form
    m, n, k = sizes(shape)
    a_layout, b_layout, c_layout = layouts
    steps = [
        (k if a_layout == "row" else m) + pads[0], (n if b_layout == "row" else k) + pads[1],
        *[(n if c_layout == "row" else m) + pads[2]] * 2,
    ]  # fmt: skip
    word = "b64" if kind == "f64" else "b32"
    types = f"{d_kind}.{c_kind}" if kind == "f16" else f"{d_kind}.{kind}.{kind}.{c_kind}"
    popc = ".xor.popc" if kind == "b1" else ""
    text = "" if space == "generic" else f".{space}"
    shared = space == "shared"
    places = [f"%{'s' if shared else 'p'}{i}" for i in range(4)]
    copies = "".join(_copied(i, inwards=True) for i in range(4)) if shared else ""
    back = _copied(3, inwards=False) if shared else ""
    return f""".version 8.7
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 d)
{{
    .reg .{word} %a<8>, %b<8>, %c<8>, %d<8>;
    .reg .b32 %s<4>, %m<4>, %n, %t, %y, %i;
    .reg .b64 %p<4>, %l, %w;
    .reg .pred %q;
    .shared .align 128 .b8 memory[32768];
    ld.param.u64 %p0, [a]; ld.param.u64 %p1, [b]; ld.param.u64 %p2, [c]; ld.param.u64 %p3, [d];
    mov.u32 %i, %tid.x; mul.wide.u32 %l, %i, 4;
    {" ".join(f"mov.u32 %s{i}, memory; add.u32 %s{i}, %s{i}, {8192 * i};" for i in range(4))}
    {" ".join(f"mov.u32 %m{i}, {step};" for i, step in enumerate(steps))}
{copies}
    bar.sync 0;
    wmma.load.a.sync.aligned.{a_layout}.{shape}{text}.{kind} {names("a", counts[0])}, [{places[0]}], %m0;
    wmma.load.b.sync.aligned.{b_layout}.{shape}{text}.{kind} {names("b", counts[1])}, [{places[1]}], %m1;
    wmma.load.c.sync.aligned.{c_layout}.{shape}{text}.{c_kind} {names("c", counts[2])}, [{places[2]}], %m2;
    wmma.mma{popc}.sync.aligned.{a_layout}.{b_layout}.{shape}.{types}
        {names("d", counts[3])}, {names("a", counts[0])}, {names("b", counts[1])}, {names("c", counts[2])};
    wmma.store.d.sync.aligned.{c_layout}.{shape}{text}.{d_kind} [{places[3]}], {names("d", counts[3])}, %m3;
    bar.sync 0;
{back}
    ret;
}}
"""


def memories(rng: np.random.Generator, form: tuple[Any, ...]) -> list[Array]:
    """Arrays of 8 KiB full of elements for A, B and C, and one for D."""
    _, kind, c_kind, *_ = form
    words = [registers(rng, k, 64, 1024 // (16 if k == "f64" else 8) // 4) for k in (kind, kind, c_kind)]
    full = [np.resize(np.ascontiguousarray(w).view(np.uint32).ravel(), 2048) for w in words]
    return [*full, np.zeros(2048, np.uint32)]


@settings(deadline=None, max_examples=EXAMPLES)
@given(data=st.data())
@pytest.mark.parametrize("form", FORMS, ids=lambda f: "-".join(map(str, f[:4])))
def test_every_wmma_agrees(form: tuple[Any, ...], data: st.DataObject) -> None:
    kind = form[1]
    layouts = tuple(data.draw(st.sampled_from(["row", "col"])) for _ in range(3))
    if SIZES[kind] < 8:
        layouts = ("row", "col", layouts[2])
    space = data.draw(st.sampled_from(["global", "shared", "generic"]))
    unit = 128 // SIZES[kind]
    pads = (
        data.draw(st.sampled_from([0, unit])), data.draw(st.sampled_from([0, 2 * unit])),
        data.draw(st.sampled_from([0, 8])),
    )  # fmt: skip
    arrays = memories(np.random.default_rng(data.draw(st.integers(0, 1 << 32))), form)
    text = program(form, layouts, space, pads)
    found = []
    for run in (ENGINE.launch, launch):
        out = [a.copy() for a in arrays]
        run(text, "k", (1,), (32,), out)
        found.append(out[3])
    ours, theirs = found
    if form[3] == "f64":
        assert agree(ours.view(np.uint64), theirs.view(np.uint64), "f64")
    else:
        np.testing.assert_array_equal(ours, theirs)
    assert theirs.any()


def test_fragments_of_accumulators_lie_as_those_of_mma() -> None:
    text = """.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 c, .param .u64 d)
{
    .reg .b32 %c<8>, %i;
    .reg .b64 %p<2>;
    ld.param.u64 %p0, [c]; ld.param.u64 %p1, [d];
    wmma.load.c.sync.aligned.row.m16n16k16.global.f32 {%c0, %c1, %c2, %c3, %c4, %c5, %c6, %c7}, [%p0];
    mov.u32 %i, %tid.x;
    mad.wide.u32 %p1, %i, 32, %p1;
    st.global.v4.b32 [%p1], {%c0, %c1, %c2, %c3};
    st.global.v4.b32 [%p1+16], {%c4, %c5, %c6, %c7};
    ret;
}
"""
    matrix = np.arange(256, dtype=np.float32).reshape(16, 16)
    for run in (ENGINE.launch, launch):
        out = np.zeros((32, 8), np.float32)
        run(text, "k", (1,), (32,), [matrix, out])
        for lane in range(32):
            for i in range(8):
                row, column = lane // 4 + 8 * (i // 2 % 2), lane % 4 * 2 + i % 2 + 8 * (i // 4)
                assert out[lane, i] == matrix[row, column]


def test_loads_past_an_array_are_found() -> None:
    form = FORMS[0]
    text = program(form, ("row", "col", "row"), "global", (0, 0, 0))
    arrays = [np.zeros(2048, np.uint32) for _ in range(4)]
    arrays[1] = np.zeros(100, np.uint32)
    with pytest.raises(DeviceError, match="out of bounds") as caught:
        ENGINE.launch(text, "k", (1,), (32,), arrays)
    assert "wmma.load.b" in str(caught.value)


def test_roundings_that_are_not_known_are_refused() -> None:
    form = next(f for f in FORMS if f[1] == "f64")
    text = program(form, ("row", "col", "row"), "global", (0, 0, 0)).replace(
        "f64.f64.f64.f64", "f64.f64.f64.f64.rz"
    )
    for run in (ENGINE.launch, launch):
        with pytest.raises(CompileError, match=r"does not know wmma\.mma"):
            run(text, "k", (1,), (32,), [np.zeros(2048, np.uint32) for _ in range(4)])
