"""f16 and bf16 arithmetic and comparisons against exact fractions, rounded by a plain search."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.emulator.warp import run, widened

Array = np.ndarray[Any, Any]
TYPES = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}
SPECIAL = [
    0x0000, 0x8000, 0x7F80, 0xFF80, 0x7C00, 0xFC00, 0x7FC1, 0xFE00, 0x3C00, 0x0001, 0x83FF, 0x7BFF, 0x7F7F,
]  # fmt: skip


def operands(rng: np.random.Generator, count: int = 3) -> Array:
    """(64, 2 * count) bits: everything, with special values among them."""
    bits = rng.integers(0, 1 << 16, (64, 2 * count), np.uint16)
    near = rng.standard_normal((32, 2 * count)).astype(np.float16).view(np.uint16)
    bits[32:] = near
    bits[:13, 0] = SPECIAL
    bits[3:16, 2] = SPECIAL
    return bits


def nearest(exact: Fraction, dtype: Any) -> float:
    """The value of a 16-bit type that is nearest to `exact`; ties go to the even one."""
    values = widened(np.arange(1 << 16, dtype=np.uint16).view(dtype))
    finite = np.unique(values[np.isfinite(values)])
    place = int(np.searchsorted(finite, float(exact)))
    top = float(finite[-1])
    step = top - float(finite[-2])
    if abs(exact) >= Fraction(top) + Fraction(step) / 2:
        return math.copysign(math.inf, exact)
    best = sorted(
        finite[max(0, place - 2) : place + 2],
        key=lambda v: (abs(Fraction(float(v)) - exact), int(np.array(v, dtype).view(np.uint16)) & 1),
    )
    return float(best[0])


OPERATIONS: dict[str, tuple[int, Callable[..., Fraction]]] = {
    "add": (2, lambda a, b: a + b),
    "sub": (2, lambda a, b: a - b),
    "mul": (2, lambda a, b: a * b),
    "fma.rn": (3, lambda a, b, c: a * b + c),
}


@pytest.mark.parametrize("kind", ["f16", "bf16", "f16x2", "bf16x2"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_arithmetic_rounds_the_exact_result_once(name: str, kind: str, rng: np.random.Generator) -> None:
    count, function = OPERATIONS[name]
    bits = operands(rng, count)
    names = ", ".join(f"%a{i}" for i in range(count))
    halves = ", ".join(f"%h{i}" for i in range(count))
    if kind.endswith("x2"):
        body = f"{name}.{kind} %o0, {names};"
    else:
        moves = " ".join(f"cvt.u16.u32 %h{i}, %a{i};" for i in range(count))
        body = f"{moves} {name}.{kind} %h9, {halves}; cvt.u32.u16 %o0, %h9;"
    found = run(body, bits)[:, 0].copy().view(np.uint16).reshape(-1, 2)
    dtype = TYPES[kind.removesuffix("x2")]
    values = widened(bits.view(dtype)).reshape(-1, count, 2)
    for i, row in enumerate(values):
        for j in range(2 if kind.endswith("x2") else 1):
            given = [float(v) for v in row[:, j]]
            got = float(widened(found[i, j : j + 1].view(dtype))[0])
            if not all(map(math.isfinite, given)):
                with np.errstate(all="ignore"):
                    plain = float(function(*map(np.float64, given)))
                assert got == plain or (math.isnan(got) and math.isnan(plain)), given
                assert not math.isnan(got) or found[i, j] == 0x7FFF
            else:
                assert got == nearest(function(*map(Fraction, given)), dtype), given


@pytest.mark.parametrize(
    ("modifiers", "expected"),
    [
        ("fma.rn.sat.f16x2", lambda a, b, c: np.clip(np.nan_to_num(a * b + c, nan=0), 0, 1)),
        ("fma.rn.relu.bf16x2", lambda a, b, c: np.maximum(a * b + c, 0)),
        ("add.sat.f16x2", lambda a, b, c: np.clip(a + b, 0, 1)),
        ("min.bf16x2", lambda a, b, c: np.fmin(a, b)),
        ("max.NaN.f16x2", lambda a, b, c: np.maximum(a, b)),
        ("min.xorsign.abs.f16x2", lambda a, b, c: np.copysign(np.fmin(abs(a), abs(b)), a * b)),
        ("neg.f16x2", lambda a, b, c: -a),
        ("abs.bf16x2", lambda a, b, c: abs(a)),
    ],
)
def test_modifiers_of_half_precision(modifiers: str, expected: Any, rng: np.random.Generator) -> None:
    kind = TYPES["bf16" if "bf16" in modifiers else "f16"]
    values = rng.standard_normal((32, 6)).astype(kind)
    opcode = modifiers.split(".")[0]
    names = {"fma": "%a0, %a1, %a2", "neg": "%a0", "abs": "%a0"}.get(opcode, "%a0, %a1")
    found = run(f"{modifiers} %o0, {names};", values.view(np.uint16))[:, 0].copy().view(kind).reshape(-1, 2)
    a, b, c = (values[:, 2 * i : 2 * i + 2].astype(np.float64) for i in range(3))
    # Two values of 8 or 11 bits: float64 holds the result before it is rounded.
    np.testing.assert_array_equal(found.astype(np.float32), expected(a, b, c).astype(kind).astype(np.float32))


def test_subnormal_halves_are_flushed_where_asked() -> None:
    values = np.array([[0x03FF, 0x8001, 0x3C00, 0xBC00]], np.uint16)
    assert run("mul.ftz.f16x2 %o0, %a0, %a1;", values)[0, 0] == 0
    assert run("mul.f16x2 %o0, %a0, %a1;", values)[0, 0] == 0x0001_03FF


@pytest.mark.parametrize("kind", ["f16x2", "bf16x2"])
@pytest.mark.parametrize(
    ("name", "function"),
    [("lt", np.less), ("geu", lambda a, b: ~(a < b)), ("ne", lambda a, b: (a < b) | (a > b)),
     ("nan", lambda a, b: np.isnan(a) | np.isnan(b))],
)  # fmt: skip
def test_comparisons_of_pairs(name: str, function: Any, kind: str, rng: np.random.Generator) -> None:
    bits = operands(rng, 2)
    body = f"""setp.{name}.{kind} %p0|%p1, %a0, %a1;
    selp.b32 %o0, 1, 0, %p0; selp.b32 %o1, 1, 0, %p1; set.{name}.{kind}.{kind} %o2, %a0, %a1;"""
    found = run(body, bits)
    values = widened(bits.view(TYPES[kind[:-2]]))
    expected = np.stack([function(values[:, i], values[:, 2 + i]) for i in range(2)], axis=1)
    np.testing.assert_array_equal(found[:, :2], expected)
    one = np.array(1, TYPES[kind[:-2]]).view(np.uint16)
    np.testing.assert_array_equal(found[:, 2].copy().view(np.uint16).reshape(-1, 2), expected * one)


@pytest.mark.parametrize(
    ("form", "kind", "function"),
    [
        ("ex2.approx.f16x2", np.float16, np.exp2),
        ("tanh.approx.f16x2", np.float16, np.tanh),
        ("tanh.approx.bf16x2", ml_dtypes.bfloat16, np.tanh),
        ("ex2.approx.ftz.bf16x2", ml_dtypes.bfloat16, np.exp2),
    ],
)
def test_approximate_functions_stay_within_a_unit(
    form: str, kind: Any, function: Any, rng: np.random.Generator
) -> None:
    values = rng.standard_normal((32, 2)).astype(kind)
    found = run(f"{form} %o0, %a0;", values.view(np.uint16))[:, 0].copy().view(kind).reshape(-1, 2)
    exact = function(values.astype(np.float64))
    tolerance = 2.0**-10 if kind is np.float16 else 2.0**-7
    np.testing.assert_allclose(found.astype(np.float64), exact, rtol=tolerance)
