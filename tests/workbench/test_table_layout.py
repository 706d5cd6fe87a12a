"""Tables in narrow terminals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.workbench.output import print_table
from tessera.workbench.table_layout import Column, fit

COLUMNS = (Column("Kernel"), *(Column(f"Number {i}", right=True) for i in range(8)), Column("Limited by"))
ROWS = [
    ("digits_1_matmul_add_gelu_mma64x64_any", *("1,234,567" for _ in range(8)), "shared memory"),
    ("digits_2_softmax", *("89" for _ in range(8)), "warps"),
]


def test_numbers_that_have_no_room_go_to_a_further_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(COLUMNS, ROWS, title="figures")
    lines = capsys.readouterr().out.splitlines()
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert text.count("1,234,567") == 8
    assert text.count("figures") == 1
    assert "shared memory" in text
    # Every part begins with the names, which keep both of their ends.
    parts = text.count("Kernel")
    assert parts > 1
    assert text.count("digits_2_softmax") == parts
    assert text.count(" digits_1_matmul_") == parts
    assert text.count("mma64x64_any ") == parts


def test_a_table_with_room_stays_whole() -> None:
    (part,) = fit(COLUMNS, ROWS, 200)
    assert part.columns == COLUMNS
    assert part.rows == tuple(ROWS)


def test_names_that_would_look_the_same_are_not_cut() -> None:
    names = [f"{'a' * 30}{i}{'b' * 30}" for i in range(3)]
    rows = [(name, "1" * 9, "2" * 9, "3" * 9) for name in names]
    for part in fit([Column("Kernel"), *(Column(t, right=True) for t in "xyz")], rows, 80):
        assert [row[0] for row in part.rows] == names


@given(
    st.lists(st.tuples(st.text("ab_", max_size=60), *[st.text("0123456789", max_size=12)] * 6), max_size=4),
    st.integers(80, 200),
)
def test_no_number_is_lost_and_parts_are_no_wider_than_the_terminal(
    rows: list[tuple[str, ...]], width: int
) -> None:
    columns = [Column("Name"), *(Column(f"n{i}", right=True) for i in range(6))]
    parts = fit(columns, rows, width)
    assert [c.title for part in parts for c in part.columns[1:]] == [c.title for c in columns[1:]]
    for number, row in enumerate(rows):
        assert tuple(cell for part in parts for cell in part.rows[number][1:]) == row[1:]
    for part in parts:
        cells = zip([c.title for c in part.columns], *part.rows, strict=True)
        natural = sum(max(map(len, texts)) + 2 for texts in cells)
        assert natural <= width or len({row[0] for row in rows}) > 1
