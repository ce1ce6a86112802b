"""A recording in place of a camera: a video, a picture, or a folder of pictures, played at its rate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgevla.control.clock import Grid
from edgevla.errors import BadInput, explain
from edgevla.sensors import identity
from edgevla.sensors.sources.base import Ended, Image, Opened, Shot, Wanted, require_image, require_mode

PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
_LOOP = ",loop"


class Reel(Protocol):
    """Pictures in order, of one size and rate; `picture(i)` is asked for growing i, then from 0 again."""

    width: int
    height: int
    rate_hz: float

    def picture(self, index: int) -> Image | None:
        """RGB, or None past the end."""

    def close(self) -> None: ...


class FileSource:
    """Picture i is due at the start plus i periods, and stamped with that moment. Late ones are passed over."""

    def __init__(self, label: str, reel: Reel, wanted: Wanted, loop: bool, device: str) -> None:
        self._label, self._reel, self._wanted, self._loop = label, reel, wanted, loop
        self._grid = Grid(time.monotonic_ns(), round(1e9 / reel.rate_hz))
        self._next = 0  # step on the grid
        self._first = 0  # step at which the reel began (again)
        mode = {"width": reel.width, "height": reel.height, "rate_hz": reel.rate_hz, "stamp": "due time", "loop": loop}
        self.opened = Opened(device, mode)

    def read(self, timeout_s: float) -> Shot | None:
        """The picture that is due. Raises Ended past the last, unless it loops."""
        now_ns = time.monotonic_ns()
        step = self._grid.current_step(self._next, now_ns)
        wait_ns = self._grid.deadline_ns(step) - now_ns
        if wait_ns > timeout_s * 1e9:
            time.sleep(timeout_s)
            return None
        time.sleep(max(0, wait_ns) / 1e9)
        image = self._at(step)
        self._next = step + 1
        return Shot(require_image(self._label, image, self._wanted), self._grid.deadline_ns(step))

    def _at(self, step: int) -> Image:
        image = self._reel.picture(step - self._first)
        if image is None and self._loop:
            self._first = step
            image = self._reel.picture(0)
        if image is None:
            todo = f"add `{_LOOP}` to play it for ever"
            raise Ended(explain(f"{self._label} has ended", "a picture", f"{step} periods played", todo))
        return image

    def close(self) -> None:
        self._reel.close()


class Pictures:
    """Files of pictures, all of one size; the recording has no rate of its own and takes the one that is wanted."""

    def __init__(self, paths: list[Path], rate_hz: float) -> None:
        self._paths, self.rate_hz = paths, rate_hz
        first = load_picture(paths[0])
        self.height, self.width = first.shape[:2]

    def picture(self, index: int) -> Image | None:
        return load_picture(self._paths[index]) if index < len(self._paths) else None

    def close(self) -> None: ...


class Video:
    """A video by OpenCV, decoded forward; pictures passed over are decoded, not shown."""

    def __init__(self, path: Path) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._cv2: Any = cv2
        self._path = path
        self._open()
        self.width = int(self._video.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(self._video.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.rate_hz = float(self._video.get(cv2.CAP_PROP_FPS))
        if self.rate_hz <= 0 or self.width <= 0:
            self.close()
            raise _no_recording(path, "a video without size or rate")

    def _open(self) -> None:
        self._video: Any = self._cv2.VideoCapture(str(self._path), self._cv2.CAP_FFMPEG)
        self._index = 0  # of the next picture
        if not self._video.isOpened():
            raise _no_recording(self._path, "a file that OpenCV cannot play")

    def picture(self, index: int) -> Image | None:
        if index < self._index:
            self._video.release()
            self._open()
        while self._index < index and self._video.grab():
            self._index += 1
        good, image = self._video.read() if self._index == index else (False, None)
        if not good:
            return None
        self._index += 1
        rgb: Image = self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB)
        return rgb

    def close(self) -> None:
        self._video.release()


def open_file(value: str, wanted: Wanted) -> FileSource:
    """`PATH` or `PATH,loop`. Raises BadInput."""
    loop = value.endswith(_LOOP)
    path = Path(value.removesuffix(_LOOP))
    reel = _reel(path, wanted.rate_hz)
    label, offers = f"file:{path}", f"{reel.width} x {reel.height} at {reel.rate_hz:g} Hz"
    try:
        require_mode(label, wanted, reel.width, reel.height, reel.rate_hz, offers, "record or convert it to that")
        return FileSource(label, reel, wanted, loop, identity.of_file(path))
    except BaseException:
        reel.close()
        raise


def load_picture(path: Path) -> Image:
    """A picture file as RGB uint8 (h, w, 3). Raises BadInput."""
    return decode_picture(path.read_bytes(), str(path))


def decode_picture(raw: bytes, where: str) -> Image:
    """Bytes of a PNG, JPEG or BMP as RGB uint8 (h, w, 3). Raises BadInput naming `where`."""
    import cv2

    image: Any = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR) if raw else None
    if image is None:
        raise BadInput(explain(f"{where} is no picture", "a PNG, JPEG or BMP", f"{len(raw)} bytes", "replace it"))
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _reel(path: Path, rate_hz: float) -> Reel:
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES)
        if not paths:
            raise _no_recording(path, "a folder without pictures")
        return Pictures(paths, rate_hz)
    if not path.is_file():
        raise _no_recording(path, "nothing there")
    if path.suffix.lower() in PICTURES:
        return Pictures([path], rate_hz)
    return Video(path)


def _no_recording(path: Path, got: str) -> BadInput:
    expected = f"a video, a picture ({', '.join(PICTURES)}) or a folder of pictures"
    return BadInput(explain(f"cannot play {path}", expected, got, "check the path"))
