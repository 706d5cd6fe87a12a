"""Counters of known kernels: what is counted follows from addresses and masks, in closed form."""

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tessera.emulator import Counters, Emulator
from tessera.emulator.lockstep import launch
from tessera.program.errors import KernelError
from tests.emulator.both import HEAD

Array = np.ndarray[Any, Any]
ENGINE = Emulator(memory_bytes=1 << 24, level=0, workers=2, count=True)


def engine(text: str, entry: str, grid: Any, block: Any, args: Any, shared_bytes: int = 0) -> Counters:
    found = ENGINE.launch(text, entry, grid, block, args, shared_bytes).counters
    assert found is not None
    return found


def interpreter(text: str, entry: str, grid: Any, block: Any, args: Any, shared_bytes: int = 0) -> Counters:
    found = launch(text, entry, grid, block, args, shared_bytes, count=True)
    assert found is not None
    return found


EITHER = pytest.mark.parametrize("run", [engine, interpreter], ids=["engine", "interpreter"])
Run = Callable[..., Counters]


def kernel(body: str, shared: str = "") -> str:
    """`k(x, out)`: `%i` the thread's number in its block, `%g` in the grid, `%x` and `%out` addresses."""
    return f"""{HEAD}
.visible .entry k(.param .u64 x, .param .u64 out)
{{
    .reg .b32 %t<20>, %i, %g, %n;
    .reg .f32 %f<20>;
    .reg .f64 %e<8>;
    .reg .b64 %d<20>, %x, %out, %at;
    .reg .pred %p<8>;
    {shared}
    ld.param.u64 %x, [x]; ld.param.u64 %out, [out];
    mov.u32 %i, %tid.x; mov.u32 %t0, %ctaid.x; mov.u32 %n, %ntid.x;
    mad.lo.u32 %g, %t0, %n, %i;
{body}
    ret;
}}
"""


def access(address: str, instruction: str) -> str:
    """A kernel in which every thread executes an instruction at its own address `%at`."""
    return kernel(f"""
    {address}
    add.u64 %at, %at, %x;
    {instruction}""")


X = np.zeros(1 << 14, np.uint8)


@EITHER
@pytest.mark.parametrize(
    ("address", "size", "sectors", "ideal"),
    [
        ("mul.wide.u32 %at, %i, 4;", 4, 4, 4),
        ("mul.wide.u32 %at, %i, 8;", 4, 8, 4),
        ("mul.wide.u32 %at, %i, 32;", 4, 32, 4),
        ("mul.wide.u32 %at, %i, 4; add.u64 %at, %at, 4;", 4, 5, 4),
        ("mov.u64 %at, 64;", 4, 1, 1),
        ("mul.wide.u32 %at, %i, 8;", 8, 8, 8),
        ("mul.wide.u32 %at, %i, 16;", 16, 16, 16),
        ("cvt.u64.u32 %at, %i;", 1, 1, 1),
        ("xor.b32 %t1, %i, 5; mul.wide.u32 %at, %t1, 4;", 4, 4, 4),
        ("and.b32 %t1, %i, 1; mul.wide.u32 %at, %t1, 4096;", 4, 2, 2),
    ],
    ids=["coalesced", "stride 2", "stride 8", "misaligned", "one place", "8 bytes", "16 bytes", "bytes",
         "permuted", "two places"],
)  # fmt: skip
def test_sectors_of_a_load(run: Run, address: str, size: int, sectors: int, ideal: int) -> None:
    form = {1: "u8 %t1", 4: "u32 %t1", 8: "u64 %d1", 16: "v2.u64 {%d1, %d2}"}[size]
    kind, target = form.split(" ", 1)
    found = run(access(address, f"ld.global.{kind} {target}, [%at];"), "k", (3,), (64,), [X, X.copy()])
    loads = found.memory("global", "ld")
    assert (loads.requests, loads.threads) == (6, 192)
    assert (loads.passes, loads.ideal) == (6 * sectors, 6 * ideal)
    assert (loads.asked_bytes, loads.moved_bytes) == (192 * size, 6 * sectors * 32)
    ratio = "l1tex__average_t_sectors_per_request_pipe_lsu_mem_global_op_ld.ratio"
    assert found.metrics()[ratio] == sectors


SHARED = ".shared .align 128 .b8 tile[8192];"


def shared_access(index: str, instruction: str) -> str:
    return kernel(
        f"""
    mov.u32 %t2, tile;
    {index}
    add.u32 %t1, %t1, %t2;
    {instruction}""",
        SHARED,
    )


@EITHER
@pytest.mark.parametrize(
    ("index", "instruction", "wavefronts", "conflicts"),
    [
        ("shl.b32 %t1, %i, 2;", "ld.shared.u32 %t3, [%t1];", 1, 0),
        ("shl.b32 %t1, %i, 7;", "ld.shared.u32 %t3, [%t1];", 32, 31),
        ("mul.lo.u32 %t1, %i, 132;", "ld.shared.u32 %t3, [%t1];", 1, 0),
        ("shl.b32 %t1, %i, 3;", "ld.shared.u32 %t3, [%t1];", 2, 1),
        ("mov.u32 %t1, 64;", "ld.shared.u32 %t3, [%t1];", 1, 0),
        ("and.b32 %t1, %i, 1; shl.b32 %t1, %t1, 7;", "ld.shared.u32 %t3, [%t1];", 2, 1),
        ("mov.u32 %t1, %i;", "st.shared.u8 [%t1], %t3;", 1, 0),
        ("shl.b32 %t1, %i, 3;", "ld.shared.u64 %d1, [%t1];", 2, 0),
        ("shl.b32 %t1, %i, 7;", "ld.shared.u64 %d1, [%t1];", 32, 30),
        ("shl.b32 %t1, %i, 4;", "ld.shared.v2.u64 {%d1, %d2}, [%t1];", 4, 0),
        ("shl.b32 %t1, %i, 5;", "ld.shared.v4.u32 {%t3, %t4, %t5, %t6}, [%t1];", 8, 4),
        ("shl.b32 %t1, %i, 7;", "st.shared.u32 [%t1], %t3;", 32, 31),
        ("mov.u32 %t1, 0;", "atom.shared.add.u32 %t3, [%t1], 1;", 32, 31),
        ("shl.b32 %t1, %i, 2;", "red.shared.add.u32 [%t1], 1;", 1, 0),
    ],
)
def test_wavefronts_of_shared_memory(
    run: Run, index: str, instruction: str, wavefronts: int, conflicts: int
) -> None:
    found = run(shared_access(index, instruction), "k", (2,), (32,), [X, X.copy()])
    shared = found.memory("shared")
    assert (shared.requests, shared.passes, shared.excess) == (2, 2 * wavefronts, 2 * conflicts)
    kind = {"ld": "ld", "st": "st"}.get(instruction[:2], "atom")
    assert found.metrics()[f"l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_{kind}.sum"] == 2 * conflicts


@EITHER
def test_columns_of_a_tile_conflict_until_it_is_padded(run: Run) -> None:
    for width, conflicts in ((32, 31), (33, 0)):
        body = f"mul.lo.u32 %t1, %i, {4 * width};"
        found = run(shared_access(body, "ld.shared.f32 %f1, [%t1];"), "k", (1,), (32,), [X, X.copy()])
        assert found.memory("shared", "ld").excess == conflicts


@EITHER
def test_rows_of_matrices_are_fetched_eight_at_a_time(run: Run) -> None:
    for stride, conflicts in ((16, 0), (128, 28)):
        body = f"mul.lo.u32 %t1, %i, {stride};"
        instruction = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%t3, %t4, %t5, %t6}, [%t1];"
        found = run(shared_access(body, instruction), "k", (1,), (32,), [X, X.copy()])
        assert found.memory("shared", "ld").excess == conflicts


DIVERGENT = """
    setp.lt.u32 %p1, %i, 8;
    @!%p1 bra OTHER;
    add.u32 %t1, %i, 1;
OTHER:
"""


@EITHER
def test_branch_of_eight_threads_diverges_in_the_first_warp(run: Run) -> None:
    found = run(kernel(DIVERGENT), "k", (4,), (64,), [X, X.copy()])
    rows = {i.mnemonic: i for i in found.instructions}
    assert (found.branches, found.divergent) == (8, 4)
    inside = next(i for i in found.instructions if i.mnemonic == "add.u32")
    assert (inside.executed, inside.threads) == (4, 32)
    assert (rows["bra"].threads, rows["bra"].threads_on) == (256, 224)
    assert found.metrics()["smsp__sass_average_branch_targets_threads_uniform.pct"] == 50
    # All but the one instruction run with whole warps, on both sides of the branch.
    assert found.threads == 32 * (found.executed - 4) + 32


@EITHER
def test_guards_are_counted_apart_from_active_threads(run: Run) -> None:
    body = "setp.lt.u32 %p1, %i, 5; @%p1 add.u32 %t1, %i, 1; @!%p1 add.u32 %t2, %i, 1;"
    found = run(kernel(body), "k", (1,), (32,), [X, X.copy()])
    on = [i.threads_on for i in found.instructions if i.mnemonic == "add.u32"]
    assert on == [5, 27]
    assert [i.threads for i in found.instructions if i.mnemonic == "add.u32"] == [32, 32]


@EITHER
def test_operations_count_twice_where_a_product_is_added(run: Run) -> None:
    body = """
    add.f32 %f1, %f2, %f3; sub.f32 %f1, %f2, %f3; mul.f32 %f1, %f2, %f3; fma.rn.f32 %f1, %f2, %f3, %f1;
    add.f64 %e1, %e2, %e3; fma.rn.f64 %e1, %e2, %e3, %e1;
    fma.rn.f16x2 %t1, %t2, %t3, %t1; max.f32 %f1, %f2, %f3; div.rn.f32 %f1, %f2, %f3;"""
    found = run(kernel(body), "k", (1,), (64,), [X, X.copy()])
    assert found.flops_by_precision() == {"fp16": 64 * 4, "fp32": 64 * 5, "fp64": 64 * 3}
    assert found.by_kind()["fp32 fma"].threads == 64
    assert found.by_kind()["special function"].executed == 2
    assert found.metrics()["smsp__sass_thread_inst_executed_op_ffma_pred_on.sum"] == 64


@EITHER
@pytest.mark.parametrize(
    ("instruction", "kind", "operations"),
    [
        ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%t1, %t2, %t3, %t4}, "
         "{%t5, %t6}, {%f1, %f2, %f3, %f4};", "f16", 2 * 16 * 8 * 16),
        ("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%e1, %e2}, {%e3}, {%e4}, {%e1, %e2};", "f64",
         2 * 8 * 8 * 4),
    ],
)  # fmt: skip
def test_products_of_matrices_count_by_warp(run: Run, instruction: str, kind: str, operations: int) -> None:
    found = run(kernel("    " + instruction), "k", (2,), (96,), [X, X.copy()])
    assert found.tensor_flops_by_type() == {kind: 6 * operations}
    assert found.flops == 0
    assert found.count("tensor") == 6


@EITHER
def test_local_memory_is_laid_out_by_word(run: Run) -> None:
    declared = ".local .align 16 .b8 own[64];"
    for address, sectors in (("mov.u64 %d1, own;", 4), ("and.b32 %t1, %i, 3; mul.wide.u32 %d1, %t1, 4;", 16)):
        base = "mov.u64 %d2, own; add.u64 %d1, %d1, %d2;" if "mul" in address else ""
        found = run(
            kernel(f"{address}{base} st.local.u32 [%d1], %i;", declared), "k", (1,), (32,), [X, X.copy()]
        )
        assert (found.memory("local", "st").passes, found.memory("global").requests) == (sectors, 0)


@EITHER
def test_generic_addresses_count_where_they_lead(run: Run) -> None:
    body = """
    mov.u32 %t1, tile; cvt.u64.u32 %d1, %t1; cvta.shared.u64 %d1, %d1;
    setp.lt.u32 %p1, %i, 8;
    selp.b64 %d2, %d1, %x, %p1;
    mul.wide.u32 %d3, %i, 4; add.u64 %d2, %d2, %d3;
    ld.u32 %t3, [%d2];"""
    found = run(kernel(body, SHARED), "k", (1,), (32,), [X, X.copy()])
    shared, device = found.memory("shared", "ld"), found.memory("global", "ld")
    assert (shared.threads, shared.passes) == (8, 1)
    assert (device.threads, device.passes) == (24, 3)


@EITHER
def test_asynchronous_copies_load_and_store(run: Run) -> None:
    body = """
    mul.wide.u32 %d1, %i, 16; add.u64 %d1, %d1, %x;
    shl.b32 %t1, %i, 4; mov.u32 %t2, tile; add.u32 %t1, %t1, %t2;
    setp.ge.u32 %p1, %i, 16; selp.b32 %t3, 0, 16, %p1;
    cp.async.cg.shared.global [%t1], [%d1], 16, %t3; cp.async.wait_all;"""
    found = run(kernel(body, SHARED), "k", (1,), (32,), [X, X.copy()])
    loads, stores = found.memory("global", "ld"), found.memory("shared", "st")
    # Half of the threads fill with zeros what they do not read.
    assert (loads.threads, loads.passes) == (16, 8)
    assert (stores.threads, stores.passes, stores.excess) == (32, 4, 0)


@EITHER
def test_calls_count_once_with_all_that_they_run(run: Run) -> None:
    text = f"""{HEAD}
.func (.param .b32 result) twice(.param .b32 a)
{{
    .reg .b32 %r<3>;
    ld.param.b32 %r1, [a];
    shl.b32 %r2, %r1, 1;
    st.param.b32 [result], %r2;
    ret;
}}
""" + kernel("""
    .param .b32 a; .param .b32 b;
    setp.lt.u32 %p1, %i, 3;
    st.param.b32 [a], %i;
    @%p1 call (b), twice, (a);
    ld.param.b32 %t1, [b];
    st.param.b32 [a], %t1;
    call (b), twice, (a);""").removeprefix(HEAD)
    found = run(text, "k", (1,), (32,), [X, X.copy()])
    inside = {i.mnemonic: (i.executed, i.threads) for i in found.instructions if i.function == "twice"}
    assert inside["shl.b32"] == inside["ret"] == (2, 35)
    calls = [(i.executed, i.threads, i.threads_on) for i in found.instructions if i.mnemonic == "call"]
    assert calls == [(1, 32, 3), (1, 32, 32)]
    assert found.memory("local").requests == 0


@EITHER
def test_barriers_and_warp_operations_count_by_warp(run: Run) -> None:
    body = """
    bar.sync 0;
    shfl.sync.bfly.b32 %t1, %i, 1, 31, -1;
    setp.lt.u32 %p1, %i, 16;
    bar.red.popc.u32 %t2, 0, %p1;
    and.b32 %t3, %i, 16; shl.b32 %t4, 0xFFFF, %t3;
    shfl.sync.bfly.b32 %t1, %i, 1, 31, %t4;"""
    found = run(kernel(body), "k", (2,), (96,), [X, X.copy()])
    assert found.count("barrier") == 12
    # Halves of a warp that name themselves alone shuffle one after the other.
    assert found.count("shuffle") == 6 + 12
    assert found.by_kind()["shuffle"].threads == 2 * 192


def test_launches_add_up_instruction_by_instruction() -> None:
    text = kernel(DIVERGENT)
    one = engine(text, "k", (1,), (32,), [X, X.copy()])
    many = engine(text, "k", (5,), (32,), [X, X.copy()])
    both = one + many
    assert both.executed == 6 * one.executed
    assert (both.launches, both.blocks, both.divergent) == (2, 6, 6)
    assert len(both.instructions) == len(one.instructions)
    assert Counters.sum([one, many]) == both


def test_counters_of_different_kernels_of_one_name_do_not_add_up() -> None:
    one = engine(kernel("add.u32 %t1, %i, 1;"), "k", (1,), (32,), [X, X.copy()])
    other = engine(kernel("sub.u32 %t1, %i, 1;"), "k", (1,), (32,), [X, X.copy()])
    with pytest.raises(KernelError, match=r"two different kernels called k .* sub\.u32"):
        one + other


def test_counters_read_as_a_table_of_eighty_columns() -> None:
    text = access("mul.wide.u32 %at, %i, 32;", "ld.global.f32 %f1, [%at]; fma.rn.f32 %f1, %f1, %f1, %f1;")
    found = str(engine(text, "k", (3,), (64,), [X, X.copy()]))
    assert max(map(len, found.splitlines())) <= 80
    assert "k (emulated, PTX level)" in found
    assert "6 requests, 32.0 sectors each (ideal 4.0), 6.0 KiB" in found
    assert "fp32 operations       384" in found


def test_nothing_is_counted_unless_asked() -> None:
    plain = Emulator(memory_bytes=1 << 24, level=0)
    assert plain.launch(kernel(""), "k", 1, 32, [X, X.copy()]).counters is None


def test_line_without_code_names_those_that_have_some() -> None:
    found = engine(kernel(".loc 1 7 0\nadd.u32 %t1, %i, 1;\n.loc 1 9 0"), "k", (1,), (32,), [X, X.copy()])
    assert found.line(7).executed == 1
    assert [line.line for line in found.lines()] == [7, 9]
    with pytest.raises(KernelError, match="no instruction of k comes from line 8") as caught:
        found.line(8)
    assert caught.value.hint == "lines: 7, 9"


def test_numba_launches_are_counted_like_any_others() -> None:
    from numba import cuda, float32

    from tessera.emulator import as_cuda

    def halve(x: Array, y: Array) -> None:
        i = cuda.grid(1)
        if i < y.size:
            y[i] = x[8 * i] * float32(0.5)

    kernel = cuda.jit(halve, lineinfo=True)
    x, y = np.ones(1 << 12, np.float32), np.zeros(1 << 9, np.float32)
    with as_cuda(engine="counting") as gpu:
        kernel[2, 256](x, y)  # type: ignore[index]
        kernel[2, 256](x, y)  # type: ignore[index]
    assert (y == 0.5).all()
    assert len(gpu.launches) == 2
    found = gpu.counters.line(halve.__code__.co_firstlineno + 3)
    assert (found.memory("global", "ld").passes, found.flops) == (2 * 512, 2 * 512)
    assert "test_numba_launches_are_counted_like_any_others" in str(gpu.counters).splitlines()[0]
    with as_cuda(engine="counting") as again:
        assert again.counters.executed == 0


def test_interpreter_counts_what_the_engine_refuses() -> None:
    from tessera.emulator.cuda_engine import CountingEngine

    counted: list[Counters] = []
    engine_of_device = CountingEngine(counted)
    loaded = engine_of_device.load([kernel("vote.sync.all.pred %p1, %p1, -1;")])
    loaded._refused = True
    loaded.run_kernel("k", (1, 1, 1), (32, 1, 1), [bytes(8), bytes(8)], 0)
    assert [c.count("vote") for c in counted] == [1]


def test_manual_shows_what_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text()
    page = page[page.index("## Counters") :]
    source, shown = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)[0] for kind in ("python", "text"))
    (tmp_path / "halve.py").write_text(source)
    runpy.run_path(str(tmp_path / "halve.py"), run_name="__main__")
    # The mix of instructions depends on the compiler.
    said = [_without_mix(text) for text in (capsys.readouterr().out, shown)]
    assert said[0] == said[1]


def _without_mix(text: str) -> list[str]:
    return [line for line in text.splitlines() if " %)" not in line and "instructions" not in line]
