"""The left column: a project's files and what they define."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from tessera.workbench.app.outline import Definition, Listing, SourceFile
from tessera.workbench.failure import visible

ICONS = {"kernel": "◆", "function": "ƒ", "module": "▣"}
"""What stands before a kernel, a function, a Module."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a line of the tree stands for."""

    file: SourceFile
    definition: Definition | None = None
    """None: the file as a whole."""

    @property
    def path(self) -> Path:
        """The file."""
        return self.file.path

    @property
    def key(self) -> tuple[Path, str | None]:
        """The same for the same thing after a reload."""
        return self.path, self.definition.name if self.definition else None


class ProjectTree(Tree[Place]):
    """Files with their kernels below them. Moving the cursor shows; Enter goes to the source."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "cursor_up", "Up", show=False),
        Binding("j", "cursor_down", "Down", show=False),
    ]

    def __init__(self, folder: Path, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(Text(visible(folder.resolve().name or str(folder))), id=id)
        self._folder = folder
        self.show_root = False
        self.guide_depth = 2
        self.auto_expand = False

    def show(self, listing: Listing) -> None:
        """Show a listing; the cursor stays on the same thing if it is still there."""
        before = self.cursor_node.data.key if self.cursor_node and self.cursor_node.data else None
        self.clear()
        for file in listing.files:
            self._add(file)
        if listing.truncated:
            self.root.add_leaf(Text(f"… {len(listing.files)} files shown", style="dim italic"))
        self.root.expand()
        self.call_after_refresh(self._restore, before)

    def _add(self, file: SourceFile) -> None:
        name = visible(str(file.path.relative_to(self._folder)))
        plain = not file.definitions
        label = Text(name, style="dim" if plain and not file.problem else "", no_wrap=True)
        if file.problem:
            label.append(" !", style="bold red")
        if plain:
            self.root.add_leaf(label, Place(file))
            return
        node = self.root.add(label, Place(file), expand=True)
        for definition in file.definitions:
            text = Text(f"{ICONS[definition.kind]} ", style="bold", no_wrap=True)
            text.append(definition.name, style="not bold")
            node.add_leaf(text, Place(file, definition))

    def _restore(self, key: tuple[Path, str | None] | None) -> None:
        nodes = list(self._nodes_in_order(self.root))
        wanted = next((n for n in nodes if n.data and n.data.key == key), None)
        first = next((n for n in nodes if n.data and n.data.definition), None)
        target = wanted or first or (nodes[0] if nodes else None)
        if target is not None:
            self.move_cursor(target)

    def _nodes_in_order(self, node: TreeNode[Place]) -> list[TreeNode[Place]]:
        found = []
        for child in node.children:
            found += [child, *self._nodes_in_order(child)]
        return found
