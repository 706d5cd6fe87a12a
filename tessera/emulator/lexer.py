"""PTX text to tokens, and numbers to values.

Source: PTX ISA 8.8, chapter 4.
"""

from __future__ import annotations

import re
import struct

from tessera.emulator.ptx import Immediate
from tessera.program.errors import CompileError

_TOKEN = re.compile(
    r"""(?P<skip>[ \t\r\f]+|//[^\n]*|/\*.*?\*/)
      |(?P<newline>\n)
      |(?P<string>"(?:[^"\\\n]|\\.)*")
      |(?P<number>0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16}|0[xX][0-9a-fA-F]+U?|0[bB][01]+U?
                 |\d+\.\d*(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\d+U?)
      |(?P<directive>\.reg\b|\.[A-Za-z_]\w*(?:(?:\.|::)\w+)*)
      |(?P<word>[%$_A-Za-z][\w$]*(?:(?:\.|::)[\w$]+)*)
      |(?P<punct>[][(){}<>,;:@!+\-=|])""",
    re.VERBOSE | re.DOTALL,
)


class Token:
    """A word, number, directive or sign of the text."""

    __slots__ = ("kind", "line", "text")

    def __init__(self, kind: str, text: str, line: int) -> None:
        self.kind, self.text, self.line = kind, text, line


def tokenize(text: str) -> list[Token]:
    """Tokens of PTX text, comments left out.

    Raises:
        CompileError: A character that PTX does not have; names the line.
    """
    tokens: list[Token] = []
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise CompileError(f"PTX line {line}: unexpected character {text[position]!r}", ptx_line=line)
        kind, value = match.lastgroup or "", match.group()
        if kind not in ("skip", "newline"):
            tokens.append(Token(kind, value, line))
        line += value.count("\n")
        position = match.end()
    return tokens


def negated(value: Immediate) -> Immediate:
    """A literal with its sign turned, in its bits too."""
    bits = None if value.bits is None else value.bits ^ (1 << (value.width - 1))
    return Immediate(-value.value, bits, value.width)


def literal(text: str) -> Immediate:
    """The value of a number: `12`, `0x1F`, `017`, `0b101`, `0f3F800000`, `1.5`."""
    prefix = text[:2].lower()
    if prefix == "0f":
        bits = int(text[2:], 16)
        return Immediate(struct.unpack("<f", struct.pack("<I", bits))[0], bits, 32)
    if prefix == "0d":
        bits = int(text[2:], 16)
        return Immediate(struct.unpack("<d", struct.pack("<Q", bits))[0], bits, 64)
    digits = text.rstrip("U")
    if prefix in ("0x", "0b"):
        return Immediate(int(digits, 0))
    if re.fullmatch(r"\d+", digits):
        octal = len(digits) > 1 and digits[0] == "0"
        return Immediate(int(digits, 8 if octal else 10))
    return Immediate(float(text))
