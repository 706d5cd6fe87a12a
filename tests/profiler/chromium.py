"""A headless Chromium, spoken to over pipes in its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import time
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any

PATIENCE_S = 60.0


def find_chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def _pixels(png: bytes) -> bytes:
    """The filtered rows of a PNG: its data chunks, decompressed."""
    data, place = b"", 8
    while place < len(png):
        length = int.from_bytes(png[place : place + 4])
        if png[place + 4 : place + 8] == b"IDAT":
            data += png[place + 8 : place + 8 + length]
        place += length + 12
    return zlib.decompress(data)


class Browser:
    """One browser with one page. Every event since it was opened is in `events`."""

    def __init__(self, executable: str, profile: Path) -> None:
        from_browser, browser_writes = os.pipe()
        browser_reads, to_browser = os.pipe()
        flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        # The protocol is on descriptors 3 and 4 of the browser; out of their way first.
        high_reads, high_writes = (
            fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in (browser_reads, browser_writes)
        )
        self._pid = os.posix_spawn(
            executable,
            [executable, *flags],
            {**os.environ, "HOME": str(profile)},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, high_reads, 3),
                (os.POSIX_SPAWN_DUP2, high_writes, 4),
            ],
        )
        os.close(high_reads)
        os.close(high_writes)
        os.close(browser_reads)
        os.close(browser_writes)
        self._out = os.fdopen(to_browser, "wb", buffering=0)
        self._in = os.fdopen(from_browser, "rb")
        self._buffer = b""
        self._id = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._session = None
            with contextlib.suppress(EOFError, BrokenPipeError):
                self.call("Browser.close")
        finally:
            self._out.close()
            self._in.close()
            os.waitpid(self._pid, 0)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._id += 1
        message: dict[str, Any] = {"id": self._id, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            answer = self._receive()
            if answer.get("id") == self._id:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)
        raise TimeoutError(method)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            # read1 waits for what the browser says next; a browser that dies closes the pipe.
            part = self._in.read1(1 << 20)  # type: ignore[attr-defined]
            if not part:
                raise EOFError("the browser has gone")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def open(self, path: Path, *, width: int, dark: bool = False, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        self.evaluate(
            "new Promise(done => { const wait = () => "
            "document.readyState === 'complete' && location.protocol === 'file:' "
            "&& (!document.getElementById('figures') || document.documentElement.dataset.drawn) "
            "? setTimeout(done, 100) : setTimeout(wait, 20); wait(); })"
        )

    def drawn(self) -> None:
        """Wait until every chart of a report is drawn."""
        self.evaluate(
            "new Promise(done => { const wait = () => document.documentElement.dataset.drawn "
            "? setTimeout(done, 50) : setTimeout(wait, 20); wait(); })"
        )

    def colours(self) -> int:
        """How many values of bytes a picture of the page has once decompressed: few if it is blank."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        return len(set(_pixels(base64.b64decode(shot["data"]))))

    def picture(self, selector: str, *, most: int) -> bytes:
        """PNG of one element, from its top to at most `most` pixels below it."""
        left, top, width, height = self.evaluate(
            f"(r => [r.left + scrollX, r.top + scrollY, r.width, r.height])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        clip = {"x": left, "y": top, "width": width, "height": min(height, most), "scale": 1}
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png", clip=clip)
        return base64.b64decode(shot["data"])

    def screenshot(self, path: Path) -> None:
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path: Path) -> None:
        printed = self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        path.write_bytes(base64.b64decode(printed["data"]))

    def complaints(self) -> list[str]:
        """Whatever the page wrote to its console, threw, or had blocked."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event["params"])[:500] for event in self.events if event.get("method") in kinds]

    def requests(self) -> list[str]:
        """The address of every request of the page, its own file and inline data apart."""
        urls = [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith(("file:", "data:"))]
