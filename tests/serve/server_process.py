"""A server in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx


class ServerProcess:
    """A server in a process of its own, from a script that ends in `server.run()`."""

    def __init__(self, folder: Path, script: str, **environment: str) -> None:
        (folder / "server.py").write_text(script)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        env = {**os.environ, **environment, "TESSERA_PORT": str(self.port)}
        self.process = subprocess.Popen(
            [sys.executable, "server.py"], cwd=folder, env=env, stderr=subprocess.PIPE, text=True
        )
        self.url = f"http://127.0.0.1:{self.port}"

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                assert self.process.stderr is not None
                raise AssertionError(f"the server ended: {self.process.stderr.read()}")
            try:
                if httpx.get(f"{self.url}/ready", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError("the server was not ready in 30 s")

    def finish(self, timeout_s: float = 20) -> tuple[int, str]:
        """Exit status and log."""
        _, log = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, log

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
