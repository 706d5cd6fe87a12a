"""Calls of traced functions run through the reference here: no compiler is needed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from recorder import Recorder

from tessera.language.execution import executors


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """The executor in place while a test runs."""
    recorder = Recorder()
    with executors(function=recorder):
        yield recorder
