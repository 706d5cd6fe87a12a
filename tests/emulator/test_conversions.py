"""`cvt` against ml_dtypes, Python's integers and fractions; directed rounding against fractions."""

import math
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.emulator.warp import run, widened

Array = np.ndarray[Any, Any]
DTYPES: dict[str, Any] = {
    "f16": np.float16, "bf16": ml_dtypes.bfloat16, "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2, "f32": np.float32, "f64": np.float64,
}  # fmt: skip


def singles(rng: np.random.Generator) -> Array:
    """(64, 2) float32: all bits, and values of ordinary size; some exactly between two shorter ones."""
    values = rng.integers(0, 1 << 32, (64, 2)).astype(np.uint32).view(np.float32)
    values[16:] = rng.standard_normal((48, 2)) * 2.0 ** rng.integers(-20, 18, (48, 2))
    values.view(np.uint32)[32:48] &= np.uint32(0xFFFF_0000)
    values.view(np.uint32)[40:48] |= np.uint32(0x8000)
    values[:5, 0] = [np.inf, -np.inf, np.nan, 0.0, -0.0]
    return values


def grid_of(dtype: Any) -> Array:
    """All finite values of a short type, in order."""
    count = np.dtype(dtype).itemsize * 8
    values = widened(np.arange(1 << count, dtype=np.dtype(f"u{count // 8}")).view(dtype))
    return np.unique(values[np.isfinite(values)])


def bracket(value: float, grid: Array) -> tuple[float, float]:
    """The neighbours of `value` in the grid; the value twice if it is one."""
    i = int(np.searchsorted(grid, value))
    if i < len(grid) and grid[i] == value:
        return value, value
    low = float(grid[i - 1]) if i else -math.inf
    return low, float(grid[i]) if i < len(grid) else math.inf


@pytest.mark.parametrize("kind", ["f16", "bf16"])
@pytest.mark.parametrize("mode", ["rn", "rz"])
def test_pairs_of_halves_from_singles(kind: str, mode: str, rng: np.random.Generator) -> None:
    values = singles(rng)
    out = run(f"cvt.{mode}.{kind}x2.f32 %o0, %a0, %a1;", values)
    found = widened(out[:, 0].copy().view(DTYPES[kind]).reshape(-1, 2))
    expected = values[:, ::-1]
    if mode == "rn":
        with np.errstate(all="ignore"):
            nearest = widened(expected.astype(DTYPES[kind]))
        np.testing.assert_array_equal(found, nearest)
        return
    grid = grid_of(DTYPES[kind])
    for got, value in zip(found.ravel(), widened(expected).ravel(), strict=True):
        if math.isfinite(value):
            low, high = bracket(value, grid)
            assert got == (low if value > 0 else high), value


@pytest.mark.parametrize("kind", ["e4m3", "e5m2"])
def test_quarter_precision_saturates_and_comes_back(kind: str, rng: np.random.Generator) -> None:
    values = singles(rng)
    body = f"""cvt.rn.satfinite.{kind}x2.f32 %h0, %a0, %a1; cvt.u32.u16 %o0, %h0;
    cvt.rn.f16x2.{kind}x2 %o1, %h0;"""
    out = run(body, values)
    found = out[:, 0].astype(np.uint16).view(DTYPES[kind])
    found = widened(found.reshape(-1, 2))
    top = float(ml_dtypes.finfo(DTYPES[kind]).max)
    swapped = widened(values[:, ::-1])
    grid = grid_of(DTYPES[kind])
    for got, value in zip(found.ravel(), swapped.ravel(), strict=True):
        if math.isnan(value):
            assert math.isnan(got)
            continue
        low, high = bracket(max(-top, min(top, value)), grid)
        clipped = max(-top, min(top, value))
        assert got in (low, high)
        assert abs(got - clipped) <= (high - low) / 2
        if low < high and clipped - low == high - clipped:
            assert int(np.array(got, DTYPES[kind]).view(np.uint8)) % 2 == 0
    np.testing.assert_array_equal(out[:, 1].copy().view(np.float16).reshape(-1, 2), found.astype(np.float16))


def test_relu_and_saturation_of_shorter_floats() -> None:
    values = np.array([[-3.0, np.nan], [1e9, 0.5], [-1e9, -0.0]], np.float32)
    found = run("cvt.rn.relu.f16x2.f32 %o0, %a1, %a0; cvt.rn.relu.bf16x2.f32 %o1, %a1, %a0;", values)
    halves = found[:, 0].copy().view(np.float16).reshape(-1, 2)
    np.testing.assert_array_equal(halves, np.array([[0, np.nan], [np.inf, 0.5], [0, 0]], np.float16))
    found = run("cvt.rn.satfinite.f16.f32 %h0, %a0; cvt.u32.u16 %o0, %h0;", values)
    np.testing.assert_array_equal(
        found[:, 0].astype(np.uint16).view(np.float16), np.array([-3, 65504, -65504], np.float16)
    )


def test_tf32_rounds_ties_away_from_zero(rng: np.random.Generator) -> None:
    values = singles(rng)
    found = run("cvt.rna.tf32.f32 %o0, %a0;", values)[:, 0].copy().view(np.float32)
    for got, value in zip(found, values[:, 0], strict=True):
        if not math.isfinite(value) or abs(value) < 2.0**-100 or abs(value) > 2.0**100:
            continue
        unit = Fraction(2) ** (math.frexp(float(value))[1] - 11)
        steps = abs(Fraction(float(value))) / unit
        assert abs(Fraction(float(got))) == math.floor(steps + Fraction(1, 2)) * unit


@pytest.mark.parametrize("source", ["f32", "f64"])
@pytest.mark.parametrize("target", ["s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"])
@pytest.mark.parametrize(("mode", "function"), [("rni", round), ("rzi", math.trunc), ("rmi", math.floor)])
def test_floats_to_integers_saturate(
    source: str, target: str, mode: str, function: Any, rng: np.random.Generator
) -> None:
    scale = 2.0 ** rng.integers(-3, 68, 40)
    values = (rng.standard_normal(40) * scale).astype(DTYPES[source])
    values[:4] = [np.inf, -np.inf, 2.5, -2.5]
    bits = int(target[1:])
    register = {8: "%h0", 16: "%h0", 32: "%o0", 64: "%d1"}[bits]
    load = "mov.b64 %d0, {%a0, %a1};" if source == "f64" else ""
    place = "%d0" if source == "f64" else "%a0"
    spread = {"%h0": "cvt.u32.u16 %o0, %h0;", "%d1": "mov.b64 {%o0, %o1}, %d1;"}.get(register, "")
    inputs = np.zeros((40, 2), np.uint32)
    inputs[:, : values.dtype.itemsize // 4] = values.view(np.uint32).reshape(40, -1)
    out = run(f"{load} cvt.{mode}.{target}.{source} {register}, {place}; {spread}", inputs)
    found = out[:, :2].copy().view(np.uint64)[:, 0]
    low = -(1 << bits - 1) if target[0] == "s" else 0
    high = (1 << bits - 1) - 1 if target[0] == "s" else (1 << bits) - 1
    mask = (1 << bits) - 1
    for got, value in zip(found, values, strict=True):
        whole = (high if value > 0 else low) if math.isinf(value) else function(float(value))
        assert int(got) & mask == max(low, min(high, whole)) & mask, value


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize(
    ("source", "target"), [("u64", "f32"), ("s64", "f32"), ("s64", "f64"), ("u64", "f64"), ("s64", "f16")]
)
def test_wide_integers_to_floats_round_once(
    source: str, target: str, mode: str, rng: np.random.Generator
) -> None:
    values = rng.integers(0, 1 << 63, 48, np.uint64) >> rng.integers(0, 60, 48, np.uint64)
    values[:24] = ~values[:24]
    values[40:] = (1 << 62) + (1 << 38) + np.arange(8, dtype=np.uint64) * np.uint64(1 << 7)
    size = np.dtype(DTYPES[target]).itemsize
    register = {2: "%h0", 4: "%o0", 8: "%d1"}[size]
    spread = {2: "cvt.u32.u16 %o0, %h0;", 4: "", 8: "mov.b64 {%o0, %o1}, %d1;"}[size]
    out = run(f"mov.b64 %d0, {{%a0, %a1}}; cvt.{mode}.{target}.{source} {register}, %d0; {spread}", values)
    found = np.ascontiguousarray(out[:, : max(1, size // 4)]).view(DTYPES[target])[:, 0]
    for got, bits in zip(found, values, strict=True):
        exact = Fraction(int(bits) - (1 << 64 if source == "s64" and int(bits) >> 63 else 0))
        check_rounding(got, exact, mode)


def check_rounding(got: Any, exact: Fraction, mode: str) -> None:
    """`got` is the value of its type that `mode` picks for `exact`."""
    if not np.isfinite(got):
        top = Fraction(float(np.finfo(got.dtype).max))
        assert abs(exact) > top
        assert (mode, exact > 0) not in {("rz", True), ("rz", False), ("rm", True), ("rp", False)}
        return
    value = Fraction(float(got))
    infinity = got.dtype.type(np.inf)
    with np.errstate(over="ignore"):
        up, down = np.nextafter(got, infinity), np.nextafter(got, -infinity)
    if mode == "rm" or (mode == "rz" and exact > 0):
        assert value <= exact
        assert np.isinf(up) or exact < Fraction(float(up))
    elif mode == "rp" or mode == "rz":
        assert value >= exact
        assert np.isinf(down) or exact > Fraction(float(down))
    else:
        error = abs(value - exact)
        assert all(np.isinf(v) or error <= abs(Fraction(float(v)) - exact) for v in (up, down))


def squared(got: Any, exact: Fraction, mode: str) -> None:
    """`got` is the root of `exact`, rounded."""
    up, down = (Fraction(float(np.nextafter(got, got.dtype.type(v)))) for v in (np.inf, 0))
    value = Fraction(float(got))
    if mode == "rp":
        assert down**2 < exact <= value**2
    elif mode in ("rm", "rz"):
        assert value**2 <= exact < up**2
    else:
        assert ((down + value) / 2) ** 2 <= exact <= ((value + up) / 2) ** 2


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "fma", "sqrt", "rcp"])
def test_every_rounding_of_arithmetic(name: str, mode: str, kind: str, rng: np.random.Generator) -> None:
    dtype = DTYPES[kind]
    values = (rng.standard_normal((40, 3)) * 2.0 ** rng.integers(-40, 40, (40, 3))).astype(dtype)
    values[:8, 0] = values[:8, 1] * dtype(1 + 2.0**-20)
    if name == "sqrt":
        values = np.abs(values)
    count = {"fma": 3, "sqrt": 1, "rcp": 1}.get(name, 2)
    if kind == "f64":
        load = " ".join(f"mov.b64 %d{i}, {{%a{2 * i}, %a{2 * i + 1}}};" for i in range(3))
        names = ", ".join(f"%d{i}" for i in range(count))
        body = f"{load} {name}.{mode}.f64 %d5, {names}; mov.b64 {{%o0, %o1}}, %d5;"
    else:
        names = ", ".join(f"%a{i}" for i in range(count))
        body = f"{name}.{mode}.f32 %o0, {names};"
    out = run(body, values)
    found = np.ascontiguousarray(out[:, : np.dtype(dtype).itemsize // 4]).view(dtype)[:, 0]
    functions: dict[str, Any] = {
        "add": lambda a, b, c: a + b, "sub": lambda a, b, c: a - b, "mul": lambda a, b, c: a * b,
        "div": lambda a, b, c: a / b, "fma": lambda a, b, c: a * b + c, "rcp": lambda a, b, c: 1 / a,
        "sqrt": lambda a, b, c: a,
    }  # fmt: skip
    for got, row in zip(found, values, strict=True):
        exact = functions[name](*(Fraction(float(v)) for v in row))
        (squared if name == "sqrt" else check_rounding)(got, exact, mode)


def test_packing_conversion_of_integers() -> None:
    inputs = np.array([[-1000, 300, 0x1234]], np.int32)
    out = run("cvt.pack.sat.s8.s32.b32 %o0, %a0, %a1, %a2; cvt.pack.sat.u16.s32 %o1, %a0, %a1;", inputs)
    assert out[0, 0] == 0x1234_807F
    assert out[0, 1] == 300
