"""How errors look."""

import errno
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tessera.program.errors import CompileError, ResourceError, SourceLocation
from tessera.workbench.failure import error_block, error_data, failure_of_machine, visible


def written(folder: Path, text: str) -> str:
    path = folder / "source.py"
    path.write_text(text)
    return str(path)


def test_excerpt_has_numbers_and_a_caret_below_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = written(tmp_path, "a = 1\nb = 2\nc = a + missing\n")
    error = CompileError("no such name", hint="define it", location=SourceLocation(file, 3, 8, 15, "main"))
    assert error_block(error).splitlines() == [
        "error: no such name",
        "  --> source.py:3, in main",
        "  |",
        "1 | a = 1",
        "2 | b = 2",
        "3 | c = a + missing",
        "  |         ^^^^^^^",
        "hint: define it",
    ]


def test_brackets_in_source_and_message_are_kept(tmp_path: Path) -> None:
    file = written(tmp_path, 'x: ts.Array[ts.f32, "n"] = [/red][bold]\n')
    block = error_block(CompileError("[red]no[/red] [/]", location=SourceLocation(file, 1)))
    assert "error: [red]no[/red] [/]" in block
    assert '1 | x: ts.Array[ts.f32, "n"] = [/red][bold]' in block


def test_caret_counts_terminal_columns_with_tabs_and_wide_letters(tmp_path: Path) -> None:
    file = written(tmp_path, "\t語 = bad\n")
    lines = error_block(CompileError("no", location=SourceLocation(file, 1, 5, 8))).splitlines()
    # Four columns of tab, two of the letter, three of " = ".
    assert lines[-1] == "  | " + " " * 9 + "^^^"


def test_without_a_column_the_whole_line_is_underlined(tmp_path: Path) -> None:
    file = written(tmp_path, "    return x\n")
    lines = error_block(CompileError("no", location=SourceLocation(file, 1))).splitlines()
    assert lines[-1] == "  |     ^^^^^^^^"


def test_a_place_that_cannot_be_read_is_still_named() -> None:
    block = error_block(CompileError("no", location=SourceLocation("/nowhere/x.py", 7)))
    assert block.splitlines() == ["error: no", "  --> /nowhere/x.py:7"]


def test_a_column_past_the_end_does_not_fail(tmp_path: Path) -> None:
    file = written(tmp_path, "ab\n")
    assert error_block(CompileError("no", location=SourceLocation(file, 1, 90, 99))).endswith("^")


def test_control_characters_are_spelled_out() -> None:
    assert visible("a\x1b[31mb\r\u202ec") == "a\\x1b[31mb\\r\\u202ec"
    assert "\x1b" not in error_block(CompileError("\x1b]0;title\x07", hint="\x1b[2J"))


def test_colours_only_where_asked() -> None:
    error = CompileError("no", hint="yes")
    assert "\x1b[" not in error_block(error)
    assert "\x1b[1;31merror:\x1b[0m no" in error_block(error, color=True)


def test_json_has_the_fields_of_the_error() -> None:
    error = ResourceError(
        "too much",
        location=SourceLocation("k.py", 3, 4),
        resource="registers",
        required=300,
        limit=255,
        other={1},
    )
    assert error_data(error) == {
        "kind": "ResourceError",
        "message": "too much",
        "hint": None,
        "location": {"file": "k.py", "line": 3, "column": 4, "function": None},
        "resource": "registers",
        "required": 300,
        "limit": 255,
    }


def refused(path: Path) -> None:
    """What the system says of a file that another user reads and writes alone."""
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        (lambda folder: (folder / "nosuch" / "x").write_text(""), "mkdir -p"),
        (lambda folder: folder.write_text(""), "this is a folder"),
        (
            lambda folder: (Path(written(folder, "")) / "x").write_text(""),
            "a file stands where a folder should",
        ),
        (lambda folder: folder.mkdir(), "choose another path"),
        (lambda folder: (folder / ("n" * 300)).write_text(""), "give a shorter name"),
        (lambda folder: refused(folder / "{x}"), "ls -ld"),
    ],
)
def test_error_of_the_file_system_says_the_remedy(
    tmp_path: Path, wrong: Callable[[Path], object], remedy: str
) -> None:
    with pytest.raises(OSError, match=re.escape(str(tmp_path))) as raised:
        wrong(tmp_path)
    said = failure_of_machine(raised.value)
    assert said is not None
    assert remedy in error_block(said)
    assert str(tmp_path) in error_block(said)


def test_long_messages_are_broken_between_words_in_a_terminal_alone() -> None:
    error = CompileError(
        "many words " * 12 + "/a/path/that/is" + "/long" * 20, hint="one of " + "sm_80, " * 20
    )
    wide, narrow = error_block(error), error_block(error, width=40)
    assert len(wide.splitlines()) == 2
    assert narrow.split() == wide.split()
    assert all(len(line) <= 40 for line in narrow.splitlines() if "/long" not in line)
    assert [line for line in narrow.splitlines() if "/long" in line] == ["/a/path/that/is" + "/long" * 20]
    assert "\x1b[1;31merror:\x1b[0m many words" in error_block(error, color=True, width=40)
