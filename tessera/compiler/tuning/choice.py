"""Which configurations a compilation takes: those locked, those on record, else what a tuner finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.compiler.options import AOTConfig, ToolOptions
from tessera.compiler.tiling import StepTilings, Tiling
from tessera.compiler.tuning.identity import kernel_hash
from tessera.compiler.tuning.lock_file import read_lock
from tessera.compiler.tuning.record import Pick, Value, picks
from tessera.compiler.tuning.record_file import RecordFile
from tessera.compiler.tuning.tuner import current_tuner
from tessera.language.kernel import Kernel
from tessera.language.tuning import configuration_text
from tessera.program.arch import is_cpu
from tessera.program.errors import ConfigError, OptionError
from tessera.program.graph import Graph

if TYPE_CHECKING:
    import numpy as np

    from tessera.compiler.tuning.function_step import FunctionStep


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a configuration is chosen for."""

    what: Kernel | FunctionStep
    name: str
    identity: str
    options: ToolOptions
    order: tuple[str, ...]
    """Names of what is tuned, in the order in which they are told."""
    own: Mapping[str, Value] | None
    """What a prediction must clearly beat."""

    @property
    def known(self) -> dict[str, str]:
        """What its records have in common."""
        return {"kernel": self.name, "kernel_hash": self.identity, "target": self.options.target}


def choose(kernel: Kernel, config: AOTConfig) -> tuple[dict[str, tuple[Pick, ...]], list[str]]:
    """Configurations of a kernel by target, and a note about each target.

    Raises:
        ConfigError: The lock file has no pick for the kernel as it is, or a file cannot be read.
        CompileError: The kernel cannot be tuned.
    """
    found: dict[str, tuple[Pick, ...]] = {}
    notes: list[str] = []
    for options in config.tool_options():
        if not is_cpu(options.target):
            identity, order = kernel_hash(kernel, options), tuple(kernel.configuration)
            wanted = _Wanted(kernel, kernel.name, identity, options, order, None)
            found[options.target], own = _chosen(wanted, config)
            notes += own
    return found, notes


def choose_tilings(
    graph: Graph, constants: Mapping[str, np.ndarray[Any, Any]], config: AOTConfig
) -> tuple[dict[str, StepTilings], list[str]]:
    """Tilings of a tensor function's steps by target, and a note about each.

    Raises:
        ConfigError: The lock file has no pick for a step as it is, or a file cannot be read.
        CompileError: An operator cannot be lowered.
    """
    from tessera.compiler.tuning.function_step import function_steps

    found: dict[str, StepTilings] = {}
    notes: list[str] = []
    for options in config.tool_options():
        if is_cpu(options.target):
            continue
        tilings = []
        for step in function_steps(graph, constants, options, config):
            order = step.step.space.names
            wanted = _Wanted(step, step.name, step.identity, step.options, order, step.own)
            chosen, own = _chosen(wanted, config)
            notes += [f"{step.step.name}: {note}" for note in own]
            if any(pick.configuration != step.own for pick in chosen):
                tilings.append((step.step.name, tuple(_tiling(pick, order) for pick in chosen)))
        found[options.target] = tuple(tilings)
    return found, notes


def _tiling(pick: Pick, order: tuple[str, ...]) -> Tiling:
    return Tiling(
        tuple((name, pick.configuration[name]) for name in order), tuple(sorted(pick.bucket.items()))
    )


def _chosen(wanted: _Wanted, config: AOTConfig) -> tuple[tuple[Pick, ...], list[str]]:
    if config.autotune_lock is not None:
        found, source = _locked(wanted, Path(config.autotune_lock)), f"from {config.autotune_lock}"
    else:
        found, source = _tuned(wanted, config)
    if not found:
        return (), [f"for {wanted.options.target}: {source}"]
    return found, [_note(wanted, pick, source) for pick in found]


def _tuned(wanted: _Wanted, config: AOTConfig) -> tuple[tuple[Pick, ...], str]:
    file = None if config.autotune_cache is None else RecordFile(config.autotune_cache)
    recorded = picks(file.read(), **wanted.known, own=wanted.own) if file is not None else ()
    if recorded:
        return recorded, f"on record in {config.autotune_cache}"
    tuner = current_tuner()
    if tuner is None:
        raise OptionError(
            f"{wanted.name} has values to tune, and there is nothing to predict their cost with",
            hint="from tessera.deploy import AOTCompiler; or tessera tune FILE first, with autotune_cache=…",
        )
    records = tuner(wanted.what, wanted.options, file)
    if not records:
        return (), (
            "the compiler's own choice: nothing on record, and too much work to emulate now; "
            "tessera tune FILE tunes it"
        )
    count = sum(r.status == "ok" for r in records)
    return picks(records, **wanted.known, own=wanted.own), f"best of {count} that were tried"


def _locked(wanted: _Wanted, path: Path) -> tuple[Pick, ...]:
    target = wanted.options.target
    function = wanted.name.partition(".")[0]
    hint = f"tessera tune FILE:{function} --arch {target} --lock {path}"
    own = [p for p in read_lock(path) if (p.kernel, p.target) == (wanted.name, target)]
    if not own:
        raise ConfigError(f"{path} has nothing for {wanted.name} and {target}", hint=hint)
    if any(p.kernel_hash != wanted.identity for p in own):
        raise ConfigError(
            f"{path}: {wanted.name}, its launch rule or a compiler flag has changed since it was tuned for "
            f"{target}",
            hint=hint,
        )
    return tuple(p.pick for p in own)


def _note(wanted: _Wanted, pick: Pick, source: str) -> str:
    bucket: Mapping[str, int] = pick.bucket
    sizes = ", ".join(f"{name} up to {size}" for name, size in bucket.items())
    ordered = {name: pick.configuration[name] for name in wanted.order}
    text = "the compiler's own choice" if ordered == wanted.own else configuration_text(ordered)
    cost = "" if pick.cost_ms is None else f", {pick.kind} {pick.cost_ms:.4g} ms"
    return f"for {wanted.options.target}: {text}, tuned with {sizes or 'fixed sizes'}{cost}, {source}"
