"""The engine and the interpreter count alike: Numba kernels, programs by nvcc, random programs."""

# ruff: noqa: E501 - lines of PTX

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.emulator import Counters, Emulator
from tessera.emulator.lockstep import launch
from tests.emulator.both import HEAD
from tests.emulator.test_engine_differential import (
    COMMON,
    REGISTERS,
    THREADS,
    branching,
    integer_inputs,
    program,
    warp_body,
)

Array = np.ndarray[Any, Any]
FOLDER = Path(__file__).parent / "ptx"
ENGINE = Emulator(workers=2, memory_bytes=1 << 24, level=0, count=True)


def counted(
    text: str, entry: str, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], shared: int = 0
) -> Counters:
    """The counters of a launch, after both implementations have agreed on them."""
    copies = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    ours = ENGINE.launch(text, entry, grid, block, args, shared).counters
    theirs = launch(text, entry, grid, block, copies, shared, count=True)
    ENGINE._texts.clear()
    assert ours is not None
    assert theirs is not None
    for own, other in zip(ours.instructions, theirs.instructions, strict=False):
        assert own == other
    assert ours == theirs
    return ours


@COMMON
@given(branching(), integer_inputs())
def test_branching_programs_count_alike(body: str, inputs: Array) -> None:
    out = np.zeros((THREADS, 2 * REGISTERS), np.uint64)
    counted(program(body), "k", (2,), (THREADS,), [inputs, out])


@COMMON
@given(warp_body(), integer_inputs())
def test_warp_operations_count_alike(body: str, inputs: Array) -> None:
    whole = np.concatenate([inputs, inputs])[:64].copy()
    out = np.zeros((64, 2 * REGISTERS), np.uint64)
    counted(program(body, shared=True), "k", (1,), (64,), [whole, out])


FORMS = [(1, "u8", "%t1"), (2, "u16", "%h1"), (4, "u32", "%t1"), (8, "u64", "%l1"), (8, "v2.u32", "{%t1, %t2}"),
         (16, "v4.u32", "{%t1, %t2, %t3, %t4}"), (16, "v2.u64", "{%l1, %l2}")]  # fmt: skip
"""Bytes of an access, its type, and its registers."""
BASES = {"global": "%base0", "shared": "%base1", "local": "%base2"}
GENERIC = ["%base0", "%generic1", "%generic2", "%mixed"]


@st.composite
def access_line(draw: st.DrawFn) -> str:
    """An access to some memory, at a computed or drawn offset below 1024, under any guard."""
    space = draw(st.sampled_from(["global", "shared", "local", "generic"]))
    size, form, target = draw(st.sampled_from(FORMS))
    base = BASES.get(space) or draw(st.sampled_from(GENERIC))
    operation = draw(st.sampled_from(["ld", "st", "atom", "red"]))
    if operation in ("atom", "red") and (
        form not in ("u32", "u64") or base in ("%base2", "%generic2", "%mixed")
    ):
        operation = "ld"
    source = draw(st.sampled_from(["%a0", "%a1", "%lane0", "%lane1", "%lane2", "%lane8", "%lane33"]))
    place = (
        f"and.b32 %t5, {source}, {1024 // size - 1}; mul.wide.u32 %at, %t5, {size}; add.u64 %at, %at, {base};"
    )
    name = f"{operation}{'' if space == 'generic' else '.' + space}{'.add' if operation in ('atom', 'red') else ''}.{form}"
    operands = {"ld": f"{target}, [%at]", "st": f"[%at], {target}", "atom": f"{target}, [%at], {target}",
                "red": f"[%at], {target}"}[operation]  # fmt: skip
    return f"    {place}\n    {draw(st.sampled_from(['', '@%p0 ', '@!%p1 ']))}{name} {operands};"


@st.composite
def access_body(draw: st.DrawFn) -> str:
    lines = []
    for number in range(draw(st.integers(1, 8))):
        line = draw(access_line())
        if draw(st.booleans()):
            line = f"@%p{draw(st.integers(0, 2))} bra PAST{number};\n{line}\nPAST{number}:"
        lines.append(line)
    return "\n".join(lines)


def access_program(body: str) -> str:
    """`k(numbers, memory)`: two random numbers for each thread, and memory that accesses go to."""
    lanes = "\n".join(f"    mul.lo.u32 %lane{k}, %i, {k};" for k in (0, 1, 2, 8, 33))
    return f"""{HEAD}
.visible .entry k(.param .u64 numbers, .param .u64 memory_at)
{{
    .reg .b32 %a<2>, %t<6>, %lane<34>, %i, %s;
    .reg .b16 %h<2>;
    .reg .b64 %l<3>, %at, %in, %base<3>, %generic<3>, %mixed;
    .reg .pred %p<4>;
    .shared .align 128 .b8 tile[1024];
    .local .align 16 .b8 own[1024];
    mov.u32 %i, %tid.x;
    ld.param.u64 %in, [numbers]; ld.param.u64 %base0, [memory_at];
    mul.wide.u32 %at, %i, 8; add.u64 %in, %in, %at;
    ld.global.v2.u32 {{%a0, %a1}}, [%in];
{lanes}
    mov.u64 %base1, tile; mov.u64 %base2, own;
    cvta.shared.u64 %generic1, %base1; cvta.local.u64 %generic2, %base2;
    setp.lt.u32 %p0, %i, 9; setp.gt.u32 %p1, %a0, 1000000000; setp.gt.s32 %p2, %a1, 0; setp.eq.u32 %p3, %i, 5;
    selp.b64 %mixed, %base0, %generic1, %p1;
    @%p3 mov.u64 %mixed, %generic2;
{body}
    ret;
}}
"""


@COMMON
@given(access_body(), st.integers(0, 1 << 32))
def test_accesses_of_any_size_and_space_count_alike(body: str, seed: int) -> None:
    # What is read depends on the order of warps, but no address and no branch does.
    numbers = np.random.default_rng(seed).integers(0, 1 << 32, (70, 2), np.uint32)
    counted(access_program(body), "k", (1,), (70,), [numbers, np.zeros(1024, np.uint8)])


def test_numba_kernels_count_alike(rng: np.random.Generator) -> None:
    for name, (entry, ptx) in numba_kernels().items():
        found = counted(ptx, entry, *numba_work(name, rng))
        assert found.lines(), name


@cache
def numba_kernels() -> dict[str, tuple[str, str]]:
    """Entry and PTX of the kernels of the benchmark, with source lines."""
    from numba.cuda import compile as compile_kernel

    from benchmarks import emulator as bench

    found = {}
    for name, (function, signature) in bench.kernels().items():
        text, _ = compile_kernel(function, signature, device=False, abi="numba", cc=(8, 0), lineinfo=True)
        found[name] = (text.split(".entry ")[1].split("(")[0].strip(), text)
    return found


def numba_work(name: str, rng: np.random.Generator) -> tuple[Any, Any, list[Any]]:
    from benchmarks import emulator as bench

    grid, block, args = bench.work(name, {"saxpy": 1000, "softmax": 3, "matmul": 32}[name])
    return grid, block, bench.flat(args)


def nvcc(name: str) -> str:
    return (FOLDER / f"{name}.ptx").read_text()


def test_programs_by_nvcc_count_alike(rng: np.random.Generator) -> None:
    x = rng.standard_normal(1000).astype(np.float32)
    counted(nvcc("reduce"), "reduce", (3,), (128,), [x, np.zeros(1, np.float32), np.int32(x.size)])
    whole = rng.integers(-100, 100, 51, np.int32)
    counted(nvcc("scan"), "scan", (1,), (64,), [whole, np.zeros(51, np.int32), np.int32(51)], 256)
    m, n, k = 20, 18, 33
    a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
    sizes = [np.int32(m), np.int32(n), np.int32(k)]
    counted(nvcc("matmul"), "matmul", (2, 2), (16, 16), [a, b, np.zeros((m, n), np.float32), *sizes])
    data = rng.integers(0, 256, 3000, np.uint8)
    counted(nvcc("histogram"), "histogram", (2,), (96,), [data, np.zeros(256, np.uint32), np.int32(3000)])


@pytest.mark.parametrize("size", [32, 64])
def test_matmul_takes_two_operations_per_product(size: int, rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((2, size, size)).astype(np.float32)
    c = np.zeros((size, size), np.float32)
    sizes = [np.int32(size)] * 3
    grid = (size // 16, size // 16)
    found = counted(nvcc("matmul"), "matmul", grid, (16, 16), [a, b, c, *sizes])
    np.testing.assert_allclose(c, a.astype(np.float64) @ b, atol=1e-4)
    assert found.flops_by_precision() == {"fp32": 2 * size**3}


def test_saxpy_moves_what_it_asks_for() -> None:
    entry, ptx = numba_kernels()["saxpy"]
    n = 1 << 12
    from benchmarks import emulator as bench

    grid, block, args = bench.work("saxpy", n)
    found = counted(ptx, entry, grid, block, bench.flat(args))
    assert found.flops_by_precision() == {"fp32": 2 * n}
    loads, stores = found.memory("global", "ld"), found.memory("global", "st")
    assert (loads.requests, loads.passes, loads.moved_bytes) == (2 * n // 32, 8 * n // 32, 8 * n)
    assert (stores.requests, stores.passes, stores.moved_bytes) == (n // 32, 4 * n // 32, 4 * n)
    assert found.divergent == 0
