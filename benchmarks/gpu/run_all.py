"""Everything that only a GPU can show, in one run: right, fast, live, served. JSON and logs go to a folder.

    python benchmarks/gpu/run_all.py prepare FOLDER [--only rows …]   # anywhere; needs the compiler, no GPU
    python benchmarks/gpu/run_all.py run FOLDER --out DIR [--only …]  # on the GPU; CuPy, PyTorch, Triton

`run` needs no compiler but for the part `tools`, which is left out without it, and no network. Each part is a
process of its own with a time limit; what fails is in `summary.json` with its last lines, and the rest goes
on. Clocks and other settings of the card are read, never changed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
BENCHMARKS = HERE.parent
ROOT = BENCHMARKS.parent
PRODUCTS: dict[str, tuple[str, ...]] = {
    "bf16": ("4096x4096x4096", "8192x8192x8192", "4096x11008x4096", "4096x4096x11008", "128x4096x4096"),
    "f8e4m3": ("4096x4096x4096", "8192x8192x8192", "4096x11008x4096", "4096x4096x11008"),
    "i8": ("4096x4096x4096", "8192x8192x8192"),
    "tf32": ("4096x4096x4096", "8192x8192x8192"),
    "f32": ("4096x4096x4096",),
}
"""Shapes by type: squares, and the projections of a transformer of 4096 columns."""
TRITON = ("bf16", "f8e4m3")


@dataclass(frozen=True)
class Part:
    """One kind of figures."""

    prepare: Callable[[Path], None]
    """Write packages to a folder."""
    run: Callable[[Path, Path], list[list[str]]]
    """Commands, from packages and the folder of results."""
    limit_s: int = 120


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("step", choices=("prepare", "run"))
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--out", type=Path, default=Path("results"))
    arguments.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS), metavar="PART")
    chosen = arguments.parse_args()
    if chosen.step == "prepare":
        for name in chosen.only:
            (chosen.folder / name).mkdir(parents=True, exist_ok=True)
            PARTS[name].prepare(chosen.folder / name)
            print(f"prepared {name}", flush=True)
        return 0
    return run(chosen.folder, chosen.out, chosen.only)


def run(folder: Path, out: Path, names: list[str]) -> int:
    """Run parts one after the other; 1 if any failed."""
    out.mkdir(parents=True, exist_ok=True)
    summary: dict[str, object] = {"machine": machine(), "started_unix_s": round(time.time())}
    failed = []
    for name in names:
        part, start = PARTS[name], time.monotonic()
        before = clocks()
        results = [
            one(command, part.limit_s, out / f"{name}.log") for command in part.run(folder / name, out)
        ]
        bad = [text for status, text in results if status]
        failed += [name] if bad else []
        seconds = round(time.monotonic() - start, 1)
        summary[name] = {"seconds": seconds, "failed": bad, "clocks": [before, clocks()]}
        print(f"--- {name}: {seconds} s, {'FAILED' if bad else 'ok'}", flush=True)
        (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return 1 if failed else 0


def one(command: list[str], limit_s: int, log: Path) -> tuple[int, str]:
    """Run a command, its output to a log and to ours; its status and last lines."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    with log.open("a") as file:
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        begin = file.tell()
        process = subprocess.Popen(command, stdout=file, stderr=file, env=env, start_new_session=True)
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait() or 1
    text = log.read_text()[begin:]
    print("\n".join(text.splitlines()[-40:]), flush=True)
    return status, f"status {status}: " + " | ".join(text.splitlines()[-3:])


def machine() -> dict[str, str]:
    """The GPU, its driver and the versions that were measured."""
    found = {
        "python": sys.version.split()[0],
        "gpu, driver, power limit": query("name,driver_version,power.limit"),
    }
    for package in ("torch", "triton", "cupy-cuda13x", "cupy-cuda12x", "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def clocks() -> str:
    """Clocks of multiprocessors and memory, temperature and power, as they are now."""
    return query("clocks.sm,clocks.mem,temperature.gpu,power.draw")


def query(fields: str) -> str:
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return "no nvidia-smi"


def python(script: Path, *arguments: object) -> list[str]:
    """A command that runs one of these scripts."""
    return [sys.executable, str(script), *map(str, arguments)]


def compiled_by(*commands: Callable[[Path], list[str]]) -> Callable[[Path], None]:
    """What prepares a part by commands of other scripts."""

    def prepare(folder: Path) -> None:
        for command in commands:
            subprocess.run(command(folder), check=True)

    return prepare


def prepare_products(folder: Path) -> None:
    for dtype in PRODUCTS:
        subprocess.run(
            python(BENCHMARKS / "gpu_matmul.py", "--dtype", dtype, "--save", folder / f"{dtype}.tsc"),
            check=True,
        )


def run_products(folder: Path, out: Path) -> list[list[str]]:
    return [
        python(
            BENCHMARKS / "gpu_matmul.py", *shapes, "--dtype", dtype, "--package", folder / f"{dtype}.tsc",
            "--json", out / f"products_{dtype}.json", *(["--triton"] if dtype in TRITON else []),
        )
        for dtype, shapes in PRODUCTS.items()
    ]  # fmt: skip


def agreement(arch: str, *more: str) -> Part:
    """Every operator and type against float64; with `--emulate` also against the emulator."""
    script = BENCHMARKS / "gpu_agreement.py"
    return Part(
        compiled_by(lambda folder: python(script, "prepare", folder, "--arch", arch, *more)),
        lambda folder, _: [python(script, "run", folder)],
        limit_s=180,
    )


def sanitizer(folder: Path, _: Path) -> list[list[str]]:
    tool = ["compute-sanitizer", "--error-exitcode", "9", "--print-limit", "5"]
    every = python(BENCHMARKS / "gpu_agreement.py", "run", folder.parent / "agree_sm_90a")
    return [[*tool, "--tool", "memcheck", *every], [*tool, "--tool", "racecheck", *every]]


def prepare_served(folder: Path) -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "examples" / "digits")]
    import model

    from tessera.deploy import AOTCompiler, AOTConfig

    config = AOTConfig(targets=["sm_90", "cpu-x86_64-v3"])
    AOTCompiler(config).compile(model.digits_f32).save(folder / "digits.tsc")


def run_served(folder: Path, out: Path) -> list[list[str]]:
    return [python(Path(__file__).resolve(), "serve", folder, device, out) for device in ("cpu", "cuda:0")]


@contextmanager
def served(package: Path, device: str) -> Iterator[str]:
    """A server's address."""
    command = ["serve", str(package), "--port", "0", "--device", device, "--max-batch-size", "256"]
    process = subprocess.Popen(tessera(*command), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield next(word.rstrip(";") for word in line.split() if word.startswith("http://"))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def serve(folder: Path, device: str, out: Path) -> int:
    """Measure a server with `tessera bench`, one, 16 and 64 clients."""
    with served(folder / "digits.tsc", device) as url:
        clients = [word for c in (1, 16, 64) for word in ("--concurrency", str(c))]
        export = ["--export", str(out / f"served_{device.partition(':')[0]}.json")]
        done = subprocess.run(
            tessera("bench", url, *clients, "--seconds", "4", "--no-keep", *export), check=False
        )
    return done.returncode


def tessera(*words: str) -> list[str]:
    """The command line, by this Python."""
    code = "import sys; sys.argv[0] = 'tessera'; from tessera.workbench.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code, *words]


def run_tools(_: Path, out: Path) -> list[list[str]]:
    """Diagnostics, a benchmark, a profile and a sweep as a user has them; the sweep also predicted."""
    if importlib.util.find_spec("numba") is None or importlib.util.find_spec("llvmlite") is None:
        print("tools: left out, the compiler is not installed")
        return []
    gemm, rows = f"{HERE / 'tuned_product.py'}:product", f"{HERE / 'tuned_product.py'}:scores"
    sweep = ("tune", gemm, "--arch", "sm_90a", "--strategy", "grid", "--budget", "1000")
    return [
        tessera("diag"),
        tessera(
            "bench", rows, "--size", "batch=16384", "--device", "cuda:0", "--baseline", "torch", "--no-keep"
        ),
        tessera(
            "profile", rows, "--size", "batch=16384", "--device", "cuda:0", "--trace", str(out / "trace.json")
        ),
        tessera(*sweep, "--device", "cuda:0", "--cache", str(out / "sweep_measured.json")),
        tessera(*sweep, "--device", "emulator", "--cache", str(out / "sweep_predicted.json")),
    ]


def nothing(folder: Path) -> None:
    """Nothing to compile beforehand."""
    del folder


def saved_by(script: Path, package: str = "--packages", *more: str) -> Part:
    """A script with `--save` and `--packages`, which writes JSON."""
    return Part(
        compiled_by(lambda folder: python(script, "--save", folder)),
        lambda folder, out: [python(script, package, folder, *more, "--json", out / f"{script.stem}.json")],
    )


PARTS: dict[str, Part] = {
    "agree_sm_90a": agreement("sm_90a", "--emulate"),
    "agree_sm_90": agreement("sm_90"),
    "sanitizer": Part(nothing, sanitizer, limit_s=240),
    "counters": Part(
        compiled_by(lambda folder: python(BENCHMARKS / "gpu_counters.py", "prepare", folder)),
        lambda folder, out: [
            python(BENCHMARKS / "gpu_counters.py", "measure", folder),
            python(BENCHMARKS / "gpu_counters.py", "compare", folder, "--json", out / "counters.json"),
        ],
    ),
    "products": Part(prepare_products, run_products),
    "rows": saved_by(HERE / "rows.py"),
    "attention": saved_by(BENCHMARKS / "gpu_attention.py", "--package", "--repeats", "10"),
    "overhead": saved_by(HERE / "overhead.py"),
    "operators": Part(
        compiled_by(lambda folder: python(BENCHMARKS / "gpu_operators.py", "--save", folder)),
        lambda folder, _: [python(BENCHMARKS / "gpu_operators.py", "--packages", folder)],
    ),
    "served": Part(prepare_served, run_served),
    "tools": Part(nothing, run_tools, limit_s=240),
}
"""By name, in the order that they run."""


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        raise SystemExit(serve(Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])))
    raise SystemExit(main())
