"""The entry points `tessera` and `tessera-workbench`."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, TextIO

import typer

from tessera.program.errors import TesseraError
from tessera.workbench.failure import UsageError, error_data, show_error, visible
from tessera.workbench.output import emit, note, only_json_on_stdout
from tessera.workbench.registry import COMMANDS

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as shells have it."""

_HELP = "Write GPU kernels in Python, compile them ahead of time without a GPU; run, package and serve them."
_EPILOG = "Start with:\n  tessera new hello && cd hello && tessera compile kernels.py"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Words after `tessera`; those of this process by default.

    Returns:
        The exit status: 0 done, 1 the work failed or a check found something,
        2 the call was wrong, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = _take_flag(arguments, "--debug")
    as_json = "--json" in _options(arguments)
    with warnings.catch_warnings(), only_json_on_stdout() if as_json else contextlib.nullcontext():
        warnings.showwarning = _show_warning
        try:
            status = _run(arguments)
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            return _forget_stdout()
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return INTERRUPTED
        except TesseraError as error:
            return _report(error, as_json, debug)
        except Exception as error:  # noqa: BLE001 - the last line of defence: one line, not a traceback
            return _report_unexpected(error, as_json, debug)


def workbench_main() -> int:
    """Run the terminal app: `tessera-workbench [DIR]` is `tessera workbench [DIR]`."""
    return main(["workbench", *sys.argv[1:]])


def _run(arguments: list[str]) -> int:
    from tessera.workbench.group import build_group

    command = build_group(
        COMMANDS, name="tessera", help_text=_HELP, callback=_global_options, epilog=_EPILOG, completion=True
    )
    try:
        result = command.main(arguments, prog_name="tessera", standalone_mode=False)
    except typer.Abort:
        return INTERRUPTED
    except SystemExit as stop:
        # Typer ends this way on a closed pipe and after shell completion.
        return stop.code if isinstance(stop.code, int) else 1
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(str(error))
            return 0
        usage = _usage_error(error)
        if usage is None:
            raise
        raise usage from None
    return result if isinstance(result, int) else 0


def _usage_error(error: Exception) -> UsageError | None:
    """Typer's own complaint about the arguments, in our form; None if `error` is something else."""
    context = getattr(error, "ctx", None)
    describe = getattr(error, "format_message", None)
    if describe is None or not hasattr(error, "exit_code"):
        return None
    path = context.command_path if context is not None else "tessera"
    message = str(describe()).rstrip(".")
    return UsageError(message[:1].lower() + message[1:], hint=f"{path} --help")


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


def _options(arguments: list[str]) -> list[str]:
    """The arguments before a bare `--`."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _take_flag(arguments: list[str], flag: str) -> bool:
    """Remove `flag` wherever it stands before a bare `--`; whether it was there."""
    found = flag in _options(arguments)
    while flag in _options(arguments):
        arguments.remove(flag)
    return found


def _report(error: TesseraError, as_json: bool, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    if as_json:
        emit({"error": error_data(error)})
    else:
        show_error(error)
    return error.exit_status


def _report_unexpected(error: Exception, as_json: bool, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    if as_json:
        emit({"error": {"kind": type(error).__name__, "message": text, "hint": _AGAIN, "location": None}})
    else:
        print(f"error: {visible(text)} ({_AGAIN})", file=sys.stderr)
    return 1


_AGAIN = "run again with --debug"


def _forget_stdout() -> int:
    """After the reader of our output has gone: nothing more is written, also not at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _show_warning(
    message: Warning | str,
    category: type[Warning],  # noqa: ARG001 - the signature is that of `warnings.showwarning`
    filename: str,  # noqa: ARG001
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    note(str(message), "warning")
