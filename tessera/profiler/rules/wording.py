"""How findings name what a line accesses: the array elements that its text has."""

from __future__ import annotations

import ast
import re
import textwrap
from dataclasses import dataclass

from tessera.program.quantity import format_number

_CPP_SUBSCRIPT = re.compile(r"\b([A-Za-z_]\w*)((?:\s*\[[^\[\]]+\])+)(?!\s*=[^=])")
_CPP_TARGET = re.compile(r"\b([A-Za-z_]\w*)((?:\s*\[[^\[\]]+\])+)\s*[-+*/|&^]?=(?!=)")


@dataclass(frozen=True, slots=True)
class Element:
    """What a line loads or stores."""

    text: str
    """`x[i, j]`; `this line` where there is none, or several that could be meant."""
    indices: int
    """How many it has."""


def element(text: str, *, write: bool, last: bool = False) -> Element:
    """The array element that a line of Python or C++ loads or stores.

    Args:
        text: The line.
        write: Whether it is stored.
        last: Of several, take the first, rather than none.
    """
    try:
        tree = ast.parse(_statement(text))
    except SyntaxError:
        return _cpp_element(text, write=write, last=last)
    context = ast.Store if write else ast.Load
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Subscript) and isinstance(n.ctx, context)]
    augmented = [n.target for n in ast.walk(tree) if isinstance(n, ast.AugAssign)]
    if not write:
        found += [t for t in augmented if isinstance(t, ast.Subscript)]
    names = list(dict.fromkeys(ast.unparse(n) for n in found if not _is_shape(n)))
    if len(names) != 1 and not (last and names):
        return Element("this line", max((_indices(n) for n in found), default=0))
    chosen = names[0]
    return Element(chosen, max(_indices(n) for n in found if ast.unparse(n) == chosen))


def _cpp_element(text: str, *, write: bool, last: bool) -> Element:
    targets = [m.group(0).rstrip("=+-*/|&^ ") for m in _CPP_TARGET.finditer(text)]
    found = targets if write else [m.group(0) for m in _CPP_SUBSCRIPT.finditer(text)]
    if not write:
        plain = [t for t in targets if re.search(rf"{re.escape(t)}\s*=(?!=)", text)]
        found = [f for f in found if f not in plain]
    names = list(dict.fromkeys(f.strip() for f in found))
    if len(names) != 1 and not (last and names):
        return Element("this line", max((n.count("[") for n in names), default=0))
    return Element(names[0], names[0].count("["))


def _is_shape(node: ast.Subscript) -> bool:
    return isinstance(node.value, ast.Attribute) and node.value.attr in ("shape", "strides")


def _indices(node: ast.Subscript) -> int:
    return len(node.slice.elts) if isinstance(node.slice, ast.Tuple) else 1


def _statement(text: str) -> str:
    """One line as a statement of its own: what opens a block gets an empty one."""
    line = textwrap.dedent(text).strip()
    if line.startswith(("elif ", "else:")):
        line = "if True: pass\n" + line
    return line + " pass" if line.endswith(":") else line


def enough(value: float) -> str:
    """`4 suffice`, `1 suffices`."""
    text = format_number(value)
    return f"{text} suffice{'s' if text == '1' else ''}"
