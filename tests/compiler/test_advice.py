"""What a compiled kernel's author is told: strided accesses, spills, local memory, low occupancy."""

from typing import Any

import pytest
from numba import cuda, float32, int32

import tessera as ts
from tessera.compiler.advice import resource_notes
from tessera.compiler.strides import strided_accesses
from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget
from tessera.program.artifact import KernelBinary, Resources

N = 32


def column(a, b):
    i, j = cuda.grid(2)
    if i < a.shape[0] and j < a.shape[1]:
        b[i, j] = a[i, j] * 2


def every_fourth(a, b):
    i = cuda.threadIdx.x + cuda.blockIdx.x * cuda.blockDim.x
    k = 4 * i
    b[i] = a[k] + a[k + 1]


def grown_in_a_loop(a, b):
    i = cuda.grid(1) << 1
    while i < a.size:
        b[i] = 1
        i += cuda.gridsize(1)


def backwards_by_rows(a, b):
    row = a.shape[0] - 1 - cuda.grid(1)
    for k in range(a.shape[1]):
        b[0, k] += a[row, k]


@pytest.mark.parametrize(
    ("fn", "rank", "expected"),
    [
        (column, 2, [("a[i, j]", None, False), ("b[i, j]", None, True)]),
        (every_fourth, 1, [("a[k + 1]", 4, False), ("a[k]", 4, False)]),
        (grown_in_a_loop, 1, [("b[i]", 2, True)]),
        (backwards_by_rows, 2, [("a[row, k]", None, False)]),
    ],
)
def test_strided_access_is_found(fn: Any, rank: int, expected: list[Any]) -> None:
    found = strided_accesses(fn, {"a": rank, "b": rank})
    assert [(a.text, a.stride, a.writes) for a in found] == expected
    assert all("(uncoalesced)" in str(a) for a in found)


def row(a, b):
    j, i = cuda.grid(2)
    if i < a.shape[0] and j < a.shape[1]:
        b[i, j] = a[i, j] * 2


def grid_stride(a, b):
    for i in range(cuda.grid(1), a.size, cuda.gridsize(1)):
        b[i] = a[i]


def reversed_in_shared(a, b):
    tile = cuda.shared.array(N, float32)
    t = cuda.threadIdx.x
    tile[t * 2 % N] = a[cuda.grid(1)]
    cuda.syncthreads()
    b[cuda.grid(1)] = tile[N - 1 - t]


def gathered(a, b):
    i = cuda.grid(1)
    b[i] = a[int(b[i]), 0] if False else a[i // 2]


def one_element(a, b):
    b[cuda.blockIdx.x] = a[cuda.blockIdx.x * 8]


def diagonal(a, b):
    i = cuda.grid(1)
    b[i, i] = a[i, i]


def either(a, b):
    i = cuda.grid(1)
    k = 4 * i if a.size > 9 else i
    b[k] = a[k]


@pytest.mark.parametrize(
    ("fn", "rank"),
    [
        (row, 2),
        (grid_stride, 1),
        (reversed_in_shared, 1),
        (gathered, 1),
        (one_element, 1),
        (diagonal, 2),
        (either, 1),
    ],
)
def test_coalesced_and_unknown_accesses_are_left_alone(fn: Any, rank: int) -> None:
    assert strided_accesses(fn, {"a": rank, "b": rank}) == []


def test_note_names_the_line_and_the_remedy() -> None:
    @ts.kernel(grid=lambda h, w: (ts.cdiv(h, 32), ts.cdiv(w, 8)), block=(32, 8))
    def kernel(a: ts.Array[ts.f32, "h", "w"], b: ts.Array[ts.f32, "h", "w"]):
        i, j = cuda.grid(2)
        if i < a.shape[0] and j < a.shape[1]:
            b[i, j] = a[i, j]

    notes = AOTCompiler(target_architectures=["sm_80"]).compile(kernel).artifact.notes
    line = kernel.fn.__code__.co_firstlineno + 4
    assert sum(f"line {line}: " in note and "last index" in note for note in notes) == 2


def test_spills_are_told_with_the_targets_that_have_them() -> None:
    @ts.kernel(grid=1, block=32)
    def many(x: ts.Array[ts.f32, "n"]):
        i = cuda.threadIdx.x
        a0, a1, a2, a3, a4, a5 = x[i], x[i + 32], x[i + 64], x[i + 96], x[i + 128], x[i + 160]
        b0, b1, b2, b3, b4, b5 = x[i + 192], x[i + 224], x[i + 256], x[i + 288], x[i + 320], x[i + 352]
        c0, c1, c2, c3, c4, c5 = x[i + 384], x[i + 416], x[i + 448], x[i + 480], x[i + 512], x[i + 544]
        cuda.syncthreads()
        x[i] = a0 * b0 + c0 * a1 * b1 + c1 / a2 * b2 + c2 * a3 / b3 + c3 * a4 * b4 + c4 / a5 + b5 * c5
        x[i + 32] = (a0 - b1) * (c2 - a3) * (b4 - c5) + (a1 - b2) * (c3 - a4) * (
            b5 - c0
        ) * a2 * a5 * b3 * c1 * c4

    config = AOTConfig(
        targets=[CompilationTarget("sm_80", ["--maxrregcount=16"]), CompilationTarget("sm_90")]
    )
    notes = AOTCompiler(config).compile(many).artifact.notes
    (spills,) = (note for note in notes if "spills" in note)
    assert "many spills" in spills
    assert "sm_80" in spills
    assert "sm_90" not in spills


def test_array_in_local_memory_is_told() -> None:
    @ts.kernel(grid=lambda n: ts.cdiv(n, 64), block=64)
    def indexed(x: ts.Array[ts.i32, "n"]):
        own = cuda.local.array(16, int32)
        i = cuda.grid(1)
        for k in range(16):
            own[k] = x[(i + k) % x.size]
        x[i] = own[x[i] & 15]

    notes = AOTCompiler(target_architectures=["sm_80"]).compile(indexed).artifact.notes
    assert any("64 bytes per thread in local memory on sm_80" in note for note in notes)


def binary(**figures: Any) -> KernelBinary:
    return KernelBinary(
        program="p",
        name="k",
        kernels=("k",),
        target="sm_80",
        format="cubin",
        data=b"",
        resources=Resources(**figures),
    )


def test_low_occupancy_names_its_limit() -> None:
    (note,) = resource_notes(
        [binary(registers=255, spill_bytes=0, stack_bytes=0, shared_bytes=0, threads=256, occupancy=0.125)]
    )
    assert note.startswith("k keeps 8 of 64 warps on sm_80, limited by registers: ")


def test_good_figures_need_no_note() -> None:
    good = {"registers": 32, "spill_bytes": 0, "stack_bytes": 0, "shared_bytes": 0, "threads": 256}
    assert resource_notes([binary(**good, occupancy=1.0), binary()]) == []
