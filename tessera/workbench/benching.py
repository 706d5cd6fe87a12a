"""From targets on the command line to benchmarks, saved and compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tessera.program.errors import ConfigError, HistoryError, OptionError, TesseraError
from tessera.workbench.destinations import check_destinations, make_folders
from tessera.workbench.failure import UsageError

if TYPE_CHECKING:
    from tessera.profiler.bench_baseline import Baseline
    from tessera.profiler.bench_compare import Comparison
    from tessera.profiler.bench_history import History, SavedRun
    from tessera.profiler.bench_result import BenchResult


_RECENT = 100
"""Saved runs that are looked through."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one call of `tessera bench` asks for."""

    targets: tuple[str, ...]
    device: str
    batch: tuple[int, ...] | None
    seconds: float
    warmup: float
    sizes: dict[str, int]
    program: str | None
    spec: tuple[str, ...]
    baseline: str | None
    """None: NumPy, for what has a graph."""
    concurrency: tuple[int, ...] | None
    """Numbers of clients, for servers."""
    timeout: float
    """Longest time to wait for a server's answer, in seconds."""
    name: str | None
    """What to save the run as."""
    keep: bool
    """Whether to save at all."""
    against: str | None
    """The saved run to compare with."""
    least_change: float
    """Smallest change that counts, in percent."""
    database: Path | None
    exports: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of it."""

    results: tuple[BenchResult, ...]
    saved: SavedRun | None
    database: Path | None
    """Where it was saved."""
    comparison: Comparison | None
    problem: TesseraError | None = None
    """What could not be done with the figures: compare, save or export them."""

    @property
    def failed(self) -> bool:
        """Whether a row is slower than before, or gives another result than its baseline."""
        slower = self.comparison is not None and bool(self.comparison.regressions)
        return slower or any(result.disagreements for result in self.results)


def open_history(database: Path | None) -> History:
    """The history in a file: the one given, the project's, or the user's own.

    Raises:
        ConfigError: The project file is wrong, or there is no home folder.
    """
    from tessera.profiler.bench_history import History
    from tessera.workbench.project import find_project

    return History(database or find_project(Path.cwd()).history())


def run_bench(wanted: Wanted) -> Measured:
    """Measure every target, compare with a saved run, save, and export.

    Raises:
        UsageError: An option names nothing that is there.
        TesseraError: A target does not compile or run, or a file cannot be used.
    """
    from tessera.profiler.bench_export import export, form_of

    for path in wanted.exports:
        form_of(path)
    check_name(wanted.name)
    _check_numbers(wanted)
    _check_targets(wanted)
    history = open_history(wanted.database)
    before = None
    if wanted.against is not None:
        # Asked for before anything is measured: a name that is not there is told at once.
        before = _saved_run(history, wanted.against, [target_label(t) for t in wanted.targets])
    for path in wanted.exports:
        check_destinations({"--export": path})
    results = _results(wanted)
    comparison, saved = None, None
    problem: TesseraError | None = None
    try:
        comparison = None if before is None else _compared(wanted, history, results, before)
    except ConfigError as error:
        problem = error
    # Whatever goes wrong from here on, what was measured is shown.
    try:
        saved = _saved(wanted, history, results)
        for path in wanted.exports:
            make_folders({"--export": path})
            export(path, results, comparison)
    except TesseraError as error:
        problem = problem or error
    return Measured(tuple(results), saved, history.path if saved else None, comparison, problem)


def _check_numbers(wanted: Wanted) -> None:
    """Whether times and shares are numbers that a measurement can end by.

    Raises:
        UsageError: One is infinite, or no number.
    """
    given = {
        "--seconds": wanted.seconds, "--warmup": wanted.warmup, "--timeout": wanted.timeout,
        "--least-change": wanted.least_change,
    }  # fmt: skip
    for option, value in given.items():
        if not math.isfinite(value):
            raise UsageError(f"{option} {value}: not a number that has an end", hint=f"such as {option} 1")


def _saved_run(history: History, which: str, targets: list[str]) -> SavedRun:
    """A saved run by what `--compare` says.

    Raises:
        UsageError: It names a file.
        ConfigError: There is no such run.
    """
    try:
        return history.find(which, targets=targets)
    except ConfigError:
        if Path(which).is_file() or Path(which).suffix.lower() in (".json", ".csv", ".md", ".sqlite"):
            raise UsageError(
                f"--compare {which}: it takes the name or number of a saved run, not a file",
                hint="tessera bench --history lists saved runs, --save NAME names one",
            ) from None
        raise


def check_name(name: str | None) -> None:
    """Whether a run can be saved as this.

    Raises:
        UsageError: It would be taken for a number or for `last`, or is empty.
    """
    if name is None:
        return
    if not name.strip() or name == "last" or name.removeprefix("#").isdecimal():
        raise UsageError(
            f"--save {name!r}: --compare would take it for something else",
            hint="a name such as --save before",
        )


def target_label(target: str) -> str:
    """What results call a target: the file's name, with what is in it, or the server's address."""
    from tessera.profiler.bench_client import parse_address

    return parse_address(target).origin if is_url(target) else Path(target).name


def is_url(target: str) -> bool:
    """Whether a target is the address of a server."""
    return target.startswith(("http://", "https://"))


def _check_targets(wanted: Wanted) -> None:
    """Whether the options fit what is to be measured.

    Raises:
        UsageError: They do not.
    """
    servers = [target for target in wanted.targets if is_url(target)]
    if servers and wanted.baseline not in (None, "none"):
        raise UsageError(
            f"--baseline {wanted.baseline}: {servers[0]} is a server, which has none",
            hint="measure the package itself, or another server in a further TARGET",
        )
    if wanted.concurrency and not servers:
        raise UsageError(
            "--concurrency is for servers, and no TARGET is one", hint="tessera bench http://127.0.0.1:8080"
        )


def _results(wanted: Wanted) -> list[BenchResult]:
    from tessera.workbench.output import progress

    baseline = load_baseline(wanted.baseline or "numpy")
    results = []
    with progress(len(wanted.targets)) as advance:
        for index, target in enumerate(wanted.targets):
            advance(index, f"measuring {target}")
            results.append(_server(wanted, target) if is_url(target) else _local(wanted, target, baseline))
    return results


def _server(wanted: Wanted, url: str) -> BenchResult:
    from tessera.profiler.bench_serving import bench_server

    return bench_server(
        url,
        model=wanted.program,
        batch_sizes=wanted.batch,
        concurrency=wanted.concurrency,
        seconds=wanted.seconds,
        warmup_seconds=wanted.warmup,
        sizes=wanted.sizes,
        timeout_s=wanted.timeout,
    )


def _local(wanted: Wanted, target: str, baseline: Baseline) -> BenchResult:
    from tessera.profiler.bench import bench_target
    from tessera.workbench.bench_function import bench_function, plain_function
    from tessera.workbench.opening import benchable

    try:
        opened = benchable(target, wanted.device, wanted.spec)
    except UsageError:
        # Neither a kernel nor traced: perhaps a function that is called as it is.
        function = plain_function(target)
        if function is None:
            raise
        return bench_function(function, wanted, target_label(target), baseline)
    return bench_target(
        opened,
        device=wanted.device,
        batch_sizes=wanted.batch,
        seconds=wanted.seconds,
        warmup_seconds=wanted.warmup,
        program=wanted.program,
        sizes=wanted.sizes,
        baseline=baseline,
        label=target_label(target),
    )


def load_baseline(text: str) -> Baseline:
    """A baseline by its name, or the function that `FILE:NAME` names.

    Raises:
        UsageError: There is no such file, or no function of that name in it.
        OptionError: No such baseline.
        MissingDependencyError: Its package is not installed.
        CompileError: The file does not run.
    """
    from tessera.profiler.bench_baseline import check_baseline

    if ":" not in text:
        try:
            return check_baseline(text)
        except OptionError as error:
            raise UsageError(f"--baseline: {error.message}", hint=error.hint) from None
    return load_function(text, "--baseline")


def load_function(text: str, option: str) -> Callable[..., object]:
    """The function that `FILE:NAME` names.

    Raises:
        UsageError: There is no such file, or no function of that name in it.
        CompileError: The file does not run.
    """
    from tessera.workbench.source import load_module, split_target

    path, name = split_target(text)
    module = load_module(path)
    function = getattr(module, name or "", None)
    if not callable(function):
        what = "is no function" if name and hasattr(module, name) else "is not there"
        functions = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UsageError(
            f"{option}: {name or 'a name after the colon'!r} {what} in {path}",
            hint=f"it has {', '.join(functions) or 'no functions'}",
        )
    made: Callable[..., object] = function
    return made


def _compared(
    wanted: Wanted, history: History, results: Sequence[BenchResult], before: SavedRun
) -> Comparison:
    from tessera.profiler.bench_compare import compare

    candidates = [before]
    if wanted.against == "last":
        # The newest that measured the same sizes, if the very newest did not.
        labels = {target_label(target) for target in wanted.targets}
        candidates = [r for r in history.runs(limit=_RECENT) if any(x.target in labels for x in r.results)]
    problem: ConfigError | None = None
    for candidate in candidates:
        # Runs of one name are runs of the same code: how far apart they lie is noise.
        earlier = history.runs(name=candidate.name, limit=_RECENT) if candidate.name else []
        try:
            return compare(results, candidate, earlier=earlier, least_change=wanted.least_change / 100)
        except ConfigError as error:
            problem = problem or error
    raise problem or ConfigError("there is no saved run", hint="tessera bench --history")


def _saved(wanted: Wanted, history: History, results: Sequence[BenchResult]) -> SavedRun | None:
    from tessera.workbench.output import note

    if not wanted.keep:
        return None
    try:
        return history.save(results, name=wanted.name or "")
    except HistoryError as error:
        if wanted.name is not None:
            raise
        # Nobody asked for it: what was measured is worth more than its record.
        note(f"not saved: {error.message}; {error.hint}", "warning")
        return None
