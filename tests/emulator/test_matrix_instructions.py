"""Matrix instructions: fragments are filled and read back by the tables of the PTX ISA, product by product.

The layouts here are written from the ISA's formulas for each shape (section 9.7.14.5, one function each), not
from the interpreter's own rule for all of them.
"""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tessera.emulator import Emulator
from tests.emulator.warp import run, widened

Array = np.ndarray[Any, Any]
ENGINE = Emulator(workers=1, memory_bytes=1 << 24, level=0)
DTYPES: dict[str, Any] = {
    "f16": np.float16, "bf16": ml_dtypes.bfloat16, "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2, "tf32": np.float32, "f32": np.float32, "f64": np.float64, "s8": np.int8,
    "u8": np.uint8, "s32": np.int32,
}  # fmt: skip
SMALL_BITS = {"s4": 4, "u4": 4, "b1": 1}


def a_place(shape: str, kind: str, lane: int, i: int) -> tuple[int, int]:
    """Row and column of element a_i of a lane (figures and formulas of sections 9.7.14.5.1 to .13)."""
    group, member = lane >> 2, lane % 4
    if shape == "m8n8k4":
        return group, member
    if shape == "m8n8k16":
        return group, member * 4 + i
    if shape == "m8n8k32":
        return group, member * 8 + i
    if shape == "m8n8k128":
        return group, member * 32 + i
    if kind == "f64":
        row = group if i % 2 == 0 else group + 8
        return row, {"m16n8k4": member, "m16n8k8": member + (4 if i >= 2 else 0)}.get(
            shape, i // 2 * 4 + member
        )
    if shape == "m16n8k4":
        return (group, member) if i == 0 else (group + 8, member)
    if shape == "m16n8k8" and kind == "tf32":
        return group + (8 if i in (1, 3) else 0), member + (4 if i >= 2 else 0)
    if shape == "m16n8k8":
        return (group if i < 2 else group + 8), member * 2 + (i & 1)
    if shape == "m16n8k16" and kind in ("f16", "bf16"):
        row = group if (0 <= i < 2) or (4 <= i < 6) else group + 8
        return row, member * 2 + (i & 1) + (8 if i >= 4 else 0)
    if shape == "m16n8k16":
        return (group if i < 4 else group + 8), member * 4 + (i & 3)
    if shape == "m16n8k32" and kind in ("s4", "u4"):
        return (group if i < 8 else group + 8), member * 8 + (i & 7)
    if shape == "m16n8k32":
        row = group if (0 <= i < 4) or (8 <= i < 12) else group + 8
        return row, member * 4 + (i & 3) + (16 if i >= 8 else 0)
    if shape == "m16n8k64":
        row = group if (0 <= i < 8) or (16 <= i < 24) else group + 8
        return row, member * 8 + (i & 7) + (32 if i >= 16 else 0)
    if shape == "m16n8k128":
        return (group if i < 32 else group + 8), member * 32 + (i & 31)
    assert shape == "m16n8k256"
    row = group if (0 <= i < 32) or (64 <= i < 96) else group + 8
    return row, member * 32 + (i & 31) + (128 if i >= 64 else 0)


def b_place(shape: str, kind: str, lane: int, i: int) -> tuple[int, int]:
    """Row and column of element b_i of a lane."""
    group, member = lane >> 2, lane % 4
    per_register = 32 // max(1, element_bits(kind)) if kind != "f64" else 1
    rows = member * per_register + i % per_register + i // per_register * 4 * per_register
    if shape == "m16n8k16" and kind in ("f16", "bf16"):
        rows = member * 2 + (i & 1) + (8 if i >= 2 else 0)
    if shape == "m16n8k32" and kind in ("s8", "u8", "e4m3", "e5m2"):
        rows = member * 4 + (i & 3) + (16 if i >= 4 else 0)
    return rows, group


def c_place(m: int, lane: int, i: int) -> tuple[int, int]:
    """Row and column of element c_i of a lane."""
    group, member = lane >> 2, lane % 4
    return (group if i < 2 or m == 8 else group + 8), member * 2 + (i & 1)


def element_bits(kind: str) -> int:
    return SMALL_BITS.get(kind) or np.dtype(DTYPES[kind]).itemsize * 8


def draw(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """A random matrix whose products are exact where sums of them are."""
    if kind == "b1":
        return rng.integers(0, 2, shape)
    if kind in ("u4", "u8"):
        return rng.integers(0, 1 << element_bits(kind), shape)
    if kind in ("s4", "s8"):
        half = 1 << element_bits(kind) - 1
        return rng.integers(-half, half, shape)
    if kind == "s32":
        return rng.integers(-1000, 1000, shape)
    # e5m2 has three significant bits.
    most = 4 if kind == "e5m2" else 12
    return rng.integers(-most, most + 1, shape) / 4.0


def to_registers(values: list[float], kind: str) -> list[int]:
    """Elements as 32-bit registers (64-bit values as two)."""
    if kind in SMALL_BITS:
        bits = SMALL_BITS[kind]
        whole = sum((int(v) & (1 << bits) - 1) << bits * i for i, v in enumerate(values))
        return [whole >> 32 * i & 0xFFFFFFFF for i in range(len(values) * bits // 32)]
    return np.array(values).astype(DTYPES[kind]).view(np.uint32).tolist()


SHAPES = [
    ("m16n8k8", "f16", "f32"), ("m16n8k8", "f16", "f16"), ("m16n8k16", "f16", "f32"),
    ("m16n8k16", "f16", "f16"), ("m16n8k8", "bf16", "f32"), ("m16n8k16", "bf16", "f32"),
    ("m16n8k4", "tf32", "f32"), ("m16n8k8", "tf32", "f32"), ("m8n8k4", "f64", "f64"),
    ("m16n8k4", "f64", "f64"), ("m16n8k8", "f64", "f64"), ("m16n8k16", "f64", "f64"),
    ("m8n8k16", "s8", "s32"), ("m8n8k16", "u8", "s32"), ("m16n8k16", "s8", "s32"),
    ("m16n8k16", "u8", "s32"), ("m16n8k32", "s8", "s32"), ("m16n8k32", "u8", "s32"),
    ("m8n8k32", "s4", "s32"), ("m8n8k32", "u4", "s32"), ("m16n8k32", "s4", "s32"),
    ("m16n8k64", "u4", "s32"), ("m16n8k32", "e4m3", "f32"), ("m16n8k32", "e5m2", "f32"),
    ("m16n8k32", "e4m3", "f16"), ("m8n8k128", "b1", "s32"), ("m16n8k128", "b1", "s32"),
    ("m16n8k256", "b1", "s32"),
]  # fmt: skip


def mma_body(shape: str, kind: str, sums: str, counts: tuple[int, int, int], suffix: str = "") -> str:
    """Loads fragments from shared memory (words of a lane in a row), multiplies, stores D there."""
    name = f"mma.sync.aligned.{shape}.row.col.{sums}.{kind}.{kind}.{sums}{suffix}"
    wide = kind == "f64"
    lines, names, at = [], [], 0
    for part, count in zip("abc", counts, strict=True):
        group = []
        for i in range(count):
            register = f"%d{len(names) + i}" if wide else f"%t{len(names) + i}"
            lines.append(f"ld.shared.b{64 if wide else 32} {register}, [%w+{at}];")
            at += 8 if wide else 4
            group.append(register)
        names += group
        lines.append(f"// {part}")
    a, b, c = names[: counts[0]], names[counts[0] : counts[0] + counts[1]], names[counts[0] + counts[1] :]
    lines.append(f"{name} {{{','.join(c)}}}, {{{','.join(a)}}}, {{{','.join(b)}}}, {{{','.join(c)}}};")
    for i, register in enumerate(c):
        if wide:
            lines.append(f"mov.b64 {{%o{2 * i}, %o{2 * i + 1}}}, {register};")
        else:
            lines.append(f"mov.b32 %o{i}, {register};")
    return "\n".join(lines)


def run_mma(shape: str, kind: str, sums: str, a: Array, b: Array, c: Array, suffix: str = "") -> Array:
    """D as the instruction computes it from matrices A, B and C."""
    m, n = c.shape
    parts = [(a, a_place, kind), (b, b_place, kind)]
    lanes: list[list[int]] = []
    counts = (0, 0, 0)
    for lane in range(32):
        groups = []
        for matrix, place, k in parts:
            values = [matrix[place(shape, kind, lane, i)] for i in range(matrix.size // 32)]
            groups.append(to_registers(values, k))
        groups.append(to_registers([c[c_place(m, lane, i)] for i in range(m * n // 32)], sums))
        per = 2 if kind == "f64" else 1
        counts = tuple(len(g) // per for g in groups)  # type: ignore[assignment]
        lanes.append([word for group in groups for word in group])
    words = np.array(lanes, np.uint64).astype(np.uint32)
    # The fragments come through memory: inputs have eight words only. %w is this lane's row of them.
    size = words.shape[1]
    spread = np.zeros((32, -(-size // 8), 8), np.uint32)
    spread.reshape(32, -1)[:, :size] = words
    rounds = spread.shape[1]
    body = [f"mad.lo.u32 %w, %i, {rounds * 32}, %s;"]
    # Thread i of round r stores eight words; threads beyond the first warp carry the later rounds.
    setup = f"""
    and.b32 %t38, %i, 31; shr.u32 %t39, %i, 5;
    mad.lo.u32 %w, %t38, {rounds * 32}, %s; mad.lo.u32 %w, %t39, 32, %w;
    {" ".join(f"st.shared.b32 [%w+{4 * i}], %a{i};" for i in range(8))}
    bar.sync 0;
    mad.lo.u32 %w, %t38, {rounds * 32}, %s;
"""
    body = [setup, mma_body(shape, kind, sums, counts, suffix)]
    out = run("\n".join(body), spread.transpose(1, 0, 2).reshape(rounds * 32, 8))[:32]
    d = np.zeros((m, n))
    count = m * n // 32
    for lane in range(32):
        raw = np.ascontiguousarray(out[lane, : max(1, count * np.dtype(DTYPES[sums]).itemsize // 4)])
        values = widened(raw.view(DTYPES[sums]))
        for i in range(count):
            d[c_place(m, lane, i)] = values[i]
    return d


def sizes(shape: str) -> tuple[int, int, int]:
    m, _, rest = shape[1:].partition("n")
    n, _, k = rest.partition("k")
    return int(m), int(n), int(k)


@pytest.mark.parametrize(("shape", "kind", "sums"), SHAPES)
def test_mma_is_the_matrix_product(shape: str, kind: str, sums: str, rng: np.random.Generator) -> None:
    m, n, k = sizes(shape)
    a, b = draw(kind, (m, k), rng), draw(kind, (k, n), rng)
    c = draw("s32" if sums == "s32" else sums, (m, n), rng)
    if kind != "b1":
        np.testing.assert_array_equal(run_mma(shape, kind, sums, a, b, c), a @ b + c)
        return
    for name, combine in (("xor", np.bitwise_xor), ("and", np.bitwise_and)):
        expected = combine(a[:, :, None], b[None]).sum(axis=1) + c
        np.testing.assert_array_equal(run_mma(shape, kind, sums, a, b, c, f".{name}.popc"), expected)


def test_integer_mma_wraps_or_saturates() -> None:
    a, b = np.full((16, 32), 127), np.full((32, 8), 127)
    c = np.full((16, 8), 2**31 - 1)
    assert run_mma("m16n8k32", "s8", "s32", a, b, c)[0, 0] == 2**31 - 1 + 32 * 127**2 - 2**32
    body = mma_body("m16n8k32", "s8", "s32", (4, 2, 4)).replace("row.col", "row.col.satfinite")
    fill = " ".join(f"mov.b32 %t{i}, 0x7f7f7f7f;" for i in range(6))
    tops = " ".join(f"mov.b32 %t{i}, 0x7fffffff;" for i in range(6, 10))
    only = body[body.index("mma.sync") :]
    assert run(f"{fill} {tops} {only}", np.zeros((32, 8), np.uint32))[5, 2] == 2**31 - 1


@pytest.mark.parametrize("sums", ["f16", "f32"])
@pytest.mark.parametrize("a_layout", ["row", "col"])
@pytest.mark.parametrize("b_layout", ["row", "col"])
def test_four_products_of_eight_lanes_each(
    a_layout: str, b_layout: str, sums: str, rng: np.random.Generator
) -> None:
    a, b = draw("f16", (4, 8, 4), rng), draw("f16", (4, 4, 8), rng)
    words = np.zeros((32, 8), np.uint32)
    count = 4 if sums == "f16" else 8
    for lane in range(32):
        quad, low, high = lane % 16 // 4, lane % 4, 4 * (lane >= 16)
        a_row, b_column = [low + high] * 4, [low + high] * 4
        left = [a[quad, a_row[i], i] if a_layout == "row" else a[quad, i + high, low] for i in range(4)]
        right = [b[quad, i, b_column[i]] if b_layout == "col" else b[quad, low, i + high] for i in range(4)]
        words[lane, :4] = to_registers(left, "f16") + to_registers(right, "f16")
    names = ",".join(f"%t{i}" for i in range(count))
    zeros = " ".join(f"mov.b32 %t{i}, 0;" for i in range(count))
    moves = " ".join(f"mov.b32 %o{i}, %t{i};" for i in range(count))
    name = f"mma.sync.aligned.m8n8k4.{a_layout}.{b_layout}.{sums}.f16.f16.{sums}"
    out = run(f"{zeros} {name} {{{names}}}, {{%a0,%a1}}, {{%a2,%a3}}, {{{names}}}; {moves}", words)
    expected = a @ b
    for lane in range(32):
        quad, high = lane % 16 // 4, 4 * (lane >= 16)
        values = widened(np.ascontiguousarray(out[lane, :count]).view(DTYPES[sums]))
        for i in range(8):
            if sums == "f16":
                place = lane % 4 + high, i
            else:
                place = (lane & 1) + (i & 2) + high, (i & 4) + (lane & 2) + (i & 1)
            assert values[i] == expected[quad][place]


def test_ldmatrix_stmatrix_and_movmatrix_agree_with_their_definitions(rng: np.random.Generator) -> None:
    words = rng.integers(0, 1 << 32, (32, 8)).astype(np.uint32)
    body = """
    shl.b32 %t0, %i, 4; add.u32 %w, %s, %t0;
    st.shared.v4.b32 [%w], {%a0, %a1, %a2, %a3};
    bar.warp.sync -1;
    ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%o0, %o1, %o2, %o3}, [%w];
    ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%o4}, [%w];
    movmatrix.sync.aligned.m8n8.trans.b16 %o5, %o0;
    add.u32 %t1, %w, 1024;
    stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%t1], {%o1, %o2};
    bar.warp.sync -1;
    and.b32 %t2, %i, 15; shl.b32 %t2, %t2, 4; add.u32 %t2, %t2, %s;
    ld.shared.b64 %d0, [%t2+1024]; mov.b64 {%o6, %o7}, %d0;
"""
    out = run(body, words)
    matrices = words[:, :4].copy().view(np.uint16).reshape(4, 8, 8)
    pairs = out.view(np.uint16).reshape(32, 8, 2)
    for lane in range(32):
        row, column = lane // 4, lane % 4 * 2
        for i in range(4):
            np.testing.assert_array_equal(pairs[lane, i], matrices[i, row, column : column + 2])
        for i in (4, 5):
            np.testing.assert_array_equal(pairs[lane, i], matrices[0, column : column + 2, row])
        expected = matrices[1 + lane % 16 // 8].T[lane % 8]
        np.testing.assert_array_equal(pairs[lane, 6:].ravel(), expected[:4])


WMMA = [
    ("m16n16k16", "f16", "f32", 8, 8), ("m32n8k16", "f16", "f32", 8, 8), ("m8n32k16", "bf16", "f32", 2, 8),
    ("m16n16k8", "tf32", "f32", 4, 4), ("m16n16k16", "s8", "s32", 2, 2), ("m8n32k16", "u8", "s32", 1, 4),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "kind", "sums", "a_count", "b_count"), WMMA)
def test_wmma_through_memory(
    shape: str, kind: str, sums: str, a_count: int, b_count: int, rng: np.random.Generator
) -> None:
    m, n, k = sizes(shape)
    a, b = draw(kind, (m, k), rng), draw(kind, (k, n), rng)
    raw = np.concatenate(
        [np.ascontiguousarray(x).astype(DTYPES[kind]).view(np.uint8).ravel() for x in (a, b.T)]
    )
    words = np.zeros(max(256, 8 * (raw.size // 32)), np.uint32)
    words.view(np.uint8)[: raw.size] = raw
    threads = -(-words.size // 8 // 32) * 32
    words = np.resize(words, (threads, 8))
    names = {
        x: [f"%t{i + o}" for i in range(c)]
        for x, c, o in (("a", a_count, 0), ("b", b_count, 8), ("c", 8, 16))
    }
    join = {x: "{" + ",".join(v) + "}" for x, v in names.items()}
    size = np.dtype(DTYPES[kind]).itemsize
    types = f"{sums}.{sums}" if kind == "f16" else f"{sums}.{kind}.{kind}.{sums}"
    store = " ".join(f"mov.b32 %o{i}, 0;" for i in range(8))
    body = f"""
    mad.lo.u32 %w, %i, 32, %s;
    st.shared.v4.b32 [%w], {{%a0, %a1, %a2, %a3}}; st.shared.v4.b32 [%w+16], {{%a4, %a5, %a6, %a7}};
    bar.sync 0;
    setp.ge.u32 %p0, %i, 32;
    @%p0 bra END;
    add.u32 %t39, %s, {m * k * size};
    mov.b32 %t38, {k};
    wmma.load.a.sync.aligned.row.{shape}.shared.{kind} {join["a"]}, [%s], %t38;
    wmma.load.b.sync.aligned.col.{shape}.shared.{kind} {join["b"]}, [%t39], %t38;
    {" ".join(f"mov.b32 {r}, 0;" for r in names["c"])}
    wmma.mma.sync.aligned.row.col.{shape}.{types} {join["c"]}, {join["a"]}, {join["b"]}, {join["c"]};
    mov.b32 %t38, {n};
    add.u32 %t39, %s, 4096;
    wmma.store.d.sync.aligned.row.{shape}.shared.{sums} [%t39], {join["c"]}, %t38;
    {store}
    mad.lo.u32 %w, %i, 32, %t39;
    ld.shared.v4.b32 {{%o0, %o1, %o2, %o3}}, [%w]; ld.shared.v4.b32 {{%o4, %o5, %o6, %o7}}, [%w+16];
END:
"""
    out = run(body, words)[:32]
    np.testing.assert_array_equal(out.view(DTYPES[sums]).reshape(m, n), a @ b)


SMALL = {
    # Values of the positive half, from the tables of the OCP formats, and where they are in eight bits.
    "e2m1": ([0, 0.5, 1, 1.5, 2, 3, 4, 6], 2),
    "e3m2": ([(i if i < 4 else 4 + i % 4) * 2.0 ** (max(i // 4, 1) - 5) for i in range(32)], 0),
    "e2m3": ([(i if i < 8 else 8 + i % 8) * 2.0 ** (max(i // 8, 1) - 4) for i in range(32)], 0),
}


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("engine", [None, ENGINE], ids=["interpreter", "engine"])
def test_floats_of_six_and_four_bits(kind: str, engine: Emulator | None) -> None:
    """A has the value in its first column, B ones in its first row: each value comes back."""
    values, low = SMALL[kind]
    for start in range(0, 2 * len(values), 8):
        codes = np.arange(start, start + 8)
        words = np.zeros((32, 8), np.uint32)
        words[::4, 0] = codes << low
        words[::4, 4] = {"e2m1": 2, "e3m2": 12, "e2m3": 8}[kind] << low
        body = (
            f"mma.sync.aligned.m16n8k32.row.col.kind::f8f6f4.f32.{kind}.{kind}.f32 "
            "{%o0, %o1, %o2, %o3}, {%a0, %a1, %a2, %a3}, {%a4, %a5}, {%a6, %a6, %a6, %a6};"
        )
        found = run(body, words, engine).view(np.float32)[::4, 0]
        signed = np.array(values + [-v for v in values])[codes]
        np.testing.assert_array_equal(found, signed)


@pytest.mark.parametrize("engine", [None, ENGINE], ids=["interpreter", "engine"])
@pytest.mark.parametrize(
    "form",
    [f"m16n16.x{n}.trans.shared.{f}" for n in (1, 2) for f in ("b8", "b8x16.b4x16_p64", "b8x16.b6x16_p32")]
    + ["m8n16.x2.shared.b8x16.b4x16_p64", "m8n16.x4.shared.b8x16.b6x16_p32"],
)
def test_ldmatrix_of_bytes(form: str, engine: Emulator | None, rng: np.random.Generator) -> None:
    words = rng.integers(0, 1 << 32, (32, 8)).astype(np.uint32)
    count, tall = int(form.split(".")[1][1]), form.startswith("m16")
    registers = count * (2 if tall else 1)
    names = ", ".join(f"%o{i}" for i in range(registers))
    body = f"""
    shl.b32 %t0, %i, 4; add.u32 %w, %s, %t0;
    st.shared.v4.b32 [%w], {{%a0, %a1, %a2, %a3}};
    bar.warp.sync -1;
    ldmatrix.sync.aligned.{form} {{{names}}}, [%w];
"""
    out = run(body, words, engine)[:, :registers]
    size = {"p64": 4, "p32": 6}.get(form[-3:], 8)
    rows = [int.from_bytes(row.tobytes(), "little") for row in words[:, :4].astype("<u4")]
    elements = np.array([[row >> size * i & (1 << size) - 1 for i in range(16)] for row in rows])
    held = np.ascontiguousarray(out).view(np.uint8).reshape(32, registers, 4)
    for lane in range(32):
        for i in range(registers):
            four = slice(lane % 4 * 4, lane % 4 * 4 + 4)
            if tall:
                expected = elements[i // 2 * 16 :][four, lane // 4 + 8 * (i % 2)]
            else:
                expected = elements[8 * i + lane // 4, four]
            np.testing.assert_array_equal(held[lane, i], expected)
