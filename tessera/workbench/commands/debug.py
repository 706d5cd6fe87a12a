"""`tessera debug`."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tessera.workbench.commands.compile import Spec, Target
from tessera.workbench.commands.run import Size
from tessera.workbench.output import JsonOption

if TYPE_CHECKING:
    from tessera.workbench.debug.shell import Reply, Shell
    from tessera.workbench.debugging import Session

PROMPT = "(tdb) "
_EXAMPLE = "tessera debug kernels.py:saxpy"


def debug(
    target: Target,
    execute: Annotated[
        list[str] | None,
        typer.Option("--execute", "-x", metavar="COMMAND", help="Carry out and end; may be repeated."),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="[NAME=]FILE.npy", help="An input; may be repeated."),
    ] = None,
    size: Size = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of inputs drawn at random.")] = 0,
    arch: Annotated[
        str, typer.Option("--arch", "-a", metavar="ARCH", help="GPU architecture to compile for.")
    ] = "sm_80",
    optimized: Annotated[
        bool, typer.Option("--optimized", help="The code as it ships: lines, but no variables.")
    ] = False,
    no_tui: Annotated[
        bool, typer.Option("--no-tui", help="Commands line by line, also in a terminal.")
    ] = False,
    spec: Spec = None,
    as_json: JsonOption = False,
) -> None:
    """Step through a kernel, forwards and back, without a GPU."""
    session = _open(target, arch, spec, inputs or (), size or (), seed, optimized=optimized)
    plain = bool(execute) or no_tui or as_json or not (sys.stdin.isatty() and sys.stdout.isatty())
    if not plain:
        _run_app(session)
        if session.debugger.timeline.found:
            raise typer.Exit(1)
        return
    if not as_json:
        _introduce(session, seed)
    from tessera.workbench.debug.shell import Shell
    from tessera.workbench.failure import colored

    shell = Shell(
        session.debugger,
        width=max(40, shutil.get_terminal_size((100, 24)).columns),
        color=not as_json and colored(sys.stdout),
    )
    _answer("", shell.begin(), as_json=as_json, echo=False)
    good = _script(shell, execute, as_json=as_json) if execute else _converse(shell, as_json=as_json)
    if not good or session.debugger.timeline.found:
        raise typer.Exit(1)


def _open(
    target: str, arch: str, spec: list[str] | None, inputs: Sequence[str], size: Sequence[str], seed: int,
    *, optimized: bool,
) -> Session:  # fmt: skip
    from tessera.program.arch import is_cpu
    from tessera.workbench.compilation import compile_request, make_request
    from tessera.workbench.debugging import open_session
    from tessera.workbench.failure import UsageError
    from tessera.workbench.source import is_package
    from tessera.workbench.specs import parse_sizes

    if is_package(target):
        raise UsageError(
            f"{target} is a package: debug compiles source, to know its variables", hint=_EXAMPLE
        )
    sizes = parse_sizes(size)
    request = make_request(target, [arch], spec, lineinfo=optimized, debug=not optimized)
    if any(is_cpu(name) for name in request.arch):
        raise UsageError(f"--arch {arch}: debug runs GPU code", hint="--arch sm_80")
    compiled = compile_request(request, single=True)
    return open_session(compiled, inputs, sizes, seed)


def _introduce(session: Session, seed: int) -> None:
    """Say on stderr what was chosen for the user."""
    from tessera.workbench.output import note

    name = session.program.name
    if session.inputs.assumed:
        text = ", ".join(f"{n}={v}" for n, v in session.inputs.assumed.items())
        note(f"{name}: sizes assumed: {text}; --size says otherwise")
    if session.inputs.drawn:
        note(f"{name}: drawn at random (--seed {seed}): {', '.join(session.inputs.drawn)}")
    if session.optimized:
        note("optimized code: its variables are not known, and lines may come in another order")


def _run_app(session: Session) -> None:
    from tessera.program.errors import MissingDependencyError

    try:
        import textual  # noqa: F401
    except ModuleNotFoundError:
        raise MissingDependencyError.extra(
            "textual", "workbench", needed_for="the debugger's screen (--no-tui does without)"
        ) from None
    # textual costs 165 ms.
    from tessera.workbench.app.debug_app import DebugApp

    DebugApp(session).run()


def _script(shell: Shell, lines: Sequence[str], *, as_json: bool) -> bool:
    """Carry out the commands of `-x`; whether all could be."""
    good = True
    for line in lines:
        reply = _carry_out(shell, line)
        _answer(line, reply, as_json=as_json, echo=not as_json)
        good = good and reply.error is None
        if reply.quit:
            break
    return good


def _converse(shell: Shell, *, as_json: bool) -> bool:
    """Commands from stdin until it ends; whether those that no person typed could all be carried out."""
    typed = sys.stdin.isatty()
    good = True
    if typed:
        _with_history(shell)
    while True:
        try:
            line = input(PROMPT) if typed else next(sys.stdin, None)
        except EOFError:
            line = None
        except KeyboardInterrupt:
            print("\nquit ends the debugger", file=sys.stderr)
            continue
        if line is None:
            break
        reply = _carry_out(shell, line)
        _answer(line.strip(), reply, as_json=as_json, echo=not typed and not as_json)
        good = good and (typed or reply.error is None)
        if reply.quit:
            break
    return good


def _carry_out(shell: Shell, line: str) -> Reply:
    with _interruptible(shell.debugger.timeline):
        return shell.execute(line)


@contextlib.contextmanager
def _interruptible(timeline: Any) -> Iterator[None]:
    """Ctrl-C stops the program where it is, once; twice it ends the debugger."""

    def interrupt(_signal: int, _frame: object) -> None:
        if timeline.interrupted:
            raise KeyboardInterrupt
        timeline.interrupted = True

    try:
        before = signal.signal(signal.SIGINT, interrupt)
    except ValueError:
        # Only the main thread may; elsewhere nobody presses Ctrl-C.
        yield
        return
    try:
        yield
    finally:
        timeline.interrupted = False
        signal.signal(signal.SIGINT, before)


def _answer(line: str, reply: Reply, *, as_json: bool, echo: bool) -> None:
    from tessera.workbench.output import emit

    if as_json:
        stop = reply.stop.data() if reply.stop is not None else None
        emit({"command": line, "ok": reply.error is None, "stop": stop, **reply.data})
        return
    if echo and line.strip():
        print(f"{PROMPT}{line.strip()}")
    for text in reply.lines:
        print(text)
    sys.stdout.flush()


def _with_history(shell: Shell) -> None:
    """Let the terminal's line editor remember and complete."""
    with contextlib.suppress(ImportError):
        import readline

        def complete(_word: str, state: int) -> str | None:
            found = shell.complete(readline.get_line_buffer())
            return found[state] if state < len(found) else None

        readline.set_completer(complete)
        readline.set_completer_delims(" ")
        readline.parse_and_bind("tab: complete")
        if os.environ.get("TERM") == "dumb":
            readline.parse_and_bind("set enable-bracketed-paste off")
