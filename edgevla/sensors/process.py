"""One camera in a process of its own: the newest frame into its slot, and a word when there is none.

    python -m edgevla.sensors.process     (configured by one line on stdin)

One thread reads the camera and publishes; the main thread watches it and the parent, so that a driver that hangs in the
kernel hides neither. Events: camera, camera-stalled, camera-lost (why), camera-resumed, error. It ends when stdin
closes; when the source ends or turns out to be another one; and when a driver hangs for good, as only the end of the
process lets go of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

from edgevla.control.child import adopt, emit, guarded, read_line
from edgevla.errors import BadInput, DeviceFault, EdgevlaError, explain
from edgevla.sensors.camera import CameraSlot
from edgevla.sensors.sources import open_source
from edgevla.sensors.sources.base import Ended, Shot, Source, Wanted, parse_source
from edgevla.sensors.watch import HUNG_S, Watch, back_off_s, patience_s
from edgevla.telemetry.rows import Rows, capture_dtype

_LEAVE_S = 1.5  # for the reading thread to let go of the device


@dataclass(frozen=True)
class CameraConfig:
    """What the parent says: which source, which picture, after how long a silence it is a fault, which slot."""

    parent_pid: int
    name: str
    source: str
    width: int
    height: int
    rate_hz: float
    stall_s: float
    slot_fd: int
    rows_fd: int = -1  # a row for every frame; -1: none

    def to_line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self)) + "\n"


class Grabber(threading.Thread):
    """Reads one camera as fast as it delivers; closes and opens it again when it falls silent."""

    def __init__(self, config: CameraConfig, source: Source) -> None:
        super().__init__(daemon=True)
        self._config, self._wanted = config, Wanted(config.width, config.height, config.rate_hz)
        self._source: Source | None = source
        self._device = source.opened.device
        self._slot = CameraSlot.attach(config.slot_fd)
        self._rows = Rows(config.rows_fd, capture_dtype()) if config.rows_fd >= 0 else None
        self._ending = threading.Event()
        self._heard_ns = time.monotonic_ns()  # last frame, or when the source was opened
        self._fresh = True  # no frame since it was opened
        self._failures = 0  # attempts to open it again, one after the other
        self.newest_ns: int | None = None  # stamp of the newest frame published
        self.beat_ns = self._heard_ns  # this thread is alive
        self.error: Exception | None = None  # it gave up, and why

    def run(self) -> None:
        try:
            while not self._ending.is_set():
                self.beat_ns = time.monotonic_ns()
                self._step()
        except Exception as error:  # told by the main thread
            self.error = error
        finally:
            self._close()

    def end(self) -> None:
        """Ask it to let go of the camera, and wait for that a little."""
        self._ending.set()
        self.join(_LEAVE_S)

    def _step(self) -> None:
        if self._source is None:
            self._open_again()
            return
        try:
            shot = self._source.read(self._config.stall_s)
        except Ended:
            raise
        except DeviceFault as fault:
            self._lose(str(fault))
            return
        now_ns = time.monotonic_ns()
        if shot is not None:
            self._publish(shot, now_ns)
        elif now_ns - self._heard_ns > patience_s(self._config.stall_s, self._fresh) * 1e9:
            self._lose(f"no frame for {(now_ns - self._heard_ns) / 1e9:.1f} s")

    def _publish(self, shot: Shot, now_ns: int) -> None:
        self._heard_ns, self._fresh, self._failures = now_ns, False, 0
        if self.newest_ns is None or shot.stamp_ns > self.newest_ns:
            sequence = self._slot.publish(shot.image, shot.stamp_ns)
            self.newest_ns = shot.stamp_ns
            if self._rows is not None:
                self._rows.append((sequence, shot.stamp_ns, now_ns, time.monotonic_ns()))

    def _lose(self, why: str) -> None:
        self._close()
        emit("camera-lost", name=self._config.name, message=why)

    def _open_again(self) -> None:
        """After a wait that doubles. Another device at the same place is refused, and a wrong picture too."""
        self._ending.wait(back_off_s(self._failures))
        self._failures += 1
        if self._ending.is_set():
            return
        try:
            source = open_source(parse_source(self._config.source), self._wanted)
        except DeviceFault:
            return  # not back yet
        self._source, self._heard_ns, self._fresh = source, time.monotonic_ns(), True
        if source.opened.device != self._device:
            todo = "look at it with `edgevla camera check --confirm`, then start again"
            title = f"camera {self._config.name}: another device came back"
            raise DeviceFault(explain(title, self._device, source.opened.device, todo))

    def _close(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close()


def camera_config(line: str) -> CameraConfig:
    """The configuration that `CameraConfig.to_line` wrote. Raises BadInput."""
    try:
        return CameraConfig(**json.loads(line))
    except (TypeError, ValueError) as error:
        raise BadInput(
            explain("configuration of a camera process", "one line of JSON", error, "start it by run")
        ) from None


def main() -> int:
    """Configuration on stdin, events on stdout; ends when stdin closes."""
    config = camera_config(read_line(0))
    adopt(config.parent_pid, signal.SIGKILL)
    source = open_source(parse_source(config.source), Wanted(config.width, config.height, config.rate_hz))
    emit("camera", name=config.name, device=source.opened.device, mode=source.opened.mode)
    grabber = Grabber(config, source)
    grabber.start()
    try:
        _watch(config, grabber)
    finally:
        grabber.end()
    return 0


def _watch(config: CameraConfig, grabber: Grabber) -> None:
    """Until stdin closes. Raises what the grabber gave up with, or DeviceFault when it hangs."""
    watch = Watch(round(config.stall_s * 1e9), time.monotonic_ns())
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    while True:
        if poll.poll(1e3 * min(0.05, config.stall_s / 4)) and not os.read(0, 64):
            return
        now_ns, newest_ns = time.monotonic_ns(), grabber.newest_ns
        word = watch.step(now_ns, newest_ns)
        if word == "stalled":
            emit("camera-stalled", name=config.name, age_s=round(watch.age_ns(now_ns, newest_ns) / 1e9, 3))
        elif word == "resumed":
            emit("camera-resumed", name=config.name)
        if grabber.error is not None:
            raise _told(config, grabber.error)
        if now_ns - grabber.beat_ns > HUNG_S * 1e9:
            got = f"nothing for {HUNG_S:g} s"
            raise DeviceFault(explain(f"the driver of camera {config.name} hangs", "an answer", got, "unplug it"))


def _told(config: CameraConfig, error: Exception) -> Exception:
    if isinstance(error, EdgevlaError):
        return type(error)(f"camera {config.name}: {error}")
    return error


def _leave(code: int) -> Any:
    """Without the interpreter's farewell: it would wait for a library whose thread hangs in a driver."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _leave(guarded(main))
