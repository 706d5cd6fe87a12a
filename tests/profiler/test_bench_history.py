"""Saved benchmarks: what is written is read back, by many at once, and what is no history is refused."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from report_samples import bench

from tessera.profiler import History
from tessera.profiler.bench_history import APPLICATION, SCHEMA, default_history
from tessera.program.errors import ConfigError, HistoryError


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "data" / "bench.sqlite")


def test_saved_run_is_read_back_equal(history: History) -> None:
    saved = history.save([bench("a.tsd"), bench("b.tsd")], name="before")
    assert history.runs() == [saved]
    assert history.find("before") == history.find(str(saved.id)) == history.find("last") == saved
    assert history.find(f"#{saved.id}").results[1].target == "b.tsd"


def test_nothing_saved_is_an_empty_list_and_makes_no_file(history: History) -> None:
    assert history.runs() == []
    assert not history.path.exists()
    with pytest.raises(ConfigError, match="no run 'last'"):
        history.find("last")


def test_newest_comes_first_and_filters_apply(history: History) -> None:
    for name in ("one", "two", "one"):
        history.save([bench(f"{name}.tsd")], name=name)
    assert [run.id for run in history.runs()] == [3, 2, 1]
    assert [run.id for run in history.runs(name="one")] == [3, 1]
    assert [run.id for run in history.runs(target="two.tsd")] == [2]
    assert [run.id for run in history.runs(limit=1)] == [3]
    assert history.find("last", targets=["two.tsd"]).id == 2
    assert history.find("one").id == 3


@pytest.mark.parametrize("which", ["4", "#4", "three", "99999999999999999999", "-1", "' OR 1=1 --", ""])
def test_run_that_is_not_there_is_refused(history: History, which: str) -> None:
    history.save([bench()], name="one")
    with pytest.raises(ConfigError) as caught:
        history.find(which)
    assert "--history" in (caught.value.hint or "")


def test_names_of_any_text_are_kept(history: History) -> None:
    name = "x'; DROP TABLE runs; -- 日本 \N{PILE OF POO}"
    history.save([bench(name)], name=name)
    assert history.find(name).results[0].target == name


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to be one", b"\0" * 4096, b"SQLite format 3\0torn"]
)
def test_file_that_is_no_database_is_refused_and_left_alone(history: History, content: bytes) -> None:
    history.path.parent.mkdir()
    history.path.write_bytes(content)
    for use in (history.runs, lambda: history.save([bench()])):
        with pytest.raises(HistoryError) as caught:
            use()
        assert str(history.path) in caught.value.message
        assert caught.value.hint
    assert history.path.read_bytes() == content


def test_empty_file_becomes_a_history(history: History) -> None:
    history.path.parent.mkdir()
    history.path.touch()
    assert history.runs() == []
    assert history.save([bench()]).id == 1


def test_database_of_something_else_is_refused_and_left_alone(history: History) -> None:
    history.path.parent.mkdir()
    with sqlite3.connect(history.path) as other:
        other.execute("CREATE TABLE runs (mine TEXT)")
    other.close()
    before = history.path.read_bytes()
    with pytest.raises(HistoryError, match="something else"):
        history.save([bench()])
    assert history.path.read_bytes() == before


def test_history_of_a_later_version_is_refused(history: History) -> None:
    history.save([bench()])
    with sqlite3.connect(history.path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    connection.close()
    with pytest.raises(HistoryError, match="later Tessera"):
        history.runs()


def test_torn_history_is_refused_with_what_to_do(history: History) -> None:
    for _ in range(20):
        history.save([bench()])
    data = bytearray(history.path.read_bytes())
    data[2000:] = os.urandom(len(data) - 2000)
    history.path.write_bytes(bytes(data))
    with pytest.raises(HistoryError) as caught:
        history.runs()
    assert "mv" in (caught.value.hint or "") or "another" in (caught.value.hint or "")


def test_damaged_document_names_the_run(history: History) -> None:
    history.save([bench()])
    with sqlite3.connect(history.path) as connection:
        connection.execute("UPDATE results SET document = ?", (b'{"target":3}',))
    connection.close()
    with pytest.raises(HistoryError, match="run 1"):
        history.runs()


def test_file_says_whose_it_is(history: History) -> None:
    history.save([bench()])
    connection = sqlite3.connect(history.path)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION,)
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HistoryError):
        History(tmp_path / "file" / "bench.sqlite").save([bench()])


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from report_samples import bench
from tessera.profiler import History
for number in range(8):
    History(Path(sys.argv[1])).save([bench(f"{sys.argv[3]}-{number}")], name=sys.argv[3])
"""


def test_processes_write_at_once_and_nothing_is_lost(history: History) -> None:
    here = str(Path(__file__).parent)
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(history.path), here, f"writer{k}"])
        for k in range(3)
    ]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    runs = history.runs()
    assert sorted(run.results[0].target for run in runs) == sorted(
        f"writer{k}-{n}" for k in range(3) for n in range(8)
    )
    assert len({run.id for run in runs}) == 24


FULL = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from report_samples import bench
from tessera.profiler import History
from tessera.program.errors import HistoryError
history = History(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))
saved = 0
try:
    while True:
        saved = history.save([bench()]).id
except HistoryError as error:
    print(saved, bool(error.hint))
"""


def test_full_disk_is_an_error_and_what_was_saved_stays(history: History) -> None:
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(history.path), here], capture_output=True, text=True, check=True
    )
    saved, hinted = done.stdout.split()
    assert hinted == "True"
    assert [run.id for run in history.runs()] == list(range(int(saved), 0, -1))
    assert history.save([bench()]).id > int(saved)


def test_place_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("TESSERA_DATA_DIR", raising=False)
    assert default_history() == tmp_path / "xdg" / "tessera" / "bench.sqlite"
    monkeypatch.setenv("TESSERA_DATA_DIR", str(tmp_path / "own"))
    assert default_history() == tmp_path / "own" / "bench.sqlite"
