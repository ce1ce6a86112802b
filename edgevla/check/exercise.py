"""A disarmed run put to work: inferences at the operating rate beside a servo that reads and commands nothing.

The operator of an ordinary run (`control.course.Operator`): same processes, same shared memory, same cores. A disarmed
servo asks for no chunk, so the requests come from here, with its newest states; the answers it throws away, as it does
with every answer while it is disarmed.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.control.course import Course
from edgevla.control.exchange import Request, pack_request, unpack_reply
from edgevla.operate.wish import Kind, Wish

_LONGEST = 3.0  # times the planned duration, and ...
_SLACK_S = 20.0  # ... this, before it is given up


@dataclass
class Window:
    """What was counted after the warm-up; times CLOCK_MONOTONIC ns, 0: not begun."""

    begin_ns: int = 0
    end_ns: int = 0
    asked: int = 0
    passed_over: int = 0  # re-plan ticks at which the inference before had no answer yet
    frames: dict[str, list[tuple[int, int]]] = field(
        default_factory=dict
    )  # camera -> first and newest (sequence, stamp)

    @property
    def complete(self) -> bool:
        return self.end_ns > 0


class Exercise:
    """Asks `inferences` times after `warm_up_s`, then ends the run. `say` takes lines for people."""

    def __init__(self, inferences: int, warm_up_s: float, say: Callable[[str], None] = lambda line: None) -> None:
        self.window = Window()
        self.torque_found: tuple[bool | None, ...] = ()
        self.say = say
        self._wanted, self._warm_up_s = inferences, warm_up_s
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    # --- Operator -------------------------------------------------------------------------------------------

    def open(self, course: Course, halt: Callable[[], None]) -> None:
        """See Operator."""
        del halt
        self._course = course
        self._replan_s = course.plan.schedule.replan * course.plan.period_s

    @property
    def fds(self) -> list[int]:
        return []

    def look(self) -> list[Wish]:
        """Begins when the run is ready, ends it when all was asked."""
        if self._course.ready and self._thread is None:
            self.torque_found = self._course.torque_found
            self._thread = threading.Thread(target=self._ask_on, daemon=True)
            self._thread.start()
        if self._thread is not None and not self._ended.is_set():
            self._watch_cameras()
        return [Wish(Kind.QUIT, by="self-test")] if self._ended.is_set() else []

    def close(self) -> None:
        """See Operator."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    # --- the thread -----------------------------------------------------------------------------------------

    def _ask_on(self) -> None:
        begun_s = next_s = time.monotonic()
        give_up_s = begun_s + self._warm_up_s + _LONGEST * self._wanted * self._replan_s + _SLACK_S
        window, first = self.window, True
        while not self._ended.wait(max(0.0, next_s - time.monotonic())):
            now_s = time.monotonic()
            next_s += self._replan_s * max(1, int((now_s - next_s) / self._replan_s) + 1)
            if not window.begin_ns and now_s - begun_s >= self._warm_up_s:
                window.begin_ns = time.monotonic_ns()
            if (window.asked + window.passed_over >= self._wanted and self._idle()) or now_s > give_up_s:
                window.end_ns = time.monotonic_ns()
                self._ended.set()
            elif not self._idle():
                window.passed_over += bool(window.begin_ns)
            elif (request := self._request(first)) is not None:
                first = False
                self._course.memory.requests.write(pack_request(request))
                os.eventfd_write(self._course.memory.kick_fd, 1)
                self._asked_tick = request.tick
                window.asked += bool(window.begin_ns)

    _asked_tick = -1

    def _idle(self) -> bool:
        """The newest request has its answer."""
        reply = self._course.memory.replies.read()
        return self._asked_tick < 0 or (reply is not None and unpack_reply(reply[1]).tick >= self._asked_tick)

    def _request(self, first: bool) -> Request | None:
        """Of the newest servo steps, as the servo would ask; None before the arm has told a state."""
        plan, rows = self._course.plan, self._newest_ticks()
        if not len(rows) or not int(rows[-1]["state_stamp_ns"]) or int(rows[-1]["tick"]) == self._asked_tick:
            return None
        delay, channels = plan.schedule.delay, len(plan.arm.channels)
        return Request(
            tick=int(rows[-1]["tick"]),
            asked_ns=time.monotonic_ns(),
            state_stamp_ns=int(rows[-1]["state_stamp_ns"]),
            prefix=np.zeros((delay, channels), np.float32),
            commanded=np.repeat(rows[-1]["setpoint"][None], delay + 1, axis=0),
            state=_padded(rows["state"], plan.observations),
            first=first,
            instruction=self._course.epoch,
        )

    def _newest_ticks(self) -> NDArray[Any]:
        """One row for each of the last T ticks, oldest first."""
        ticks, plan = self._course.memory.ticks, self._course.plan
        rows, _, _ = ticks.since(max(0, ticks.count - plan.observations * plan.target.servo_ratio))
        return rows[np.append(np.diff(rows["tick"]) > 0, True)] if len(rows) else rows

    def _watch_cameras(self) -> None:
        if not self.window.begin_ns:
            return
        for name, slot in self._course.memory.cameras.items():
            frame = slot.latest()
            if frame is not None:
                seen = self.window.frames.setdefault(name, [(frame.sequence, frame.stamp_ns)] * 2)
                seen[1] = (frame.sequence, frame.stamp_ns)


def _padded(states: NDArray[Any], count: int) -> NDArray[np.float32]:
    """The last `count` rows; the oldest again where there are not so many yet. Float32 (count, s)."""
    rows = states[-count:]
    missing = np.repeat(rows[:1], count - len(rows), axis=0)
    padded: NDArray[np.float32] = np.concatenate([missing, rows]).astype(np.float32)
    return padded
