"""One look through several cameras at once, by the same camera processes that a run has."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgevla.control.crew import Crew, Event, Interrupt
from edgevla.errors import BadInput, DeviceFault, EdgevlaError, Refused, Unsound, Usage, explain
from edgevla.sensors.camera import CameraSlot, Frame
from edgevla.sensors.process import CameraConfig
from edgevla.sensors.sources.base import Image, SourceName, Wanted

_MODULE = "edgevla.sensors.process"
_LATEST_S = 15.0  # until every camera has delivered
_STALL_S = 1.0
_ERRORS: dict[int, type[EdgevlaError]] = {k.exit_code: k for k in (Refused, Usage, Unsound, BadInput, DeviceFault)}


@dataclass(frozen=True)
class View:
    """What a camera shows: its picture, RGB uint8 (h, w, 3), stable id, mode, and rate over the time of looking."""

    image: Image
    device: str
    mode: Mapping[str, Any]
    rate_hz: float


@dataclass
class _Looking:
    slot: CameraSlot
    told: dict[str, Any] = field(default_factory=dict)
    first: Frame | None = None
    last: Frame | None = None

    def take(self) -> None:
        frame = self.slot.latest(self.last.sequence if self.last else 0)
        if frame is not None:
            self.first, self.last = self.first or frame, frame

    def view(self) -> View:
        if self.first is None or self.last is None:
            raise ValueError("nothing was seen yet")
        frames, span_s = self.last.sequence - self.first.sequence, (self.last.stamp_ns - self.first.stamp_ns) / 1e9
        rate_hz = frames / span_s if span_s > 0 else 0.0
        return View(self.last.image, str(self.told["device"]), self.told["mode"], rate_hz)


def look(cameras: Mapping[str, tuple[SourceName, Wanted]], settle_s: float) -> dict[str, View]:
    """Open all cameras, let exposure settle for `settle_s`, and take the newest frame of each.

    Raises:
        DeviceFault: a camera cannot be opened, or delivers nothing.
        BadInput: it delivers another size, colour order or rate.
    """
    with Interrupt() as interrupt, Crew(interrupt) as crew:
        looking = {name: _Looking(CameraSlot.create(w.width, w.height)) for name, (_, w) in cameras.items()}
        try:
            for name, (source, wanted) in cameras.items():
                _start(crew, name, source, wanted, looking[name].slot.fd)
            _wait(crew, interrupt, looking, settle_s)
            return {name: one.view() for name, one in looking.items()}
        finally:
            for name, one in looking.items():
                crew.end(name, (None,), 3.0)
                one.slot.close()


def _start(crew: Crew, name: str, source: SourceName, wanted: Wanted, fd: int) -> None:
    size = (wanted.width, wanted.height, wanted.rate_hz)
    config = CameraConfig(os.getpid(), name, str(source), *size, _STALL_S, fd)
    crew.start(name, _MODULE, [], [fd], config.to_line())


def _wait(crew: Crew, interrupt: Interrupt, looking: Mapping[str, _Looking], settle_s: float) -> None:
    begun = time.monotonic()
    settled: float | None = None
    while settled is None or time.monotonic() - settled < settle_s:
        for event in crew.events(0.02):
            _hear(event, looking[event.child])
        for one in looking.values():
            one.take()
        if settled is None and all(one.told and one.last for one in looking.values()):
            settled = time.monotonic()
        if interrupt.asked:
            raise KeyboardInterrupt
        if time.monotonic() - begun > _LATEST_S + settle_s:
            silent = ", ".join(name for name, one in looking.items() if not one.last)
            todo = "check their cables; `edgevla camera list` names the cameras that are there"
            raise DeviceFault(explain(f"silent cameras: {silent}", f"a frame within {_LATEST_S:g} s", "none", todo))


def _hear(event: Event, one: _Looking) -> None:
    if event.name == "camera":
        one.told.update(event.data)
    elif event.name == "error":
        kind = _ERRORS.get(int(event.data["exit_code"]), DeviceFault)
        raise kind(str(event.data["message"]))
    elif event.name == "exited":
        todo = "call the camera's process by hand to see more: see docs/cameras.md"
        got = f"exit code {event.data['code']}"
        raise DeviceFault(explain(f"the process of camera {event.child} ended", "frames", got, todo))
