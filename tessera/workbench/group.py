"""A Typer group that imports a command when it is called, not before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from tessera.workbench.registry import CommandEntry

if TYPE_CHECKING:
    # Typer vendors Click and exports these two names only for annotations.
    from typer._click import Context
    from typer._click.core import Command
    from typer._click.formatting import HelpFormatter

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class ExampleCommand(TyperCommand):
    """A command whose help ends with an example, on a line of its own so that it can be copied."""

    def format_epilog(self, _ctx: Context, formatter: HelpFormatter) -> None:
        """Write the example without wrapping it."""
        if self.epilog:
            formatter.write(f"\nExample:\n  {self.epilog}\n")


class LazyCommands(Mapping[str, "Command"]):
    """Commands by name; looking one up imports it."""

    def __init__(self, entries: tuple[CommandEntry, ...]) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self._built: dict[str, Command] = {}

    def __getitem__(self, name: str) -> Command:
        if name not in self._built:
            self._built[name] = build_command(self._entries[name])
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class LazyGroup(TyperGroup):
    """A group whose commands and their one-line helps come from a table."""

    table: ClassVar[tuple[CommandEntry, ...]] = ()
    """The commands, in the order shown."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Typer fills this mapping by importing everything; ours builds a command on first use.
        self.commands = LazyCommands(self.table)  # type: ignore[assignment]

    def list_commands(self, _ctx: Context) -> list[str]:
        """The names, without building the commands."""
        return [entry.name for entry in self.table]

    def format_commands(self, _ctx: Context, formatter: HelpFormatter) -> None:
        """Write the commands by section, from the table alone."""
        width = max(len(entry.name) for entry in self.table)
        for section in dict.fromkeys(entry.section for entry in self.table):
            rows = [(e.name.ljust(width), e.summary) for e in self.table if e.section == section]
            with formatter.section(section):
                formatter.write_dl(rows)

    def format_epilog(self, _ctx: Context, formatter: HelpFormatter) -> None:
        """Write the epilog as it stands."""
        if self.epilog:
            formatter.write(f"\n{self.epilog}\n")


def build_command(entry: CommandEntry) -> Command:
    """The command or group that a line of the table describes."""
    if entry.children:
        return build_group(entry.children, name=entry.name, help_text=entry.summary)
    module, _, function = entry.target.partition(":")
    app = typer.Typer(rich_markup_mode=None, add_completion=False, context_settings=SETTINGS)
    app.command(
        entry.name,
        cls=ExampleCommand,
        help="\n\n".join(filter(None, (entry.summary, entry.detail))),
        epilog=entry.example,
        context_settings=SETTINGS,
    )(getattr(import_module(module), function))
    return get_command(app)


def build_group(
    entries: tuple[CommandEntry, ...],
    *,
    name: str,
    help_text: str,
    callback: Callable[..., None] | None = None,
    epilog: str | None = None,
    completion: bool = False,
) -> Command:
    """A lazy group of `entries`."""
    kind = type("LazyGroup", (LazyGroup,), {"table": entries})
    app = typer.Typer(name=name, rich_markup_mode=None, add_completion=completion)
    settings: dict[str, Any] = {
        "cls": kind,
        "help": help_text,
        "epilog": epilog,
        "no_args_is_help": True,
        "context_settings": SETTINGS,
    }
    app.callback(**settings)(callback or (lambda: None))
    return get_command(app)
