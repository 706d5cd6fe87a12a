"""The debugger's command line: one line in, a `Reply` out. Terminal and tests use the same."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tessera.program.errors import TesseraError
from tessera.workbench.debug.json_data import jsonable
from tessera.workbench.debug.stop_text import stop_lines
from tessera.workbench.failure import UsageError, error_data

if TYPE_CHECKING:
    from tessera.emulator.debugging import Debugger, Stop


@dataclass(frozen=True, slots=True)
class Reply:
    """What a command answers."""

    lines: list[str] = field(default_factory=list)
    """For a person."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """For a program."""
    stop: Stop | None = None
    """Where the program stands now, if the command moved it."""
    error: TesseraError | None = None
    quit: bool = False
    """Whether that was the end."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command."""

    names: tuple[str, ...]
    """Its name, and shorter ones."""
    usage: str
    """What may follow."""
    summary: str
    """One line."""
    section: str
    run: Callable[[Shell, str], Reply] = field(repr=False)
    detail: str = ""
    """More, for `help NAME`."""
    repeats: bool = False
    """Whether an empty line does it once more."""


class Shell:
    """Carries commands out.

    Args:
        debugger: What they are for.
        width: Columns of the terminal.
        color: Whether answers may have colours.
    """

    def __init__(self, debugger: Debugger, *, width: int = 80, color: bool = False) -> None:
        from tessera.workbench.debug.commands import COMMANDS

        self.debugger, self.width, self.color = debugger, width, color
        self.commands: Sequence[Command] = COMMANDS
        self.displays: dict[int, str] = {}
        """Expressions that are shown at every stop, by number."""
        self.listed = 0
        """The line that `list` goes on from."""
        self._names = {name: command for command in COMMANDS for name in command.names}
        self._last = ""

    def begin(self) -> Reply:
        """Where the program stands at first."""
        return self.stopped(self.debugger.stop)

    def execute(self, line: str) -> Reply:
        """Carry out one line; an empty one repeats a step. Errors are in the reply."""
        text = line.strip() or self._last
        if not text or text.startswith("#"):
            return Reply()
        word, _, rest = text.partition(" ")
        if "/" in word:
            # `p/x i`: the form of a value, as gdb takes it.
            word, _, form = word.partition("/")
            rest = f"/{form} {rest}"
        try:
            command = self.find(word)
            self._last = text if command.repeats else ""
            return command.run(self, rest.strip())
        except TesseraError as error:
            return self.failed(error)

    def find(self, word: str) -> Command:
        """The command of a name, or of the only one that begins so.

        Raises:
            UsageError: There is none; the hint names what is near.
        """
        if word in self._names:
            return self._names[word]
        begun = {c.names[0]: c for name, c in self._names.items() if name.startswith(word)}
        if len(begun) == 1:
            return next(iter(begun.values()))
        if begun:
            raise UsageError(f"{word!r} may be {', '.join(sorted(begun))}", hint="write more of it")
        near = difflib.get_close_matches(word, self._names, 1)
        raise UsageError(
            f"there is no command {word!r}",
            hint=f"did you mean {near[0]}? help lists all commands" if near else "help lists all commands",
        )

    def stopped(self, stop: Stop) -> Reply:
        """The reply to a command that moved the program."""
        lines = stop_lines(self.debugger, stop, color=self.color)
        shown = {}
        for number, text in self.displays.items():
            try:
                value = self.debugger.evaluate(text)
            except TesseraError as error:
                lines.append(f"{number}: {text}: {error.message}")
                continue
            from tessera.workbench.debug.values_text import value_text

            found = value_text(value, self.width)
            lines += [f"{number}: {text} = {found[0]}", *found[1:]]
            shown[text] = jsonable(value)
        self.listed = 0
        return Reply(lines, {"display": shown} if shown else {}, stop)

    def failed(self, error: TesseraError) -> Reply:
        """The reply to a command that could not be carried out."""
        lines = [f"error: {error.message}", *([f"hint: {error.hint}"] if error.hint else [])]
        return Reply(lines, {"error": error_data(error)}, error=error)

    def complete(self, text: str) -> list[str]:
        """How a line may go on: commands, or variables."""
        word, space, rest = text.partition(" ")
        if not space:
            return sorted(name for name in self._names if name.startswith(word) and len(name) > 1)
        start = rest.rpartition(" ")[2]
        names = (
            {row.name for row in self.debugger.rows()} if self.debugger.timeline.run is not None else set()
        )
        names |= set(self.debugger.program.arrays)
        return sorted(name for name in names if name.startswith(start))


def words_of(text: str) -> list[str]:
    """The words of an argument.

    Raises:
        UsageError: A quote is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{text}: {error}") from None


def count_of(text: str) -> int:
    """How often to do something: 1 where nothing is said.

    Raises:
        UsageError: It is no number above 0.
    """
    if not text:
        return 1
    if not text.isdigit() or int(text) == 0:
        raise UsageError(f"{text!r} is not a number of times", hint="such as: step 5")
    return int(text)
