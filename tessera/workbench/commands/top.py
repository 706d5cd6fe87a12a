"""`tessera top`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tessera.program.errors import MissingDependencyError
from tessera.workbench.failure import UsageError
from tessera.workbench.output import JsonOption, emit, note

if TYPE_CHECKING:
    from tessera.profiler.live.player import Player
    from tessera.profiler.live.recorder import Recorder
    from tessera.profiler.live.recording import Recording
    from tessera.profiler.live.sampler import Sampler

_FIRST_RATES_S = 0.3
"""How long `--once` watches: counters become rates."""

_STALE_S = 2.0
"""What is older than this is not live."""


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one screen and end.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", help="Between two samples, 0.02 at least.")
    ] = 0.1,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="FILE", help="Write a recording as well.")
    ] = None,
    replay: Annotated[
        str | None, typer.Option("--replay", metavar="FILE", help="Play a recording; demo is Tessera's own.")
    ] = None,
    speed: Annotated[
        float, typer.Option("--speed", metavar="X", help="Recorded seconds in one second.")
    ] = 1.0,
    at: Annotated[
        float | None, typer.Option("--at", metavar="SECONDS", min=0, help="Where to begin in a recording.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", metavar="S", min=0, help="End after so long.")
    ] = None,
    prometheus: Annotated[
        int | None,
        typer.Option("--prometheus", metavar="PORT", min=0, max=65535, help="Answer /metrics there, too."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address of --prometheus.")] = "127.0.0.1",
    as_json: JsonOption = False,
) -> None:
    """Watch the GPUs of this machine, or play a recording."""
    if replay is not None and record is not None:
        raise UsageError("--replay and --record exclude each other", hint="tessera top --help")
    served = prometheus is not None
    still = once or (as_json and record is None and not served)
    shown = sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    if not shown and record is None and not served:
        still = True
    if replay is not None:
        _replay(replay, speed, at, seconds, still=still, as_json=as_json, prometheus=prometheus, host=host)
        return
    from tessera.profiler.live.sampler import Sampler

    # A new sampler has read nothing yet; where there is no GPU it says so here.
    sampler = Sampler(interval)
    try:
        if still:
            _print_once(sampler, as_json=as_json)
            return
        with _recording(sampler, record) as recorder, _exporting(sampler, prometheus, host), sampler:
            _watch(sampler, recorder, seconds, shown=shown)
        _end(sampler, recorder, as_json=as_json)
    finally:
        sampler.stop()


def _print_once(sampler: Sampler, *, as_json: bool) -> None:
    import time

    from tessera.profiler.live.snapshot import snapshot

    with sampler:
        time.sleep(_FIRST_RATES_S)
        sampler.stop()
    if as_json:
        emit(snapshot(sampler))
    else:
        _print_screen(sampler, "live")


def _print_screen(feed: Sampler | Player, heading: str) -> None:
    from tessera.workbench.live.screen import View, draw, fitting_window
    from tessera.workbench.output import stdout_console

    console = stdout_console()
    width = max(console.width, 80)
    console.width = width
    view = View(heading, window_s=fitting_window(feed))
    for line in draw(feed, view, width, 24 + len(feed.machine.devices)):
        console.print(line, no_wrap=True, crop=True)


def _watch(sampler: Sampler, recorder: Recorder | None, seconds: float | None, *, shown: bool) -> None:
    def heading() -> str:
        age_s = sampler.age_s or 0.0
        if age_s > max(_STALE_S, 3 * sampler.interval_s):
            return f"no answer from the driver for {age_s:.0f} s"
        if sampler.failures:
            return f"recording {sampler.failures[-1]}"
        if recorder is None:
            return "live"
        return f"live · recording {recorder.bytes_written / 1e6:.1f} MB"

    if shown:
        _run_app(sampler, heading, seconds)
    else:
        _wait(seconds)


def _run_app(feed: Sampler | Player, heading: Callable[[], str], seconds: float | None) -> None:
    try:
        import textual  # noqa: F401
    except ModuleNotFoundError:
        raise MissingDependencyError.extra(
            "textual", "workbench", needed_for="the live screen (--once does without)"
        ) from None
    # textual costs 165 ms.
    from tessera.workbench.app.top_app import TopApp

    TopApp(feed, heading, seconds=seconds).run()


def _wait(seconds: float | None) -> None:
    """Until Ctrl-C, SIGTERM or the end of the time; none of them is an error."""
    import signal
    import threading

    ended = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        ended.wait(seconds)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(sampler: Sampler, recorder: Recorder | None, *, as_json: bool) -> None:
    latest = sampler.latest
    time_s = None if latest is None else latest.time_ns / 1e9
    for failure in sampler.failures:
        note(f"recording {failure}", "warning")
    if as_json:
        emit(
            {
                "ok": not sampler.failures,
                "recording": None if recorder is None else str(recorder.path),
                "bytes": None if recorder is None else recorder.bytes_written,
                "seconds": time_s,
                "failures": sampler.failures,
            }
        )
    elif recorder is not None:
        note(
            f"{recorder.path}: {time_s or 0:.1f} s, {recorder.bytes_written:,} bytes; play it: "
            f"tessera top --replay {recorder.path}"
        )
    if sampler.failures:
        raise typer.Exit(1)


@contextlib.contextmanager
def _recording(sampler: Sampler, path: Path | None) -> Iterator[Recorder | None]:
    if path is None:
        yield None
        return
    from tessera.profiler.live.recorder import Recorder

    with Recorder(
        path, sampler.machine, interval_s=sampler.interval_s, started_unix_s=sampler.started_unix_s
    ) as recorder:
        sampler.listen(recorder.write, recorder.mark)
        yield recorder
        # The thread must be over before the file is closed.
        sampler.stop()


@contextlib.contextmanager
def _exporting(feed: Sampler | Player, port: int | None, host: str) -> Iterator[None]:
    if port is None:
        yield
        return
    from tessera.profiler.live.exporter import Exporter

    exporter = Exporter(feed, port, host)
    note(f"figures for Prometheus at {exporter.url}")
    try:
        yield
    finally:
        exporter.close()


def _replay(
    name: str,
    speed: float,
    at: float | None,
    seconds: float | None,
    *,
    still: bool,
    as_json: bool,
    prometheus: int | None,
    host: str,
) -> None:
    from tessera.profiler.live.player import Player
    from tessera.profiler.live.recording import Recording
    from tessera.profiler.live.snapshot import snapshot

    if name != "demo" and not Path(name).is_file():
        what = "is a folder, not a recording" if Path(name).is_dir() else "there is no such file"
        raise UsageError(f"--replay {name}: {what}", hint="tessera top --replay demo plays Tessera's own")
    recording = Recording(name)
    if recording.damage:
        note(f"{recording.path}: {recording.damage}", "warning")
    elif not recording.complete:
        note(f"{recording.path}: the recorder was stopped before it could say that it was done", "warning")
    end = recording.duration_s
    player = Player(recording, speed=speed, start_s=at if at is not None else end if still else 0.0)

    def heading() -> str:
        state = " paused" if player.paused else ""
        place = f"{player.position_s:.1f} of {end:.1f} s ×{player.speed:g}{state}"
        return f"{recording.label} · {place}"

    if as_json and still:
        emit({**_about(recording), **snapshot(player)})
    elif still:
        player.pause()
        _print_screen(player, heading())
    else:
        with _exporting(player, prometheus, host):
            if sys.stdout.isatty() and not as_json:
                _run_app(player, heading, seconds)
            else:
                _wait(seconds)


def _about(recording: Recording) -> dict[str, object]:
    return {
        "recording": str(recording.path),
        "label": recording.label,
        "started_unix_s": recording.started_unix_s,
        "duration_s": recording.duration_s,
        "samples": len(recording),
        "marks": [{"time_s": mark.time_ns / 1e9, "text": mark.text} for mark in recording.marks],
        "complete": recording.complete,
        "damage": recording.damage,
    }
