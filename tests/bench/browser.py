"""A headless Chromium over its debugging pipe: what a page says, asks for and measures. No library, no open port."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
_MEASURE = "JSON.stringify([document.documentElement.scrollWidth, document.documentElement.scrollHeight])"


def chromium() -> str | None:
    """Where it is installed, or None."""
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return next(filter(None, found), None)


@dataclass
class Seen:
    """A page at one width: `complaints` of its console, `requests` beyond the file itself, px it takes."""

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    width: int = 0
    height: int = 0
    png: bytes = b""


class Browser:
    """One process for all pages of a test."""

    def __init__(self, profile: Path) -> None:
        path = chromium()
        assert path is not None
        to_read, self._out = os.pipe()
        self._in, to_write = os.pipe()

        def place() -> None:  # the browser reads commands from 3 and answers on 4
            high = [os.dup(fd) for fd in (to_read, to_write)]
            while min(high) < 5:
                high = [os.dup(fd) for fd in high]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        command = [path, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, preexec_fn=place, close_fds=False, stdout=quiet, stderr=quiet)
        os.close(to_read)
        os.close(to_write)
        self._unread = b""
        self._number = 0
        self._events: list[dict[str, Any]] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def look(self, page: Path, width: int, dark: bool = False) -> Seen:
        """Load that file into a window of `width` px and see it whole."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._call("Emulation.setEmulatedMedia", features=scheme)
        self._events.clear()
        self._call("Page.navigate", url=page.as_uri())
        until = time.monotonic() + 60
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            assert time.monotonic() < until, "the page did not load"
            self._events.append(self._read())
        measured = self._call("Runtime.evaluate", expression=_MEASURE)["result"]["value"]
        seen = Seen(width=json.loads(measured)[0], height=json.loads(measured)[1])
        clip = {"x": 0, "y": 0, "width": width, "height": seen.height, "scale": 1}
        shot = self._call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        seen.png = base64.b64decode(shot["data"])
        for event in self._events:
            _note(seen, event["method"], event["params"], page.as_uri())
        return seen

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._events.append(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            data = os.read(self._in, 1 << 20)
            assert data, "the browser has ended"
            self._unread += data
        data, _, self._unread = self._unread.partition(b"\0")
        answer: dict[str, Any] = json.loads(data)
        return answer

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._out)
        self._process.terminate()
        self._process.wait(30)
        os.close(self._in)


def _note(seen: Seen, method: str, params: dict[str, Any], own: str) -> None:
    if method == "Runtime.exceptionThrown" or method == "Runtime.consoleAPICalled":
        seen.complaints.append(json.dumps(params))
    elif method == "Log.entryAdded":
        seen.complaints.append(params["entry"]["text"])
    elif method == "Network.requestWillBeSent" and params["request"]["url"] != own:
        seen.requests.append(params["request"]["url"])
