"""The operator's side of a run: the panel, fed with what the run knows. Implements `control.course.Operator`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgevla.control.course import Course
from edgevla.errors import EdgevlaError
from edgevla.operate.panel import Desk, Panel, Run
from edgevla.operate.state import Camera, Facts, ViewState, as_dict, collect, setup_of
from edgevla.operate.tally import Tally, add
from edgevla.operate.temperatures import thermal_zones
from edgevla.operate.wish import Wish
from edgevla.telemetry.host import stolen_s

_TEMPERATURES_S = 1.0  # s between two readings


@dataclass
class _Cursors:
    ticks: int = 0
    inferences: int = 0


class Station:
    """Not before the run: `open` makes the socket, the keys and the screen, `close` gives them back.

    Args:
        desk: what there is to see and steer with.
        encode: an instruction as the policy hears it; raises BadInput on words that it does not know.
        line: takes one line for people, while nothing is drawn.
    """

    def __init__(self, desk: Desk, encode: Callable[[str], object], line: Callable[[str], None]) -> None:
        self._desk, self._encode, self._line = desk, encode, line
        self._panel: Panel | None = None
        self._tally, self._cursors = Tally(), _Cursors()
        self._shown: ViewState | None = None
        self._was_ready = False
        self._temperatures: tuple[tuple[str, float], ...] = ()
        self._felt_s = float("-inf")
        self._stolen_s = stolen_s()

    def open(self, course: Course, halt: Callable[[], None]) -> None:
        """Raises what the socket raises when it cannot be had."""
        self._course = course
        schedule = course.plan.schedule
        run = Run(self._hears, self._status, schedule.replan + schedule.delay, halt, self._line)
        self._panel = Panel(self._desk, run)
        self._panel.__enter__()

    @property
    def fds(self) -> list[int]:
        return [] if self._panel is None else self._panel.fds

    def look(self) -> list[Wish]:
        panel = self._panel
        if panel is None:
            return []
        now_ns = time.monotonic_ns()
        if self._course.ready and not self._was_ready:
            self._was_ready = True
            panel.ready()
        wishes = panel.wishes(now_ns)
        if panel.due(now_ns):
            self._shown = self._moment(now_ns)
            panel.show(self._shown, now_ns)
        return wishes

    def say(self, line: str) -> None:
        if self._panel is None or not self._panel.live:
            self._line(line)

    def close(self) -> None:
        panel, self._panel = self._panel, None
        if panel is not None:
            panel.stopping()
            panel.__exit__(None, None, None)

    def _hears(self, words: str) -> str | None:
        try:
            self._encode(words)
        except EdgevlaError as error:
            return str(error)
        return None

    def _status(self) -> Mapping[str, Any]:
        return {} if self._shown is None else as_dict(self._shown)

    def _moment(self, now_ns: int) -> ViewState:
        course, plan = self._course, self._course.plan
        setup = setup_of(plan, course.missing)
        memory, cursors = course.memory, self._cursors
        ticks, cursors.ticks, lost = memory.ticks.since(cursors.ticks)
        inferences, cursors.inferences, _ = memory.inferences.since(cursors.inferences)
        added = add(self._tally, ticks, inferences, setup.servo_period_s, setup.release_s, setup.delay)
        self._tally = replace(added, lost_rows=added.lost_rows + lost)
        return collect(setup, self._tally, self._facts(now_ns))

    def _facts(self, now_ns: int) -> Facts:
        course = self._course
        if now_ns / 1e9 - self._felt_s > _TEMPERATURES_S:
            self._felt_s, self._temperatures = now_ns / 1e9, thermal_zones()
        frames = {camera.name: course.memory.cameras[camera.name].latest() for camera in course.plan.cameras}
        cameras = tuple(
            Camera(
                c.name,
                None if (frame := frames[c.name]) is None else frame.stamp_ns,
                c.max_age_s,
                c.when_missing == "blank",
            )
            for c in course.plan.cameras
        )
        return Facts(
            now_ns=now_ns,
            instruction=course.instruction,
            cameras=cameras,
            restarts=course.restarts,
            recorder=course.recorder,
            stolen_s=stolen_s() - self._stolen_s,
            temperatures=self._temperatures,
            note=course.note,
            torque_found=course.torque_found,
        )
