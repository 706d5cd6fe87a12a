"""`tessera debug`, line by line: commands in, text or JSON out."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Said, Tessera
from .debugged import SOURCE

pytest.importorskip("elftools")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with debugged.py, which is the current one."""
    (tmp_path / "debugged.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


Debug = Callable[..., Said]


@pytest.fixture
def debug(tessera: Tessera, folder: Path) -> Debug:
    """The debugger on a kernel, with commands."""
    assert folder

    def run(name: str, *commands: str, options: tuple[str, ...] = ()) -> Said:
        words = [word for command in commands for word in ("-x", command)]
        return tessera("debug", f"debugged.py:{name}", *words, *options)

    return run


def line_of(text: str) -> int:
    """The line of the source that has a text."""
    return next(n for n, line in enumerate(SOURCE.splitlines(), 1) if text in line)


def objects(said: Said) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.out.splitlines()]


def test_starts_at_the_first_statement(debug: Debug) -> None:
    said = debug("smooth", "locals")
    assert said.status == 0
    assert said.out.splitlines()[0] == (
        "smooth at debugged.py:16  block (0, 0, 0) warp 0 lane 0  all lanes active  "
        "moment " + said.out.splitlines()[0].rpartition(" ")[2]
    )
    assert "   16     tile = cuda.shared.array((4, 16), float32)" in said.out
    assert "tile   float32[:, :]  not assigned yet" in said.out
    assert "sizes assumed: n=101" in said.err


def test_step_visits_the_lines_of_the_warp_in_order(debug: Debug) -> None:
    said = debug("smooth", *["step"] * 10, options=("--json",))
    lines = [item["stop"]["line"] for item in objects(said)]
    assert lines == [16, 17, 18, 19, 20, 21, 22, 23, 24, 22, 23]


def test_step_goes_into_a_device_function_and_next_over_it(debug: Debug) -> None:
    said = debug(
        "smooth", "break 27", "c", "step", "bt", "locals", "finish", "rc", "next", options=("--json",)
    )
    at, stepped, calls, names, finished, again, over = objects(said)[2:]
    assert (at["stop"]["line"], at["stop"]["function"]) == (27, "smooth")
    assert (stepped["stop"]["line"], stepped["stop"]["function"], stepped["stop"]["depth"]) == (10, "mean", 1)
    assert [(c["function"], c["line"]) for c in calls["calls"]] == [("mean", 10), ("smooth", 27)]
    assert set(names["locals"]) == {"a", "b", "total"}
    assert (finished["stop"]["line"], finished["stop"]["depth"]) == (27, 0)
    assert again["stop"]["clock"] == at["stop"]["clock"]
    # The other branch's lanes come next.
    assert (over["stop"]["line"], over["stop"]["function"]) == (29, "smooth")


def test_divergent_warp_shows_who_is_active(debug: Debug) -> None:
    said = debug("smooth", "until 27", "warps", "next", "lanes t", options=("--json",))
    _, even, warps, odd, values = objects(said)
    assert even["stop"]["active"] == 0x55555555
    groups = warps["warps"][0]["groups"]
    assert [g["doing"] for g in groups] == ["running", "ready"]
    assert [g["lanes"] for g in groups] == [0x55555555, 0xAAAAAAAA]
    assert groups[1]["line"] in (26, 29)
    assert odd["stop"]["active"] == 0xAAAAAAAA
    # Lane 0, in focus until now, does not take part.
    assert odd["stop"]["focus"]["lane"] == 1
    assert [v["value"] for v in values["lanes"]] == list(range(32))
    assert [v["active"] for v in values["lanes"]] == [lane % 2 == 1 for lane in range(32)]


def test_follow_lane_passes_over_the_lines_of_others(debug: Debug) -> None:
    said = debug("smooth", "set follow lane", "lane 3", "until 26", "next", options=("--json",))
    assert objects(said)[-1]["stop"]["line"] == 29


def test_condition_finds_the_first_thread_for_which_it_holds(debug: Debug) -> None:
    said = debug(
        "smooth", "break 24 if i == 70 and k == 2", "c", "p k", "p i", "p total", options=("--json",)
    )
    stop, k, i, _ = objects(said)[2:]
    assert stop["stop"]["reason"] == "breakpoint"
    assert stop["stop"]["focus"] == {"block": [1, 0, 0], "warp": 0, "lane": 6}
    assert (k["value"], i["value"]) == (2, 70)


def test_values_are_those_that_the_kernel_computes(debug: Debug) -> None:
    said = debug(
        "smooth", "break 25 if i == 40", "c", "p total == sums[0] + sums[1] + sums[2]", "p sums",
        "p tile[2,8] == x[i]", "p x[i-2:i+3]", "p tile[2]", "p x[i] * SCALE / x[i]",
        "p threadIdx.x + blockDim.x", "p/x i", "p x.shape", "p -x[0] < 100 and not False", "p cuda.grid(1)",
        "p max(1, 2) if lane == 8 else 0", options=("--json",),
    )  # fmt: skip
    same, sums, equal, part, row, ratio, sizes, hexadecimal, shape, truth, grid, choice = (
        item["value"] for item in objects(said)[3:]
    )
    assert same is True
    assert (sums["shape"], sums["space"]) == ([3], "local")
    assert equal is True
    assert (len(part), part[2]) == (5, sums["values"][0])
    assert (len(row), row[8]) == (16, part[2])
    assert (ratio, sizes, hexadecimal, shape, truth, grid, choice) == (3, 40 + 64, 40, [101], True, 40, 2)


def test_hexadecimal_is_printed(debug: Debug) -> None:
    assert "i = 0x28" in debug("smooth", "break 25 if i == 40", "c", "p/x i").out


def test_shared_array_is_a_grid_by_name(debug: Debug) -> None:
    said = debug("smooth", "until 20", "shared", "shared tile", "arrays")
    assert "tile  float32[4, 16]" in said.out
    assert "tile  float32[4, 16]       shared" in said.out
    said = debug("smooth", "until 20", "shared nothing", options=("--json",))
    assert objects(said)[-1]["error"]["hint"] == "shared arrays: tile"


def test_what_changed_since_the_stop_before_is_marked(debug: Debug) -> None:
    said = debug("smooth", "until 23", "n", "n", "locals", options=("--json",))
    # From line 24 to the head of the loop: the sum alone.
    assert objects(said)[-1]["changed"] == ["total"]
    assert "* total" in debug("smooth", "until 23", "n", "n", "locals").out


def test_variable_has_no_value_before_it_is_assigned(debug: Debug) -> None:
    said = debug("smooth", "print total", "lanes total", options=("--json",))
    missing, lanes = objects(said)[1:]
    assert missing["error"]["message"] == "total is not assigned yet"
    assert {lane["value"] for lane in lanes["lanes"]} == {None}
    assert said.status == 1


@pytest.mark.parametrize("command", ["watch y[3]", "awatch y[3]"])
def test_watchpoint_stops_before_the_write_with_both_values(debug: Debug, command: str) -> None:
    said = debug("smooth", command, "p y[3]", "c", "p y[3]", "p total * SCALE", "c", options=("--json",))
    _, old, stop, still, new, end = objects(said)[1:]
    access = stop["stop"]["access"]
    assert stop["stop"]["focus"] == {"block": [0, 0, 0], "warp": 0, "lane": 3}
    assert stop["stop"]["line"] == 29
    assert old["value"] == still["value"] == pytest.approx(float(access["before"]))
    assert new["value"] == pytest.approx(float(access["after"]))
    assert end["stop"]["reason"] == "end"


def test_watch_on_a_read_names_the_reader(debug: Debug) -> None:
    said = debug("smooth", "rwatch x[65]", "c", options=("--json",))
    stop = objects(said)[-1]["stop"]
    assert (stop["access"]["write"], stop["line"], stop["focus"]["lane"]) == (False, 18, 1)
    assert stop["focus"]["block"] == [1, 0, 0]


def test_watched_shared_element_is_found_backwards(debug: Debug) -> None:
    said = debug("smooth", "until 25", "watch tile[2, 8]", "rc", options=("--json",))
    stop = objects(said)[-1]["stop"]
    assert (stop["reason"], stop["line"], stop["focus"]["lane"], stop["focus"]["warp"]) == (
        "watchpoint",
        18,
        8,
        1,
    )


def test_back_undoes_steps(debug: Debug) -> None:
    said = debug("smooth", *["step"] * 9, *["back"] * 9, options=("--json",))
    stops = [item["stop"] for item in objects(said)]
    forwards, backwards = stops[:10], stops[9:]
    assert [s["clock"] for s in backwards] == [s["clock"] for s in reversed(forwards)]
    assert [s["line"] for s in backwards] == [s["line"] for s in reversed(forwards)]


def test_back_from_the_end_is_the_last_line_of_the_last_block(debug: Debug) -> None:
    stop = objects(debug("smooth", "c", "back", options=("--json",)))[-1]["stop"]
    assert (stop["focus"]["block"], stop["function"]) == ([1, 0, 0], "smooth")
    assert stop["line"] in (25, 27, 29)


def test_out_of_bounds_stops_where_it_happens(debug: Debug) -> None:
    said = debug("unguarded", "c", "p i", "p x.size", "back", "findings", options=("--json",))
    found, i, size, before, listed = objects(said)[1:]
    assert said.status == 1
    assert found["stop"]["reason"] == "finding"
    assert (found["stop"]["line"], found["stop"]["finding"]["kind"]) == (
        line_of("y[i] = x[i] * 2"),
        "out-of-bounds",
    )
    assert i["value"] == size["value"] == 101
    assert before["stop"]["line"] in (found["stop"]["line"], found["stop"]["line"] - 1)
    assert [f["kind"] for f in listed["findings"]] == ["out-of-bounds"]


def test_findings_can_be_passed_over(debug: Debug) -> None:
    said = debug("unguarded", "set findings off", "c", options=("--json",))
    assert objects(said)[-1]["stop"]["reason"] == "end"


def test_divergent_barrier_stops_and_the_next_block_goes_on(debug: Debug) -> None:
    said = debug("stuck", "c", "warps", "c", options=("--json",))
    stop = objects(said)[1]["stop"]
    assert stop["finding"]["kind"] == "divergent-barrier"
    assert objects(said)[-1]["stop"]["reason"] == "end"


def test_warps_show_who_waits_at_which_barrier(debug: Debug) -> None:
    said = debug("stuck", "warp 1", "next", "next", "warps", options=("--json",))
    first, second = objects(said)[-1]["warps"]
    assert [(g["doing"], g["barrier"], g["line"]) for g in first["groups"]] == [("barrier", 0, 36)]
    assert second["groups"][0]["line"] == 38


def test_finding_is_found_again_backwards(debug: Debug) -> None:
    said = debug("unguarded", "c", "c", "c", "rc", options=("--json",))
    first, *_, back = (item["stop"] for item in objects(said)[1:])
    assert back["reason"] == "finding"
    assert back["clock"] >= first["clock"]


def test_line_without_code_offers_the_nearest(debug: Debug) -> None:
    said = debug("smooth", "break 4")
    assert "error: debugged.py:4 has no code" in said.out
    assert "hint: the nearest line with code: break 10" in said.out
    assert said.status == 1


@pytest.mark.parametrize(
    ("command", "message", "hint"),
    [
        ("print totl", "there is no variable 'totl' in smooth", "did you mean total?"),
        ("brek 3", "there is no command 'brek'", "did you mean break? help lists all commands"),
        ("break meen", "there is no function 'meen'", "did you mean mean?"),
        ("warp 9", "there is no warp 9: a block has 2 warps", None),
        ("lane 40", "there is no lane 40: warp 0 has 32 lanes", None),
        ("block 5", "there is no block (5, 0, 0): the grid has 2 × 1 × 1 blocks", None),
        ("delete 7", "there is no breakpoint 7", "breakpoints: none"),
        ("step zero", "'zero' is not a number of times", "such as: step 5"),
        ("print x[500]", "index 500 is outside of an array of shape (101,)", None),
        ("print __import__('os')", "'os': only numbers are allowed here", None),
        ("print x.__class__", "x.__class__: there is no attribute '__class__'", None),
        ("print (lambda: 1)()", "lambda: 1 cannot be called here", None),
        ("print [i for i in x]", "[i for i in x]: this form is not allowed here", None),
        ("print 9**999999", "9 ** 999999: 999999 is more than 64", None),
        ("print 1 <<", "1 <<: invalid syntax", None),
        ("print %rd99999", "there is no register %rd99999", None),
        ("watch i", "i is neither a array", None),
    ],
)
def test_wrong_command_says_what_is_right(debug: Debug, command: str, message: str, hint: str | None) -> None:
    (answer,) = objects(debug("smooth", command, options=("--json",)))[1:]
    assert not answer["ok"]
    if command != "watch i":
        assert answer["error"]["message"] == message
    if hint is not None:
        assert answer["error"]["hint"] == hint


def test_commands_come_from_stdin_too(
    tessera: Tessera, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folder
    monkeypatch.setattr("sys.stdin", io.StringIO("break 25\n\ncontinue\nprint i\nquit\nprint i\n"))
    said = tessera("debug", "debugged.py:smooth", "--size", "n=64")
    assert said.status == 0
    assert said.out.count("(tdb) ") == 4
    assert said.out.endswith("i = 0\n(tdb) quit\n")


def test_empty_line_repeats_a_step(tessera: Tessera, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder
    monkeypatch.setattr("sys.stdin", io.StringIO("step\n\n\n"))
    said = tessera("debug", "debugged.py:smooth", "--json")
    assert [item["stop"]["line"] for item in objects(said)] == [16, 17, 18, 19]


def test_variables_of_every_kind_keep_their_values(debug: Debug) -> None:
    until = f"until {line_of('last = 7')}"
    said = debug(
        "shapes", "lane 5", until, "locals", "p pair[1] == x[t]", "p row", "p -flag", options=("--json",)
    )
    names, same, row, flag = objects(said)[3:]
    found = names["locals"]
    assert found["value"] == 1.5
    assert found["flag"] is True
    assert found["row"]["shape"] == [4]
    assert next(iter(found["pair"].values())) == 5
    assert same["value"] is True
    assert len(row["value"]["values"]) == 4
    assert flag["value"] == -1


def test_name_of_two_types_is_what_was_assigned_last(debug: Debug) -> None:
    until = f"until {line_of('value = 1.5')}"
    first, before, _, after = objects(debug("shapes", until, "p value", "n", "p value", options=("--json",)))[
        1:
    ]
    assert first["ok"]
    assert isinstance(before["value"], int)
    assert after["value"] == 1.5


def test_python_exception_stops_before_it_ends_the_thread(debug: Debug) -> None:
    said = debug("quotient", "c", "p t", "c", options=("--json",))
    raised, value, end = objects(said)[1:]
    assert raised["stop"]["reason"] == "exception"
    assert raised["stop"]["line"] == line_of("x[t] // (t - 3)")
    assert value["value"] == 3
    assert end["stop"]["reason"] == "end"


def test_help_names_every_command(debug: Debug) -> None:
    said = debug("smooth", "help", "help break", "h p")
    from tessera.workbench.debug.commands import COMMANDS

    for command in COMMANDS:
        assert f"  {command.names[0]}" in said.out
    assert "break 17 if i == 40 and lane == 8" in said.out


def test_optimized_code_knows_arrays_and_lines(debug: Debug) -> None:
    said = debug("smooth", "until 25", "locals", "p x[3]", "p tile", options=("--optimized", "--json"))
    stop, names, element, tile = objects(said)[1:]
    assert stop["stop"]["line"] == 25
    assert names["locals"] == {}
    assert isinstance(element["value"], float)
    assert not tile["ok"]


def test_generated_kernels_of_a_function_run_in_turn(debug: Debug) -> None:
    said = debug("scores", "c", "back", options=("--json",))
    first, end, last = objects(said)
    assert first["stop"]["launch"] == 0
    assert end["stop"]["reason"] == "end"
    assert last["stop"]["launch"] >= 0
    assert last["stop"]["line"] == line_of("ts.softmax")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("debugged.py",), "has 7 things to"),
        (("debugged.py:smooth", "--arch", "cpu"), "debug runs GPU code"),
        (("debugged.py:smooth", "--size", "m=4"), "there is no size called 'm'"),
        (("absent.py",), "there is no file absent.py"),
    ],
)
def test_wrong_call_is_refused(tessera: Tessera, folder: Path, words: tuple[str, ...], text: str) -> None:
    assert folder
    said = tessera("debug", *words, "-x", "step")
    assert said.status in (1, 2)
    assert text in said.err
