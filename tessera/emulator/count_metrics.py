"""Counters by the names that Nsight Compute has for them.

Source: Nsight Compute, Kernel Profiling Guide, "Metrics Structure" and "Memory Tables".
"""

from __future__ import annotations

from tessera.emulator.counters import Counters, Operation, Space, Sums

_SASS = {
    ("fp16", "add"): "hadd", ("fp16", "mul"): "hmul", ("fp16", "fma"): "hfma",
    ("fp32", "add"): "fadd", ("fp32", "mul"): "fmul", ("fp32", "fma"): "ffma",
    ("fp64", "add"): "dadd", ("fp64", "mul"): "dmul", ("fp64", "fma"): "dfma",
}  # fmt: skip
_GROUPS = (
    "bit", "control", "conversion", "fp16", "fp32", "fp64", "integer", "inter_thread_communication", "memory",
    "misc",
)  # fmt: skip


def metrics(counters: Counters) -> dict[str, float]:
    """Every metric that has a value; ratios of nothing are left out."""
    found: dict[str, float] = {
        "launch__thread_count": counters.block_threads,
        "smsp__inst_executed.sum": counters.executed,
        "smsp__thread_inst_executed.sum": counters.threads,
        "smsp__thread_inst_executed_pred_on.sum": counters.threads_on,
    }
    if counters.executed:
        active, on = counters.threads / counters.executed, counters.threads_on / counters.executed
        found |= {
            "smsp__thread_inst_executed_per_inst_executed.ratio": active,
            "smsp__thread_inst_executed_per_inst_executed.pct": 100 * active / 32,
            "smsp__thread_inst_executed_pred_on_per_inst_executed.ratio": on,
        }
    return found | _mix(counters) | _branches(counters) | _device_memory(counters) | _shared_memory(counters)


def _mix(sums: Sums) -> dict[str, float]:
    found: dict[str, float] = {}
    for (precision, operation), name in _SASS.items():
        kind = f"{precision} {operation}"
        found[f"smsp__sass_thread_inst_executed_op_{name}_pred_on.sum"] = sums.total(
            lambda i, kind=kind: i.threads_on if i.kind == kind else 0  # type: ignore[misc]
        )
    for group in _GROUPS:
        found[f"smsp__sass_thread_inst_executed_op_{group}_pred_on.sum"] = sums.total(
            lambda i, group=group: i.threads_on if i.group == group else 0  # type: ignore[misc]
        )
    found["sm__inst_executed_pipe_tensor.sum"] = sums.count("tensor")
    return found


def _branches(sums: Sums) -> dict[str, float]:
    found: dict[str, float] = {
        "smsp__sass_branch_targets.sum": sums.branches,
        "smsp__sass_branch_targets_threads_divergent.sum": sums.divergent,
        "smsp__sass_branch_targets_threads_uniform.sum": sums.branches - sums.divergent,
    }
    if sums.branches:
        found["smsp__sass_average_branch_targets_threads_uniform.pct"] = (
            100 * (sums.branches - sums.divergent) / sums.branches
        )
    return found


def _device_memory(sums: Sums) -> dict[str, float]:
    found: dict[str, float] = {}
    places: tuple[tuple[Space, Operation], ...] = (
        ("global", "ld"), ("global", "st"), ("global", "atom"), ("global", "red"), ("local", "ld"),
        ("local", "st"),
    )  # fmt: skip
    for space, operation in places:
        access, where = sums.memory(space, operation), f"pipe_lsu_mem_{space}_op_{operation}"
        found[f"l1tex__t_requests_{where}.sum"] = access.requests
        found[f"l1tex__t_sectors_{where}.sum"] = access.passes
        if access.requests:
            found[f"l1tex__average_t_sectors_per_request_{where}.ratio"] = access.passes / access.requests
    return found


def _shared_memory(sums: Sums) -> dict[str, float]:
    found: dict[str, float] = {}
    groups: tuple[tuple[str, tuple[Operation, ...]], ...] = (
        ("ld", ("ld",)), ("st", ("st",)), ("atom", ("atom", "red")),
    )  # fmt: skip
    # A GPU counts `ldmatrix` among the wavefronts of loads but not among their instructions, and what
    # `cp.async` stores among neither.
    copies, matrices = (_only(sums, word) for word in ("cp", "ldmatrix"))
    own = Sums(tuple(i for i in sums.instructions if not i.mnemonic.startswith("cp.")))
    for name, operations in groups:
        access = own.memory("shared", *operations)
        less = matrices.memory("shared", "ld").requests if name == "ld" else 0
        found[f"smsp__sass_inst_executed_op_shared_{name}.sum"] = access.requests - less
        found[f"l1tex__data_pipe_lsu_wavefronts_mem_shared_op_{name}.sum"] = access.passes
        found[f"l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_{name}.sum"] = access.excess
    found["smsp__sass_inst_executed_op_ldsm.sum"] = matrices.memory("shared", "ld").requests
    found["smsp__sass_l1tex_data_pipe_lsu_wavefronts_mem_shared_op_ldsm.sum"] = matrices.memory(
        "shared", "ld"
    ).passes
    found["smsp__sass_inst_executed_op_ldgsts.sum"] = copies.memory("shared", "st").requests
    return found


def _only(sums: Sums, opcode: str) -> Sums:
    return Sums(tuple(i for i in sums.instructions if i.mnemonic.split(".")[0] == opcode))
