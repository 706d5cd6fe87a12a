"""A sweep: configurations tried one after the other, each kept as soon as it is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tessera.compiler.options import ToolOptions
from tessera.compiler.tuning.function_step import FunctionStep
from tessera.compiler.tuning.record import Record, best
from tessera.compiler.tuning.record_file import RecordFile
from tessera.compiler.tuning.strategy import Strategy, make_strategy
from tessera.language.kernel import Kernel
from tessera.language.tuning import Space
from tessera.profiler.cost import program_cost
from tessera.profiler.sizes import choose_sizes, random_inputs
from tessera.profiler.tuning.subject import Subject, kernel_subject, step_subject
from tessera.profiler.tuning.trial import EmulatorMeter, Meter, Trials
from tessera.program.bind import bind_symbols
from tessera.program.program import Program

DEFAULT_BUDGET = 64
"""Configurations that are tried where nobody says how many."""
COMPILER_BUDGET = 24
"""The same for a step of a tensor function that a compilation finds no records of."""
COMPILER_FLOPS, COMPILER_BYTES = 5e7, 1 << 24
"""Larger functions are left to `tessera tune`: each configuration is one more run in the emulator."""
_VECTOR = 1 << 16
"""Elements of vectors where nobody says otherwise, as `tessera profile` takes."""

Progress = Callable[[int, Record], None]
"""Told after each configuration: how many were tried, and the last."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What came of trying configurations."""

    subject: Subject
    records: tuple[Record, ...]
    """In the order in which they were tried; the reference configuration's first."""
    recalled: int
    """How many of them were on record already."""

    @property
    def best(self) -> Record | None:
        """The one of least cost."""
        return best(self.records)

    @property
    def reference(self) -> Record:
        """That of the kernel's own configuration."""
        return self.records[0]


def run_sweep(
    trials: Trials,
    strategy: Strategy,
    *,
    budget: int,
    file: RecordFile | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Try configurations until the budget or the space is spent.

    A configuration that is on record is not tried again, so that a sweep that was ended, however it ended,
    goes on where it stood: the strategy is told the same costs and proposes the same.

    Args:
        trials: What tries them.
        strategy: What proposes them.
        budget: How many to try, the reference included.
        file: Where records are read and kept.
        progress: Told after each.

    Raises:
        TesseraError: The reference configuration does not compile or run, or the file cannot be used.
    """
    if file is not None:
        file.check()
    probe = trials.record(trials.subject.reference, "ok")
    known = {r.key: r for r in (file.read() if file else ()) if r.sweep == probe.sweep}
    tried: dict[str, Record] = {}
    recalled = 0

    def attempt(configuration: Mapping[str, Any]) -> Record:
        nonlocal recalled
        key = trials.record(configuration, "ok").key
        if key in tried:
            return tried[key]
        if key in known:
            recalled += 1
            record = known[key]
        else:
            record = msgspec.structs.replace(trials.attempt(configuration), trial=len(tried) + 1)
            if file is not None:
                file.add([record])
        tried[key] = record
        if progress is not None:
            progress(len(tried), record)
        return record

    attempt(trials.subject.reference)
    while len(tried) < budget:
        proposed = strategy.ask()
        if proposed is None:
            break
        strategy.tell(proposed, attempt(proposed).cost_ms)
    return Sweep(trials.subject, tuple(tried.values()), recalled)


def default_inputs(
    program: Program, sizes: Mapping[str, int], seed: int
) -> tuple[dict[str, Any], dict[str, int]]:
    """Inputs drawn at random and the values of all sizes; vectors are long enough to fill a GPU's blocks.

    Raises:
        InputError: A size is unknown or negative.
    """
    known, assumed = choose_sizes(program, batch=None, given=sizes)
    if all(len(p.shape) <= 1 for p in program.inputs) and len(known) == 1:
        known |= dict.fromkeys(assumed, _VECTOR)
    return random_inputs(program, known, seed=seed), known


def tune_kernel(
    kernel: Kernel,
    options: ToolOptions,
    *,
    sizes: Mapping[str, int] | None = None,
    inputs: Mapping[str, Any] | None = None,
    meter: Meter | None = None,
    strategy: str | None = None,
    budget: int | None = None,
    seed: int = 0,
    file: RecordFile | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Try configurations of a kernel.

    Args:
        kernel: A kernel that names values to tune.
        options: Target and flags.
        sizes: Values of symbols; others are chosen.
        inputs: By name, instead of those drawn at random.
        meter: What finds costs; by default predictions by the emulator.
        strategy: One of `STRATEGIES`; by default what `usual_strategy` says.
        budget: How many to try; by default `DEFAULT_BUDGET`.
        seed: Of inputs and of strategies that draw.
        file: Where records are read and kept.
        progress: Told after each configuration.

    Raises:
        KernelError: It names nothing to tune.
        TesseraError: Its own configuration does not compile or run.
    """
    return tune_subject(
        kernel_subject(kernel, options),
        sizes=sizes,
        inputs=inputs,
        meter=meter,
        strategy=strategy,
        budget=budget,
        seed=seed,
        file=file,
        progress=progress,
    )


def tune_subject(
    subject: Subject,
    *,
    sizes: Mapping[str, int] | None = None,
    inputs: Mapping[str, Any] | None = None,
    meter: Meter | None = None,
    strategy: str | None = None,
    budget: int | None = None,
    seed: int = 0,
    file: RecordFile | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Try configurations of a kernel, or tiles of a tensor function's step: arguments as for `tune_kernel`.

    Raises:
        TesseraError: Its own configuration does not compile or run.
    """
    program = subject.compile(subject.reference).programs[0]
    if inputs is None:
        inputs, known = default_inputs(program, sizes or {}, seed)
    else:
        shapes = {p.name: inputs[p.name].shape for p in program.inputs if p.kind == "tensor"}
        scalars = {
            p.name: int(inputs[p.name]) for p in program.inputs if p.kind == "scalar" and not p.dtype.is_float
        }
        known = bind_symbols(program, shapes, scalars)
    count = DEFAULT_BUDGET if budget is None else budget
    trials = Trials(subject, meter or EmulatorMeter(subject.target), inputs, known)
    name = strategy or usual_strategy(subject.space, count)
    chosen = make_strategy(name, subject.space, seed=seed, budget=count)
    return run_sweep(trials, chosen, budget=count, file=file, progress=progress)


def usual_strategy(space: Space, budget: int) -> str:
    """All in order where the budget holds them; else at random, not the first corner of them."""
    count = sum(1 for _ in itertools.islice(space.configurations(), budget + 1))
    return "grid" if count <= budget else "random"


def tune_for_compiler(
    kernel: Kernel | FunctionStep, options: ToolOptions, records: RecordFile | None
) -> list[Record]:
    """What a compilation with `enable_autotuning` calls for what is not on record.

    Of a tensor function that is too large to emulate many times, nothing is tried.
    """
    if not isinstance(kernel, FunctionStep):
        return list(tune_kernel(kernel, options, file=records).records)
    subject = step_subject(kernel)
    program = subject.compile(subject.reference).programs[0]
    inputs, sizes = default_inputs(program, {}, 0)
    work = program_cost(program, sizes)
    if (work.flops or 0) > COMPILER_FLOPS or work.bytes > COMPILER_BYTES:
        return []
    meter = EmulatorMeter(options.target)
    sweep = tune_subject(
        subject, sizes=sizes, inputs=inputs, meter=meter, budget=COMPILER_BUDGET, file=records
    )
    return list(sweep.records)
