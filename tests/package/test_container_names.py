"""Names of constants and kernels as file names."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.package.names import check_name, check_names, decode_name, encode_name, encode_names
from tessera.program.errors import IntegrityError, PackageError

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(NAMES)
def test_an_encoded_name_is_safe_and_comes_back(name: str) -> None:
    stem = encode_name(name)
    check_name(f"weights/{stem}.bin")
    if "%-" not in stem:
        assert decode_name(stem) == name
    assert decode_name(encode_name(name[:10], escape_case=True)) == name[:10]


@given(st.lists(st.text("aAbB./%é\0- \\nulNUL", min_size=1, max_size=5), unique=True, max_size=30))
def test_no_two_names_become_one_file(names: list[str]) -> None:
    stems = encode_names(names)
    assert list(stems) == names
    check_names(f"weights/{stem}.bin" for stem in stems.values())
    assert [decode_name(stem) for stem in stems.values()] == names


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("layers.0.weight", "layers.0.weight"),
        ("W", "W"),
        ("a/b", "a%2Fb"),
        ("..", "%2E."),
        ("100%", "100%25"),
        ("con", "%63on"),
        ("NUL.x", "%4EUL.x"),
        ("-rf", "%2Drf"),
        ("é", "%C3%A9"),
    ],
)
def test_ordinary_names_stay_readable(name: str, stem: str) -> None:
    assert encode_name(name) == stem


def test_names_that_differ_in_case_are_told_apart() -> None:
    assert encode_names(["w", "W", "other"]) == {"w": "w", "W": "%57", "other": "other"}


def test_long_names_are_cut_and_stay_apart() -> None:
    names = ["x" * 5000 + end for end in "ab"] + ["é" * 100, "é" * 101]
    stems = encode_names(names)
    assert len({stem.lower() for stem in stems.values()}) == 4
    check_names(stems.values())
    with pytest.raises(PackageError, match="cannot be decoded"):
        decode_name(stems[names[0]])


@pytest.mark.parametrize("name", ["", "\ud800"])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(PackageError):
        encode_name(name)


@given(st.text(max_size=20))
def test_checking_any_name_passes_or_names_it(name: str) -> None:
    if name and all(re.fullmatch(r"[a-z0-9][a-z0-9_]*", part) for part in name.split("/")):
        check_name(name)
        return
    try:
        check_name(name)
    except IntegrityError as error:
        problem = error
    else:
        assert name.isascii()
        return
    assert problem.entry == name
