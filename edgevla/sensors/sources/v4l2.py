"""USB and other V4L2 cameras, by OpenCV."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any

import numpy as np

from edgevla.errors import DeviceFault, Usage, explain
from edgevla.sensors import identity
from edgevla.sensors.sources.base import Image, Opened, Shot, Wanted, require_image, require_mode
from edgevla.sensors.v4l2_query import describe_offers

_SELECT_S = "1"  # s that one grab() may block; OpenCV's own default is 10
_SILENT_NS = 900_000_000  # a grab that failed after this long ran into _SELECT_S
_WAITED_NS = 500_000  # a grab that took longer than this waited for its frame
_BELIEVED_NS = 60_000_000_000  # a buffer stamp within this of now is one of CLOCK_MONOTONIC
_TODO = "check its plug and cable; `edgevla camera list` names those that are there"


class V4l2Source:
    """One V4L2 device. A stamp is the driver's, where it counts CLOCK_MONOTONIC; else a bound from when we waited."""

    def __init__(self, path: str, fourcc: str, wanted: Wanted) -> None:
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", _SELECT_S)
        import cv2

        cv2.setNumThreads(1)
        self._cv2, self._path, self._wanted = cv2, path, wanted
        device = identity.of_v4l2(path)
        self._camera: Any = cv2.VideoCapture(os.path.realpath(path), cv2.CAP_V4L2, _settings(cv2, fourcc, wanted))
        if not self._camera.isOpened():
            got = "it cannot be opened with this size and rate, or another program holds it"
            raise DeviceFault(explain(f"camera {path}", f"{wanted}; it offers {describe_offers(path)}", got, _TODO))
        try:
            mode = self._mode()
            todo = "choose another FOURCC (v4l2:PATH,MJPG), another camera, or a bundle made for it"
            require_mode(
                f"v4l2:{path}", wanted, mode["width"], mode["height"], mode["rate_hz"], self._offers(mode), todo
            )
        except BaseException:
            self.close()
            raise
        buffers = max(1, int(mode["buffers"] or 1))
        # A frame found waiting was captured after its buffer was queued: `buffers` reads ago.
        self._queued_ns = deque([time.monotonic_ns()] * buffers, maxlen=buffers)
        self.opened = Opened(device, mode)

    def _mode(self) -> dict[str, Any]:
        """Settings as the driver answers them; None: it has no such control."""
        cv2, get = self._cv2, self._camera.get
        controls = {
            "auto_exposure": cv2.CAP_PROP_AUTO_EXPOSURE,
            "exposure": cv2.CAP_PROP_EXPOSURE,
            "gain": cv2.CAP_PROP_GAIN,
            "auto_white_balance": cv2.CAP_PROP_AUTO_WB,
            "white_balance_k": cv2.CAP_PROP_WB_TEMPERATURE,
        }
        code = int(get(cv2.CAP_PROP_FOURCC))
        return {
            "width": int(get(cv2.CAP_PROP_FRAME_WIDTH)),
            "height": int(get(cv2.CAP_PROP_FRAME_HEIGHT)),
            "rate_hz": max(0.0, float(get(cv2.CAP_PROP_FPS))),
            "fourcc": "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24)).strip("\0 "),
            "buffers": int(get(cv2.CAP_PROP_BUFFERSIZE)),
            **{name: (None if (value := float(get(prop))) == -1 else value) for name, prop in controls.items()},
        }

    def _offers(self, mode: dict[str, Any]) -> str:
        return f"{mode['width']} x {mode['height']} at {mode['rate_hz']:g} Hz; it offers {describe_offers(self._path)}"

    def read(self, timeout_s: float) -> Shot | None:
        """The next frame; OpenCV decides how long it waits, 1 s at most. Raises DeviceFault when the device is gone."""
        del timeout_s
        begun_ns = time.monotonic_ns()
        if not self._camera.grab():
            if time.monotonic_ns() - begun_ns > _SILENT_NS and os.path.exists(self._path):
                return None  # nothing came in time; a device that was pulled fails at once
            raise DeviceFault(explain(f"camera {self._path}", "a frame", "none", _TODO))
        done_ns = time.monotonic_ns()
        stamp_ns = self._stamp(begun_ns, done_ns)
        self._queued_ns.append(done_ns)
        good, image = self._camera.retrieve()
        if not good:
            return None  # a picture cut off on the wire: the next one comes
        rgb: Image = self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB) if image.ndim == 3 else image
        return Shot(require_image(f"v4l2:{self._path}", np.asarray(rgb, np.uint8), self._wanted), stamp_ns)

    def _stamp(self, begun_ns: int, done_ns: int) -> int:
        driver_ns = round(self._camera.get(self._cv2.CAP_PROP_POS_MSEC) * 1e6)
        stamp_ns, kind = choose_stamp(driver_ns, begun_ns, done_ns, self._queued_ns[0])
        self.opened.mode["stamp"] = kind
        return stamp_ns

    def close(self) -> None:
        self._camera.release()


def choose_stamp(driver_ns: int, begun_ns: int, done_ns: int, queued_ns: int) -> tuple[int, str]:
    """Stamp of a frame and where it comes from. Pure.

    Args:
        driver_ns: the buffer's time as the driver says it, of an unknown clock; 0: none.
        begun_ns, done_ns: when we asked and when we had it, CLOCK_MONOTONIC.
        queued_ns: when its buffer was given to the driver: it cannot be older.
    """
    if 0 < driver_ns <= done_ns and done_ns - driver_ns < _BELIEVED_NS:
        return driver_ns, "driver, monotonic"
    if done_ns - begun_ns > _WAITED_NS:
        return done_ns, "arrival"
    return min(queued_ns, begun_ns), "arrival"


def open_v4l2(value: str, wanted: Wanted) -> V4l2Source:
    """`PATH` or `PATH,FOURCC`. Raises Usage, DeviceFault, BadInput."""
    path, comma, fourcc = value.partition(",")
    if comma and (len(fourcc) != 4 or not fourcc.isascii()):
        raise Usage(
            explain("no FOURCC", "four letters: v4l2:/dev/video0,MJPG", repr(fourcc), "see `edgevla camera list`")
        )
    return V4l2Source(path, fourcc, wanted)


def _settings(cv2: Any, fourcc: str, wanted: Wanted) -> list[int]:
    """Pairs for VideoCapture. The format first, as size and rate depend on it; one buffer, so that nothing queues."""
    chosen = [cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*fourcc)] if fourcc else []
    size = [cv2.CAP_PROP_FRAME_WIDTH, wanted.width, cv2.CAP_PROP_FRAME_HEIGHT, wanted.height]
    return [*chosen, *size, cv2.CAP_PROP_FPS, round(wanted.rate_hz), cv2.CAP_PROP_BUFFERSIZE, 1]
