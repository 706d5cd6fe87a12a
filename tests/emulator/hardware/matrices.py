"""Matrix instructions whose results are recorded from a GPU, beside those of `forms.txt`.

Most run on elements of ±1 to ±1.75 in steps of a quarter: their sums are exact however they are formed, so
that what is compared is which lane holds which element, descriptors, metadata, signs. Others run on elements
with all their bits: how tensor cores round.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.emulator.test_engine_mma import FORMS, SPARSE, name_of

THREADS = 128
QUARTERS = {
    "f16": (0x83008300, 0x3C003C00), "bf16": (0x80608060, 0x3F803F80), "tf32": (0x80600000, 0x3F800000),
    "e4m3": (0x86868686, 0x38383838), "e5m2": (0x83838383, 0x3C3C3C3C), "f32": (0x80600000, 0x3F800000),
}  # fmt: skip
"""Bits of random words that are kept, and those that are set, to get such elements."""
FULL = {
    "f16": (0x8FFF8FFF, 0x30003000), "bf16": (0x81FF81FF, 0x3E003E00), "tf32": (0x81FFE000, 0x3E000000),
    "e4m3": (0x9F9F9F9F, 0x20202020), "e5m2": (0x8F8F8F8F, 0x30303030), "f32": (0x81FFFFFF, 0x3E000000),
}  # fmt: skip
"""The same for elements between 1/8 and 2 with all their bits."""
TOLERANCE = {"f16": 2.0**-8, "e4m3": 2.0**-10, "e5m2": 2.0**-10, "f64": 2.0**-48}
"""How far rounded sums may be apart, by the type of D, then of A; 2^-18 for others."""


@dataclass(frozen=True, slots=True)
class Form:
    """A body that is run, and how its outputs are compared."""

    body: str
    kind: str = ""
    """Type of the outputs, where they may differ."""
    tolerance: float = 0.0
    """By how much, relative to outputs of about 1."""


def inputs() -> np.ndarray[Any, Any]:
    """(threads, 8) uint32: random bits."""
    return np.random.default_rng(11).integers(0, 1 << 32, (THREADS, 8)).astype(np.uint32)


def forms() -> list[Form]:
    """Everything that is recorded, in order."""
    return [*_products(), *_sparse(), *_quads(), *_moves(), *_wmma(), *_warpgroups()]


def _fill(kind: str, first: int, count: int, table: dict[str, tuple[int, int]]) -> str:
    """Registers `%t<first>`… from the inputs: elements of a kind, each register other bits."""
    kept, set_bits = table.get(kind, (0xFFFFFFFF, 0))
    lines = []
    for i in range(first, first + count):
        lines.append(f"mul.lo.u32 %t{i}, %a{i % 8}, {2 * i + 1}; shf.l.wrap.b32 %t{i}, %t{i}, %t{i}, {i};")
        lines.append(f"and.b32 %t{i}, %t{i}, {kept:#x}; or.b32 %t{i}, %t{i}, {set_bits:#x};")
    return " ".join(lines)


def _names(first: int, count: int) -> str:
    return "{" + ", ".join(f"%t{i}" for i in range(first, first + count)) + "}"


def _out(count: int, first: int) -> str:
    return " ".join(f"mov.b32 %o{i}, %t{first + i};" for i in range(count))


def _products() -> Iterator[Form]:
    for form in FORMS:
        _, a, b, c, _, *counts = form
        if "kind::" in name_of(form):
            continue
        if a == "f64":
            yield _doubles(name_of(form), counts)
            continue
        starts = (0, counts[0], counts[0] + counts[1])
        for table in (QUARTERS, FULL) if a in QUARTERS else (QUARTERS,):
            fill = " ".join(_fill(k, s, n, table) for k, s, n in zip((a, b, c), starts, counts, strict=True))
            groups = [_names(s, n) for s, n in zip(starts, counts, strict=True)]
            body = f"{fill} {name_of(form)} {groups[2]}, {', '.join(groups)}; {_out(counts[2], starts[2])}"
            tolerance = TOLERANCE.get(c, TOLERANCE.get(a, 2.0**-18)) if table is FULL else 0.0
            yield Form(body, c, tolerance)


def _doubles(name: str, counts: list[int]) -> Form:
    """Products of f64, with all their bits."""
    total = sum(counts)
    text = _fill("", 0, 2 * min(total, 8), QUARTERS)
    for i in range(total):
        low, high = 2 * (i % 8), 2 * (i % 8) + 1
        text += f" and.b32 %t38, %t{high}, 0x801fffff; or.b32 %t38, %t38, 0x3fe00000;"
        text += f" xor.b32 %t39, %t{low}, {i}; mov.b64 %d{i}, {{%t39, %t38}};"
    names = ["{" + ", ".join(f"%d{i}" for i in range(s, s + n)) + "}" for s, n in _spans(counts)]
    first = counts[0] + counts[1]
    out = " ".join(f"mov.b64 {{%o{2 * i}, %o{2 * i + 1}}}, %d{first + i};" for i in range(counts[2]))
    return Form(f"{text} {name} {names[2]}, {', '.join(names)}; {out}", "f64", TOLERANCE["f64"])


def _spans(counts: list[int]) -> list[tuple[int, int]]:
    return [(sum(counts[:i]), n) for i, n in enumerate(counts)]


def _sparse() -> Iterator[Form]:
    for shape, a, b, c, selectors, *counts in SPARSE:
        fill = " ".join(_fill(k, s, n, QUARTERS) for k, (s, n) in zip((a, b, c), _spans(counts), strict=True))
        groups = [_names(s, n) for s, n in _spans(counts)]
        # Valid fields only, in another order in every lane.
        pattern = 0xE44EE4E4 if a == "tf32" else 0x4E9D8C4E
        meta = f"mul.lo.u32 %t38, %i, 4; mov.b32 %t39, {pattern:#x}; shf.l.wrap.b32 %t39, %t39, %t39, %t38;"
        for selector in range(selectors):
            line = f"mma.sp::ordered_metadata.sync.aligned.{shape}.row.col.{c}.{a}.{b}.{c}"
            yield Form(
                f"{fill} {meta} {line} {groups[2]}, {', '.join(groups)}, %t39, {selector}; "
                f"{_out(counts[2], _spans(counts)[2][0])}"
            )


def _quads() -> Iterator[Form]:
    for layouts in ("row.row", "row.col", "col.row", "col.col"):
        for c, count in (("f16", 4), ("f32", 8)):
            fill = _fill("f16", 0, 4, QUARTERS) + " " + _fill(c, 4, count, QUARTERS)
            line = f"mma.sync.aligned.m8n8k4.{layouts}.{c}.f16.f16.{c}"
            d = _names(4, count)
            yield Form(f"{fill} {line} {d}, {_names(0, 2)}, {_names(2, 2)}, {d}; {_out(count, 4)}")


STORE = (
    "mad.lo.u32 %w, %i, 32, %s; st.shared.v4.b32 [%w], {%a0, %a1, %a2, %a3}; "
    "st.shared.v4.b32 [%w+16], {%a4, %a5, %a6, %a7}; bar.sync 0;"
)
"""All inputs to shared memory, as they lie in global memory."""


def _moves() -> Iterator[Form]:
    rows = "and.b32 %t0, %i, 31; mad.lo.u32 %w, %t0, 48, %s;"
    for trans in ("", ".trans"):
        for count in (1, 2, 4):
            names = "{" + ", ".join(f"%o{i}" for i in range(count)) + "}"
            yield Form(f"{STORE} {rows} ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {names}, [%w];")
            values = "{" + ", ".join(f"%a{i}" for i in range(count)) + "}"
            yield Form(
                f"{STORE} shr.u32 %t1, %i, 5; mul.lo.u32 %t1, %t1, 2048; {rows} add.u32 %w, %w, %t1; "
                f"stmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 [%w], {values}; bar.sync 0; "
                "mad.lo.u32 %w, %i, 32, %s; ld.shared.v4.b32 {%o0, %o1, %o2, %o3}, [%w]; "
                "ld.shared.v4.b32 {%o4, %o5, %o6, %o7}, [%w+16];"
            )
    yield Form("movmatrix.sync.aligned.m8n8.trans.b16 %o0, %a0;")


FRAGMENTS = [
    # matrix, layout, type, registers, elements from line to line
    ("a", "row", "f16", 8, 16), ("a", "col", "f16", 8, 24), ("b", "row", "f16", 8, 16),
    ("b", "col", "f16", 8, 16), ("a", "row", "bf16", 4, 16), ("b", "col", "bf16", 4, 16),
    ("a", "row", "s8", 2, 16), ("b", "col", "s8", 2, 32), ("c", "row", "f32", 8, 16),
    ("c", "col", "f32", 8, 16), ("c", "row", "f16", 4, 16), ("c", "row", "s32", 8, 20),
]  # fmt: skip


def _wmma() -> Iterator[Form]:
    """Which lane holds which element of a `wmma` fragment: of the ISA's own choice."""
    for part, layout, kind, count, step in FRAGMENTS:
        names = "{" + ", ".join(f"%o{i}" for i in range(count)) + "}"
        line = f"wmma.load.{part}.sync.aligned.{layout}.m16n16k16.shared.{kind} {names}, [%s], %t0;"
        yield Form(f"{STORE} mov.b32 %t0, {step}; {line}")


def _warpgroups() -> Iterator[Form]:
    for kind, k, sums in (("f16", 16, "f32"), ("bf16", 16, "f32"), ("tf32", 8, "f32"), ("e4m3", 32, "f32"),
                          ("e5m2", 32, "f32"), ("s8", 32, "s32"), ("u8", 32, "s32")):  # fmt: skip
        places = [(s, 0, s, 0) for s in (16, 32, 64, 128)]
        if kind == "f16":
            places += [(s, 1, t, 1) for s in (16, 32, 64, 128) for t in (16, 32)] + [(128, 0, 32, 1)]
        for place in places:
            yield Form(_warpgroup(kind, k, sums, place))
    for kind, k, sums in (("f16", 16, "f32"), ("e4m3", 32, "f32")):
        yield Form(_warpgroup(kind, k, sums, (128, 0, 128, 0), full=True), "f32", TOLERANCE[kind])


def _warpgroup(kind: str, k: int, sums: str, place: tuple[int, int, int, int], *, full: bool = False) -> str:
    """A (64, k) from the begin of shared memory, B (k, 16) from 8 KiB on; both swizzled as `place` says."""
    kept, set_bits = (FULL if full else QUARTERS).get(kind, (0xFFFFFFFF, 0))
    text = "mad.lo.u32 %w, %i, 32, %s;"
    for quarter in range(4):
        for i in range(8):
            text += (
                f" shf.l.wrap.b32 %t0, %a{(i + 3 * quarter) % 8}, %a{(i + 3 * quarter) % 8}, {4 * quarter};"
            )
            text += f" and.b32 %t0, %t0, {kept:#x}; or.b32 %t0, %t0, {set_bits:#x};"
            text += f" st.shared.b32 [%w+{4096 * quarter + 4 * i}], %t0;"
    text += " fence.proxy.async; bar.sync 0;"
    a_swizzle, a_across, b_swizzle, b_across = place
    for index, (at, rows, swizzle, across) in enumerate(
        ((0, 64, a_swizzle, a_across), (8192, 16, b_swizzle, b_across))
    ):
        leading, stride = (rows * 16, 128) if swizzle == 16 else (1024, 8 * swizzle)
        if across and swizzle != 16:
            leading = 16 * swizzle
        code = {16: 0, 128: 1, 64: 2, 32: 3}[swizzle]
        high = leading >> 4 << 16 | stride >> 4 << 32 | code << 62
        text += f" cvt.u64.u32 %d9, %s; add.u64 %d9, %d9, {at}; shr.u64 %d9, %d9, 4;"
        text += f" or.b64 %d{index}, %d9, {high:#x};"
    flags = "" if sums == "s32" else ", 1, 1"
    if kind in ("f16", "bf16"):
        flags += f", {a_across}, {b_across}"
    names = _names(0, 8)
    zero = " ".join(
        f"mov.b32 %t{i}, %a{i};" if sums == "s32" else f"mov.b32 %t{i}, 0f40000000;" for i in range(8)
    )
    return (
        f"{text} {zero} setp.eq.u32 %p0, 0, 0; wgmma.fence.sync.aligned; "
        f"wgmma.mma_async.sync.aligned.m64n16k{k}.{sums}.{kind}.{kind} {names}, %d0, %d1, %p0{flags}; "
        f"wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0; {_out(8, 0)}"
    )
