"""Which arrays a kernel writes, as its source says."""

from __future__ import annotations

import ast
import textwrap

import pytest

from tessera.language.written import written_arrays

ARRAYS = {"x": 1, "y": 1, "m": 2}


def written(body: str) -> tuple[set[str], set[str]]:
    """Certain and possible writes of a kernel body."""
    tree = ast.parse("def k(a, x, y, m):\n" + textwrap.indent(textwrap.dedent(body), "    "))
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    found = written_arrays(function, ARRAYS)
    return set(found.certain), set(found.possible)


@pytest.mark.parametrize(
    ("body", "certain"),
    [
        ("y[i] = x[i]", "y"),
        ("y[i] += x[i]", "y"),
        ("m[i, j] = x[i]", "m"),
        ("m[i][j] = x[i]", "m"),
        ("x[i], y[i] = y[i], x[i]", "xy"),
        ("(x[i], (y[j], z)) = f", "xy"),
        ("for y[i] in range(3): pass", "y"),
        ("y[i]: int = 3", "y"),
        ("if a:\n    while a:\n        y[i] = 1\nelse:\n    m[0, 0] = 2", "ym"),
        ("cuda.atomic.add(y, i, x[i])", "y"),
        ("numba.cuda.atomic.max(m, (i, j), x[i])", "m"),
        ("atomic.cas(y, 0, 1)", "y"),
        ("old = cuda.atomic.add(y, i, 1)\nx[old] = 2", "xy"),
        ("row = m[i]\nrow[j] = 1", "m"),
        ("out = y\nout[i] = 1", "y"),
        ("out = y if a else x\nout[i] = 1", "xy"),
        ("p, q = x, y\nq[i] = 1", "y"),
        ("flat = m.reshape(4)\nflat[i] = 1", "m"),
        ("for _ in range(3):\n    b[0] = 1\n    b = y", "y"),
        ("m.T[i, j] = 1", "m"),
        ("y += 1", "y"),
        ("part = y[2:]\npart[0] = 1", "y"),
        ("tile = cuda.shared.array(32, float32)\ntile[i] = x[i]", ""),
        ("value = x[i]\nvalue = value + 1", ""),
        ("n = x.size\nz = x.shape[0] + len(y)", ""),
        ("t = (x[i], y[i])\nt[0] = 1", ""),
        ("acc = x[i]\nacc += 1", ""),
    ],
)
def test_stores_are_certain(body: str, certain: str) -> None:
    assert written(body) == (set(certain), set())


@pytest.mark.parametrize(
    ("body", "possible"),
    [
        ("helper(y, i)", "y"),
        ("helper(i, out=y)", "y"),
        ("helper(*m)", "m"),
        ("z = helper(m[i])", "m"),
        ("helper(y[1:])", "y"),
        ("helper((x, y))", "xy"),
        ("helper(x[i], y[i], m[i, j])", ""),
        ("helper(len(x), x.size, m.shape)", ""),
        ("z = math.sqrt(x[i])", ""),
        ("out = y\nhelper(out)", "y"),
    ],
)
def test_arrays_handed_to_functions_are_possible(body: str, possible: str) -> None:
    assert written(body) == (set(), set(possible))


def test_certain_wins_over_possible() -> None:
    assert written("helper(y)\ny[0] = 1") == ({"y"}, set())
