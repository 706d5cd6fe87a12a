"""Every operator, on every dtype that it takes, on a GPU against the oracle in float64.

    python benchmarks/gpu_agreement.py prepare DIR [--only softmax] [--skip conv] [--emulate]
    python benchmarks/gpu_agreement.py run DIR

`prepare`, anywhere, compiles the cases of `tests/operators` into packages and writes inputs, the oracle's
answers and how far a result may be off; `run`, with a GPU, needs neither compiler nor tests. With `--emulate`
the emulator's results go along, and `run` says how many are the same bit for bit.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SIZES = (1, 2, 17, 40, 133)
ARRAYS, CASES = "arrays.npz", "cases.json"
Array = np.ndarray[Any, Any]


def main() -> int:
    arguments = argparse.ArgumentParser(description="every operator on a GPU")
    arguments.add_argument("step", choices=("prepare", "run"))
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--arch", default="sm_90a")
    arguments.add_argument("--only", default="", help="cases whose name has this in it")
    arguments.add_argument("--skip", nargs="*", default=(), help="beginnings of names of cases to leave out")
    arguments.add_argument("--emulate", action="store_true")
    chosen = arguments.parse_args()
    return prepare(chosen) if chosen.step == "prepare" else run(chosen.folder)


def prepare(chosen: argparse.Namespace) -> int:
    """One package for each case, all of its dtypes in it."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tests.operators.test_against_numpy import BY_NAME

    chosen.folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Array] = {}
    rows: dict[str, Any] = {}
    for case in BY_NAME.values():
        if chosen.only in case.name and not case.name.startswith(tuple(chosen.skip)):
            dtypes = case.claimed()
            compile_case(case, dtypes, chosen)
            for dtype in dtypes:
                rows[f"{case.name}_{dtype}"] = answers(case, dtype, arrays)
            if chosen.emulate:
                emulate(chosen.folder / f"{case.name}.tsp", rows, arrays)
            print(f"{case.name}: {' '.join(dtypes)}", flush=True)
    np.savez_compressed(chosen.folder / ARRAYS, **arrays)
    (chosen.folder / CASES).write_text(json.dumps(rows, indent=1))
    return 0


def compile_case(case: Any, dtypes: Sequence[str], chosen: argparse.Namespace) -> None:
    from tessera.deploy import AOTConfig, BatchCompiler, CompilationTarget

    hopper = chosen.arch.endswith("a")
    target = CompilationTarget(chosen.arch.removesuffix("a"), enable_hopper_features=hopper)
    batch = BatchCompiler(AOTConfig(targets=[target], generate_ptx=chosen.emulate))
    for dtype in dtypes:
        batch.add_kernel(case.traced(dtype), name=f"{case.name}_{dtype}", input_specs=case.specs(dtype))
    batch.compile_all().save(str(chosen.folder / f"{case.name}.tsp"))


def answers(case: Any, dtype: str, arrays: dict[str, Array]) -> dict[str, Any]:
    """Inputs and the oracle's answers at a few sizes, put into `arrays`; how far a result may be off."""
    from tessera.reference import run_graph
    from tests.operators.test_every_dtype import allowed

    name = f"{case.name}_{dtype}"
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    trace = case.traced(dtype).trace(case.specs(dtype))
    inputs = trace.graph.leaves("input")
    symbols = case.symbols()
    tolerances: list[float] = []
    runs = 3 if symbols else 1
    for number in range(runs):
        sizes = {s: max(int(rng.choice(SIZES)), case.least) for s in symbols}
        operands = case.operands(dtype, sizes, rng)
        found = run_graph(trace.graph, dict(zip(inputs, operands, strict=True)), trace.constants)
        for key, value in zip(inputs, operands, strict=True):
            arrays[f"{name}/{number}/in/{key}"] = bits(value)
        for key, value in found.items():
            kind, slack = allowed(case, dtype, value)
            arrays[f"{name}/{number}/out/{key}"] = (
                np.clip(value.astype(np.float64), *LIMITS.get(value.dtype.name, (-np.inf, np.inf)))
                if value.dtype.kind not in "biu"
                else value
            )
            tolerances.append(tolerance(kind) * slack)
    return {"package": f"{case.name}.tsp", "runs": runs, "tolerance": max(tolerances)}


LIMITS = {"float8_e5m2": (-57344.0, 57344.0)}
"""Every store of a kernel saturates, that of an infinity which was only moved too."""


def tolerance(kind: str) -> float:
    from tests.operators.cases import TOLERANCE

    return TOLERANCE[kind]


def bits(value: Array) -> Array:
    """The array itself, or the bits of a type that NumPy cannot write to a file."""
    return value.view(f"u{value.dtype.itemsize}") if value.dtype.isbuiltin == 2 else value


def emulate(path: Path, rows: Mapping[str, Any], arrays: dict[str, Array]) -> None:
    """The emulator's results of a package's programs, put into `arrays`."""
    for key, value in results(path, rows, arrays, "emulator"):
        arrays[key.replace("/out/", "/emulated/")] = bits(value)


def results(
    path: Path, rows: Mapping[str, Any], arrays: Mapping[str, Array], device: str
) -> Iterator[tuple[str, Array]]:
    """What every program of a package gives on a device, by the key of its expected result."""
    from tessera.runtime import DeploymentPackage

    package = DeploymentPackage.load(str(path))
    with package.create_runtime(device, strict_device=True) as runtime:
        for name, program in package.programs.items():
            for number in range(rows[name]["runs"]):
                given = {
                    port.name: arrays[f"{name}/{number}/in/{port.name}"].view(port.dtype.numpy)
                    for port in program.inputs
                }
                found = runtime.execute(name, given)
                named = found if isinstance(found, dict) else {program.outputs[0].name: found}
                for key, value in named.items():
                    yield f"{name}/{number}/out/{key}", np.asarray(value)


@dataclass
class Tally:
    """What came out."""

    programs: set[str] = field(default_factory=set)
    results: int = 0
    wrong: list[str] = field(default_factory=list)
    emulated: int = 0
    same: int = 0
    differing: set[str] = field(default_factory=set)


def run(folder: Path) -> int:
    """Compare every result with the oracle's, and with the emulator's where there are such."""
    rows = json.loads((folder / CASES).read_text())
    with np.load(folder / ARRAYS) as kept:
        arrays = {key: kept[key] for key in kept}
    tally = Tally()
    for file in sorted({row["package"] for row in rows.values()}):
        try:
            for key, value in results(folder / file, rows, arrays, "cuda:0"):
                judge(tally, key, value, rows, arrays)
        except Exception as error:  # noqa: BLE001 - one program that fails must not hide the others
            tally.wrong.append(f"{file}: {type(error).__name__}: {error}")
    print(f"{len(tally.programs)} programs, {tally.results} results, {len(tally.wrong)} wrong")
    if tally.emulated:
        print(f"emulated: {tally.same} of {tally.emulated} results are the same bit for bit")
        print("others:", " ".join(sorted(tally.differing)))
    print("\n".join(tally.wrong))
    return 1 if tally.wrong else 0


def judge(tally: Tally, key: str, found: Array, rows: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    name = key.split("/")[0]
    tally.programs.add(name)
    tally.results += 1
    flaw = wrong(found, arrays[key], rows[name]["tolerance"])
    if flaw:
        tally.wrong.append(f"{key}: {flaw}")
    emulated = arrays.get(key.replace("/out/", "/emulated/"))
    if emulated is not None:
        tally.emulated += 1
        if np.array_equal(bits(found).view(np.uint8), emulated.view(np.uint8)):
            tally.same += 1
        else:
            tally.differing.add(name)


def wrong(found: Array, exact: Array, allowed: float) -> str | None:
    """What is wrong with a result, if anything: relative to the largest, as the tests have it."""
    if found.shape != exact.shape:
        return f"shape {found.shape}, not {exact.shape}"
    if exact.dtype.kind in "biu":
        return None if np.array_equal(found, exact) else "other integers"
    got = found.astype(np.float64)
    finite = np.isfinite(exact)
    if not np.array_equal(got[~finite], exact[~finite], equal_nan=True):
        return "NaN or infinity elsewhere"
    scale = max(float(np.abs(exact[finite]).max(initial=0)), 1e-3)
    error = float(np.abs(got[finite] - exact[finite]).max(initial=0))
    return None if error <= allowed * scale else f"off by {error:.3g}, results up to {scale:.3g}"


if __name__ == "__main__":
    raise SystemExit(main())
