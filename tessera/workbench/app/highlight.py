"""Source text as coloured lines."""

from __future__ import annotations

from collections.abc import Mapping

from pygments.lexers import get_lexer_by_name
from pygments.token import Token
from pygments.util import ClassNotFound
from rich.style import Style
from textual.color import Color, ColorParseError

from tessera.workbench.failure import visible

Line = list[tuple[str, Style]]
TAB = 4

LANGUAGES = {".py": "python", ".toml": "toml", ".md": "markdown", ".ptx": "ptx"}
"""Pygments' name of a language by file ending."""

_PALETTE: tuple[tuple[object, str, str], ...] = (
    (Token.Comment, "muted", "italic"),
    (Token.Literal.String.Doc, "muted", "italic"),
    (Token.Literal.String, "text-success", ""),
    (Token.Literal.Number, "text-warning", ""),
    (Token.Keyword, "text-accent", ""),
    (Token.Operator.Word, "text-accent", ""),
    (Token.Name.Decorator, "text-secondary", ""),
    (Token.Name.Function, "text-primary", "bold"),
    (Token.Name.Class, "text-primary", "bold"),
    (Token.Name.Builtin, "text-secondary", ""),
    (Token.Name.Variable, "text-primary", ""),
    (Token.Name.Label, "text-warning", ""),
    (Token.Generic.Heading, "text-primary", "bold"),
)
"""Token, name of the theme's colour, and attributes; the first that contains a token decides."""


def highlight(text: str, language: str, theme: Mapping[str, str]) -> list[Line]:
    """The lines of `text`, each a list of (piece, style).

    Args:
        text: Source.
        language: Pygments' name, such as `python` or `ptx`; an unknown one is shown plain.
        theme: Colours by name, as `App.theme_variables` has them.
    """
    text = visible(text.expandtabs(TAB))
    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return [[(line, Style())] for line in text.split("\n")]
    styles = _styles(theme)
    lines: list[Line] = [[]]
    for token, value in lexer.get_tokens(text):
        style = next((s for kind, s in styles if token in kind), Style())  # type: ignore[operator]
        first, *rest = value.split("\n")
        if first:
            lines[-1].append((first, style))
        lines += [[(piece, style)] if piece else [] for piece in rest]
    if lines and not lines[-1]:
        lines.pop()
    return lines


def _styles(theme: Mapping[str, str]) -> list[tuple[object, Style]]:
    foreground = _color(theme, "foreground") or Color.parse("#e0e0e0")
    background = _color(theme, "background") or Color.parse("#121212")
    muted = foreground.blend(background, 0.45)
    found = []
    for token, name, attributes in _PALETTE:
        color = muted if name == "muted" else _color(theme, name) or foreground
        found.append((token, Style.parse(attributes) + Style(color=color.rich_color)))
    return found


def _color(theme: Mapping[str, str], name: str) -> Color | None:
    try:
        return Color.parse(theme[name])
    except (KeyError, ColorParseError):
        return None
