"""The app in a real terminal."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("textual")
pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


class Terminal:
    """A tmux server of its own with one window."""

    def __init__(self, socket: Path, command: str, folder: Path) -> None:
        self._socket = str(socket)
        environment = [f"-e{k}={v}" for k, v in os.environ.items() if k.startswith(("TESSERA", "PYTHONPATH"))]
        self.tmux(
            "-f/dev/null", "new-session", "-d", "-x100", "-y30", *environment, f"-c{folder}",
            f"{command}; echo status=$?; sleep 60",
        )  # fmt: skip

    def tmux(self, *words: str) -> str:
        command = ["tmux", "-S", self._socket, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    @property
    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def wait(self, condition: Callable[[str], bool], seconds: float = 40) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition(text := self.screen):
                return text
            time.sleep(0.1)
        raise AssertionError("it did not happen; the screen:\n" + self.screen)


@pytest.fixture
def terminal(project: Path) -> Iterator[Terminal]:
    found = Terminal(project / "tmux", f"{sys.executable} -m tessera workbench .", project)
    yield found
    subprocess.run(["tmux", "-S", found._socket, "kill-server"], check=False)


def test_opens_compiles_and_quits_in_tmux(terminal: Terminal) -> None:
    terminal.wait(lambda s: "◆ saxpy" in s and "Press c to compile" in s)
    terminal.tmux("send-keys", "c")
    text = terminal.wait(lambda s: "100 % occupancy" in s)
    assert "PTX · saxpy · sm_90" in text
    terminal.tmux("send-keys", "A")
    terminal.wait(lambda s: "PTX · saxpy · sm_80" in s)
    terminal.tmux("send-keys", "q")
    terminal.wait(lambda s: "status=0" in s)
