"""The entry points `tessera` and `tessera-workbench`."""

from __future__ import annotations

import contextlib
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from tessera.program.errors import TesseraError
from tessera.workbench.failure import (
    INTERRUPTED,
    InterruptError,
    error_data,
    failure_of_machine,
    show_error,
    text_of,
    visible,
)
from tessera.workbench.streams import flush_stdout, forget_stdout, make_usable


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
        # Typer and the commands cost 40 ms: what is known already is said without them.
        answered = _guarded(lambda: _known(arguments), as_json, debug)
        if answered is not None:
            return answered if flush_stdout() or answered else 1
    stopped = _guarded(_import_commands, as_json, debug)
    if stopped is not None:
        return stopped
    from tessera.workbench.output import only_json_on_stdout

    only_json = only_json_on_stdout(to_the_end=whole_process) if as_json else contextlib.nullcontext()
    with warnings.catch_warnings(), only_json:
        warnings.showwarning = _show_warning
        status = _guarded(lambda: _run(arguments), as_json, debug) or 0
        return status if flush_stdout() or status else 1


def _guarded(work: Callable[[], int | None], as_json: bool, debug: bool) -> int | None:
    """The status that one command ends with, its failure reported."""
    try:
        status = work()
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


def _known(arguments: list[str]) -> int | None:
    if arguments[:1] != ["compile"]:
        return None
    from tessera.workbench.answers import answer

    return answer(arguments)


def _import_commands() -> None:
    # Half of a short command's time goes into this import of Typer: Ctrl-C often meets it.
    import tessera.workbench.output  # noqa: F401


def _run(arguments: list[str]) -> int:
    from tessera.workbench.dispatch import run_command

    return run_command(arguments)


def workbench_main() -> int:
    """Run the terminal app: `tessera-workbench [DIR]` is `tessera workbench [DIR]`."""
    return main(["workbench", *sys.argv[1:]])


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
    from tessera.workbench.output import emit

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
    from tessera.workbench.output import note

    note(str(message), "warning")
