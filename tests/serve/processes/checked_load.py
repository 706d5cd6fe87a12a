"""Clients that check every answer."""

from __future__ import annotations

import threading
import time
from collections import Counter

import httpx
import numpy as np
from small_models import WEIGHT


class CheckedLoad:
    """Clients that send distinct rows until told to stop, on kept connections, and check what comes back.

    Args:
        url: Of the server.
        clients: How many.
    """

    def __init__(self, url: str, clients: int, path: str = "/predict") -> None:
        self._url = url
        self._path = path
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.outcomes: Counter[str] = Counter()
        """`ok`, a status, or the kind of a connection's error."""
        self.wrong: list[str] = []
        """Answers that are another's."""
        self.slowest_refusal_s = 0.0
        self.answered_s: list[float] = []
        """When each good answer came."""
        self.latencies_s: list[float] = []
        self._threads = [threading.Thread(target=self._client, args=(i,)) for i in range(clients)]

    def __enter__(self) -> CheckedLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let every client finish its request."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _client(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._stop.is_set():
                self._ask(client, rng.standard_normal((int(rng.integers(1, 4)), 4)).astype(np.float32))

    def _ask(self, client: httpx.Client, x: np.ndarray) -> None:
        started = time.monotonic()
        try:
            response = client.post(self._path, json={"input": x.tolist()})
        except httpx.ConnectError:
            self._note("refused", started)
            time.sleep(0.01)
            return
        except httpx.TransportError as error:
            self._note(type(error).__name__, started)
            return
        if response.status_code == 200:
            output = np.array(response.json()["output"])
            good = output.shape == (len(x), 3) and np.allclose(output, x @ WEIGHT, rtol=1e-4, atol=1e-5)
            if not good:
                self.wrong.append(f"{x} gave {output}")
            self._note("ok", started)
        else:
            assert "error" in response.json()
            self._note(str(response.status_code), started)
            time.sleep(0.01)

    def _note(self, outcome: str, started: float) -> None:
        now = time.monotonic()
        with self._lock:
            self.outcomes[outcome] += 1
            if outcome == "ok":
                self.answered_s.append(now)
                self.latencies_s.append(now - started)
            else:
                self.slowest_refusal_s = max(self.slowest_refusal_s, now - started)
