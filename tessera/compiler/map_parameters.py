"""Kernel parameters and limits that Numba has no words for, put into the PTX.

A tensor map is 128 bytes by value. Numba is told of an integer, the map's address, and reads it; here the
parameter becomes the bytes themselves, and reading it becomes taking its address.

Source: PTX ISA 8.8, "Kernel Function Parameters", "cvta", "Performance-Tuning Directives".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tessera.program.tensor_map import MAP_BYTES

KIND = "tensor_map"
"""Kind of such an argument."""


def with_maps(text: str, name: str, kinds: Sequence[str]) -> str:
    """The PTX with tensor maps as parameters, wherever `kinds` says so.

    Args:
        text: PTX of a kernel whose arguments are one parameter each.
        name: The kernel.
        kinds: Kind of each argument.
    """
    for position, kind in enumerate(kinds):
        if kind != KIND:
            continue
        parameter = f"{name}_param_{position}"
        text = re.sub(
            rf"\.param \.[bu]64 {parameter}\b", f".param .align 64 .b8 {parameter}[{MAP_BYTES}]", text
        )
        text = re.sub(
            rf"ld\.param\.[bu]64\s+(%\w+), \[{parameter}\];",
            rf"mov.b64 \t\1, {parameter};\n\tcvta.param.u64 \t\1, \1;",
            text,
        )
    return text


def with_one_block(text: str) -> str:
    """The PTX of a kernel that moves registers between its warps, said to be alone on a multiprocessor.

    The assembler must know how many registers it starts with; else it leaves them where they are.
    """
    if "setmaxnreg" not in text:
        return text
    entry = text.index(".entry ")
    body = text.index("{", entry)
    return f"{text[:body]}.minnctapersm 1\n{text[body:]}"
