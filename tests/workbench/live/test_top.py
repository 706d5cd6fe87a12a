"""`tessera top`: once, as JSON, recorded, replayed, exported, in a terminal app."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tessera.profiler.live.player import Player
from tessera.profiler.live.recording import Recording
from tessera.workbench.app.top_app import TopApp

STUB = Path(__file__).parents[2] / "profiler" / "live" / "nvml_machine.c"


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to build the NVML stub with")
    folder = tmp_path_factory.mktemp("nvml")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(STUB)], check=True)
    return folder


def command(*arguments: str, nvml: Path | None, **settings: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **settings, "LD_LIBRARY_PATH": str(nvml or "/nowhere"), "COLUMNS": "80"}
    return subprocess.Popen(
        [sys.executable, "-m", "tessera", "top", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def said(*arguments: str, nvml: Path | None = None, **settings: str) -> tuple[int, str, str]:
    process = command(*arguments, nvml=nvml, **settings)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_without_a_gpu_it_says_what_works_and_fails() -> None:
    status, out, err = said()
    assert (status, out) == (1, "")
    assert "no NVIDIA driver on this machine" in err
    assert "tessera top --replay demo" in err
    assert "tessera diag" in err


def test_without_a_gpu_json_is_one_error() -> None:
    status, out, _ = said("--json")
    assert status == 1
    assert json.loads(out)["error"]["kind"] == "DeviceError"


def test_once_in_a_pipe_prints_a_screen(nvml: Path) -> None:
    status, out, err = said(nvml=nvml, STUB_GPUS="2", STUB_LOST="1:0")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("tessera top · driver 580.82.07")
    assert "NVIDIA H200 the GPU is lost" in out
    assert max(len(line) for line in lines) <= 80


def test_json_holds_figures_in_words_and_numbers(nvml: Path) -> None:
    status, out, _ = said("--once", "--json", nvml=nvml, STUB_GPUS="8", STUB_THROTTLE="36")
    assert status == 0
    data = json.loads(out)
    assert [gpu["index"] for gpu in data["gpus"]] == list(range(8))
    gpu = data["gpus"][0]
    assert gpu["throttling"] == ["power cap", "heat"]
    assert gpu["fan_percent"] is None
    assert gpu["missing"]["fan_percent"] == "this GPU does not report it"
    assert gpu["processes"][0]["name"] == "python3"
    assert "hunter2" not in out


def test_recording_in_the_background_ends_on_a_signal_and_plays(nvml: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.tslive"
    process = command("--record", str(path), "--interval", "0.02", nvml=nvml, STUB_GPUS="2")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (path.exists() and path.stat().st_size > 3000):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert f"tessera top --replay {path}" in err
    assert Recording(path).complete
    status, out, err = said("--replay", str(path), "--json")
    data = json.loads(out)
    assert (status, data["complete"], data["damage"]) == (0, True, None)
    assert data["label"] == "recorded on 2 × NVIDIA H200"
    path.write_bytes(path.read_bytes()[:-5])
    status, out, err = said("--replay", str(path))
    assert status == 0
    assert "the last frame is cut off" in err
    assert "recorded on 2" in out


def test_recording_over_a_file_and_odd_calls_are_refused(nvml: Path, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    status, _, err = said("--record", str(tmp_path / "there"), nvml=nvml)
    assert status == 1
    assert "never written over" in err
    assert (tmp_path / "there").read_text() == "mine"
    assert said("--replay", "demo", "--record", "x")[0] == 2
    assert said("--replay", "demo", "--speed", "0")[0] == 2
    assert said("--interval", "0", nvml=nvml)[0] == 2
    status, _, err = said("--replay", str(tmp_path / "there"))
    assert status == 1
    assert "not a recording" in err


def test_prometheus_answers_with_the_figures(nvml: Path) -> None:
    process = command("--prometheus", "0", nvml=nvml, STUB_GPUS="2", STUB_LOST="1:0")
    assert process.stderr is not None
    url = process.stderr.readline().split()[-1]
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            text = answer.read().decode()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0
    labels = 'gpu="0",name="NVIDIA H200",uuid="GPU-0000"'
    assert f"tessera_gpu_power_limit_watts{{{labels}}} 700.0" in text
    assert f"tessera_gpu_energy_joules_total{{{labels}}}" in text
    ours = 'gpu="0",name="NVIDIA H200",reason="power cap",uuid="GPU-0000"'
    assert f"tessera_gpu_throttled{{{ours}}} 1.0" in text
    assert 'tessera_gpu_up{gpu="1",name="NVIDIA H200",uuid="GPU-0001"} 0.0' in text
    # Unknown is left out, never 0.
    assert "tessera_gpu_fan_percent{" not in text
    assert 'tessera_gpu_power_watts{gpu="1"' not in text


def test_demo_is_a_recording_of_an_h200_at_work() -> None:
    recording = Recording("demo")
    assert (recording.label, recording.complete, recording.damage) == ("recorded on NVIDIA H200", True, None)
    assert [mark.text for mark in recording.marks] == ["idle", "copy", "matmul", "idle", "stream", "idle"]
    watts = [(s.readings[0].figures.power_mw or 0) / 1000 for s in recording.samples()]
    assert min(watts) < 150
    assert max(watts) > 600
    launched = {name for sample in recording.samples() for name, _ in sample.launches}
    assert any("matmul" in name for name in launched)


async def test_app_plays_pauses_and_seeks_by_keys() -> None:
    now = [0.0]
    player = Player(Recording("demo"), clock=lambda: now[0])
    app = TopApp(player, lambda: f"at {player.position_s:.0f}")
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        await pilot.press("right", "right", "space")
        assert player.position_s == pytest.approx(10.0)
        assert player.paused
        await pilot.press("left", "plus", "space")
        assert player.position_s == pytest.approx(5.0)
        assert player.speed == 2.0
        assert not player.paused
        await pilot.press("w", "j", "home", "m")
        assert player.position_s == pytest.approx(0.0)
        await pilot.press("q")
    assert app.return_code == 0


async def test_app_draws_the_selected_gpu_and_the_heading() -> None:
    player = Player(Recording("demo"), start_s=9.0, clock=lambda: 0.0)
    app = TopApp(player, lambda: "[red]heading")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause(0.3)
        from textual.widgets import Static

        text = str(app.query_one("#screen", Static).content)
        assert "[red]heading" in text
        assert "power cap" in text


@pytest.mark.parametrize(
    ("name", "what"), [("missing.tslive", "no such file"), (".", "is a folder, not a recording")]
)
def test_recording_that_is_not_there_is_a_wrong_call(name: str, what: str) -> None:
    status, out, err = said("--replay", name, "--once")
    assert (status, out) == (2, "")
    assert what in err
    assert "--replay demo" in err
