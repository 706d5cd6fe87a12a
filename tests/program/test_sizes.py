"""Symbolic sizes: normal form, evaluation, JSON."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.program import dim
from tessera.program.dim import ceildiv, evaluate, from_data, substitute, symbol, symbols_of, to_data
from tessera.program.errors import InputError, ProgramError, SpecError, TraceError

NAMES = ("n", "m", "batch")
values = st.fixed_dictionaries({name: st.integers(1, 1000) for name in NAMES})


def _combined(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pairs = st.tuples(children, children)
    return st.one_of(
        pairs.map(lambda p: p[0] + p[1]),
        pairs.map(lambda p: p[0] - p[1]),
        pairs.map(lambda p: p[0] * p[1]),
        pairs.map(lambda p: dim.minimum(*p)),
        pairs.map(lambda p: dim.maximum(*p)),
        st.tuples(children, st.integers(1, 64)).map(lambda p: p[0] // p[1]),
        st.tuples(children, st.integers(1, 64)).map(lambda p: p[0] % p[1]),
        st.tuples(children, st.integers(1, 64)).map(lambda p: ceildiv(*p)),
    )


leaves = st.one_of(st.integers(-20, 20), st.sampled_from(NAMES).map(symbol))
dims = st.recursive(leaves, _combined, max_leaves=6)


def value_of(data: Any, names: dict[str, int]) -> int:
    """An evaluator of the JSON form, written without any of the code under test."""
    if isinstance(data, list):
        op, a, b = data[0], value_of(data[1], names), value_of(data[2], names)
        table = {
            "add": lambda: a + b,
            "mul": lambda: a * b,
            "floordiv": lambda: a // b,
            "ceildiv": lambda: (a + b - 1) // b,
            "mod": lambda: a % b,
            "min": lambda: min(a, b),
            "max": lambda: max(a, b),
        }
        return table[op]()
    return names[data] if isinstance(data, str) else int(data)


@given(dims, dims, dims, values)
def test_arithmetic_agrees_with_integers(a: Any, b: Any, c: Any, names: dict[str, int]) -> None:
    x, y, z = (evaluate(d, names) for d in (a, b, c))
    assert evaluate((a + b) * c - a, names) == (x + y) * z - x


@given(dims, dims, dims)
def test_equal_polynomials_are_equal_and_hash_alike(a: Any, b: Any, c: Any) -> None:
    for left, right in [((a + b) * c, c * b + a * c), (a - a, 0), (a + a, 2 * a), (a + b, b + a)]:
        assert left == right
        assert hash(left) == hash(right)


@given(dims, values)
def test_json_form_comes_back_and_means_the_same(a: Any, names: dict[str, int]) -> None:
    data = msgspec.json.decode(msgspec.json.encode(to_data(a)))
    assert from_data(data) == a
    assert value_of(data, names) == evaluate(a, names)


@given(dims, values)
def test_substitute_numbers_is_evaluate(a: Any, names: dict[str, int]) -> None:
    assert substitute(a, names) == evaluate(a, names)


@given(dims, dims, values)
def test_substitute_a_symbol_by_an_expression(a: Any, b: Any, names: dict[str, int]) -> None:
    inner = evaluate(b, names)
    assert evaluate(substitute(a, {"n": b}), names) == evaluate(a, {**names, "n": inner})


@given(dims)
def test_symbols_of_is_what_evaluate_needs(a: Any) -> None:
    needed = symbols_of(a)
    evaluate(a, dict.fromkeys(needed, 7))
    for name in needed:
        with pytest.raises(InputError) as raised:
            evaluate(a, dict.fromkeys(needed - {name}, 7))
        assert raised.value.symbol in needed


@given(st.integers(0, 10**9), st.integers(1, 10**6))
def test_ceildiv_covers_with_the_fewest_blocks(a: int, b: int) -> None:
    blocks = ceildiv(a, b)
    assert isinstance(blocks, int)
    assert blocks * b >= a > (blocks - 1) * b


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (symbol("n") * 3 + symbol("m"), "m + 3*n"),
        (ceildiv(symbol("n"), 256), "cdiv(n, 256)"),
        (symbol("n") * symbol("m") - 1, "m*n - 1"),
        (4 - symbol("n"), "-n + 4"),
    ],
)
def test_text_reads_as_a_person_writes_it(expression: Any, text: str) -> None:
    assert str(expression) == text


@pytest.mark.parametrize(
    ("expression", "simple"),
    [
        ((symbol("n") * 4) // 4, symbol("n")),
        ((symbol("n") * 4) % 4, 0),
        (symbol("n") // symbol("n"), 1),
        (ceildiv(symbol("n"), 1), symbol("n")),
        (dim.align(symbol("n") * 256, 256), symbol("n") * 256),
    ],
)
def test_exact_division_leaves_no_function(expression: Any, simple: Any) -> None:
    assert expression == simple


@pytest.mark.parametrize("use", [bool, int, float, lambda n: n < 3, lambda n: n / 2, range, lambda n: [1][n]])
def test_a_symbol_has_no_value_to_branch_on(use: Any) -> None:
    with pytest.raises(TraceError, match="the size n has no value"):
        use(symbol("n"))


@pytest.mark.parametrize("name", ["", "2n", "a-b", "a b", "n\n", 3, None])
def test_symbol_refuses_what_is_no_name(name: Any) -> None:
    with pytest.raises(SpecError):
        symbol(name)


def test_evaluate_refuses_more_than_64_bits() -> None:
    with pytest.raises(InputError, match="64 bits"):
        evaluate(symbol("n") * symbol("n"), {"n": 2**40})


def test_evaluate_refuses_division_by_zero() -> None:
    with pytest.raises(InputError, match="floordiv by 0"):
        evaluate(symbol("n") // symbol("m"), {"n": 3, "m": 0})


@pytest.mark.parametrize(
    "data",
    [True, None, 1.5, "2n", [], ["add", 1], ["add", 1, 2, 3], ["pow", 2, 3], ["floordiv", "n", 0],
     ["mod", "n", -2], 2**63, ["add", "n", {}], {"n": 1}],
)  # fmt: skip
def test_from_data_refuses_what_is_no_size(data: Any) -> None:
    with pytest.raises(ProgramError):
        from_data(data)


def test_from_data_refuses_a_product_that_explodes() -> None:
    data: Any = 1
    for i in range(40):
        data = ["mul", ["add", f"a{i}", f"b{i}"], data]
    with pytest.raises(ProgramError, match="4096 terms"):
        from_data(data)


def test_from_data_refuses_endless_nesting() -> None:
    data: Any = "n"
    for _ in range(10_000):
        data = ["floordiv", data, 2]
    with pytest.raises(ProgramError, match="not a size expression"):
        from_data(data)
