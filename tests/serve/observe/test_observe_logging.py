"""Logs of servers: what a line says, where it goes, and that nothing about it disturbs the program."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.program.errors import ConfigError
from tessera.serve.observe.context import CURRENT, RequestContext, accepted_id
from tessera.serve.observe.log_file import LogFile
from tessera.serve.observe.log_format import to_json, to_text
from tessera.serve.observe.log_queue import QueuedHandler
from tessera.serve.observe.logging_config import LoggingConfig
from tessera.serve.observe.trace import RequestTrace

LOGGER = "tessera.test_logs"
logger = logging.getLogger(LOGGER)


@pytest.fixture(autouse=True)
def forget_handlers() -> Iterator[None]:
    yield
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("a.b", logging.WARNING, "f.py", 1, message, args, None)
    vars(made).update(extra)
    return made


def test_json_line_holds_message_extras_and_error(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "model.log"
    LoggingConfig.setup(logging.INFO, output_file=path, logger=LOGGER)
    shape = np.zeros((3, 4)).shape
    extra = {"request_id": "r-1", "input_shape": shape, "device": "cuda:0", "share": np.float32(0.5)}
    logger.info("Inference %s", "request", extra=extra)
    logger.debug("not at this level")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logger.exception("failed")
    logger.handlers[0].flush()
    first, second = lines(path)
    assert first["message"] == "Inference request"
    assert (first["level"], first["logger"], first["request_id"]) == ("INFO", LOGGER, "r-1")
    assert (first["input_shape"], first["share"]) == ([3, 4], 0.5)
    assert str(first["time"]).endswith("Z")
    error = second["error"]
    assert isinstance(error, dict)
    assert (error["type"], error["message"]) == ("ValueError", "two\nlines")
    assert "raise ValueError" in error["stack"]


@given(st.text(), st.dictionaries(st.text(), st.none() | st.floats() | st.text() | st.lists(st.integers())))
def test_any_text_stays_one_line_of_json(message: str, extra: dict[str, object]) -> None:
    encoded = to_json(record("%s", message, given=extra))
    assert encoded.count(b"\n") == 1
    assert json.loads(encoded)["message"] == message


def test_lone_surrogates_and_cycles_are_still_a_line() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    assert json.loads(to_json(record("half a pair \ud800", loop=cycle)))["level"] == "WARNING"


@given(st.text())
def test_text_line_cannot_be_forged(message: str) -> None:
    assert (
        len(to_text(record("%s", message, path=message)).decode(errors="replace").splitlines())
        <= 1 + sum(c in "\u2028\u2029" for c in message) * 2
    )


def test_extra_does_not_overwrite_a_field_of_the_line() -> None:
    line = json.loads(to_json(record("m", level="x", time=1)))
    assert (line["level"], line["extra.level"], line["extra.time"]) == ("WARNING", "x", 1)


def test_lines_of_a_request_say_which(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    LoggingConfig.setup(output_file=path, logger=LOGGER)
    context = RequestContext("abc")
    context.trace = RequestTrace(None, "", 0.0)
    context.trace.trace_id, context.trace.span_id = int("1" * 32, 16), int("2" * 16, 16)
    token = CURRENT.set(context)
    logger.info("inside")
    CURRENT.reset(token)
    logger.info("outside")
    logger.handlers[0].flush()
    inside, outside = lines(path)
    assert (inside["request_id"], inside["trace_id"], inside["span_id"]) == ("abc", "1" * 32, "2" * 16)
    assert "request_id" not in outside


@pytest.mark.parametrize("value", [b"a b", b"x" * 129, b"a\r\nb", b'"', b"\xff", b""])
def test_request_ids_that_could_forge_lines_are_not_taken(value: bytes) -> None:
    assert accepted_id(value) is None


def test_request_id_is_made_once_and_only_when_asked() -> None:
    context = RequestContext()
    assert context.known_id is None
    assert context.request_id == context.request_id == context.known_id != RequestContext().request_id


def test_rotation_by_size_keeps_every_line_and_so_many_files(tmp_path: Path) -> None:
    path = tmp_path / "m.log"
    LoggingConfig.setup(
        output_file=path, enable_rotation=True, max_bytes=2000, backup_count=50, logger=LOGGER
    )
    for i in range(200):
        logger.info("line %d", i)
        logger.handlers[0].flush()
    found = [p for p in tmp_path.iterdir() if p.suffix != ".lock"]
    files = sorted(found, key=lambda p: -int(p.suffix.lstrip(".").replace("log", "0")))
    assert len(files) > 5
    said = [entry["message"] for file in files for entry in lines(file)]
    assert said == [f"line {i}" for i in range(200)]
    assert all(file.stat().st_size <= 2000 for file in files)


def test_rotation_drops_the_oldest_beyond_backup_count(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "m.log", max_bytes=10, backup_count=2)
    for i in range(5):
        file.write(b"number %d\n" % i)
    file.close()
    found = {p.name: p.read_text() for p in tmp_path.iterdir() if not p.name.endswith(".lock")}
    assert found == {"m.log": "number 4\n", "m.log.1": "number 3\n", "m.log.2": "number 2\n"}


def test_rotation_by_time_puts_each_period_in_a_file_of_its_own(tmp_path: Path) -> None:
    now_s = 86_400.0 * 20_000 - 1
    file = LogFile(tmp_path / "m.log", rotate_every_s=86_400, backup_count=3, clock=lambda: now_s)
    file.write(b"before midnight\n")
    now_s += 2
    file.write(b"after\n")
    file.write(b"again\n")
    file.close()
    assert (tmp_path / "m.log.1").read_text() == "before midnight\n"
    assert (tmp_path / "m.log").read_text() == "after\nagain\n"


def test_file_that_somebody_moved_away_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "m.log"
    file = LogFile(path)
    file.write(b"one\n")
    path.rename(tmp_path / "elsewhere")
    file.write(b"two\n")
    file.close()
    assert path.read_text() == "two\n"


def test_two_writers_of_a_file_rotate_it_without_losing_a_line(tmp_path: Path) -> None:
    path = tmp_path / "m.log"

    def write(name: int) -> None:
        file = LogFile(path, max_bytes=500, backup_count=1000)
        for i in range(200):
            file.write(b"%d %03d\n" % (name, i))
        file.close()

    threads = [threading.Thread(target=write, args=(n,)) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = [line for p in tmp_path.glob("m.log*") for line in p.read_text().splitlines()]
    assert sorted(said) == sorted(f"{n} {i:03d}" for n in (1, 2) for i in range(200))


def test_full_disk_loses_lines_counts_them_and_says_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = LoggingConfig.setup(output_file="/dev/full", logger=LOGGER)
    for i in range(20):
        logger.info("line %d", i)
        handler.flush()
    assert (handler.counts.written, handler.counts.failed) == (0, 20)
    said = capsys.readouterr().err
    assert said.count("the log cannot be written") == 1
    assert "No space left on device" in said


RECOVERS = """
import logging, resource, signal, sys, time
from tessera.serve.observe import log_queue
from tessera.serve.observe.logging_config import LoggingConfig
log_queue.RETRY_S = 0.01
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
handler = LoggingConfig.setup(output_file=sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
for i in range(30):
    logging.info("line %d", i)
    handler.flush()
lost = handler.counts.failed
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
time.sleep(0.05)
logging.info("after")
handler.flush()
print(lost, handler.counts.failed)
"""


def test_log_goes_on_when_there_is_space_again(tmp_path: Path) -> None:
    path = tmp_path / "m.log"
    done = subprocess.run(
        [sys.executable, "-c", RECOVERS, path], capture_output=True, text=True, check=True, timeout=60
    )
    lost, after = map(int, done.stdout.split())
    assert lost == after > 10
    assert done.stderr.count("cannot be written") == 1
    assert f"written again; {lost} lines were lost" in done.stderr
    *_, torn, last = path.read_text().splitlines()
    assert json.loads(last)["message"] == "after"
    with pytest.raises(json.JSONDecodeError):
        json.loads(torn)


class StuckSink:
    """A disk that takes nothing until it is told to."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.data = b""

    def write(self, data: bytes) -> None:
        self.free.wait(20)
        self.data += data

    def close(self) -> None:
        pass


def test_callers_never_wait_for_a_stuck_disk_and_the_queue_is_bounded() -> None:
    sink = StuckSink()
    handler = QueuedHandler(sink, to_json, max_pending=100)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    for i in range(1000):
        logger.info("line %d", i)
    dropped = handler.counts.dropped
    # What the writer has in its hand when it gets stuck has left the queue.
    assert 1000 - 100 - 256 <= dropped <= 900
    sink.free.set()
    handler.flush()
    logger.info("last")
    handler.flush()
    said = [json.loads(line)["message"] for line in sink.data.splitlines()]
    assert len([m for m in said if m.startswith("line")]) == 1000 - dropped
    notes = [m for m in said if "log records were dropped: 100 were waiting to be written" in m]
    assert sum(int(m.split()[0]) for m in notes) == dropped


def test_wrong_format_string_does_not_reach_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    handler = LoggingConfig.setup(output_file=tmp_path / "m.log", logger=LOGGER)
    logger.info("%d", "not a number")
    logger.info("fine", extra={"bad": Unprintable()})
    logger.info("next")
    handler.flush()
    assert [entry["message"] for entry in lines(tmp_path / "m.log")][-1] == "next"


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


FORKS = """
import logging, os, sys
from tessera.serve.observe.logging_config import LoggingConfig
handler = LoggingConfig.setup(output_file=sys.argv[1])
logging.info("parent")
if (child := os.fork()) == 0:
    logging.info("child")
    handler.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def test_forked_process_logs_too_and_the_last_lines_are_written_at_exit(tmp_path: Path) -> None:
    path = tmp_path / "m.log"
    subprocess.run([sys.executable, "-c", FORKS, path], check=True, timeout=60)
    assert sorted(str(entry["message"]) for entry in lines(path)) == ["child", "parent"]


def test_second_setup_takes_the_place_of_the_first(tmp_path: Path) -> None:
    LoggingConfig.setup(output_file=tmp_path / "a.log", logger=LOGGER)
    handler = LoggingConfig.setup("WARNING", "text", tmp_path / "b.log", logger=LOGGER)
    logger.info("too little")
    logger.warning("once", extra={"device": "cpu"})
    handler.flush()
    assert (tmp_path / "a.log").read_text() == ""
    assert (tmp_path / "b.log").read_text().endswith(f"WARNING {LOGGER}: once device=cpu\n")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"level": "LOUD"}, "LOUD"),
        ({"format": "xml"}, "xml"),
        ({"max_bytes": -1}, "max_bytes"),
        ({"rotate_every_s": 0}, "rotate_every_s"),
        ({"output_file": "/proc/no/such.log"}, "/proc/no"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        LoggingConfig.setup(**settings, logger=LOGGER)


def test_permissions_of_a_new_log_leave_others_out(tmp_path: Path) -> None:
    LogFile(tmp_path / "m.log").close()
    assert (tmp_path / "m.log").stat().st_mode & 0o007 == 0
