"""Video and picture files by PyAV: times of frames, frames one after another, and writing both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.errors import BadInput, explain
from export.data.interface import Uint8
from export.extras import library

_SIGNATURES = ((b"\x89PNG", "png"), (b"\xff\xd8\xff", "mjpeg"))
_TODO = "get the dataset again whole"


@dataclass(frozen=True)
class Encoding:
    """How video is written; the defaults are those of LeRobot's own recorder."""

    codec: str = "libsvtav1"  # or h264, hevc
    crf: int = 30  # 0 is the best picture
    gop: int = 2  # frames from one key frame to the next: a reader that jumps decodes no more than these
    threads: int | None = None  # None: as many as the codec likes

    def options(self) -> dict[str, str]:
        options = {"crf": str(self.crf), "g": str(self.gop)}
        if self.codec == "libsvtav1":
            options["preset"] = "12"
            if self.threads:
                options["svtav1-params"] = f"lp={self.threads}"
        elif self.threads:
            options["threads"] = str(self.threads)
        return options


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Container and its first video stream. Raises BadInput naming the file, for whatever is wrong inside, too."""
    av = library("av", "data")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BadInput(explain(f"video {path}", "a video stream", "none", _TODO))
            yield container, container.streams.video[0]
    except av.error.FFmpegError as error:
        raise BadInput(explain(f"video {path}", "a whole video file", str(error), _TODO)) from error


def frame_times_s(path: Path) -> npt.NDArray[np.float64]:
    """Times of the frames in rising order, seconds (F,), without decoding them."""
    with _opened(path) as (container, stream):
        pts = [p.pts for p in container.demux(stream) if p.pts is not None and not p.is_discard]
        return np.sort(np.array(pts, np.float64)) * float(stream.time_base)


def decode_video(path: Path) -> Iterator[Uint8]:
    """All frames in rising order of time, RGB uint8 (h, w, 3)."""
    with _opened(path) as (container, stream):
        for number, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt:
                raise BadInput(explain(f"video {path}", "frames that can be decoded", f"frame {number} cannot", _TODO))
            yield frame.to_ndarray(format="rgb24")


def decode_picture(data: bytes, where: str) -> Uint8:
    """A PNG or JPEG, RGB uint8 (h, w, 3). Raises BadInput naming `where`."""
    av = library("av", "data")
    codec = next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)
    try:
        if codec is None:
            raise ValueError(f"bytes that begin with {data[:8]!r}")
        context = av.CodecContext.create(codec, "r")
        frames = [*context.decode(av.Packet(data)), *context.decode(None)]
        picture: Uint8 = frames[0].to_ndarray(format="rgb24")
    except (ValueError, IndexError, av.error.FFmpegError) as error:
        raise BadInput(explain(f"picture in {where}", "a whole PNG or JPEG", str(error), _TODO)) from error
    return picture


def encode_png(picture: Uint8) -> bytes:
    """RGB uint8 (h, w, 3), losslessly."""
    av = library("av", "data")
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt = picture.shape[1], picture.shape[0], "rgb24"
    context.time_base = Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


@contextmanager
def _scheduled_as_before() -> Iterator[None]:
    """Puts every thread back to its scheduling, and new ones to that of the caller.

    As root, libsvtav1 (SVT-AV1 3.0) moves the thread that opens it and its own to SCHED_FIFO 99, above any servo.
    """
    mine, before = _scheduling(0), _scheduling_of_all()
    try:
        yield
    finally:
        for thread, now in _scheduling_of_all().items():
            policy, priority = before.get(thread, mine)
            if now != (policy, priority):
                with suppress(ProcessLookupError):
                    os.sched_setscheduler(thread, policy, os.sched_param(priority))


def _scheduling_of_all() -> dict[int, tuple[int, int]]:
    """Thread -> class and priority."""
    found = {}
    for name in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):
            found[int(name)] = _scheduling(int(name))
    return found


def _scheduling(thread: int) -> tuple[int, int]:
    return os.sched_getscheduler(thread), os.sched_getparam(thread).sched_priority


class VideoWriter:
    """One video file, written frame by frame at a fixed rate."""

    def __init__(self, path: Path, fps: int, height: int, width: int, encoding: Encoding) -> None:
        av = library("av", "data")
        os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder prints a page otherwise
        path.parent.mkdir(parents=True, exist_ok=True)
        self.frames = self.bytes = 0
        self._av, self._output = av, av.open(str(path), "w", options={"movflags": "faststart"})
        try:
            self._stream = self._output.add_stream(encoding.codec, fps, options=encoding.options())
        except (ValueError, av.error.FFmpegError) as error:
            todo = "choose libsvtav1 or h264"
            raise BadInput(explain("video codec", "one that this PyAV can write", encoding.codec, todo)) from error
        self._stream.pix_fmt, self._stream.height, self._stream.width = "yuv420p", height, width

    def add(self, frame: Uint8) -> None:
        """RGB uint8 (h, w, 3)."""
        self._encode(self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"))
        self.frames += 1

    def close(self) -> None:
        """Writes what the encoder still holds."""
        self._encode(None)
        self._output.close()

    def abandon(self) -> None:
        """Lets go of a file that is of no use any more."""
        with suppress(self._av.error.FFmpegError):
            self._output.close()

    def _encode(self, picture: Any) -> None:
        opens = not self._stream.codec_context.is_open
        try:
            with _scheduled_as_before() if opens else nullcontext():
                packets = self._stream.encode(picture)
            for packet in packets:
                self.bytes += packet.size
                self._output.mux(packet)
        except self._av.error.FFmpegError as error:
            if isinstance(error, OSError):
                raise  # the disk, not the codec
            what = f"{self._stream.width} x {self._stream.height} pixels with {self._stream.codec_context.name}"
            todo = "another codec, or pictures in the rows instead of video"
            raise BadInput(explain("cannot encode video", what, str(error), todo)) from error

    def info(self) -> dict[str, Any]:
        """What LeRobot's info.json says of a video feature."""
        context = self._stream.codec_context
        return {
            "video.height": context.height,
            "video.width": context.width,
            "video.codec": context.codec.canonical_name,
            "video.pix_fmt": context.pix_fmt,
            "video.is_depth_map": False,
            "video.fps": int(self._stream.average_rate or context.framerate),
            "video.channels": 3,
            "has_audio": False,
        }
