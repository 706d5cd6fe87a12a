"""What a source file defines, read without running it."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["kernel", "function", "module"]

SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "build", "dist", "out"})
SHOWN_ENDINGS = (".py", ".toml", ".md")
MAX_FILES = 300
"""More files than this are not listed: a project folder was meant, not a home folder."""
MAX_FOLDERS = 2000
"""Folders looked into before giving up, for the same reason."""
MAX_SOURCE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Definition:
    """One kernel, function or Module in a file."""

    name: str
    kind: Kind
    line: int
    """1-based line of its `def`, `class` or assignment."""
    end_line: int
    """1-based last line."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a project."""

    path: Path
    definitions: tuple[Definition, ...] = ()
    problem: str | None = None
    """Why it cannot be read as Python, if it cannot."""
    uses_tessera: bool = False
    """Whether it imports Tessera: it may then make things that only running it shows."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a project."""

    files: tuple[SourceFile, ...]
    truncated: bool
    """Whether there are more."""


def list_project(folder: Path) -> Listing:
    """The readable files under `folder`: those with kernels first, then by name."""
    found: list[SourceFile] = []
    truncated = False
    for path in _walk(folder):
        if len(found) >= MAX_FILES:
            truncated = True
            break
        found.append(read_outline(path))
    found.sort(key=lambda f: (not f.definitions, len(f.path.relative_to(folder).parts), str(f.path)))
    return Listing(tuple(found), truncated)


def _walk(folder: Path) -> Iterator[Path]:
    for count, (root, folders, names) in enumerate(os.walk(folder)):
        if count > MAX_FOLDERS:
            return
        folders[:] = sorted(d for d in folders if not d.startswith(".") and d not in SKIPPED_FOLDERS)
        for name in sorted(names):
            if name.endswith(SHOWN_ENDINGS) and not name.startswith("."):
                yield Path(root) / name


def read_outline(path: Path) -> SourceFile:
    """What the file defines; a file that cannot be parsed says why."""
    if path.suffix != ".py":
        return SourceFile(path)
    try:
        if path.stat().st_size > MAX_SOURCE_BYTES:
            return SourceFile(path)
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        return SourceFile(path, problem=f"line {error.lineno}: {error.msg}")
    except (OSError, ValueError) as error:
        return SourceFile(path, problem=str(error))
    return SourceFile(path, tuple(_definitions(tree)), uses_tessera=bool(_imported_names(tree)))


def _definitions(tree: ast.Module) -> Iterator[Definition]:
    names = _imported_names(tree)
    if not names:
        return
    # Module classes, and functions that make one of them.
    makers: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            kind = next((k for d in node.decorator_list if (k := _decorated_as(d, names))), None)
            if kind is not None:
                yield Definition(node.name, kind, node.lineno, node.end_lineno or node.lineno)
            elif any(isinstance(n, ast.Name) and n.id in makers for n in ast.walk(node)):
                makers.add(node.name)
        elif isinstance(node, ast.ClassDef):
            if any(names.get(_dotted(base)) == "module" for base in node.bases):
                makers.add(node.name)
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
            made = _dotted(value.func) if isinstance(value, ast.Call) else ""
            if isinstance(target, ast.Name) and made in makers:
                yield Definition(target.id, "module", node.lineno, node.end_lineno or node.lineno)


def _imported_names(tree: ast.Module) -> dict[str, Kind]:
    """What `kernel`, `jit` and `Module` of Tessera are called in this file, dotted."""
    meanings: dict[str, Kind] = {"kernel": "kernel", "jit": "function", "Module": "module"}
    names: dict[str, Kind] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "tessera":
                    here = alias.asname or "tessera"
                    names |= {f"{here}.{word}": meaning for word, meaning in meanings.items()}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tessera":
            names |= {a.asname or a.name: meanings[a.name] for a in node.names if a.name in meanings}
    return names


def _decorated_as(decorator: ast.expr, names: dict[str, Kind]) -> Kind | None:
    return names.get(_dotted(decorator.func if isinstance(decorator, ast.Call) else decorator))


def _dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""
