"""`mma.sync` on both implementations: the engine's results are the interpreter's, bit for bit."""

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.emulator import Emulator
from tessera.emulator.lockstep import launch
from tests.emulator.fragments import agree, fragments

Array = np.ndarray[Any, Any]
ENGINE = Emulator(workers=1, memory_bytes=1 << 24, level=0)
EXAMPLES = int(os.environ.get("TESSERA_FUZZ_EXAMPLES", "4"))
FORMS = [
    # shape, A, B, C and D, suffix, registers of A, B and C
    *(("m16n8k8", "f16", "f16", c, "", 2, 1, 4 if c == "f32" else 2) for c in ("f16", "f32")),
    *(("m16n8k16", "f16", "f16", c, "", 4, 2, 4 if c == "f32" else 2) for c in ("f16", "f32")),
    ("m16n8k8", "bf16", "bf16", "f32", "", 2, 1, 4), ("m16n8k16", "bf16", "bf16", "f32", "", 4, 2, 4),
    ("m16n8k4", "tf32", "tf32", "f32", "", 2, 1, 4), ("m16n8k8", "tf32", "tf32", "f32", "", 4, 2, 4),
    ("m8n8k4", "f64", "f64", "f64", "", 1, 1, 2), ("m16n8k4", "f64", "f64", "f64", "", 2, 1, 4),
    ("m16n8k8", "f64", "f64", "f64", "", 4, 2, 4), ("m16n8k16", "f64", "f64", "f64", "", 8, 4, 4),
    *((shape, a, b, "s32", "", *counts) for a in ("s8", "u8") for b in ("s8", "u8")
      for shape, counts in (("m8n8k16", (1, 1, 2)), ("m16n8k16", (2, 1, 4)), ("m16n8k32", (4, 2, 4)))),
    *((shape, a, b, "s32", "", *counts) for a in ("s4", "u4") for b in ("s4", "u4")
      for shape, counts in (("m8n8k32", (1, 1, 2)), ("m16n8k32", (2, 1, 4)), ("m16n8k64", (4, 2, 4)))),
    *((shape, "b1", "b1", "s32", f".{name}.popc", *counts) for name in ("xor", "and")
      for shape, counts in (("m8n8k128", (1, 1, 2)), ("m16n8k128", (2, 1, 4)), ("m16n8k256", (4, 2, 4)))),
    *((shape, a, b, c, "", *counts, 4 if c == "f32" else 2)
      for a in ("e4m3", "e5m2") for b in ("e4m3", "e5m2") for c in ("f32", "f16")
      for shape, counts in (("m16n8k32", (4, 2)), ("m16n8k16", (2, 1)))),
    *(("m16n8k32", a, b, "f32", "", 4, 2, 4) for a in ("e3m2", "e2m3", "e2m1") for b in (a, "e4m3", "e2m1")),
]  # fmt: skip


def name_of(form: tuple[Any, ...], *, saturates: bool = False) -> str:
    shape, a, b, c, suffix, *_ = form
    clamp = ".satfinite" if saturates else ""
    if {a, b} & {"e3m2", "e2m3", "e2m1"}:
        clamp = ".kind::f8f6f4"
    return f"mma.sync.aligned.{shape}.row.col{clamp}.{c}.{a}.{b}.{c}{suffix}"


def program(line: str, counts: tuple[int, ...], results: int, *, wide: bool, more: str = "") -> str:
    """`k(in, out)`: a lane's registers of A, B and C lie side by side, and so do those of D."""
    kind, size = ("b64", 8) if wide else ("b32", 4)
    total = sum(counts)
    loads = "\n".join(f"ld.global.{kind} %r{i}, [%in+{size * i}];" for i in range(total))
    stores = "\n".join(f"st.global.{kind} [%out+{size * i}], %d{i};" for i in range(results))
    groups, first = [], 0
    for count in counts:
        names = ", ".join(f"%r{first + i}" for i in range(count))
        # Metadata of a sparse product is no fragment.
        groups.append(f"{{{names}}}" if len(groups) < 3 else names)
        first += count
    target = "{" + ", ".join(f"%d{i}" for i in range(results)) + "}"
    return f""".version 8.7
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 inputs, .param .u64 outputs)
{{
    .reg .{kind} %r<{total}>, %d<{results}>;
    .reg .b32 %i;
    .reg .b64 %in, %out, %w;
    mov.u32 %i, %tid.x;
    ld.param.u64 %in, [inputs];
    ld.param.u64 %out, [outputs];
    mad.wide.u32 %in, %i, {size * total}, %in;
    mad.wide.u32 %out, %i, {size * results}, %out;
{loads}
    {line} {target}, {", ".join(groups)}{more};
{stores}
    ret;
}}
"""


def both(
    line: str, counts: tuple[int, ...], words: Array, results: int | None = None, more: str = ""
) -> list[Array]:
    """(threads, registers of D) by the engine and by the interpreter. D has as many registers as C, or
    `results`.
    """
    results = results or counts[2]
    text = program(line, counts, results, wide=words.dtype == np.uint64, more=more)
    found = []
    for run in (ENGINE.launch, launch):
        out = np.zeros((len(words), results), words.dtype)
        run(text, "k", (1,), (len(words),), [words.copy(), out])
        found.append(out)
    return found


@settings(deadline=None, max_examples=EXAMPLES)
@given(seed=st.integers(0, 1 << 32))
@pytest.mark.parametrize("form", FORMS, ids=name_of)
def test_every_product_agrees(form: tuple[Any, ...], seed: int) -> None:
    counts = form[5:]
    words = fragments(np.random.default_rng(seed), (form[1], form[2], form[3]), counts, 64)
    ours, theirs = both(name_of(form), counts, words)
    assert agree(ours, theirs, form[3])


@settings(deadline=None, max_examples=EXAMPLES)
@given(seed=st.integers(0, 1 << 32))
@pytest.mark.parametrize("kind", ["s8", "u8", "s4", "u4"])
def test_sums_that_stop_at_the_ends_of_their_range_agree(kind: str, seed: int) -> None:
    shape = "m16n8k32" if kind in ("s8", "u8") else "m16n8k64"
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 1 << 32, (32, 10)).astype(np.uint32)
    words[:, 6:] = rng.choice(np.array([0x7FFFFFF0, 0x80000010, 5], np.uint32), (32, 4))
    form = (shape, kind, kind, "s32", "", 4, 2, 4)
    ours, theirs = both(name_of(form, saturates=True), (4, 2, 4), words)
    np.testing.assert_array_equal(ours, theirs)
    assert {0x7FFFFFFF, 0x80000000} & set(ours.ravel().tolist())


SPARSE = [
    # shape, A, B, C and D, selectors, registers of A, B and C
    *(("m16n8k16", "f16", "f16", c, 4, 2, 2, 4 if c == "f32" else 2) for c in ("f16", "f32")),
    *(("m16n8k32", "f16", "f16", c, 2, 4, 4, 4 if c == "f32" else 2) for c in ("f16", "f32")),
    ("m16n8k16", "bf16", "bf16", "f32", 4, 2, 2, 4), ("m16n8k32", "bf16", "bf16", "f32", 2, 4, 4, 4),
    ("m16n8k8", "tf32", "tf32", "f32", 4, 2, 2, 4), ("m16n8k16", "tf32", "tf32", "f32", 2, 4, 4, 4),
    ("m16n8k32", "s8", "u8", "s32", 2, 2, 2, 4), ("m16n8k64", "u8", "s8", "s32", 1, 4, 4, 4),
    ("m16n8k64", "s4", "u4", "s32", 2, 2, 2, 4), ("m16n8k128", "u4", "s4", "s32", 1, 4, 4, 4),
    ("m16n8k64", "e4m3", "e5m2", "f32", 1, 4, 4, 4),
]  # fmt: skip


@settings(deadline=None, max_examples=EXAMPLES)
@given(seed=st.integers(0, 1 << 32))
@pytest.mark.parametrize("form", SPARSE, ids=lambda form: "-".join(form[:4]))
def test_sparse_products_agree(form: tuple[Any, ...], seed: int) -> None:
    shape, a, b, c, selectors, *counts = form
    rng = np.random.default_rng(seed)
    words = fragments(rng, (a, b, c), tuple(counts), 32)
    words = np.concatenate([words, rng.integers(0, 1 << 32, (32, 1)).astype(np.uint32)], axis=1)
    line = f"mma.sp.sync.aligned.{shape}.row.col.{c}.{a}.{b}.{c}"
    ours, theirs = both(line, (*counts, 1), words, counts[2], f", {rng.integers(selectors)}")
    assert agree(ours, theirs, c)
    assert theirs.any()


@pytest.mark.parametrize(("shape", "kind"), [("m16n8k16", "f16"), ("m16n8k32", "f16"), ("m16n8k64", "s8")])
def test_sparse_products_are_those_of_the_whole_matrix(
    shape: str, kind: str, rng: np.random.Generator
) -> None:
    """A matrix with two of each four elements, taken apart as the figures of section 9.7.14.6 show."""
    k = int(shape.split("k")[1])
    whole = np.zeros((16, k), np.int64)
    b = rng.integers(-4, 5, (k, 8))
    held, words = np.zeros((16, k // 2), np.int64), np.zeros((8, 4), np.uint32)
    for row in range(16):
        for chunk in range(k // 4):
            first, second = sorted(rng.choice(4, 2, replace=False))
            held[row, 2 * chunk : 2 * chunk + 2] = rng.integers(1, 9, 2)
            whole[row, [4 * chunk + first, 4 * chunk + second]] = held[row, 2 * chunk : 2 * chunk + 2]
            if kind == "f16":
                lane, shift = chunk // 4, 16 * (row // 8) + chunk % 4 * 4
            else:
                lane, shift = row // 8 + chunk // 8 * 2, chunk % 8 * 4
            words[row % 8, lane] |= np.uint32((first | second << 2) << shift)
    dtype, per = (np.float16, 2) if kind == "f16" else (np.int8, 4)

    def register(lines: Array, number: int) -> Array:
        """(32,) words: lane 4 * line + member has four bytes of a line."""
        part = lines.astype(dtype)[:, number * 4 * per : (number + 1) * 4 * per]
        return np.ascontiguousarray(part).view(np.uint32).ravel()

    left = [register(held[8 * i : 8 * i + 8], step) for step in range(k // (8 * per)) for i in (0, 1)]
    right = [register(b.T, step) for step in range(k // (4 * per))]
    inputs = np.stack([*left, *right, *np.zeros((4, 32), np.uint32), words.ravel()], axis=1)
    sums = "f32" if kind == "f16" else "s32"
    counts = (k // (4 * per), k // (4 * per), 4, 1)
    line = f"mma.sp.sync.aligned.{shape}.row.col.{sums}.{kind}.{kind}.{sums}"
    expected = (whole @ b).reshape(2, 8, 4, 2).transpose(1, 2, 0, 3).reshape(32, 4)
    for found in both(line, counts, inputs, 4, ", 0"):
        np.testing.assert_array_equal(found.view(np.float32 if kind == "f16" else np.int32), expected)


@pytest.mark.parametrize("d", ["f16", "f32"])
@pytest.mark.parametrize("c", ["f16", "f32"])
@pytest.mark.parametrize("layouts", ["row.row", "row.col", "col.row", "col.col"])
def test_four_products_at_once_agree(layouts: str, c: str, d: str, rng: np.random.Generator) -> None:
    counts = 2, 2, 8 if c == "f32" else 4
    words = fragments(rng, ("f16", "f16", c), counts, 32)
    line = f"mma.sync.aligned.m8n8k4.{layouts}.{d}.f16.f16.{c}"
    ours, theirs = both(line, counts, words, 8 if d == "f32" else 4)
    assert agree(ours, theirs, d)


def test_results_may_replace_operands_in_any_order(rng: np.random.Generator) -> None:
    words = fragments(rng, ("f16", "f16", "f32"), (4, 2, 4), 32)
    line = name_of(FORMS[3])
    plain = both(line, (4, 2, 4), words)[0]
    text = program(line, (4, 2, 4), 4, wide=False)
    mixed = text.replace("{%d0, %d1, %d2, %d3}", "{%r3, %r6, %r9, %r7}")
    for i, register in enumerate((3, 6, 9, 7)):
        mixed = mixed.replace(f"], %d{i};", f"], %r{register};")
    assert mixed != text
    out = np.zeros((32, 4), np.uint32)
    ENGINE.launch(mixed, "k", (1,), (32,), [words.copy(), out])
    assert agree(out, plain, "f32")
