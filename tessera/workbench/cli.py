"""The entry points `tessera` and `tessera-workbench`."""

from __future__ import annotations

import contextlib
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, TextIO

import typer

from tessera.program.errors import TesseraError
from tessera.workbench.failure import (
    InterruptError,
    UsageError,
    error_data,
    failure_of_machine,
    show_error,
    text_of,
    visible,
)
from tessera.workbench.output import emit, note, only_json_on_stdout
from tessera.workbench.registry import COMMANDS
from tessera.workbench.streams import flush_stdout, forget_stdout, make_usable

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
    whole_process = argv is None
    if whole_process:
        make_usable()
    only_json = only_json_on_stdout(to_the_end=whole_process) if as_json else contextlib.nullcontext()
    with warnings.catch_warnings(), only_json:
        warnings.showwarning = _show_warning
        status = _guarded(arguments, as_json, debug)
        return status if flush_stdout() or status else 1


def _guarded(arguments: list[str], as_json: bool, debug: bool) -> int:
    """The status of one command, its failure reported."""
    try:
        status = _run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        forget_stdout()
        return 1
    except KeyboardInterrupt:
        _report(InterruptError("interrupted"), as_json, debug=False)
        return INTERRUPTED
    except TesseraError as error:
        return _report(error, as_json, debug)
    except (OSError, MemoryError, ModuleNotFoundError) as error:
        known = failure_of_machine(error)
        return _report_unexpected(error, as_json, debug) if known is None else _report(known, as_json, debug)
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
        raise KeyboardInterrupt from None
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
    if result == INTERRUPTED:
        # What Typer makes of Ctrl-C.
        raise KeyboardInterrupt
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
    if not (as_json and _emitted(error_data(error))):
        show_error(error)
    return error.exit_status


def _report_unexpected(error: Exception, as_json: bool, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    text = text_of(error).splitlines()[0]
    data = {"kind": type(error).__name__, "message": text, "hint": _AGAIN, "location": None}
    if not (as_json and _emitted(data)):
        print(f"error: {visible(text)} ({_AGAIN})", file=sys.stderr)
    return 1


def _emitted(error: dict[str, Any]) -> bool:
    try:
        emit({"error": error})
    except (OSError, ValueError):
        # stdout itself has failed: stderr will have to do.
        return False
    return True


_AGAIN = "run again with --debug"


def _show_warning(
    message: Warning | str,
    category: type[Warning],  # noqa: ARG001 - the signature is that of `warnings.showwarning`
    filename: str,  # noqa: ARG001
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    note(str(message), "warning")
