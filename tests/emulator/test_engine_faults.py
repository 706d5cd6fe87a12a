"""The engine on programs that go wrong: every one ends in an error that says where, never in a crash."""

# ruff: noqa: E501 - lines of PTX

import signal
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

from tessera.emulator import Emulator
from tessera.program.errors import CompileError, DeviceError, KernelError, OutOfMemoryError

HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n"


def kernel(body: str, declarations: str = "") -> str:
    """A kernel `k(out)`; `%rd1` is this thread's 4-byte slot in `out`."""
    return f"""{HEAD}{declarations}
.file 1 "kernels.py"
.visible .entry k(.param .u64 out)
{{
    .reg .pred %p<9>;
    .reg .b32 %r<20>;
    .reg .f32 %f<9>;
    .reg .b64 %rd<9>;
    .loc 1 7 0
    mov.u32 %r1, %tid.x;
    ld.param.u64 %rd0, [out];
    mul.wide.u32 %rd1, %r1, 4;
    add.s64 %rd1, %rd0, %rd1;
{body}
    ret;
}}
"""


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return Emulator(workers=2, memory_bytes=1 << 26, level=0)


def fails(
    emulator: Emulator, body: str, declarations: str = "", threads: int = 64, **more: Any
) -> DeviceError:
    out = np.zeros(threads, np.uint32)
    with pytest.raises(DeviceError) as caught:
        emulator.launch(kernel(body, declarations), "k", 1, threads, [out], **more)
    return caught.value


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("st.global.u32 [%rd1+4], %r1;", "out of bounds", "0 bytes past the end of argument 0 of 256 bytes"),
        ("ld.global.u32 %r2, [%rd1+-4];", "out of bounds", "4 bytes before argument 0"),
        ("ld.global.u32 %r2, [%rd2];", "out of bounds", "4 bytes at 0x0"),
        ("ld.u32 %r2, [%rd2];", "out of bounds", "4 bytes at 0x0"),
        ("ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%rd1];", "misaligned", "not a multiple of 16"),
        ("atom.global.add.u32 %r2, [%rd0+1024], 1;", "out of bounds", "past the end"),
        ("ld.shared.u32 %r2, [%r1];", "misaligned", "not a multiple of 4"),
        ("mov.u32 %r3, 16;\n    ld.shared.u32 %r2, [%r3];", "out of bounds", "offset 0x10 of shared memory, which has 16"),
        ("ld.local.u32 %r2, [64];", "out of bounds", "of local memory, which has 16 bytes"),
    ],
)  # fmt: skip
def test_bad_access_names_kind_line_thread_and_place(
    emulator: Emulator, body: str, kind: str, words: str
) -> None:
    declarations = ".shared .align 16 .b8 buffer[16];"
    error = fails(
        emulator, ".local .align 16 .b8 stack[16];\n    mov.u64 %rd2, 0;\n    " + body, declarations
    )
    assert error.fields["kind"] == kind
    assert words in error.message
    line = error.fields["ptx_line"]
    assert (
        kernel(".local .align 16 .b8 stack[16];\n    mov.u64 %rd2, 0;\n    " + body, declarations)
        .split("\n")[line - 1]
        .strip()
        .startswith(error.message.split(": ")[1].split(" by")[0])
    )
    assert str(error.location) == "kernels.py:7"
    assert error.fields["block"] == (0, 0, 0)


def test_first_bad_thread_is_the_one_that_is_named(emulator: Emulator) -> None:
    body = """
    setp.lt.u32 %p1, %r1, 40;
    @%p1 bra DONE;
    st.global.u32 [%rd1+8192], %r1;
DONE:"""
    assert fails(emulator, body).fields["thread"] == (40, 0, 0)


def test_access_to_freed_memory_is_out_of_bounds() -> None:
    emulator = Emulator(workers=1, memory_bytes=1 << 24, level=0)
    address = emulator.alloc(256)
    emulator.launch(kernel("st.global.u32 [%rd1], %r1;"), "k", 1, 32, [address])
    assert np.frombuffer(emulator.read(address, 128), np.uint32).tolist() == list(range(32))
    emulator.free(address)
    with pytest.raises(DeviceError, match="out of bounds"):
        emulator.launch(kernel("st.global.u32 [%rd1], %r1;"), "k", 1, 32, [address])


def test_threads_that_wait_for_each_other_are_listed(emulator: Emulator) -> None:
    body = """
    setp.lt.u32 %p1, %r1, 16;
    @%p1 bra OTHER;
    bar.sync 0, 64;
    bra DONE;
OTHER:
    bar.sync 1, 64;
DONE:"""
    error = fails(emulator, body)
    assert error.fields["kind"] == "deadlock"
    assert "48 threads (first: (16, 0, 0)) wait at PTX line" in error.message
    assert "16 threads (first: (0, 0, 0)) wait at PTX line" in error.message


def test_lanes_that_never_meet_their_partners_are_a_deadlock(emulator: Emulator) -> None:
    body = """
    setp.lt.u32 %p1, %r1, 16;
    @%p1 bra OTHER;
    bar.warp.sync -1;
    bra DONE;
OTHER:
    bar.sync 1, 64;
DONE:"""
    assert fails(emulator, body, threads=32).fields["kind"] == "deadlock"


def test_kernel_without_end_stops_at_its_budget() -> None:
    emulator = Emulator(workers=2, memory_bytes=1 << 24, step_budget=20_000, level=0)
    error = fails(emulator, "LOOP:\n    bra LOOP;")
    assert error.fields["kind"] == "runaway"
    assert "the budget is 20000" in error.message


def test_trap_names_its_line(emulator: Emulator) -> None:
    error = fails(emulator, "setp.eq.u32 %p1, %r1, 5;\n    @%p1 trap;")
    assert error.fields["kind"] == "trap"
    assert error.fields["thread"] == (5, 0, 0)


def test_unknown_instruction_names_both_lines(emulator: Emulator) -> None:
    with pytest.raises(CompileError, match=r"PTX line 17 \(source line 7\): .* tex\.2d"):
        emulator.launch(kernel("tex.2d %r1, %r2;"), "k", 1, 32, [np.zeros(32, np.uint32)])


def test_blocks_that_wait_for_later_blocks_let_them_run() -> None:
    # Block 0 spins until the last block has raised a flag; one worker runs them all.
    body = """
    mov.u32 %r3, %ctaid.x;
    setp.eq.u32 %p1, %r3, 0;
    @%p1 bra SPIN;
    setp.ne.u32 %p1, %r3, 3;
    @%p1 bra DONE;
    st.volatile.global.u32 [%rd0], 1;
    bra DONE;
SPIN:
    ld.volatile.global.u32 %r4, [%rd0];
    setp.eq.u32 %p1, %r4, 0;
    @%p1 bra SPIN;
    st.global.u32 [%rd0], 2;
DONE:"""
    out = np.zeros(1, np.uint32)
    emulator = Emulator(workers=1, memory_bytes=1 << 24, level=0)
    emulator.launch(kernel(body), "k", 4, 1, [out])
    assert out[0] == 2


def test_warps_that_wait_for_each_other_both_run(emulator: Emulator) -> None:
    body = """
    setp.ge.u32 %p1, %r1, 32;
    @%p1 bra RAISE;
SPIN:
    ld.volatile.shared.u32 %r4, [flag];
    setp.eq.u32 %p1, %r4, 0;
    @%p1 bra SPIN;
    bra DONE;
RAISE:
    st.volatile.shared.u32 [flag], 1;
DONE:
    st.global.u32 [%rd1], 9;"""
    out = np.zeros(64, np.uint32)
    emulator.launch(kernel(body, ".shared .align 4 .b32 flag;"), "k", 1, 64, [out])
    assert (out == 9).all()


@pytest.mark.parametrize(
    ("grid", "block", "args", "shared", "words"),
    [
        (1, 2048, [0], 0, "1 to 1024 threads"),
        ((1, 70000, 1), 32, [0], 0, "a GPU takes 65535 along y"),
        (1, 32, [1.5], 0, r"out \(u64\) cannot be a float"),
        (0, 32, [0], 0, "cannot launch"),
        (1, 32, [], 0, "takes 1 arguments, 0 given"),
        (1, 32, [np.float32(1)], 0, "has 8 bytes, a float32 has 4"),
        (1, 32, ["x"], 0, "cannot be a str"),
        (1, 32, [0], 1 << 20, "of shared memory per block"),
    ],
)
def test_launch_that_cannot_be_says_why(
    emulator: Emulator, grid: int, block: int, args: list[Any], shared: int, words: str
) -> None:
    with pytest.raises(KernelError, match=words):
        emulator.launch(kernel(""), "k", grid, block, args, shared)


def test_unknown_kernel_lists_those_there_are(emulator: Emulator) -> None:
    with pytest.raises(CompileError, match="no kernel is called 'absent'") as caught:
        emulator.launch(kernel(""), "absent", 1, 32, [])
    assert caught.value.hint == "kernels: k"


def test_memory_that_does_not_fit_is_an_error() -> None:
    emulator = Emulator(memory_bytes=1 << 20)
    emulator.alloc(1 << 19)
    with pytest.raises(OutOfMemoryError, match="524288 of 1048576 are in use"):
        emulator.alloc(1 << 19)


def test_freed_memory_is_found_again() -> None:
    emulator = Emulator(memory_bytes=1 << 20)
    for _ in range(10):
        places = [emulator.alloc(1 << 16) for _ in range(8)]
        for place in places[::2] + places[1::2]:
            emulator.free(place)
    with pytest.raises(DeviceError, match="not the start of an allocation"):
        emulator.free(12345)


@pytest.mark.parametrize("view", ["strided", "unaligned"])
def test_arrays_that_cannot_be_used_in_place_are_copied(emulator: Emulator, view: str) -> None:
    base = np.zeros(257, np.uint32)
    array = {"strided": base[::2], "unaligned": base[1:65]}[view]
    emulator.launch(kernel("st.global.u32 [%rd1], %r1;"), "k", 2, 32, [array])
    assert array[:32].tolist() == list(range(32))


def test_interrupt_ends_a_launch_at_once() -> None:
    script = f"""
        import numpy as np
        from tessera.emulator import Emulator
        print("ready", flush=True)
        try:
            Emulator(level=0).launch({kernel("LOOP:    bra LOOP;")!r}, "k", 4, 32, [np.zeros(32, np.uint32)])
        except KeyboardInterrupt:
            print("stopped")
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert out == "stopped\n", err


def test_kernels_load_anywhere_in_memory() -> None:
    # Gigabytes between the pieces of a module once broke references of 32 bits, and with them the process.
    script = f"""
        import mmap
        import numpy as np
        from tessera.emulator import Emulator
        text = {kernel("add.u32 %r2, %r1, 1065353216; st.global.u32 [%rd1], %r2;")!r}
        kept = []
        for i in range(6):
            out = np.zeros(32, np.uint32)
            kept.append(Emulator(level=0))
            kept[-1].launch(text, "k", 1, 32, [out])
            assert (out == np.arange(32) + 1065353216).all()
            kept.append(mmap.mmap(-1, 3 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)
