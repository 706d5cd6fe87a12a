"""`tessera tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tessera.workbench.commands.compile import Arch
from tessera.workbench.commands.run import Size
from tessera.workbench.output import JsonOption

CACHE = Path("autotune_cache.json")


def tune(
    target: Annotated[str, typer.Argument(metavar="FILE[:NAME]", show_default=False)],
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            metavar="NAME",
            help="grid, random, bayesian or genetic; grid if the budget holds all.",
        ),
    ] = None,
    budget: Annotated[
        int | None, typer.Option("--budget", min=1, help="Configurations to try; 64 if not given.")
    ] = None,
    arch: Arch = None,
    device: Annotated[
        str, typer.Option("--device", "-d", help="emulator (predicts); cuda:0 (measures).")
    ] = "emulator",
    size: Size = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="[NAME=]FILE.npy", help="An input; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of inputs and orders drawn at random.")] = 0,
    cache: Annotated[Path, typer.Option("--cache", metavar="FILE", help="Where records are kept.")] = CACHE,
    show: Annotated[bool, typer.Option("--show", help="Print what is on record; try nothing.")] = False,
    lock: Annotated[
        Path | None, typer.Option("--lock", metavar="FILE", help="Write the choices, for compilations.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Write the records as Kernel Tuner's T4.")
    ] = None,
    take: Annotated[
        Path | None, typer.Option("--import", metavar="FILE", help="Add the results of a T4 file first.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Try configurations of kernels, tiles of functions: predicted without a GPU, measured on one."""
    from tessera.workbench.output import emit
    from tessera.workbench.specs import parse_sizes
    from tessera.workbench.tune_table import print_sweep, sweep_data
    from tessera.workbench.tuning import Wanted, tune_target

    wanted = Wanted(
        target=target, arch=tuple(arch or ()), device=device, strategy=strategy, budget=budget, seed=seed,
        sizes=parse_sizes(size or ()), inputs=tuple(inputs or ()), cache=cache, show=show, lock=lock,
        export=export, take=take,
    )  # fmt: skip
    results = tune_target(wanted)
    if as_json:
        emit({"cache": str(cache), "sweeps": [sweep_data(result) for result in results]})
        return
    for result in results:
        print_sweep(result, cache)
