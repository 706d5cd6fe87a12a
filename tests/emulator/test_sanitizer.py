"""The sanitizer on a corpus: every seeded bug is found on its line, and nothing in the corrected kernels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tessera as ts
from tessera.emulator.checked_engine import CheckedEmulator
from tessera.emulator.findings import Finding, TooManyFindingsError
from tessera.emulator.interpreter import Interpreter
from tessera.emulator.sanitizer import Sanitizer
from tessera.runtime import ArtifactSource
from tessera.runtime.emulator import EmulatorDevice
from tests.emulator.checked import check, compiled
from tests.emulator.corpus import initialization, memory, races, races_of_blocks, synchronization
from tests.emulator.corpus.case import Case

CORPUS = [*memory.CASES, *initialization.CASES, *races.CASES, *races_of_blocks.CASES, *synchronization.CASES]
BY_NAME = [pytest.param(case, id=case.wrong.name) for case in CORPUS]


def said(findings: tuple[Finding, ...]) -> str:
    """The findings, for the message of a failed test."""
    return "\n".join(f"{f.kind} {f.file}:{f.line} {f.message}" for f in findings) or "nothing found"


def places(findings: tuple[Finding, ...]) -> list[tuple[object, ...]]:
    """Findings without how often they were seen."""
    return [(f.kind, f.line, f.array, f.index, f.block, f.thread, f.other) for f in findings]


@pytest.mark.parametrize("engine", ["compiled", "block by block"])
@pytest.mark.parametrize("case", BY_NAME)
def test_compiled_kernels_find_what_the_interpreter_finds(case: Case, engine: str) -> None:
    expected = check(case.wrong, case.sizes, case.inputs, engine="interpreter")
    found = check(case.wrong, case.sizes, case.inputs, engine=engine)
    assert places(found) == places(expected), f"{said(found)}\ninstead of\n{said(expected)}"


@pytest.mark.parametrize("engine", ["interpreter", "compiled"])
@pytest.mark.parametrize("case", BY_NAME)
def test_seeded_bug_is_found_on_its_line(case: Case, engine: str) -> None:
    findings = check(case.wrong, case.sizes, case.inputs, engine=engine)
    hits = [f for f in findings if f.kind == case.kind and f.line in case.lines]
    assert hits, f"expected {case.kind} in {case.lines}, found {said(findings)}"
    assert findings[0].line in case.lines, said(findings)
    if case.index is not None:
        assert hits[0].index == case.index, said(findings)


@pytest.mark.parametrize("engine", ["interpreter", "compiled", "block by block"])
@pytest.mark.parametrize("case", BY_NAME)
def test_corrected_kernel_is_clean(case: Case, engine: str) -> None:
    findings = check(case.right, case.sizes, case.inputs, engine=engine)
    assert not findings, said(findings)


GENERATED = {
    "elementwise": (lambda x, y: ts.gelu(x) * ts.sigmoid(y) + 0.5, [("n", 37), (37,)]),
    "reductions": (
        lambda x: {"sum": ts.sum(x, axis=0), "max": ts.max(x, axis=1), "mean": ts.mean(x)},
        [("n", 33)],
    ),
    "softmax": (lambda x: ts.softmax(x, axis=-1), [("n", 300)]),
    "layernorm": (lambda x, w, b: ts.layernorm(x, w, b), [("n", 70), (70,), (70,)]),
    "matmul": (lambda a, b: ts.relu(ts.matmul(a, b)), [("n", 45), (45, 70)]),
    "chain": (lambda a, b: ts.softmax(ts.matmul(a, b) + 1.0) @ a, [("n", 20), (20, "n")]),
}


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("name", GENERATED)
def test_generated_kernels_are_clean(name: str, dtype: str) -> None:
    function, shapes = GENERATED[name]
    specs = [ts.TensorSpec(shape, dtype) for shape in shapes]
    findings = check(ts.jit(function, name=name), {"n": 37}, specs=specs, block_steps=200_000)
    assert not findings, said(findings)


def test_run_ends_at_the_limit_of_findings() -> None:
    with pytest.raises(TooManyFindingsError, match="1 findings"):
        check(memory.no_guard, {"n": 100}, limit=1)


def test_finding_says_everything_once() -> None:
    (finding,) = check(memory.no_guard, {"n": 100})
    assert (finding.kind, finding.check, finding.space) == ("out-of-bounds", "memcheck", "global")
    assert (finding.array, finding.shape, finding.index) == ("x", (100,), (100,))
    assert (finding.block, finding.thread, finding.bytes) == ((1, 0, 0), (36, 0, 0), 4)
    assert finding.message == "reads x[100], but x has 100 elements"
    # 28 threads read, and write, on the same line.
    assert finding.count == 56
    assert finding.file == "memory.py"


def test_array_is_named_also_far_outside_of_it() -> None:
    (finding,) = check(memory.far_off)
    assert (finding.array, finding.index) == ("x", (1_000_000,))


def test_race_names_the_other_thread() -> None:
    (finding,) = check(races.no_barrier)
    other = finding.other
    assert other is not None
    assert (finding.thread, other.thread) == ((0, 0, 0), (63, 0, 0))
    assert (other.access, other.line) == ("write", finding.line - 1)
    assert finding.data()["other"]["access"] == "write"


def test_outputs_of_a_dropped_store_keep_their_neighbours() -> None:
    """What lies inside is computed as if the kernel were right."""
    artifact = compiled(memory.no_guard)
    (program,) = artifact.programs
    loaded = EmulatorDevice(sanitizer=Sanitizer()).load(program, ArtifactSource(artifact))
    x = np.arange(100, dtype=np.float32)
    (y,) = loaded.run([x, np.zeros_like(x)], None)
    np.testing.assert_array_equal(y, 2 * x)


HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n"


def watch(
    body: str,
    *,
    threads: int = 32,
    blocks: int = 1,
    declarations: str = "",
    values: np.ndarray | None = None,
    engine: str = "interpreter",
) -> tuple[Finding, ...]:
    """Findings in a PTX kernel; `%rd0` is an array, `%r1` the thread and `%r0` the block."""
    text = f"""{HEAD}{declarations}
.visible .entry k(.param .u64 x)
{{
    .reg .pred %p<9>;
    .reg .b32 %r<20>;
    .reg .f32 %f<9>;
    .reg .b64 %rd<20>;
    mov.u32 %r1, %tid.x;
    mov.u32 %r0, %ctaid.x;
    ld.param.u64 %rd0, [x];
    mul.wide.u32 %rd2, %r1, 4;
    add.s64 %rd1, %rd0, %rd2;
{body}
    ret;
}}
"""
    sanitizer = Sanitizer(block_steps=3000)
    machine: Any = Interpreter(sanitizer)
    if engine == "compiled":
        machine = CheckedEmulator(sanitizer, few_blocks=0, level=0)
    address = machine.alloc(1024)
    sanitizer.describe(address, "x", itemsize=4, shape=(256,))
    if values is not None:
        machine.write(address, values)
    machine.launch_params(
        machine.load(text), "k", (blocks, 1, 1), (threads, 1, 1), [np.uint64(address).tobytes()]
    )
    return sanitizer.findings


ZEROS = np.zeros(256, np.uint32)
LOCAL = ".local .align 16 .b8 own[16];\n    mov.u64 %rd3, own;"
COPY = """mov.u32 %r4, s; shl.b32 %r5, %r1, 2; add.u32 %r6, %r4, %r5;
    cp.async.ca.shared.global [%r6], [%rd1], 4;"""
SHARED = {"values": ZEROS, "declarations": ".shared .align 256 .b8 s[256];"}
PTX_CASES = {
    "read-never-written": ("uninitialized", "ld.global.u32 %r2, [%rd1];", {}),
    "misaligned": ("misaligned", "ld.global.v2.u32 {%r2, %r3}, [%rd1];", {"values": ZEROS}),
    "wide-over-the-end": (
        "out-of-bounds",
        "ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%rd0+1008];\n"
        "ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%rd0+1024];",
        {"values": ZEROS, "threads": 1},
    ),
    "null-pointer": ("out-of-bounds", "mov.u64 %rd3, 0;\nst.global.u32 [%rd3+8], %r1;", {}),
    "shared-misaligned": (
        "misaligned",
        "mov.u64 %rd3, s;\nst.shared.u32 [%rd3+2], %r1;",
        {"declarations": ".shared .align 4 .b8 s[64];", "threads": 1},
    ),
    "use-after-free": (
        "use-after-free",
        """{ .param .b64 a; .param .b64 p;
    mov.u64 %rd3, 64;
    st.param.b64 [a], %rd3;
    call (p), malloc, (a);
    ld.param.b64 %rd4, [p]; }
    st.global.u32 [%rd4], %r1;
    { .param .b64 a;
    st.param.b64 [a], %rd4;
    call free, (a); }
    ld.global.u32 %r2, [%rd4];""",
        {
            "threads": 1,
            "declarations": ".extern .func (.param .b64 p) malloc (.param .b64 a);\n"
            ".extern .func free (.param .b64 a);",
        },
    ),
    "async-copy-read-by-others": (
        "race",
        """mov.u32 %r4, s; shl.b32 %r5, %r1, 2; add.u32 %r6, %r4, %r5;
    cp.async.ca.shared.global [%r6], [%rd1], 4;
    cp.async.wait_all;
    xor.b32 %r6, %r6, 4;
    ld.shared.u32 %r7, [%r6];""",
        {"values": ZEROS, "declarations": ".shared .align 128 .b8 s[128];"},
    ),
    "partial-barrier": (
        "race",
        """mov.u32 %r4, s; shl.b32 %r5, %r1, 2; add.u32 %r6, %r4, %r5;
    st.shared.u32 [%r6], %r1;
    shr.u32 %r8, %r1, 5;
    bar.sync %r8, 32;
    xor.b32 %r6, %r6, 128;
    ld.shared.u32 %r7, [%r6];""",
        {"threads": 64, "declarations": ".shared .align 256 .b8 s[256];"},
    ),
    "trap": ("failed", "trap;", {}),
    "local-never-written": (
        "uninitialized",
        f"""{LOCAL}
    st.local.u32 [%rd3], 1;
    ld.local.u32 %r3, [%rd3+8];""",
        {},
    ),
    "half-of-local-vector-never-written": (
        "uninitialized",
        f"""{LOCAL}
    st.local.u32 [%rd3], 1;
    ld.local.v2.u32 {{%r3, %r4}}, [%rd3];""",
        {},
    ),
    "local-by-generic-address": (
        "uninitialized",
        f"""{LOCAL}
    cvta.local.u64 %rd4, %rd3;
    st.u32 [%rd4+4], 1;
    ld.u32 %r3, [%rd4];""",
        {},
    ),
    "copy-read-before-wait": ("unawaited-copy", f"{COPY}\n    ld.shared.u32 %r7, [%r6];", SHARED),
    "copy-waited-for-in-wrong-group": (
        "unawaited-copy",
        f"""{COPY}
    cp.async.commit_group;
    cp.async.ca.shared.global [%r6+128], [%rd1], 4;
    cp.async.commit_group;
    cp.async.wait_group 1;
    ld.shared.u32 %r7, [%r6];
    ld.shared.u32 %r8, [%r6+128];""",
        SHARED,
    ),
    "copy-behind-barrier-alone": (
        "unawaited-copy",
        f"""{COPY}
    cp.async.commit_group;
    bar.sync 0;
    xor.b32 %r6, %r6, 4;
    ld.shared.u32 %r7, [%r6];""",
        SHARED,
    ),
}


@pytest.mark.parametrize("engine", ["interpreter", "compiled"])
@pytest.mark.parametrize("name", PTX_CASES)
def test_bug_in_ptx_is_found(name: str, engine: str) -> None:
    kind, body, options = PTX_CASES[name]
    findings = watch(body, **options, engine=engine)
    assert [f.kind for f in findings] == [kind], said(findings)


CLEAN_PTX = {
    "local-by-parts": (
        f"""{LOCAL}
    st.local.u32 [%rd3], 1;
    st.local.u8 [%rd3+8], 1;
    ld.local.u64 %rd5, [%rd3];
    ld.local.v2.u64 {{%rd5, %rd6}}, [%rd3];""",
        {},
    ),
    "copies-in-two-buffers": (
        f"""{COPY}
    cp.async.commit_group;
    mov.u32 %r10, 0;
NEXT:
    xor.b32 %r6, %r6, 128;
    cp.async.ca.shared.global [%r6], [%rd1], 4;
    cp.async.commit_group;
    cp.async.wait_group 1;
    bar.sync 0;
    xor.b32 %r9, %r6, 132;
    ld.shared.u32 %r7, [%r9];
    bar.sync 0;
    add.u32 %r10, %r10, 1;
    setp.lt.u32 %p1, %r10, 9;
    @%p1 bra NEXT;
    cp.async.wait_all;
    ld.shared.u32 %r7, [%r6];""",
        {"values": ZEROS, "threads": 32, "declarations": ".shared .align 256 .b8 s[256];"},
    ),
    "volatile-flag": (
        """setp.ne.u32 %p1, %r0, 0;
    @%p1 bra WAIT;
    setp.ne.u32 %p2, %r1, 0;
    @%p2 ret;
    st.global.u32 [%rd0+64], 7;
    membar.gl;
    st.volatile.global.u32 [%rd0], 1;
    ret;
WAIT:
    ld.volatile.global.u32 %r2, [%rd0];
    setp.eq.u32 %p3, %r2, 0;
    @%p3 bra WAIT;
    membar.gl;
    ld.global.u32 %r3, [%rd0+64];""",
        {"blocks": 2, "values": ZEROS},
    ),
    "producers-arrive-consumers-wait": (
        """mov.u32 %r4, s; shl.b32 %r5, %r1, 2; add.u32 %r6, %r4, %r5;
    setp.lt.u32 %p1, %r1, 32;
    @!%p1 bra CONSUME;
    st.shared.u32 [%r6], %r1;
    bar.arrive 1, 64;
    ret;
CONSUME:
    bar.sync 1, 64;
    ld.shared.u32 %r7, [%r6+-128];""",
        {"threads": 64, "declarations": ".shared .align 256 .b8 s[256];"},
    ),
    "async-copy-behind-barrier": (
        """mov.u32 %r4, s; shl.b32 %r5, %r1, 2; add.u32 %r6, %r4, %r5;
    cp.async.ca.shared.global [%r6], [%rd1], 4;
    cp.async.wait_all;
    bar.sync 0;
    xor.b32 %r6, %r6, 4;
    ld.shared.u32 %r7, [%r6];""",
        {"values": ZEROS, "declarations": ".shared .align 128 .b8 s[128];"},
    ),
    "mbarrier-orders-writers-and-readers": (
        """mov.u32 %r4, s; shl.b32 %r5, %r1, 2; add.u32 %r6, %r4, %r5;
    mov.u32 %r8, m;
    setp.ne.u32 %p1, %r1, 0;
    @%p1 bra READY;
    mbarrier.init.shared.b64 [%r8], 32;
READY:
    bar.sync 0;
    st.shared.u32 [%r6], %r1;
    mbarrier.arrive.shared.b64 %rd5, [%r8];
WAIT:
    mbarrier.test_wait.shared.b64 %p2, [%r8], %rd5;
    @!%p2 bra WAIT;
    xor.b32 %r6, %r6, 4;
    ld.shared.u32 %r7, [%r6];""",
        {"declarations": ".shared .align 128 .b8 s[128];\n.shared .align 8 .b64 m;"},
    ),
    "module-variables-begin-as-zeros": (
        "mov.u64 %rd3, g;\nld.global.u32 %r2, [%rd3];\nmov.u64 %rd4, c;\nld.const.u32 %r3, [%rd4];",
        {"declarations": ".global .u32 g;\n.const .u32 c = 5;"},
    ),
}


@pytest.mark.parametrize("engine", ["interpreter", "compiled"])
@pytest.mark.parametrize("name", CLEAN_PTX)
def test_right_ptx_is_clean(name: str, engine: str) -> None:
    body, options = CLEAN_PTX[name]
    findings = watch(body, **options, engine=engine)
    assert not findings, said(findings)


HEAP = """
extern "C" __global__ void keeps(int *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int *own = (int *)malloc(16);
    own[0] = i;
    out[i < n ? i : 0] = own[0];
    if (i % 4 == 0) free(own);
}
extern "C" __global__ void frees(int *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int *own = (int *)malloc(16);
    own[0] = i;
    out[i < n ? i : 0] = own[0];
    free(own);
}
"""


@pytest.mark.parametrize(("entry", "lost"), [("keeps", 24), ("frees", 0)])
def test_memory_that_a_kernel_never_gives_back_is_found(tmp_path: Path, entry: str, lost: int) -> None:
    (tmp_path / "heap.cu").write_text(HEAP)
    kernel = ts.cuda_kernel(
        tmp_path / "heap.cu", entry=entry, grid=1, block=32, outputs="out",
        params={"out": ts.Array[ts.i32, "n"], "n": ts.Size[ts.i32, "n"]},
    )  # fmt: skip
    artifact = compiled(kernel)
    sanitizer = Sanitizer()
    loaded = EmulatorDevice(sanitizer=sanitizer).load(artifact.programs[0], ArtifactSource(artifact))
    loaded.run([np.zeros(32, np.int32)], None)
    assert sanitizer.findings == ()
    sanitizer.finish()
    found = [(f.kind, f.line, f.count, f.bytes) for f in sanitizer.findings]
    assert found == ([("leak", 4, lost, 16)] if lost else [])
