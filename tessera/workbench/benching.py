"""From targets on the command line to benchmarks, saved and compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tessera.program.errors import ConfigError, HistoryError, OptionError
from tessera.workbench.failure import UsageError

if TYPE_CHECKING:
    from tessera.profiler.bench_baseline import Baseline
    from tessera.profiler.bench_compare import Comparison
    from tessera.profiler.bench_history import History, SavedRun
    from tessera.profiler.bench_result import BenchResult


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
    baseline: str
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
    problem: ConfigError | None = None
    """Why the saved run cannot be compared with, found when all was measured."""

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
    history = open_history(wanted.database)
    before = None
    if wanted.against is not None:
        # Asked for before anything is measured: a name that is not there is told at once.
        before = history.find(wanted.against, targets=[target_label(t) for t in wanted.targets])
    results = _results(wanted)
    comparison, problem = None, None
    try:
        comparison = None if before is None else _compared(wanted, history, results, before)
    except ConfigError as error:
        problem = error
    saved = _saved(wanted, history, results)
    for path in wanted.exports:
        export(path, results, comparison)
    return Measured(tuple(results), saved, history.path if saved else None, comparison, problem)


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
    """What results call a target: the file's name, with what is in it."""
    return Path(target).name


def _results(wanted: Wanted) -> list[BenchResult]:
    from tessera.profiler.bench import bench_target
    from tessera.workbench.opening import benchable
    from tessera.workbench.output import progress

    baseline = load_baseline(wanted.baseline)
    results = []
    with progress(len(wanted.targets)) as advance:
        for index, target in enumerate(wanted.targets):
            advance(index, f"measuring {target}")
            results.append(
                bench_target(
                    benchable(target, wanted.device, wanted.spec),
                    device=wanted.device,
                    batch_sizes=wanted.batch,
                    seconds=wanted.seconds,
                    warmup_seconds=wanted.warmup,
                    program=wanted.program,
                    sizes=wanted.sizes,
                    baseline=baseline,
                    label=target_label(target),
                )
            )
    return results


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

    # Runs of one name are runs of the same code: how far apart they lie is noise.
    earlier = history.runs(name=before.name, limit=20) if before.name else []
    return compare(results, before, earlier=earlier, least_change=wanted.least_change / 100)


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
