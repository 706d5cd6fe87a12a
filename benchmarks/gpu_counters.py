"""The emulator's counters against Nsight Compute's, kernel by kernel and metric by metric.

    python benchmarks/gpu_counters.py prepare DIR            # anywhere: compile, emulate, count
    python benchmarks/gpu_counters.py measure DIR            # with a GPU and ncu: count there
    python benchmarks/gpu_counters.py compare DIR            # anywhere: the table

`prepare` writes a package and what the emulator counted; `measure` runs the same package on the same inputs
under `ncu` and keeps its CSV; `compare` prints for each metric in how many kernels both agree, and those
where they do not. Clocks stay as they are.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

SEED = 11
CONSTANTS = "sm__inst_executed_pipe_tensor_op_hmma_type_hfma2.sum"
"""Loads of constants, which the assembler sends through the tensor pipe of sm_90: no products of matrices."""
PACKAGE, EMULATED, INPUTS, MEASURED = "counters.tsp", "emulated.json", "inputs", "ncu.csv"
METRICS = (
    "smsp__inst_executed.sum",
    "smsp__thread_inst_executed_per_inst_executed.ratio",
    "smsp__sass_thread_inst_executed_op_fadd_pred_on.sum",
    "smsp__sass_thread_inst_executed_op_fmul_pred_on.sum",
    "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum",
    "smsp__sass_thread_inst_executed_op_dadd_pred_on.sum",
    "smsp__sass_thread_inst_executed_op_dmul_pred_on.sum",
    "smsp__sass_thread_inst_executed_op_dfma_pred_on.sum",
    "sm__inst_executed_pipe_tensor.sum",
    "smsp__sass_branch_targets_threads_divergent.sum",
    *(
        f"l1tex__t_{what}_pipe_lsu_mem_{space}_op_{operation}.sum"
        for space, operation in (
            ("global", "ld"), ("global", "st"), ("global", "atom"), ("global", "red"), ("local", "ld"),
            ("local", "st"),
        )
        for what in ("requests", "sectors")
    ),
    *(f"smsp__sass_inst_executed_op_shared_{operation}.sum" for operation in ("ld", "st", "atom")),
    *(
        f"l1tex__data_{what}_mem_shared_op_{operation}.sum"
        for what in ("pipe_lsu_wavefronts", "bank_conflicts_pipe_lsu")
        for operation in ("ld", "st", "atom")
    ),
    "smsp__sass_inst_executed_op_ldsm.sum",
    "smsp__sass_l1tex_data_pipe_lsu_wavefronts_mem_shared_op_ldsm.sum",
    "smsp__sass_inst_executed_op_ldgsts.sum",
)  # fmt: skip


def main() -> int:
    arguments = argparse.ArgumentParser(description="emulated counters against Nsight Compute's")
    arguments.add_argument("step", choices=("prepare", "measure", "launch", "compare"))
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--ncu", default="ncu", help="the program to measure with")
    arguments.add_argument("--json", type=Path, help="compare: write what the GPU counted to this file")
    chosen = arguments.parse_args()
    if chosen.step == "prepare":
        return prepare(chosen.folder)
    if chosen.step == "measure":
        return measure(chosen.folder, chosen.ncu)
    return launch(chosen.folder) if chosen.step == "launch" else compare(chosen.folder, chosen.json)


def prepare(folder: Path) -> int:
    """Compile, emulate and count every case."""
    from counter_kernels import CASES

    from tessera.deploy import AOTConfig, BatchCompiler, CompilationTarget
    from tessera.package import Package
    from tessera.profiler import profile_emulated
    from tessera.runtime import DeploymentPackage

    (folder / INPUTS).mkdir(parents=True, exist_ok=True)
    batch = BatchCompiler(AOTConfig(targets=[CompilationTarget("sm_90")], generate_ptx=True))
    for name, case in CASES.items():
        batch.add_kernel(case.source, name=name)
    batch.compile_all().save(str(folder / PACKAGE))
    package = DeploymentPackage.load(str(folder / PACKAGE))
    assert isinstance(package, Package)
    found: dict[str, Any] = {}
    for name, case in CASES.items():
        inputs = dict(case.inputs(np.random.default_rng(SEED)))
        np.savez(folder / INPUTS / f"{name}.npz", **inputs)
        arrays = {key: np.asarray(value) for key, value in inputs.items()}
        profile = profile_emulated(package.programs[name], package, arrays)
        for kernel in profile.kernels:
            found[kernel.kernel] = {"case": name, "metrics": kernel.counters.metrics()}
        print(f"{name}: {', '.join(k.kernel for k in profile.kernels)}")
    (folder / EMULATED).write_text(json.dumps(found, indent=1))
    return 0


def measure(folder: Path, ncu: str) -> int:
    """Run `launch` under Nsight Compute and keep what it counted."""
    command = [
        ncu, "--clock-control", "none", "--csv", "--page", "raw", "--print-units", "base",
        "--metrics", ",".join((*METRICS, CONSTANTS)), sys.executable, __file__, "launch", str(folder),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (folder / MEASURED).write_text(done.stdout)
    if done.returncode or '"Kernel Name"' not in done.stdout:
        print(done.stdout[-2000:], done.stderr[-2000:], sep="\n", file=sys.stderr)
        return 1
    return 0


def launch(folder: Path) -> int:
    """Run every program once on the GPU."""
    from tessera.runtime import DeploymentPackage

    package = DeploymentPackage.load(str(folder / PACKAGE))
    runtime = package.create_runtime("cuda:0", strict_device=True)
    for file in sorted((folder / INPUTS).glob("*.npz")):
        with np.load(file) as inputs:
            runtime.execute(file.stem, {key: inputs[key] for key in inputs})
    return 0


def measured(text: str) -> dict[str, dict[str, float]]:
    """Metrics by kernel, out of ncu's raw CSV."""
    from tessera.profiler.ncu_csv import read_launches

    found: dict[str, dict[str, float]] = {}
    for launch in read_launches(text):
        sums = found.setdefault(launch.kernel, {})
        for metric in (*METRICS, CONSTANTS):
            if metric in launch.metrics:
                sums[metric] = sums.get(metric, 0.0) + launch.metrics[metric]
        tensor = "sm__inst_executed_pipe_tensor.sum"
        sums[tensor] = sums.get(tensor, 0.0) - sums.pop(CONSTANTS, 0.0)
    return found


def differences(
    emulated: Mapping[str, Any], counted: Mapping[str, Mapping[str, float]]
) -> Iterator[tuple[str, str, float, float]]:
    """Metric, case, emulated, measured, wherever a GPU counted."""
    for kernel, own in emulated.items():
        for metric in METRICS:
            if kernel in counted and metric in counted[kernel]:
                yield metric, own["case"], own["metrics"].get(metric, 0.0), counted[kernel][metric]


def compare(folder: Path, kept: Path | None) -> int:
    """Print what is equal and what is not."""
    emulated = json.loads((folder / EMULATED).read_text())
    counted = measured((folder / MEASURED).read_text())
    missing = sorted(set(emulated) - set(counted))
    if missing:
        print(f"not measured: {', '.join(missing)}", file=sys.stderr)
    by_metric: dict[str, list[tuple[str, float, float]]] = {}
    for metric, case, ours, theirs in differences(emulated, counted):
        if ours or theirs:
            by_metric.setdefault(metric, []).append((case, ours, theirs))
    for metric, rows in by_metric.items():
        off = [(case, ours, theirs) for case, ours, theirs in rows if abs(ours - theirs) > 1e-9 * abs(theirs)]
        worst = ", ".join(f"{case} {ours:.10g} for {theirs:.10g}" for case, ours, theirs in off)
        print(f"{metric}: {len(rows) - len(off)} of {len(rows)}{'; ' if off else ''}{worst}")
    if kept is not None:
        by_case = {own["case"]: counted[kernel] for kernel, own in emulated.items() if kernel in counted}
        kept.write_text(json.dumps(by_case, indent=1, sort_keys=True) + "\n")
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
