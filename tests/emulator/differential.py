"""Random programs, and what both implementations make of them.

A program has 32-bit registers `%a0`… and 64-bit `%d0`…, which begin as inputs and are the outputs, and 16-bit
`%h0`… made of the first; predicates `%p0`… and `%q0`…; scratch `%t0`….
"""

import itertools
import os
import random
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tessera.emulator import Emulator
from tessera.emulator.lockstep import launch

Array = np.ndarray[Any, Any]
THREADS = 40
REGISTERS = 6
ENGINE = Emulator(workers=1, memory_bytes=1 << 24, level=0)
EXAMPLES = int(os.environ.get("TESSERA_FUZZ_EXAMPLES", "12"))
"""Random programs per test; `make soak` asks for thousands."""
LABELS = itertools.count()
"""Numbers of labels: drawn ones would be alike now and then."""
COMMON = settings(
    deadline=None,
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def program(body: str, *, shared: bool = False, declared: str = "", functions: str = "") -> str:
    """`k(in, out)`: 32-bit `%a0`… and 64-bit `%d0`… begin as inputs, and are the outputs."""
    loads = "\n".join(
        f"    ld.global.b64 %d{i}, [%in+{8 * i}];\n    cvt.u32.u64 %a{i}, %d{i};" for i in range(REGISTERS)
    )
    stores = "\n".join(
        f"    st.global.b64 [%out+{16 * i}], %d{i};\n    st.global.b32 [%out+{16 * i + 8}], %a{i};"
        for i in range(REGISTERS)
    )
    return f""".version 8.3
.target sm_90
.address_size 64
{functions}
.visible .entry k(.param .u64 inputs, .param .u64 outputs)
{{
    .reg .b32 %a<{REGISTERS}>, %i, %t<8>;
    .reg .b16 %h<4>;
    .reg .b64 %d<{REGISTERS}>, %in, %out, %wide;
    .reg .pred %p<4>, %q<8>;
    {".shared .align 16 .b8 memory[1024];" if shared else ""}
    {declared}
    mov.u32 %i, %tid.x;
    ld.param.u64 %in, [inputs];
    ld.param.u64 %out, [outputs];
    mul.wide.u32 %wide, %i, {8 * REGISTERS};
    add.u64 %in, %in, %wide;
    mul.wide.u32 %wide, %i, {16 * REGISTERS};
    add.u64 %out, %out, %wide;
{loads}
    mov.b32 {{%h0, %h1}}, %a0;
    mov.b32 {{%h2, %h3}}, %a1;
    setp.lt.s32 %p0, %a0, %a1;
    setp.gt.u32 %p1, %a2, 1000;
    setp.eq.u32 %p2, %i, 3;
    setp.lt.u32 %p3, %i, 17;
{body}
{stores}
    ret;
}}
"""


def both(text: str, inputs: Array) -> tuple[Array, Array]:
    """What the engine and the interpreter make of a program."""
    found = []
    for run in (ENGINE.launch, launch):
        out = np.zeros((len(inputs), 2 * REGISTERS), np.uint64)
        run(text, "k", (1,), (len(inputs),), [inputs.copy(), out])
        found.append(out)
    ENGINE._texts.clear()
    return found[0], found[1]


def whole_warps(inputs: Array) -> Array:
    """Inputs for 64 threads: lanes that do not exist have no values to shuffle."""
    return np.concatenate([inputs, inputs])[:64].copy()


INTEGERS = np.array([0, 1, 2, 31, 32, 33, 63, 64, 255, 256, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63,
                     (1 << 64) - 1, 0x5555555555555555], np.uint64)  # fmt: skip


@st.composite
def filled(draw: st.DrawFn, forms: Sequence[str]) -> str:
    """One of the forms with registers: `{a}` of 32 bits, `{d}` of 64, `{h}` of 16, `{p}` a predicate."""
    form = draw(st.sampled_from(forms))
    pick = random.Random(draw(st.integers(0, 1 << 32)))
    count = {"a": REGISTERS, "d": REGISTERS, "h": 4, "p": 4}
    return re.sub(r"\{([adhp])\}", lambda m: f"%{m[1]}{pick.randrange(count[m[1]])}", form)


@st.composite
def half_inputs(draw: st.DrawFn) -> Array:
    """Pairs of halves: ordinary, special, and any bits."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    shape = (THREADS, REGISTERS, 4)
    values = (
        (rng.standard_normal(shape) * 2.0 ** rng.integers(-20, 14, shape)).astype(np.float16).view(np.uint16)
    )
    anything = rng.integers(0, 1 << 16, shape).astype(np.uint16)
    special = rng.choice(HALVES, shape)
    kind = rng.random(shape)
    words = np.where(kind < 0.5, values, np.where(kind < 0.75, anything, special)).astype(np.uint16)
    return np.ascontiguousarray(words).view(np.uint64)[:, :, 0]


HALVES = np.array(
    [0, 0x8000, 0x3C00, 0xBC00, 0x7C00, 0xFC00, 0x7E00, 0x7D01, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF,
     0x3F80, 0x7F80, 0x7FC0, 0x7F7F, 0x0080], np.uint16,
)  # fmt: skip
"""Zeros, ones, infinities, NaN, subnormal and extreme values of float16 and bfloat16."""


@st.composite
def integer_inputs(draw: st.DrawFn) -> Array:
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    shape = (THREADS, REGISTERS)
    special = rng.choice(INTEGERS, shape)
    return np.where(
        rng.random(shape) < 0.4, special, rng.integers(0, 1 << 64, shape, np.uint64, endpoint=False)
    )


@st.composite
def float_inputs(draw: st.DrawFn) -> Array:
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    shape = (THREADS, REGISTERS)
    exponents = rng.integers(-45, 40, shape).astype(np.float64)
    values = (rng.standard_normal(shape) * 2.0**exponents).astype(np.float32)
    special = rng.choice(np.array([0.0, -0.0, 1.0, np.inf, -np.inf, 1e-40, 3e38, -1.5], np.float32), shape)
    return np.where(rng.random(shape) < 0.3, special, values).view(np.uint32).astype(np.uint64)


def a(draw: st.DrawFn) -> str:
    return f"%a{draw(st.integers(0, REGISTERS - 1))}"


def d(draw: st.DrawFn) -> str:
    return f"%d{draw(st.integers(0, REGISTERS - 1))}"
