"""What a launch takes for PTX, sizes and arrays, and what it refuses instead of guessing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tessera.emulator import Emulator, Sanitizer
from tessera.emulator.checked_engine import CheckedEmulator
from tessera.emulator.interpreter import Interpreter
from tessera.emulator.lockstep import launch as interpret
from tessera.program.errors import CompileError, KernelError
from tests.emulator.test_engine_faults import HEAD, kernel

ADD = kernel("ld.global.u32 %r2, [%rd1]; add.u32 %r2, %r2, %r1; st.global.u32 [%rd1], %r2;")
READ = kernel("ld.global.u32 %r2, [%rd1];")
CALLS = f"""{HEAD}
.extern .func (.param .b32 result) twice(.param .b32 x);
.visible .entry k(.param .u64 out)
{{
    .reg .b32 %r<4>; .reg .b64 %rd<4>;
    .param .b32 given; .param .b32 taken;
    mov.u32 %r1, %tid.x; ld.param.u64 %rd0, [out]; mul.wide.u32 %rd1, %r1, 4; add.s64 %rd1, %rd0, %rd1;
    st.param.b32 [given], %r1;
    call.uni (taken), twice, (given);
    ld.param.b32 %r2, [taken];
    st.global.u32 [%rd1], %r2;
    ret;
}}
"""
TWICE = f"""{HEAD}
.visible .func (.param .b32 result) twice(.param .b32 x)
{{
    .reg .b32 %r<3>;
    ld.param.b32 %r1, [x]; add.u32 %r2, %r1, %r1; st.param.b32 [result], %r2; ret;
}}
"""


def engines() -> list[Any]:
    return [
        pytest.param(lambda: Emulator(workers=1, memory_bytes=1 << 24, level=0).launch, id="engine"),
        pytest.param(lambda: CheckedEmulator(Sanitizer(), workers=1, level=0).launch, id="checked"),
        pytest.param(lambda: interpret, id="interpreter"),
    ]


@pytest.fixture(params=engines())
def launch(request: pytest.FixtureRequest) -> Any:
    return request.param()


@pytest.mark.parametrize("form", [str, str.encode, lambda t: t + "\0", lambda t: f"{t}\0".encode()])
def test_ptx_may_be_text_or_bytes_with_the_nul_of_a_linker(launch: Any, form: Any) -> None:
    out = np.full(8, 3, np.uint32)
    launch(form(ADD), "k", 1, 8, [out])
    np.testing.assert_array_equal(out, 3 + np.arange(8))


def test_parts_of_a_debug_package_are_linked(launch: Any) -> None:
    out = np.zeros(8, np.uint32)
    launch(f"{CALLS}\0{TWICE}\0", "k", 1, 8, [out])
    np.testing.assert_array_equal(out, 2 * np.arange(8))
    assert "twice" in Interpreter().load(f"{CALLS}\0{TWICE}").module.functions


@pytest.mark.parametrize(
    ("ptx", "text"),
    [(b"\x7fELF\x02\x01\x01\xff\xfe", "this is not PTX"), (b"\x7fELF", "PTX line 1"), (7, "not int")],
)
def test_what_is_no_ptx_is_refused(launch: Any, ptx: Any, text: str) -> None:
    with pytest.raises(CompileError, match=text):
        launch(ptx, "k", 1, 8, [np.zeros(8, np.uint32)])


@pytest.mark.parametrize("sizes", [(1.5, 8), (1, 8.0), ((1, 2.5), 8), ("12", 8), (None, 8)])
def test_sizes_that_are_no_whole_numbers_are_refused(launch: Any, sizes: Any) -> None:
    with pytest.raises(KernelError, match="whole numbers") as caught:
        launch(ADD, "k", *sizes, [np.zeros(8, np.uint32)])
    assert caught.value.hint


def test_numpys_whole_numbers_are_sizes(launch: Any) -> None:
    out = np.zeros(8, np.uint32)
    launch(ADD, "k", np.int64(1), (np.int32(8), 1), [out])
    np.testing.assert_array_equal(out, np.arange(8))


@pytest.mark.parametrize("form", ["frozen", "broadcast"])
def test_read_only_array_that_is_written_is_an_error(launch: Any, form: str) -> None:
    array = np.full(8, 3, np.uint32)
    array.flags.writeable = False
    array = array if form == "frozen" else np.broadcast_to(np.uint32(3), 8)
    launch(READ, "k", 1, 8, [array])
    with pytest.raises(KernelError, match="read-only") as caught:
        launch(ADD, "k", 1, 8, [array])
    assert "copy" in str(caught.value.hint)
    np.testing.assert_array_equal(array, np.full(8, 3))
