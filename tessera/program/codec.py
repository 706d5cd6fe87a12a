"""Program to JSON and back."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from tessera.program.dim import Dim, Expr, from_data, to_data
from tessera.program.dtype import DTYPES, DType
from tessera.program.errors import ProgramError
from tessera.program.program import SCHEMA, SCHEMA_MAJOR, SCHEMA_MINOR, Program

Document = TypeVar("Document")


class _Head(msgspec.Struct):
    schema: str


def encode(value: Any) -> bytes:
    """JSON of any structure of this room, keys in a fixed order: equal values give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=_to_builtin), indent=1)


def program_to_json(program: Program) -> bytes:
    """The JSON document of a Program."""
    return encode(program)


def program_from_json(data: bytes | str) -> Program:
    """The validated Program of a JSON document.

    Raises:
        ProgramError: The document is no JSON, of an unknown major schema version, or malformed;
            the message and `fields["path"]` name the field. A document of a later minor version that
            holds something unknown here is said to be one.
    """
    from tessera.program.validate import validate

    head = decode(data, _Head)
    minor = check_schema(head.schema)
    try:
        program = decode(data, Program)
    except ProgramError as error:
        if minor > SCHEMA_MINOR:
            raise ProgramError(
                f"{error.message}; the document is of schema {head.schema}, "
                f"this Tessera reads up to {SCHEMA}",
                hint="pip install --upgrade tessera",
                path=error.fields.get("path"),
            ) from None
        raise
    validate(program)
    return program


def check_schema(schema: str) -> int:
    """The minor version of a schema whose major this Tessera knows.

    Raises:
        ProgramError: Another major version, or no version at all.
    """
    match = re.fullmatch(r"([0-9]{1,6})\.([0-9]{1,6})", schema)
    if not match or int(match[1]) != SCHEMA_MAJOR:
        raise ProgramError(
            f"schema: version {schema!r} is not {SCHEMA_MAJOR}.x, which this Tessera reads",
            hint="pip install --upgrade tessera, or compile the program again",
            path="schema",
        )
    return int(match[2])


def decode(data: bytes | str, kind: type[Document]) -> Document:
    """A document as a structure of this room.

    Raises:
        ProgramError: It is no JSON, or malformed; the message and `fields["path"]` name the field.
    """
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=_from_builtin)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at ")
        where = path.strip("`").removeprefix("$").removeprefix(".") or "document"
        raise ProgramError(f"{where}: {text}", path=where) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProgramError(f"not a JSON document: {error}", path="document") from None


def _to_builtin(value: Any) -> Any:
    if isinstance(value, Expr):
        return to_data(value)
    if isinstance(value, DType):
        return value.name
    raise TypeError(f"cannot encode {type(value).__name__}")


def _from_builtin(kind: Any, value: Any) -> Any:
    try:
        if kind is DType:
            if value not in DTYPES:
                raise ProgramError(f"unknown dtype {value!r}")
            return DTYPES[value]
        if kind is Dim:
            return from_data(value)
    except TypeError:
        raise ValueError(f"unexpected {value!r}") from None
    except ProgramError as error:
        # msgspec adds the path of the field to a ValueError.
        raise ValueError(error.message) from None
    raise TypeError(f"cannot decode {kind}")
