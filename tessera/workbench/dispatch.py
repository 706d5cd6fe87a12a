"""The commands of `tessera`, run by Typer."""

from __future__ import annotations

from typing import Annotated

import typer

from tessera.workbench.failure import INTERRUPTED, UsageError
from tessera.workbench.group import build_group
from tessera.workbench.registry import COMMANDS

_HELP = "Write GPU kernels in Python, compile them ahead of time without a GPU; run, package and serve them."
_EPILOG = "Start with:\n  tessera new hello && cd hello && tessera compile kernels.py"


_OTHERWISE = {
    ("bench", "--repeat"): "--seconds says how long each batch size is measured: --seconds 5",
    ("bench", "--iterations"): "--seconds says how long each batch size is measured: --seconds 5",
    ("profile", "--seconds"): "--repeat says how often a device executes it: --repeat 50",
    ("profile", "--batch"): "--size names the size: --size batch=32",
    ("tune", "--repeat"): "--budget says how many configurations are tried: --budget 64",
    ("report", "--html"): "-o names the page: -o report.html",
}
"""By command and option that it has not: how to say what was meant."""


def run_command(arguments: list[str]) -> int:
    """Run one command; its exit status.

    Raises:
        TesseraError: It failed, or the call was wrong.
        KeyboardInterrupt: Ctrl-C.
    """
    command = build_group(
        COMMANDS, name="tessera", help_text=_HELP, callback=_global_options, epilog=_EPILOG, completion=True
    )
    try:
        result = command.main(arguments, prog_name="tessera", standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit as stop:
        # Typer ends this way on a closed pipe and after shell completion.
        return stop.code if isinstance(stop.code, int) else 1
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(str(error))
            return 0
        usage = _usage_error(error, arguments)
        if usage is None:
            raise
        raise usage from None
    if result == INTERRUPTED:
        # What Typer makes of Ctrl-C.
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


def _usage_error(error: Exception, arguments: list[str]) -> UsageError | None:
    """Typer's own complaint about the arguments, in our form; None if `error` is something else."""
    context = getattr(error, "ctx", None)
    describe = getattr(error, "format_message", None)
    if describe is None or not hasattr(error, "exit_code"):
        return None
    # An option without its value is raised before Typer has made a context.
    named = [entry.name for entry in COMMANDS if entry.name == next(iter(arguments), "")]
    path = context.command_path if context is not None else " ".join(["tessera", *named])
    message = str(describe()).rstrip(".")
    other = _OTHERWISE.get((named[0] if named else "", getattr(error, "option_name", "")), "")
    if other:
        # What Typer finds alike by its letters means something else.
        message = message.partition(" (")[0]
    hint = other or _swallowed(error, arguments) or f"{path} --help"
    return UsageError(message[:1].lower() + message[1:], hint=hint)


def _swallowed(error: Exception, arguments: list[str]) -> str:
    """A hint where an option took the last argument, a source file or package, for its value; else empty."""
    from tessera.workbench.source import is_package

    if type(error).__name__ != "MissingParameter" or len(arguments) < 3:
        return ""
    option, last = arguments[-2:]
    if not (last.endswith(".py") or ".py:" in last or is_package(last)):
        return ""
    command = getattr(getattr(error, "ctx", None), "command", None)
    for parameter in getattr(command, "params", ()):
        if option in parameter.opts and not parameter.is_flag:
            value = parameter.metavar or "VALUE"
            return f"{option} took {last} for its value; give it one: {option} {value} {last}"
    return ""


def _show_version(wanted: bool) -> None:
    if wanted:
        from tessera import __version__

        print(f"tessera {__version__}")
        raise typer.Exit(0)


def _global_options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show Python's traceback of an error. May stand anywhere.")
    ] = False,
) -> None:
    """What may stand before the command. `main` has taken --debug already: it is here for --help."""
