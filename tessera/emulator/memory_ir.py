"""The helpers in LLVM IR that kernels call for memory and for what lanes do one by one, by name.

A name says what it does: `ld_global_32_4` loads four elements of 32 bits from device memory. Only helpers
that a kernel uses are written into its module.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tessera.emulator import (
    bounds_ir,
    checks_ir,
    lane_loops_ir,
    mbarriers_ir,
    shadow_global_ir,
    shadow_shared_ir,
    transfers_ir,
)
from tessera.emulator.emit_ir import WARP

_DOUBLES = f"<{WARP} x double>"
_KNOWN = {
    "llvm.cttz.i64": "declare i64 @llvm.cttz.i64(i64, i1)",
    "llvm.cttz.i32": "declare i32 @llvm.cttz.i32(i32, i1)",
    "llvm.ctpop.i32": "declare i32 @llvm.ctpop.i32(i32)",
    "llvm.usub.sat.i64": "declare i64 @llvm.usub.sat.i64(i64, i64)",
    f"llvm.fma.v{WARP}f64": (f"declare {_DOUBLES} @llvm.fma.v{WARP}f64({_DOUBLES}, {_DOUBLES}, {_DOUBLES})"),
    "fesetround": "declare i32 @fesetround(i32)",
    "llvm.memset.p0.i64": "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)",
    "llvm.memcpy.p0.p0.i64": "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)",
    **{name: f"declare double @{name}(double)" for name in ("exp2", "log2", "sin", "cos", "tanh")},
}


def declarations(text: str) -> set[str]:
    """Declarations of what the text calls beyond what it defines."""
    found = {line for name, line in _KNOWN.items() if f"@{name}(" in text}
    for name in re.findall(r"@(llvm\.experimental\.constrained\.\w+\.f64)\(", text):
        operands = ", ".join(["double"] * {"fma": 3, "sqrt": 1}.get(name.split(".")[3], 2))
        found.add(f"declare double @{name}({operands}, metadata, metadata)")
    for name in re.findall(r"@(llvm\.masked\.[a-z0-9.]+)\(", text):
        found.add(_masked_declaration(name))
    return found


def _masked_declaration(name: str) -> str:
    operation, kind = name.split(".")[2:4]
    vector = f"<{kind[1:].replace('i', ' x i')}>"
    mask, pointers = f"<{WARP} x i1>", f"<{WARP} x ptr>"
    return {
        "load": f"declare {vector} @{name}(ptr, i32, {mask}, {vector})",
        "store": f"declare void @{name}({vector}, ptr, i32, {mask})",
        "gather": f"declare {vector} @{name}({pointers}, i32, {mask}, {vector})",
        "scatter": f"declare void @{name}({vector}, {pointers}, i32, {mask})",
    }[operation]


_CALLS = r"@((?:read|write|hosts|host|touch|inside|mark|merge|doubt|stamp)_\w+|join)\("


def helpers_text(names: set[str]) -> str:
    """Definitions of the helpers with these names, and of all that they call."""
    texts: dict[str, str] = {"lookup": bounds_ir.LOOKUP}
    waiting = sorted(names)
    while waiting:
        name = waiting.pop()
        if name in texts:
            continue
        texts[name] = _define(name)
        called = re.findall(_CALLS, texts[name])
        waiting += [c for c in called if c not in texts]
    return "\n".join(texts.values())


def _define(name: str) -> str:
    operation, *rest = name.split("_")
    return MAKERS[operation](name, *rest)


MAKERS: dict[str, Callable[..., str]] = {
    "ld": transfers_ir.load, "uld": transfers_ir.uniform_load, "st": transfers_ir.store,
    "read": transfers_ir.read_lanes, "write": transfers_ir.write_lanes,
    "stamp": transfers_ir.stamp_lanes,
    "hosts": bounds_ir.hosts, "host": bounds_ir.host,
    "atom": lane_loops_ir.atomic, "cas": lane_loops_ir.compare_and_swap,
    "rmw": lane_loops_ir.combined,
    "tiny": lane_loops_ir.tiny, "mbarrier": mbarriers_ir.update,
    "map": lane_loops_ir.call_of_one, "map2": lane_loops_ir.division, "permute": lane_loops_ir.permutation,
    "round": lane_loops_ir.rounded,
    "touch": checks_ir.touch, "inside": checks_ir.inside, "mark": checks_ir.mark,
    "merge": shadow_global_ir.merge, "doubt": shadow_shared_ir.doubt, "join": shadow_shared_ir.join,
}  # fmt: skip
"""By the first word of a helper's name: what writes its definition from the name and the words after."""
