"""Run numba-cuda's own tests on the emulated device.

    python tests/emulator/run_numba_suite.py [module …] [--seconds 60] [--jobs 2] [--json FILE]

Each module of `numba.cuda.tests.cudapy` runs in a process of its own, each test under a time limit. What
passes, fails and is skipped goes by name to a JSON file. Tests that need a driver's own features are listed
in `DRIVER_FEATURES` with the reason, and do not count in the percentage.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ENGINE = "TESSERA_SUITE_ENGINE"
"""Environment variable with the engine, for child processes and theirs."""
RESULTS = Path(__file__).with_name("numba_suite.json")
PACKAGE_VARIABLE = "TESSERA_SUITE_PACKAGE"
PACKAGE = os.environ.get(PACKAGE_VARIABLE, "numba.cuda.tests.cudapy")

DRIVER_FEATURES: dict[str, str] = {
    "*test_ipc.*": "memory that the driver shares between processes",
    "test_multigpu.*": "several GPUs",
    "test_multiprocessing.*": "several processes on one GPU",
    "*cupy*": "CuPy, which has a driver of its own",
    "test_cuda_array_interface.TestCudaArrayInterface.test_fortran_contiguous": "CuPy",
}
"""Tests that no emulated device can run, by pattern, with the reason."""


def modules() -> list[str]:
    """The test modules of the installed numba-cuda."""
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)))
    return sorted(p.stem for p in folder.glob("test_*.py"))


# -- in the process of one module ---------------------------------------------------------------------


class _TimeLimit(BaseException):
    """Not an Exception: no handler of the test must take it for its own."""


class _Result(unittest.TestResult):
    """Writes each outcome to a file at once: the process may die at any time."""

    def __init__(self, path: Path, seconds: int) -> None:
        super().__init__()
        self._path, self._seconds = path, seconds
        self._began = time.monotonic()
        self._seen: set[str] = set()

    def _write(self, test: unittest.TestCase, outcome: str, reason: str = "") -> None:
        name = test.id().removeprefix(PACKAGE + ".")
        if name in self._seen:
            return
        self._seen.add(name)
        record = {
            "name": name,
            "outcome": outcome,
            "reason": reason[-3000:],
            "seconds": round(time.monotonic() - self._began, 2),
        }
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._began = time.monotonic()
        with self._path.open("a") as file:
            file.write(json.dumps({"began": test.id().removeprefix(PACKAGE + ".")}) + "\n")

        def stop(*_: object) -> None:
            raise _TimeLimit

        signal.signal(signal.SIGALRM, stop)
        signal.alarm(self._seconds)

    def stopTest(self, test: unittest.TestCase) -> None:
        signal.alarm(0)
        super().stopTest(test)

    def addSuccess(self, test: unittest.TestCase) -> None:
        self._write(test, "passed")

    def addFailure(self, test: unittest.TestCase, err: object) -> None:
        self._write(test, "failed", self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    addError = addFailure

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: object) -> None:
        if err is not None:
            self._write(test, "failed", f"{subtest}: " + self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._write(test, "skipped", reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: object) -> None:
        del err
        self._write(test, "passed", "fails as expected")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._write(test, "failed", "was expected to fail")


def _cases(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from _cases(item)
        else:
            yield item


def run_module(name: str, path: Path, seconds: int, done: set[str], chosen: str) -> None:
    """Run the tests of one module that are not `done`, in this process."""
    from tessera.emulator import as_cuda

    with as_cuda(engine=os.environ.get(ENGINE, "llvm")):
        suite = unittest.defaultTestLoader.loadTestsFromName(f"{PACKAGE}.{name}")
        result = _Result(path, seconds)
        for case in _cases(suite):
            short = case.id().removeprefix(PACKAGE + ".")
            if short in done or not fnmatch.fnmatch(short, chosen or "*"):
                continue
            if reason := driver_feature(short):
                result._write(case, "driver", reason)
                continue
            case._dump_failed_filechecks = False
            try:
                unittest.TestSuite([case]).run(result)
            except _TimeLimit:
                result._write(case, "failed", f"not done within {seconds} s")
                signal.alarm(0)


# -- in the process that starts them ------------------------------------------------------------------


def _records(path: Path) -> tuple[list[dict[str, object]], str]:
    """Outcomes so far, and the test that was begun and has none."""
    found, begun = [], ""
    for line in path.read_text().splitlines() if path.exists() else []:
        record = json.loads(line)
        if "began" in record:
            begun = record["began"]
        else:
            found.append(record)
            begun = ""
    return found, begun


def run_in_child(name: str, seconds: int, module_seconds: int, chosen: str = "") -> list[dict[str, object]]:
    """Outcomes of one module, from child processes: another goes on where one has died."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outcomes"
        deadline = time.monotonic() + module_seconds
        done: set[str] = set()
        while True:
            (Path(folder) / "done").write_text("\n".join(done))
            command = [sys.executable, __file__, name, "--child", folder, "--seconds", str(seconds)]
            (Path(folder) / "sitecustomize.py").write_text(_GRANDCHILD)
            environment = os.environ | {"PYTHONPATH": os.pathsep.join([folder, *sys.path])}
            child = subprocess.Popen(
                [*command, "--only", chosen],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            text = ""
            try:
                raw, _ = child.communicate(timeout=max(1, deadline - time.monotonic()))
                text = raw.decode(errors="replace")
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.communicate()
                text = f"the module was not done within {module_seconds} s"
            found, begun = _records(path)
            if child.returncode == 0:
                return found
            if not begun or time.monotonic() > deadline:
                return [*found, {"name": begun or name, "outcome": "failed", "reason": text[-2000:]}]
            done = {str(r["name"]) for r in found} | {begun}
            with path.open("a") as file:
                reason = f"the process ended with {child.returncode}: {text[-1500:]}"
                file.write(json.dumps({"name": begun, "outcome": "failed", "reason": reason}) + "\n")


_GRANDCHILD = """
import sys
if "run_numba_suite" not in " ".join(sys.orig_argv):
    import os
    from tessera.emulator import as_cuda
    emulated = as_cuda(engine=os.environ["TESSERA_SUITE_ENGINE"])
    emulated.__enter__()
"""
"""Some tests start a Python of their own: it must find the emulated device too."""


def driver_feature(name: str) -> str:
    """Why a test needs a driver's own features; empty if it does not."""
    return next((why for pattern, why in DRIVER_FEATURES.items() if fnmatch.fnmatch(name, pattern)), "")


def summary(records: Sequence[dict[str, object]]) -> dict[str, object]:
    """What the results file holds."""
    import numba_cuda

    by_outcome: dict[str, list[dict[str, object]]] = {"passed": [], "failed": [], "skipped": [], "driver": []}
    for record in sorted(records, key=lambda r: str(r["name"])):
        by_outcome[str(record["outcome"])].append(record)
    counted = len(by_outcome["passed"]) + len(by_outcome["failed"])
    return {
        "numba_cuda": numba_cuda.__version__,
        "engine": os.environ[ENGINE],
        "percent": round(100 * len(by_outcome["passed"]) / max(counted, 1), 1),
        "counts": {kind: len(items) for kind, items in by_outcome.items()},
        "failed": {r["name"]: _last_line(str(r["reason"])) for r in by_outcome["failed"]},
        "skipped": {r["name"]: r["reason"] for r in by_outcome["skipped"]},
        "needs_driver": {r["name"]: r["reason"] for r in by_outcome["driver"]},
        "passed": [r["name"] for r in by_outcome["passed"]],
    }


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    # Addresses differ from run to run.
    return re.sub(r"0x[0-9a-f]{6,}", "0x…", lines[-1])[:300] if lines else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the modules and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", help="names such as test_atomics; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="time limit of a test")
    parser.add_argument("--module-seconds", type=int, default=900, help="time limit of a module")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--engine", choices=("llvm", "lockstep"), default="llvm")
    parser.add_argument("--only", default="", help="pattern of test names")
    parser.add_argument("--json", type=Path, help=f"results; {RESULTS.name} if all modules run")
    parser.add_argument("--raw", type=Path, help="every record with its reason in full, as JSON lines")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        done = set((options.child / "done").read_text().split("\n"))
        run_module(options.modules[0], options.child / "outcomes", options.seconds, done, options.only)
        return 0
    os.environ[ENGINE] = options.engine
    names = options.modules or modules()
    records: list[dict[str, object]] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        work = {
            name: pool.submit(run_in_child, name, options.seconds, options.module_seconds, options.only)
            for name in names
        }
        for name, future in work.items():
            found = future.result()
            records += found
            counts = Counter(str(r["outcome"]) for r in found)
            print(f"{name}: " + ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())), flush=True)
            if options.raw:
                with options.raw.open("a") as file:
                    file.writelines(json.dumps(r) + "\n" for r in found)
    report = summary(records)
    target = options.json or (RESULTS if not options.modules and not options.only else None)
    if target:
        target.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(f"{report['percent']} % of {report['counts']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
