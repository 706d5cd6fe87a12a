"""The edges of instructions: results that barely round to normal numbers, and forms that nobody knows."""

import numpy as np
import pytest

from tessera.emulator import Emulator
from tessera.program.errors import CompileError
from tests.emulator.warp import run

BELOW_ONE, SMALLEST = 0x3F7FFFFF, 0x00800000
HALF_BELOW_ONE, HALF_SMALLEST = 0x3BFF3BFF, 0x04000400
DOUBLE_BELOW = 0x380FFFFF_FFFFFFFF
"""The float64 below 2**-126."""


@pytest.mark.parametrize("implementation", ["interpreter", "engine"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("mul.ftz.f32 %o0, %a0, %a1;", 0),
        ("fma.rn.ftz.f32 %o0, %a0, %a1, 0f00000000;", 0),
        ("mul.f32 %o0, %a0, %a1;", SMALLEST),
        ("mul.ftz.f16x2 %o0, %a2, %a3;", 0),
        ("fma.rn.ftz.f16x2 %o0, %a2, %a3, 0;", 0),
        ("mul.f16x2 %o0, %a2, %a3;", HALF_SMALLEST),
        ("mov.b64 %d0, {%a4, %a5}; cvt.rn.ftz.f32.f64 %o0, %d0;", SMALLEST),
        ("mov.b64 %d0, {%a4, %a5}; cvt.rp.ftz.f32.f64 %o0, %d0;", SMALLEST),
    ],
)
def test_arithmetic_flushes_before_rounding_and_conversions_after(
    body: str, expected: int, implementation: str
) -> None:
    engine = Emulator(workers=1, memory_bytes=1 << 20, level=0) if implementation == "engine" else None
    low, high = DOUBLE_BELOW & 0xFFFFFFFF, DOUBLE_BELOW >> 32
    words = [BELOW_ONE, SMALLEST, HALF_BELOW_ONE, HALF_SMALLEST, low, high]
    found = run(body, np.array([words] * 3, np.uint32), engine)
    np.testing.assert_array_equal(found[:, 0], expected)


@pytest.mark.parametrize("implementation", ["interpreter", "engine"])
@pytest.mark.parametrize(
    "body",
    [
        "add.u32 %o0, %a0;", "cvt.u32 %o0, %a0;", "setp.xx.s32 %p0, %a0, %a1;",
        "vadd2.s32 %o0, %a0, %a1, %a2;",
        "tex.1d.v4.f32.s32 {%o0, %o1, %o2, %o3}, [%d0, {%a0}];", "txq.width.b32 %o0, [%d0];",
        "suld.b.1d.v4.b32.trap {%o0, %o1, %o2, %o3}, [%d0, {%a0}];",
        "multimem.red.relaxed.sys.global.add.f32 [%d0], %a0;", "cvt.rs.f16x2.f32 %o0, %a0, %a1, %a2;",
    ],
)  # fmt: skip
def test_what_nobody_knows_is_a_compile_error_with_its_line(body: str, implementation: str) -> None:
    engine = Emulator(workers=1, memory_bytes=1 << 20, level=0) if implementation == "engine" else None
    mnemonic = body.split()[0].replace(".", r"\.")
    with pytest.raises(CompileError, match=rf"PTX line \d+: the emulator does not know {mnemonic}"):
        run(body, np.zeros((1, 8), np.uint32), engine)


@pytest.mark.parametrize("implementation", ["interpreter", "engine"])
def test_a_label_that_is_there_twice_is_a_compile_error(implementation: str) -> None:
    engine = Emulator(workers=1, memory_bytes=1 << 20, level=0) if implementation == "engine" else None
    with pytest.raises(CompileError, match=r"PTX line 36: label 'AGAIN' is there twice"):
        run("bra AGAIN;\nAGAIN:\nAGAIN:", np.zeros((1, 8), np.uint32), engine)
