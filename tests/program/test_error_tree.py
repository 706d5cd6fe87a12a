"""Errors: one tree, drawn where it is defined; each can cross a process."""

from __future__ import annotations

import pickle
import re

import pytest

from tessera.program import errors
from tessera.program.errors import MissingDependencyError, SourceLocation, TesseraError

CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, TesseraError)]


def test_the_drawing_shows_every_error_under_its_base() -> None:
    path: list[str] = []
    drawn: dict[str, str | None] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([│├└─ ]*)([A-Z]\w+Error)\b", line)
        if match:
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            drawn[match[2]] = path[depth - 1] if depth else None
    defined = {c.__name__: c.__base__.__name__ for c in CLASSES if c is not TesseraError}
    assert drawn == {"TesseraError": None, **defined}


@pytest.mark.parametrize("kind", CLASSES)
def test_error_survives_pickling_with_all_it_carries(kind: type[TesseraError]) -> None:
    where = SourceLocation("model.py", 12, 4, 9, "forward")
    error = kind("shapes differ", hint="transpose it", location=where, limit=3, given=4)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert (back.message, back.hint, back.location) == ("shapes differ", "transpose it", where)
    assert (back.limit, back.given) == (3, 4)
    assert str(back) == "model.py:12: shapes differ (transpose it)"


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_says_how_a_command_ends(kind: type[TesseraError]) -> None:
    assert kind.exit_status in (1, 2)


def test_field_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'limit'"):
        _ = TesseraError("x").limit


def test_missing_dependency_says_what_to_type() -> None:
    error = MissingDependencyError.extra("numba", "compile", needed_for="compiling")
    assert "compiling needs" in error.message
    assert error.hint == "pip install 'tessera[compile]'"
    assert (error.fields["package"], error.fields["extra"]) == ("numba", "compile")
