"""Specs and sizes as they are typed."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.program.dtype import DTYPES
from tessera.program.errors import SpecError
from tessera.program.spec import TensorSpec
from tessera.workbench.failure import UsageError
from tessera.workbench.specs import order_specs, parse_named_specs, parse_sizes, parse_spec

SIZES = st.one_of(st.none(), st.integers(0, 2**40), st.sampled_from(["n", "batch", "seq_len"]))


@given(st.sampled_from(sorted(DTYPES)), st.lists(SIZES, max_size=5))
def test_every_spec_can_be_typed(dtype: str, sizes: list[int | str | None]) -> None:
    text = f"{dtype}[{', '.join(map(str, sizes))}]"
    assert parse_spec(text) == TensorSpec(tuple(sizes), DTYPES[dtype])


@given(st.text(max_size=30))
def test_any_text_is_a_spec_or_a_spec_error(text: str) -> None:
    with contextlib.suppress(SpecError):
        assert isinstance(parse_spec(text), TensorSpec)


def test_named_specs_are_by_function_and_argument() -> None:
    found = parse_named_specs(["x=bf16[None,1024]", "f.w=f32[4, n]"])
    assert found == {
        "": {"x": TensorSpec((None, 1024), DTYPES["bf16"], "x")},
        "f": {"w": TensorSpec((4, "n"), DTYPES["f32"], "w")},
    }


@pytest.mark.parametrize("text", ["bf16[4]", "=f32[4]", "1=f32[4]"])
def test_a_spec_without_an_argument_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="names no argument"):
        parse_named_specs([text])


def test_specs_are_put_in_the_order_of_the_arguments() -> None:
    specs = parse_named_specs(["b=f32[2]", "a=f32[1]"])[""]
    assert [s.name for s in order_specs("f", ("a", "b"), specs)] == ["a", "b"]


def test_a_missing_spec_says_what_to_add() -> None:
    with pytest.raises(UsageError, match="no spec for argument 'b'") as caught:
        order_specs("f", ("a", "b"), parse_named_specs(["a=f32[1]"])[""])
    assert caught.value.hint is not None
    assert "--spec 'b=" in caught.value.hint


def test_a_spec_for_no_argument_lists_them() -> None:
    with pytest.raises(UsageError, match="no argument 'z'"):
        order_specs("f", ("a",), parse_named_specs(["z=f32[1]"])[""])


def test_sizes_are_numbers_by_name() -> None:
    assert parse_sizes(["n=1000", "batch = 4"]) == {"n": 1000, "batch": 4}
    for text in ("n", "=3", "2n=3"):
        with pytest.raises(UsageError, match="is not of the form name=number"):
            parse_sizes([text])


@pytest.mark.parametrize("value", ["", "-1", "1.5", "²", "many"])
def test_what_is_no_size_is_said_to_be_none(value: str) -> None:
    with pytest.raises(UsageError, match="sizes are whole numbers from 0 on") as caught:
        parse_sizes([f"rows={value}"])
    assert f"--size rows={value}: " in caught.value.message
    assert caught.value.hint == "such as --size rows=1000"


def test_a_size_may_be_an_expression_with_commas() -> None:
    spec = parse_spec("f32[cdiv(n, 256), 4]")
    assert str(spec) == "f32[cdiv(n, 256), 4]"
    with pytest.raises(SpecError, match="'n/2' is no size"):
        parse_spec("f32[n/2]")
