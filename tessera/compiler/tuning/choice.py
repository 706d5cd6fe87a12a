"""Which configurations a compilation takes: those locked, those on record, else what a tuner finds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tessera.compiler.options import AOTConfig, ToolOptions
from tessera.compiler.tuning.identity import kernel_hash
from tessera.compiler.tuning.lock_file import read_lock
from tessera.compiler.tuning.record import Pick, picks
from tessera.compiler.tuning.record_file import RecordFile
from tessera.compiler.tuning.tuner import current_tuner
from tessera.language.kernel import Kernel
from tessera.language.tuning import configuration_text
from tessera.program.arch import is_cpu
from tessera.program.errors import ConfigError, OptionError


def choose(kernel: Kernel, config: AOTConfig) -> tuple[dict[str, tuple[Pick, ...]], list[str]]:
    """Configurations by target, and a note about each target.

    Raises:
        ConfigError: The lock file has no pick for the kernel as it is, or a file cannot be read.
        CompileError: The kernel cannot be tuned.
    """
    found: dict[str, tuple[Pick, ...]] = {}
    notes: list[str] = []
    for options in config.tool_options():
        if is_cpu(options.target):
            continue
        if config.autotune_lock is not None:
            found[options.target] = _locked(kernel, options, Path(config.autotune_lock))
            source = f"from {config.autotune_lock}"
        else:
            found[options.target], source = _tuned(kernel, options, config)
        notes += [_note(kernel, options, pick, source) for pick in found[options.target]]
    return found, notes


def _tuned(kernel: Kernel, options: ToolOptions, config: AOTConfig) -> tuple[tuple[Pick, ...], str]:
    file = None if config.autotune_cache is None else RecordFile(config.autotune_cache)
    identity = kernel_hash(kernel, options)
    known = {"kernel": kernel.name, "kernel_hash": identity, "target": options.target}
    recorded = picks(file.read(), **known) if file is not None else ()
    if recorded:
        return recorded, f"on record in {config.autotune_cache}"
    tuner = current_tuner()
    if tuner is None:
        raise OptionError(
            f"{kernel.name} has values to tune, and there is nothing to predict their cost with",
            hint="from tessera.deploy import AOTCompiler; or tessera tune FILE first, with autotune_cache=…",
        )
    records = tuner(kernel, options, file)
    return picks(records, **known), f"best of {sum(r.status == 'ok' for r in records)} that were tried"


def _locked(kernel: Kernel, options: ToolOptions, path: Path) -> tuple[Pick, ...]:
    hint = f"tessera tune FILE:{kernel.name} --arch {options.target} --lock {path}"
    own = [p for p in read_lock(path) if (p.kernel, p.target) == (kernel.name, options.target)]
    if not own:
        raise ConfigError(f"{path} has nothing for {kernel.name} and {options.target}", hint=hint)
    identity = kernel_hash(kernel, options)
    if any(p.kernel_hash != identity for p in own):
        raise ConfigError(
            f"{path}: {kernel.name}, its launch rule or a compiler flag has changed since it was tuned for "
            f"{options.target}",
            hint=hint,
        )
    return tuple(p.pick for p in own)


def _note(kernel: Kernel, options: ToolOptions, pick: Pick, source: str) -> str:
    bucket: Mapping[str, int] = pick.bucket
    sizes = ", ".join(f"{name} up to {size}" for name, size in bucket.items())
    ordered = {name: pick.configuration[name] for name in kernel.configuration}
    cost = "" if pick.cost_ms is None else f", {pick.kind} {pick.cost_ms:.4g} ms"
    return (
        f"for {options.target}: {configuration_text(ordered)}, tuned with "
        f"{sizes or 'fixed sizes'}{cost}, {source}"
    )
