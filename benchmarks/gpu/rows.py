"""Functions bound by memory, on this machine's GPU, against PyTorch, Triton and a bare copy: GB/s and ratios.

    python benchmarks/gpu/rows.py --save FOLDER [--only softmax]     # anywhere: compiles for --arch
    python benchmarks/gpu/rows.py --packages FOLDER [--json FILE]    # on a GPU, with CuPy and PyTorch

Bytes are those that must move: each input once, each output once. All work on the same memory, in turns, on
as many sets of it as are several times the L2 cache. Results are compared with float64 first.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from launches import medians_us, prepared

LEAST_BYTES = 600_000_000
"""Of all sets of memory: ten times the L2 cache of an H200."""
TOLERANCE = {"f32": 1e-5, "f16": 2e-3, "bf16": 1.6e-2}
"""Largest difference, as part of the largest result."""


@dataclass(frozen=True)
class Case:
    """One function at one size."""

    function: str
    dtype: str
    rows: int
    columns: int

    @property
    def name(self) -> str:
        """Of its package."""
        return f"{self.function}_{self.dtype}_{self.columns}"


CASES = tuple(
    Case(function, dtype, rows, columns)
    for function in ("softmax", "layernorm", "rmsnorm", "row_sum", "chain")
    for dtype in ("f32", "f16", "bf16")
    for rows, columns in ((65536, 1024), (16384, 4096), (8192, 8192), (2048, 32000))
    if (dtype, columns) not in (("bf16", 1024), ("bf16", 8192), ("bf16", 32000))
    and (function in ("softmax", "row_sum") or columns != 32000)
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--save", type=Path, metavar="FOLDER")
    arguments.add_argument("--arch", default="sm_90")
    arguments.add_argument("--packages", type=Path, metavar="FOLDER")
    arguments.add_argument("--only", default="", help="cases whose name has this in it")
    arguments.add_argument("--json", type=Path, metavar="FILE")
    chosen = arguments.parse_args()
    cases = [case for case in CASES if chosen.only in case.name]
    if chosen.save:
        save(chosen.save, chosen.arch, cases)
    elif chosen.packages:
        found = measure(chosen.packages, cases)
        if chosen.json:
            chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    else:
        arguments.error("--save FOLDER compiles, --packages FOLDER measures")


def save(folder: Path, arch: str, cases: list[Case]) -> None:
    import tessera as ts
    from tessera.deploy import AOTCompiler

    functions: dict[str, Callable[..., Any]] = {
        "softmax": lambda x: ts.softmax(x, axis=-1),
        "layernorm": lambda x, w, b: ts.layernorm(x, w, b),
        "rmsnorm": lambda x, w: ts.rmsnorm(x, w),
        "row_sum": lambda x: ts.sum(x, axis=-1),
        "chain": lambda x, y: ts.relu(x * 2.0 + y) * y,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        vector = ts.TensorSpec((case.columns,), case.dtype)
        matrix = ts.TensorSpec(("rows", case.columns), case.dtype)
        specs = {"layernorm": [matrix, vector, vector], "rmsnorm": [matrix, vector], "chain": [matrix] * 2}
        function = ts.jit(functions[case.function], name=case.name)
        compiled = AOTCompiler(target_architectures=[arch]).compile(
            function, specs.get(case.function, [matrix])
        )
        compiled.save(folder / f"{case.name}.tsc")


def measure(folder: Path, cases: list[Case]) -> list[dict[str, Any]]:
    import cupy

    names = "".join(f"{name:>9}" for name in ("Tessera", "Triton", "PyTorch", "copy"))
    print(f"{'GB/s':24}{names}{'of copy':>17}{'Triton':>8}")
    rows = []
    for case in cases:
        found = run(cupy, folder / f"{case.name}.tsc", case)
        rows.append({**asdict(case), **found})
        rate = found["gbps"]
        print(
            f"{case.name:24}" + "".join(f"{rate[k]:9.0f}" for k in ("tessera", "triton", "torch", "copy"))
            + f"{rate['tessera'] / rate['copy']:17.3f}{rate['tessera'] / rate['triton']:8.2f}", flush=True,
        )  # fmt: skip
    return rows


def run(cupy: Any, file: Path, case: Case) -> dict[str, Any]:
    """Microseconds and GB/s of every one, on as many sets of memory as no cache holds."""
    import torch

    kind = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[case.dtype]
    torch.manual_seed(0)
    shape = (case.rows, case.columns)
    vectors = {"layernorm": 2, "rmsnorm": 1}.get(case.function, 0)
    matrices = 2 if case.function == "chain" else 1
    extra = [torch.randn(case.columns, device="cuda").to(kind) for _ in range(vectors)]
    out_shape = (case.rows,) if case.function == "row_sum" else shape
    size = case.rows * case.columns * kind.itemsize
    moved = size * matrices + (case.rows * kind.itemsize if case.function == "row_sum" else size)
    sets = max(2, -(-LEAST_BYTES // moved))
    works: dict[str, list[Callable[[], Any]]] = {"tessera": [], "triton": [], "torch": [], "copy": []}
    kernels: list[str] = []
    for number in range(sets):
        inputs = [*(torch.randn(shape, device="cuda").to(kind) for _ in range(matrices)), *extra]
        out = torch.empty(out_shape, device="cuda", dtype=kind)
        mine, _, kernels = prepared(cupy, file, [raw(cupy, x) for x in inputs], raw(cupy, out))
        if number == 0:
            check(case, inputs, out, mine)
        works["tessera"].append(mine)
        works["triton"].append(triton_peer(case, inputs, out))
        works["torch"].append(torch_peer(case, inputs))
        half = torch.empty(moved // 2 // kind.itemsize, device="cuda", dtype=kind)
        other = torch.empty_like(half)
        works["copy"].append(lambda a=half, b=other: a.copy_(b))
    times = medians_us(cupy, works)
    gbps = {name: moved / us / 1e3 for name, us in times.items()}
    return {"kernels": kernels, "bytes": moved, "sets": sets, "us": times, "gbps": gbps}


def raw(cupy: Any, tensor: Any) -> Any:
    """A tensor's memory as CuPy sees it; bfloat16 as its bits."""
    import torch

    return cupy.from_dlpack(tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor)


def check(case: Case, inputs: list[Any], out: Any, mine: Callable[[], Any]) -> None:
    import torch

    out.fill_(float("nan"))
    mine()
    torch.cuda.synchronize()
    exact = torch_function(case)(*(x[:512].double() if x.dim() == 2 else x.double() for x in inputs))
    off = float((out[:512].double() - exact).abs().max() / exact.abs().max())
    if not off <= TOLERANCE[case.dtype] or bool(out.isnan().any()):
        raise SystemExit(f"{case.name}: off by {off:.2g} of the largest")


def torch_function(case: Case) -> Callable[..., Any]:
    import torch
    from torch.nn import functional

    return {
        "softmax": lambda x: torch.softmax(x, -1),
        "layernorm": lambda x, w, b: functional.layer_norm(x, w.shape, w, b),
        "rmsnorm": lambda x, w: functional.rms_norm(x, w.shape, w, 1e-6),
        "row_sum": lambda x: x.sum(-1),
        "chain": lambda x, y: torch.relu(x * 2.0 + y) * y,
    }[case.function]


def torch_peer(case: Case, inputs: list[Any]) -> Callable[[], Any]:
    function = torch_function(case)
    return lambda: function(*inputs)


def triton_peer(case: Case, inputs: list[Any], out: Any) -> Callable[[], Any]:
    import triton_rows

    function = getattr(triton_rows, case.function)
    return lambda: function(*inputs, out)


if __name__ == "__main__":
    main()
