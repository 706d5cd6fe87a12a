"""What counted lines are said to cost, and how long they take at least."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tessera.emulator import Counters, Emulator
from tessera.profiler import DATASHEETS
from tessera.profiler.advice import Advice, advise
from tessera.profiler.prediction import predict
from tessera.profiler.source_lines import SourceFiles

HEAD = ".version 8.3\n.target sm_90\n.address_size 64\n"
EMULATOR = Emulator(memory_bytes=1 << 24, level=0, count=True)
Count = Callable[..., tuple[Counters, tuple[Advice, ...]]]


@pytest.fixture
def count(tmp_path: Path) -> Count:
    """Counts and advice of a kernel whose lines of PTX belong to lines of a Python source."""

    def run(source: str, *lines: str, grid: int = 1, block: int = 64) -> tuple[Counters, tuple[Advice, ...]]:
        path = tmp_path / "source.py"
        path.write_text(source)
        body = "\n".join(f"    .loc 1 {n} 0\n    {text}" for n, text in enumerate(lines, 1) if text)
        text = f"""{HEAD}
.visible .entry k(.param .u64 x)
{{
    .reg .b32 %t<9>, %i; .reg .f32 %f<9>; .reg .f64 %e<9>; .reg .b64 %d<9>, %x; .reg .pred %p<4>;
    .shared .align 128 .b8 tile[8192];
    .local .align 16 .b8 own[64];
    mov.u32 %i, %tid.x; ld.param.u64 %x, [x];
{body}
    .loc 1 0 0
    ret;
}}
.file 1 "source.py"
"""
        found = EMULATOR.launch(text, "k", grid, block, [np.zeros(1 << 14, np.uint8)]).counters
        assert found is not None
        return found, advise(found, SourceFiles(lambda _: str(path)))

    return run


def test_column_is_told_from_a_stride_and_from_a_shift(count: Count) -> None:
    source = "a = x[i, j]\nb = x[8 * i]\nc = x[2 * i]\nd = x[i + 1]\ne = x[i]\n"
    _, advice = count(
        source,
        "mul.wide.u32 %d1, %i, 128; add.u64 %d1, %d1, %x; ld.global.f32 %f1, [%d1];",
        "mul.wide.u32 %d1, %i, 32; add.u64 %d1, %d1, %x; ld.global.f32 %f1, [%d1];",
        "mul.wide.u32 %d1, %i, 8; add.u64 %d1, %d1, %x; ld.global.f32 %f1, [%d1];",
        "mul.wide.u32 %d1, %i, 4; add.u64 %d1, %d1, %x; ld.global.f32 %f1, [%d1+4];",
        "mul.wide.u32 %d1, %i, 4; add.u64 %d1, %d1, %x; ld.global.f32 %f1, [%d1];",
        grid=4,
    )
    texts = {a.line: a.text for a in advice}
    assert list(texts) == [1, 2, 3, 4]
    assert texts[1] == (
        "x[i, j] loads 32 sectors per request where 4 suffice: threads of a warp walk down a column; "
        "make the fastest index threadIdx.x, or transpose through shared memory"
    )
    assert texts[2].startswith(
        "x[8 * i] loads 32 sectors per request where 4 suffice: neighbouring threads reach far"
    )
    assert "about 2 elements apart" in texts[3]
    assert "do not begin at a multiple of 32; pad the rows" in texts[4]
    assert [a.kind for a in advice] == [*["uncoalesced-loads"] * 3, "misaligned-loads"]
    assert advice[0].gain_text == (
        "predicted: at most 35 % of the kernel's sectors of global memory would go"
    )
    assert advice[0].source.title == "CUDA C++ Best Practices Guide"


def test_lines_that_name_several_arrays_are_called_lines(count: Count) -> None:
    access = "mul.wide.u32 %d1, %i, 32; add.u64 %d1, %d1, %x; ld.global.f32 %f1, [%d1];"
    for source in ("z = x[i] + y[i]", "z = (x +", ""):
        _, (advice,) = count(source, access)
        assert advice.what.startswith("this line loads 32 sectors")
    _, (shaped,) = count("while x[i] < x.shape[0]:", access)
    assert shaped.what.startswith("x[i] loads")


def test_banks_contention_and_local_memory_are_told_apart(count: Count) -> None:
    source = "v = tile[tx, ty]\ncuda.atomic.add(tile, 0, 1)\nw = own[k]\n"
    _, advice = count(
        source,
        "mov.u32 %t2, tile; shl.b32 %t1, %i, 7; add.u32 %t1, %t1, %t2; ld.shared.f32 %f1, [%t1];",
        "red.shared.add.u32 [tile], 1;",
        "mov.u64 %d1, own; ld.local.f32 %f1, [%d1];",
    )
    kinds = {a.kind: a for a in advice}
    assert set(kinds) == {"bank-conflict-loads", "shared-contention", "local-memory"}
    banks = kinds["bank-conflict-loads"]
    assert banks.what == "tile[tx, ty] loads in 32 wavefronts per request where 1 suffices"
    assert "pad each row" in banks.remedy
    assert kinds["shared-contention"].what == "atomics take 32 turns per request"


def test_branches_that_divide_warps_are_told(count: Count) -> None:
    source = "if i < 3:\n    y = 1\nz = 0.5 * y\n"
    _, advice = count(
        source,
        "setp.lt.u32 %p1, %i, 3; @!%p1 bra PAST; mov.u32 %t1, 1; mov.u32 %t2, 1; mov.u32 %t3, 1;",
        "mov.u32 %t4, 1; mov.u32 %t5, 1;",
        "PAST: cvt.f64.f32 %e1, %f1; mul.f64 %e1, %e1, %e2; cvt.rn.f32.f64 %f1, %e1;",
        block=32, grid=4,
    )  # fmt: skip
    kinds = {a.kind: a for a in advice}
    assert kinds["divergence"].what == "100 % of the branches of warps here divide the warp"
    assert kinds["divergence"].line == 1


def test_costliest_line_comes_first(count: Count) -> None:
    access = "add.u64 %d1, %d1, %x; ld.global.f32 %f1, [%d1];"
    _, advice = count(
        "a = x[i]\nb = x[i]\n", f"mul.wide.u32 %d1, %i, 8; {access}", f"mul.wide.u32 %d1, %i, 32; {access}"
    )
    assert [a.line for a in advice] == [2, 1]
    # 28 sectors more than needed, twice, of 2 cycles each.
    assert advice[0].cost == 2 * 28 * 2


def test_predicted_time_is_the_larger_of_memory_and_arithmetic(count: Count) -> None:
    counters, _ = count(
        "",
        "mul.wide.u32 %d1, %i, 4; add.u64 %d1, %d1, %x; ld.global.f32 %f1, [%d1];",
        "fma.rn.f32 %f1, %f1, %f1, %f1; add.f64 %e1, %e1, %e1;",
    )
    found = {p.gpu: p for p in predict(counters, 128)}
    assert set(found) == set(DATASHEETS)
    a100 = found["A100 SXM 80 GB"]
    assert a100.worst_memory_ms == pytest.approx(64 * 4 / 2.039e12 * 1e3)
    assert a100.best_memory_ms == pytest.approx(128 / 2.039e12 * 1e3)
    assert a100.arithmetic_ms == pytest.approx((128 / 19.5e12 + 64 / 9.7e12) * 1e3)
    assert (a100.bound, a100.worst_ms, a100.best_ms) == ("memory", a100.worst_memory_ms, a100.best_memory_ms)


def test_tensor_cores_without_a_rate_have_no_predicted_time(count: Count) -> None:
    product = "{%f1, %f2, %f3, %f4}, {%t1, %t2, %t3, %t4}, {%t5, %t6}, {%f1, %f2, %f3, %f4};"
    counters, _ = count("", f"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {product}")
    found: dict[str, Any] = {p.gpu: p for p in predict(counters, 0)}
    assert found["V100 SXM2"].arithmetic_ms is None
    assert found["H100 SXM"].arithmetic_ms == pytest.approx(2 * 2 * 16 * 8 * 16 / 989e12 * 1e3)
    assert found["H100 SXM"].bound == "arithmetic"
