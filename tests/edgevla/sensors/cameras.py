"""Helpers of the camera tests: recordings, and a camera process to talk to."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgevla.sensors.camera import CameraSlot
from edgevla.sensors.process import CameraConfig
from edgevla.telemetry.png import encode_png
from edgevla.telemetry.rows import Rows, capture_dtype

ROOT = Path(__file__).parents[3]
LIVE = "videotestsrc is-live=true ! video/x-raw,width=48,height=32,framerate=40/1"

needs_gst = pytest.mark.skipif(
    shutil.which("gst-launch-1.0") is None, reason="gst-launch-1.0 is not installed (gstreamer1.0-tools, -plugins-base)"
)


def solid(value: int | tuple[int, int, int], width: int = 48, height: int = 32) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def write_pictures(folder: Path, pictures: list[np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(pictures):
        (folder / f"{index:04d}.png").write_bytes(encode_png(picture))
    return folder


def write_video(path: Path, pictures: list[np.ndarray], rate_hz: float) -> Path:
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), rate_hz, (width, height))
    assert writer.isOpened()
    for picture in pictures:
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


class CameraProcess:
    """A real camera process, its slot, and what it says."""

    def __init__(self, source: str, width: int = 48, height: int = 32, rate_hz: float = 40.0, stall_s: float = 0.2):
        self.slot = CameraSlot.create(width, height)
        self.said: list[dict[str, Any]] = []
        self._rest = b""
        self.rows = Rows.create(capture_dtype(), 100)
        fds = [self.slot.fd, self.rows.fd]
        config = CameraConfig(os.getpid(), "front", source, width, height, rate_hz, stall_s, *fds)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgevla.sensors.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=fds,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.process.stdin.write(config.to_line().encode())
        self.process.stdin.flush()

    def hear(self, event: str, within_s: float = 15.0) -> dict[str, Any]:
        """The next event of that name; what it says before is kept in `said`."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            for said in self._lines(until):
                self.said.append(said)
                if said["event"] == event:
                    return said
        raise AssertionError(f"no {event} within {within_s} s; said: {self.said}")

    def _lines(self, until: float):
        while b"\n" in self._rest:
            line, _, self._rest = self._rest.partition(b"\n")
            yield json.loads(line)
        if select.select([self.process.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
            block = os.read(self.process.stdout.fileno(), 65536)
            self._rest += block
            if not block:
                time.sleep(0.05)

    def frame(self, after: int = 0, within_s: float = 15.0):
        until = time.monotonic() + within_s
        while (found := self.slot.latest(after)) is None:
            assert time.monotonic() < until, f"no frame within {within_s} s; said: {self.said}"
            time.sleep(0.002)
        return found

    def child(self) -> int:
        """Pid of its gst-launch-1.0."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [int(pid) for one in children for pid in one.read_text().split()]
        return pids[-1]

    def end(self) -> int:
        self.process.stdin.close()
        try:
            return self.process.wait(5.0)
        finally:
            self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.slot.close()
