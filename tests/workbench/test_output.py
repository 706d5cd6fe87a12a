"""Tables, progress and JSON."""

import json
import sys
import time

import pytest

from tessera.workbench.output import Column, bytes_text, emit, number_text, print_table, progress


def test_json_has_no_nan_and_no_infinity(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"a": [float("nan"), 1.5], "b": {"c": float("inf")}, "d": "語"})
    text = capsys.readouterr().out
    assert json.loads(text) == {"a": [None, 1.5], "b": {"c": None}, "d": "語"}
    assert text.count("\n") == 1


def test_table_shows_brackets_and_escapes_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_table((Column("Name"), Column("n", right=True)), [("[red]a[/red] [/]", "1"), ("\x1b[2J", "2")])
    text = capsys.readouterr().out
    assert "[red]a[/red] [/]" in text
    assert r"\x1b[2J" in text
    assert "\x1b" not in text


def test_table_in_a_pipe_breaks_no_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "a_kernel_with_a_long_name_" * 5
    table = ((Column("Name", wraps=True), Column("n")), [(name, "1")])
    monkeypatch.delenv("COLUMNS")
    print_table(*table)
    assert name in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "80")
    print_table(*table)
    assert all(len(line) <= 80 for line in capsys.readouterr().out.splitlines())


def test_progress_is_silent_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(2, after_s=0) as advance:
        advance(1, "half")
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("after_s", "shown"), [(0.0, True), (30.0, False)])
def test_progress_appears_only_when_it_takes_long(
    after_s: float, shown: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress(2, after_s=after_s) as advance:
        advance(1, "[red]half[/]")
        time.sleep(0.4)
    captured = capsys.readouterr()
    assert ("[red]half[/]" in captured.err) is shown
    assert captured.out == ""


@pytest.mark.parametrize(
    ("count", "text"), [(None, "N/A"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")]
)
def test_sizes_are_readable(count: int | None, text: str) -> None:
    assert bytes_text(count) == text


def test_unknown_is_not_zero() -> None:
    assert number_text(None) == "N/A"
    assert number_text(0) == "0"
