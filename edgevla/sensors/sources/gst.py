"""GStreamer pipelines, each in a `gst-launch-1.0` child whose frames come through a pipe.

A child and not a library: OpenCV from pip has no GStreamer, and a camera daemon that hangs is then one process to end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shlex
import shutil
import subprocess
import tempfile
import time
from fractions import Fraction
from typing import IO, Any

import numpy as np

from edgevla.errors import BadInput, DeviceFault, explain
from edgevla.sensors import identity
from edgevla.sensors.sources.base import Opened, Shot, Wanted, require_mode
from edgevla.sensors.sources.pipe import FramePipe

_TOOL = "gst-launch-1.0"
_SINK = "edgevla"  # name of our fdsink in the pipeline
_CAPS = re.compile(rf"GstFdSink:{_SINK}\.GstPad:sink: caps = (video/x-raw.*)")
_FIELD = re.compile(r"(\w+)=\((?:string|int|fraction)\)([^,\s]+)")
_START_S = 10.0  # s until the caps are known: nvarguscamerasrc takes some
_FREE_RUNNING = 1.5  # frames per frame declared: a source that no clock paces
_JUDGED_FRAMES = 64  # frames after which that is judged
_PIPE_BYTES = 1024 * 1024  # largest pipe that Linux grants to everybody
_TODO = f"try it alone: {_TOOL} PIPELINE ! fakesink"


class GstSource:
    """Frames of a pipeline. `tail` is appended to what the user wrote: RGB, newest frame only, into our pipe."""

    def __init__(self, label: str, pipeline: str, wanted: Wanted, device: str) -> None:
        self._label, self._wanted = label, wanted
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed in close()
        self._fd, write_fd = os.pipe2(os.O_CLOEXEC)
        self._talk_fd, says_fd = os.pipe2(os.O_CLOEXEC)
        opened_ns = time.monotonic_ns()
        try:
            self._child = _launch(pipeline, write_fd, says_fd, self._errors)
        except BaseException:
            os.close(self._fd)
            os.close(self._talk_fd)
            self._errors.close()
            raise
        finally:
            os.close(write_fd)
            os.close(says_fd)
        try:
            self._start(opened_ns, device)
        except BaseException:
            self.close()
            raise

    def _start(self, opened_ns: int, device: str) -> None:
        caps, wanted = self._await_caps(), self._wanted
        width, height, rate_hz = _size(caps)
        offers = f"{width} x {height} at {f'{rate_hz:g}' if rate_hz else 'an undeclared rate,'} Hz"
        element = f"video/x-raw,width={wanted.width},height={wanted.height}"
        todo = f"end the pipeline with `! videoscale ! videorate ! {element},framerate={fraction(wanted.rate_hz)}`"
        require_mode(self._label, wanted, width, height, rate_hz, offers, todo)
        self._stride = -(-width * 3 // 4) * 4  # GStreamer pads the rows of RGB to 4 bytes
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, min(_PIPE_BYTES, max(65536, self._stride * height)))
        self._frames = FramePipe(self._fd, self._stride * height, opened_ns)
        self._paced_from: tuple[int, int] | None = None
        mode = {"width": width, "height": height, "rate_hz": rate_hz or None, "stamp": "arrival", "caps": caps}
        self.opened = Opened(device, mode)

    def read(self, timeout_s: float) -> Shot | None:
        """The newest frame. Raises DeviceFault when the child has ended, BadInput when no clock paces it."""
        self._drain_talk()
        try:
            found = self._frames.read(timeout_s)
        except DeviceFault:
            raise self._ended() from None
        if found is None:
            return None
        self._require_paced()
        raw, stamp_ns = found
        width, height = self._wanted.width, self._wanted.height
        rows = np.frombuffer(raw, np.uint8).reshape(height, self._stride)[:, : 3 * width]
        return Shot(np.ascontiguousarray(rows).reshape(height, width, 3), stamp_ns)

    def close(self) -> None:
        """End the child at once: a camera daemon that hangs does not answer a polite signal."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        for fd in (self._fd, self._talk_fd):
            with contextlib.suppress(OSError):
                os.close(fd)
        self._fd = self._talk_fd = -1
        self._errors.close()

    def _require_paced(self) -> None:
        """A source without a clock fills the pipe as fast as it can: a core burnt, and stamps that mean nothing."""
        rate_hz, now_ns, received = self.opened.mode["rate_hz"], time.monotonic_ns(), self._frames.received
        if self._paced_from is None:
            self._paced_from = (now_ns, received)
        since_ns, before = self._paced_from
        if rate_hz is None or received - before < _JUDGED_FRAMES:
            return
        self._paced_from = (now_ns, received)
        real_hz = (received - before) / max(1e-9, (now_ns - since_ns) / 1e9)
        if real_hz > _FREE_RUNNING * rate_hz:
            todo = "make it live: videotestsrc is-live=true; for a file, add `! identity sync=true`"
            raise BadInput(explain(f"{self._label} is not paced by a clock", f"{rate_hz:g} Hz", f"{real_hz:.0f}", todo))

    def _await_caps(self) -> str:
        """What arrives at our sink, as the child says it. Raises DeviceFault when it never does."""
        until, said = time.monotonic() + _START_S, b""
        while (left_s := until - time.monotonic()) > 0:
            if not select.select([self._talk_fd], [], [], left_s)[0]:
                break
            block = os.read(self._talk_fd, 65536)
            said += block
            if found := _CAPS.search(said.decode("utf-8", "replace").replace("\\", "")):
                os.set_blocking(self._talk_fd, False)
                return found.group(1)
            if not block:
                raise self._ended()
        raise DeviceFault(explain(f"{self._label} does not start", f"a picture within {_START_S:g} s", "none", _TODO))

    def _drain_talk(self) -> None:
        """What the child says must not fill its pipe."""
        with contextlib.suppress(OSError):
            os.read(self._talk_fd, 65536)

    def _ended(self) -> DeviceFault:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(1.0)
        self._errors.seek(0)
        lines = self._errors.read(65536).decode("utf-8", "replace").strip().splitlines()
        said = next((line for line in lines if "ERROR" in line or "erroneous" in line), lines[-1] if lines else "")
        code = self._child.poll()
        how = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        got = f"{how}{', ' if said else ''}{said[:300]}"
        return DeviceFault(explain(f"{self._label} has ended", "a running pipeline", got, _TODO))


def open_gst(pipeline: str, wanted: Wanted) -> GstSource:
    """A pipeline as one would type it after `gst-launch-1.0`, without a sink. Raises DeviceFault, BadInput."""
    return GstSource("the GStreamer pipeline", pipeline, wanted, identity.of_text("gst", pipeline))


def fraction(rate_hz: float) -> str:
    """30.0 -> "30/1", 29.97 -> "2997/100": as caps write a rate."""
    exact = Fraction(rate_hz).limit_denominator(1001)
    return f"{exact.numerator}/{exact.denominator}"


def _launch(pipeline: str, write_fd: int, says_fd: int, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    tool, guard = shutil.which(_TOOL), shutil.which("setpriv")
    if tool is None or guard is None:
        missing, package = (_TOOL, "gstreamer1.0-tools") if tool is None else ("setpriv", "util-linux")
        todo = f"apt-get install {package}"
        raise DeviceFault(explain(f"{missing} is not installed", "GStreamer's command line", "nothing there", todo))
    # leaky: a slow reader drops frames here, and never holds up the camera.
    tail = f"! videoconvert ! video/x-raw,format=RGB ! queue leaky=downstream max-size-buffers=1 ! fdsink name={_SINK}"
    try:
        words = shlex.split(f"{pipeline} {tail} fd={write_fd} sync=false")
    except ValueError as error:
        raise BadInput(explain("the GStreamer pipeline", "quotes in pairs", error, "check its quotes")) from None
    environment: dict[str, Any] = {**os.environ, "GST_DEBUG_NO_COLOR": "1", "LC_ALL": "C"}
    # setpriv: the kernel ends the child with us, also when we are killed
    return subprocess.Popen(
        [guard, "--pdeathsig", "KILL", tool, "-v", *words],
        stdin=subprocess.DEVNULL,
        stdout=says_fd,
        stderr=errors,
        pass_fds=(write_fd,),
        env=environment,
    )


def _size(caps: str) -> tuple[int, int, float]:
    """Width, height, rate in Hz (0: not declared) of `video/x-raw, format=(string)RGB, width=(int)96, ...`."""
    fields = dict(_FIELD.findall(caps))
    numerator, _, denominator = fields.get("framerate", "0/1").partition("/")
    rate_hz = int(numerator) / int(denominator or 1)
    return int(fields["width"]), int(fields["height"]), rate_hz
