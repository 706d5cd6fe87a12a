"""Recordings: what is written comes back, whatever happens to the file's end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import busy_samples, machine, runs

from tessera.profiler.live import recorder as recorder_module
from tessera.profiler.live.figures import Figures, Machine, Mark, Sample
from tessera.profiler.live.player import Player
from tessera.profiler.live.recorder import Recorder
from tessera.profiler.live.recording import Recording
from tessera.profiler.live.recording_format import MAGIC, Kind, frame
from tessera.program.errors import ConfigError, RecordingError

Run = tuple[Machine, list[Sample]]

relaxed = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write(path: Path, of: Machine, samples: list[Sample], *, marks: tuple[Mark, ...] = ()) -> Path:
    path.unlink(missing_ok=True)
    with Recorder(path, of, interval_s=0.1, started_unix_s=1e9) as recorder:
        for mark in marks:
            recorder.mark(mark)
        for sample in samples:
            recorder.write(sample)
    return path


@relaxed
@given(runs(), st.integers(1, 5))
def test_samples_come_back_as_they_were(
    tmp_path: Path, run: tuple[Machine, list[Sample]], every: int
) -> None:
    of, samples = run
    kept, recorder_module.WHOLE_EVERY = recorder_module.WHOLE_EVERY, every
    try:
        path = write(tmp_path / "r.tslive", of, samples)
    finally:
        recorder_module.WHOLE_EVERY = kept
    recording = Recording(path)
    assert recording.machine == of
    assert list(recording.samples()) == samples
    assert (recording.complete, recording.damage) == (True, None)
    for index in reversed(range(len(samples))):
        assert recording.sample(index) == samples[index]


@relaxed
@given(runs(), st.data())
def test_torn_tail_loses_only_what_was_cut(tmp_path: Path, run: Run, data: st.DataObject) -> None:
    of, samples = run
    path = write(tmp_path / "r.tslive", of, samples)
    whole = path.read_bytes()
    first = len(write(tmp_path / "none.tslive", of, []).read_bytes()) - len(frame(Kind.END, 0, b"\xc0"))
    path.write_bytes(whole[: data.draw(st.integers(first - 9, len(whole)))])
    try:
        recording = Recording(path)
    except RecordingError:
        assert path.stat().st_size < first
        return
    found = list(recording.samples())
    assert found == samples[: len(found)]
    assert recording.complete or len(path.read_bytes()) < len(whole)
    if recording.damage:
        assert "cut off" in recording.damage


@relaxed
@given(st.integers(0, 2**31), st.integers(1, 255))
def test_flipped_byte_is_found_or_harmless(tmp_path: Path, where: int, flip: int) -> None:
    samples = busy_samples(2, 8)
    path = write(tmp_path / "r.tslive", machine(2), samples)
    data = bytearray(path.read_bytes())
    data[where % len(data)] ^= flip
    path.write_bytes(data)
    try:
        recording = Recording(path)
    except RecordingError:
        # The header itself.
        return
    found = list(recording.samples())
    assert found == samples[: len(found)]
    assert recording.damage


@relaxed
@given(st.binary(max_size=200))
def test_any_bytes_are_a_recording_or_a_clear_error(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "any.tslive"
    for data in (tail, MAGIC + tail, MAGIC + frame(Kind.HEADER, 0, tail)):
        path.write_bytes(data)
        with pytest.raises(RecordingError):
            Recording(path)


def test_later_version_is_refused_and_a_newer_figure_is_skipped(tmp_path: Path) -> None:
    import msgspec

    path = write(tmp_path / "r.tslive", machine(), busy_samples(1, 3))
    header = msgspec.msgpack.decode(path.read_bytes()[len(MAGIC) + 17 :][: _first_length(path)])
    path.write_bytes(MAGIC + frame(Kind.HEADER, 0, msgspec.msgpack.encode({**header, "version": 2})))
    with pytest.raises(RecordingError, match="version 2"):
        Recording(path)

    figures = ["from_the_future", "power_mw", "utilization_percent"]
    body = [[[[9, 250_000, None], [None, [], {}, None]]], []]
    path.write_bytes(
        MAGIC
        + frame(Kind.HEADER, 0, msgspec.msgpack.encode({**header, "figures": figures}))
        + frame(Kind(3), 5, msgspec.msgpack.encode("a mark"))
        + frame(Kind.WHOLE, 10, msgspec.msgpack.encode(body))
        + frame(Kind.CHANGES, 20, msgspec.msgpack.encode([[[0, [0, 10, 2, 55]]], []]))
    )
    recording = Recording(path)
    assert recording.sample(0).readings[0].figures == Figures(power_mw=250_000)
    assert recording.sample(1).readings[0].figures == Figures(power_mw=250_000, utilization_percent=55)
    assert [mark.text for mark in recording.marks] == ["a mark"]
    assert not recording.complete


def _first_length(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[len(MAGIC) : len(MAGIC) + 4], "little")


def test_existing_file_is_never_written_over(tmp_path: Path) -> None:
    path = write(tmp_path / "r.tslive", machine(), [])
    with pytest.raises(RecordingError, match="exists"):
        Recorder(path, machine(), interval_s=0.1, started_unix_s=0)


def test_recorder_that_is_killed_leaves_a_readable_file(
    tmp_path: Path, stub: Callable[..., dict[str, str]]
) -> None:
    code = """
import sys
from tessera.profiler.live.recorder import Recorder
from tessera.profiler.live.sampler import Sampler
sampler = Sampler(0.02)
recorder = Recorder(sys.argv[1], sampler.machine, interval_s=0.02, started_unix_s=sampler.started_unix_s)
sampler.listen(recorder.write, recorder.mark)
sampler.start()
sampler.mark("working")
import time
time.sleep(60)
"""
    path = tmp_path / "killed.tslive"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], env=stub(STUB_GPUS=4))
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not (path.exists() and path.stat().st_size > 5000):
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    recording = Recording(path)
    assert len(recording) > 3
    assert not recording.complete
    assert recording.label == "recorded on 4 × NVIDIA H200"
    assert [mark.text for mark in recording.marks] == ["working"]
    assert all(len(sample.readings) == 4 for sample in recording.samples())


def test_hour_of_eight_gpus_is_small_and_decodes_only_what_is_looked_at(tmp_path: Path) -> None:
    samples = busy_samples(8, 2_000)
    path = write(tmp_path / "long.tslive", machine(8), samples)
    per_sample = path.stat().st_size / len(samples)
    # Every figure of a busy machine changes all the time; an hour at ten a second stays below 16 MB.
    assert per_sample * 36_000 < 16e6
    recording = Recording(path)
    decoded = []
    plain = recording._decode
    recording._decode = lambda index, before: (decoded.append(index), plain(index, before))[1]  # type: ignore[method-assign]
    assert recording.sample(1_234) == samples[1_234]
    assert len(decoded) <= 100


def test_player_seeks_pauses_and_changes_speed(tmp_path: Path) -> None:
    samples = busy_samples(1, 100)
    path = write(tmp_path / "r.tslive", machine(), samples, marks=(Mark(5_000_000_000, "half"),))
    now = [100.0]
    player = Player(Recording(path), speed=2.0, clock=lambda: now[0])
    now[0] += 1.0
    assert player.position_s == pytest.approx(2.0)
    assert player.latest == samples[19]
    assert player.marks == ()
    player.pause()
    now[0] += 10.0
    assert player.position_s == pytest.approx(2.0)
    player.seek(6.0)
    assert player.latest == samples[59]
    assert [mark.text for mark in player.marks] == ["half"]
    assert player.history(1.0) == tuple(samples[49:60])
    player.seek(0.55)
    assert player.history(10.0) == tuple(samples[:5])
    player.resume()
    player.set_speed(1000)
    now[0] += 1.0
    assert player.ended
    assert player.latest == samples[-1]
    player.seek(-5)
    assert player.position_s == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ConfigError, match="speed"):
        player.set_speed(0)


@relaxed
@given(st.lists(st.tuples(st.floats(0, 11), st.floats(0, 5)), max_size=12))
def test_player_shows_the_same_from_wherever_it_came(
    tmp_path: Path, moves: list[tuple[float, float]]
) -> None:
    path = tmp_path / "r.tslive"
    if not path.exists():
        write(path, machine(), busy_samples(1, 100))
    samples = list(Recording(path).samples())
    player = Player(Recording(path), clock=lambda: 0.0)
    for position, seconds in moves:
        player.seek(position)
        last = max((i for i, s in enumerate(samples) if s.time_ns <= int(player.position_s * 1e9)), default=0)
        shown = player.history(seconds)
        assert shown[-1] == samples[last]
        assert list(shown) == samples[last + 1 - len(shown) : last + 1]


def test_recording_without_samples_plays_as_nothing(tmp_path: Path) -> None:
    player = Player(Recording(write(tmp_path / "r.tslive", machine(), [])))
    assert player.latest is None
    assert player.ended
