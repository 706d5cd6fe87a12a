"""Which arrays a kernel may write."""

import pytest

from tessera.emulator.flatten import flatten
from tessera.emulator.parser import parse_ptx
from tessera.emulator.store_targets import store_targets

HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n.global .u32 g;\n.shared .align 4 .b8 s[64];"


def targets(body: str) -> frozenset[str] | None:
    """Of a kernel of `x`, `y` and `n`, with the pointers in `%rd0` and `%rd1`."""
    text = f"""{HEAD}
.visible .entry k(.param .u64 x, .param .u64 y, .param .u32 n)
{{
    .reg .pred %p<9>;
    .reg .b32 %r<20>;
    .reg .b64 %rd<20>;
    ld.param.u64 %rd0, [x];
    ld.param.u64 %rd1, [y];
    ld.param.u32 %r0, [n];
{body}
    ret;
}}
"""
    module = parse_ptx(text)
    return store_targets(flatten(module, module.functions["k"]))


CASES = {
    "reads-alone": ("ld.global.u32 %r1, [%rd0];", frozenset()),
    "one-array": ("ld.global.u32 %r1, [%rd0];\nst.global.u32 [%rd1], %r1;", frozenset("y")),
    "offset-by-numbers": (
        "cvta.to.global.u64 %rd2, %rd1;\nmul.wide.u32 %rd3, %r0, 4;\nadd.s64 %rd4, %rd2, %rd3;\n"
        "st.global.u32 [%rd4+8], %r0;",
        frozenset(("y", "n")),
    ),
    "index-from-memory": (
        "ld.global.u32 %r1, [%rd0];\nmul.wide.u32 %rd3, %r1, 4;\nadd.s64 %rd4, %rd1, %rd3;\n"
        "st.global.u32 [%rd4], %r0;",
        frozenset("y"),
    ),
    "either-of-two": (
        "setp.eq.u32 %p1, %r0, 0;\nselp.b64 %rd2, %rd0, %rd1, %p1;\nst.global.u32 [%rd2], %r0;",
        frozenset("xyn"),
    ),
    "around-a-loop": (
        "mov.u64 %rd2, %rd0;\nL:\nst.global.u32 [%rd2], %r0;\nadd.s64 %rd2, %rd1, 4;\n"
        "setp.eq.u32 %p1, %r0, 0;\n@%p1 bra L;",
        frozenset("xy"),
    ),
    "pointer-from-memory": ("ld.global.u64 %rd2, [%rd0];\nst.global.u32 [%rd2], %r0;", None),
    "pointer-of-two-halves": ("mov.b64 %rd2, {%r0, %r1};\nst.global.u32 [%rd2], %r0;", None),
    "variable": ("mov.u64 %rd2, g;\nred.global.add.u32 [%rd2], 1;", frozenset("g")),
    "shared-memory": ("mov.u64 %rd2, s;\nst.shared.u32 [%rd2], %r0;", frozenset()),
    "copy-to-shared": ("mov.u64 %rd2, s;\ncp.async.ca.shared.global [%rd2], [%rd0], 4;", frozenset()),
    "atomic": ("atom.global.add.u32 %r1, [%rd0], 1;", frozenset("x")),
}


@pytest.mark.parametrize("name", CASES)
def test_targets_of_stores_are_known(name: str) -> None:
    body, expected = CASES[name]
    assert targets(body) == expected
