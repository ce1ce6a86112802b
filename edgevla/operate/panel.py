"""Everything through which a run is seen and steered, as one object for its loop: no thread, no waiting.

with Panel(...) as panel:
    every look (50 ms):  for wish in panel.wishes(now_ns): ...
                         if panel.due(now_ns): panel.show(state, now_ns)
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevla.operate.arm_signal import ArmSignal
from edgevla.operate.instruction_file import InstructionFile
from edgevla.operate.keys import Key, Keys
from edgevla.operate.notify import Notifier, WatchdogFeed
from edgevla.operate.plain import changes, status_line
from edgevla.operate.say import SayServer
from edgevla.operate.screen import Screen
from edgevla.operate.state import ViewState
from edgevla.operate.tasks import Sequence, TaskClock
from edgevla.operate.view import render
from edgevla.operate.wish import Kind, Wish

_LIVE_NS = 250_000_000  # between two frames for the eye
_PLAIN_NS = 100_000_000  # between two looks for the journal
_WISH_OF = {Key.STOP: Kind.STOP, Key.ARM: Kind.ARM, Key.QUIT: Kind.QUIT}


@dataclass(frozen=True)
class Desk:
    """What there is to see and steer with."""

    socket: Path | None = None  # where `edgevla say` is heard
    instruction_file: InstructionFile | None = None
    tasks: Sequence | None = None
    live: bool = False  # draw on the terminal; otherwise a line per change


@dataclass(frozen=True)
class Run:
    """What the panel needs of the run."""

    hears: Callable[[str], str | None]  # an instruction -> why the policy does not know it, None: it does
    status: Callable[[], Mapping[str, Any]]  # JSON of the moment
    acts_within_ticks: int  # r + d
    halt: Callable[[], None]  # ask the servo to stop, at once: the run is about to be suspended
    line: Callable[[str], None]  # one line for the journal or the log


class Panel:
    """Raises what `SayServer` raises when its socket cannot be had."""

    def __init__(self, desk: Desk, run: Run) -> None:
        self._desk, self._run = desk, run
        self._ways = contextlib.ExitStack()
        self._heard: list[Wish] = []
        self._server: SayServer | None = None
        self._screen: Screen | None = None
        self._clock = None if desk.tasks is None else TaskClock(desk.tasks)
        self._keys = Keys(0, self._suspending, self._resumed)
        self._arm = ArmSignal()
        self._notifier = Notifier.from_environment()
        self._feed = WatchdogFeed.from_environment(os.environ, os.getpid())
        self._help = self._ready = False
        self._shown: ViewState | None = None
        self._shown_ns = 0

    def __enter__(self) -> Panel:
        with contextlib.ExitStack() as ways:
            ways.callback(self._notifier.close)
            if self._desk.socket is not None:
                run = self._run
                self._server = SayServer(self._desk.socket, self._accept, run.status, run.acts_within_ticks)
                ways.callback(self._server.close)
            ways.enter_context(self._arm)
            ways.enter_context(self._keys)
            if self._desk.live and Screen.possible():
                self._screen = ways.enter_context(Screen())
            self._ways = ways.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ways.close()

    @property
    def live(self) -> bool:
        return self._screen is not None

    @property
    def fds(self) -> list[int]:
        """For select: readable when `wishes` has something to hear."""
        server = [] if self._server is None else [self._server.fd]
        return server + ([] if self._keys.fd is None else [self._keys.fd])

    def wishes(self, now_ns: int) -> list[Wish]:
        """What was wanted since the last call; a stop comes first."""
        if self._server is not None:
            self._server.poll(now_ns)
        if self._arm.take():
            self._heard.append(Wish(Kind.ARM, by="SIGUSR1"))
        for key in self._keys.poll():
            self._press(key)
        self._read_file()
        heard, self._heard = self._heard, []
        return sorted(heard, key=lambda wish: wish.kind not in (Kind.STOP, Kind.QUIT))

    def due(self, now_ns: int) -> bool:
        """It is time to `show` a new moment."""
        return now_ns - self._shown_ns >= (_LIVE_NS if self.live else _PLAIN_NS)

    def show(self, state: ViewState, now_ns: int) -> None:
        """Draw it or say what changed, move the task sequence on, tell the service manager."""
        self._shown_ns = now_ns
        for line in changes(self._shown, state):
            if self._screen is None:
                self._run.line(line)
        self._shown = state
        if self._screen is not None:
            self._screen.show(render(state, self._help))
        self._follow_tasks(state, now_ns)
        self._tell_manager(state, now_ns)

    def ready(self) -> None:
        """The servo ticks and the policy answers: from here on the watchdog is fed."""
        self._ready = True
        self._notifier.ready()

    def stopping(self) -> None:
        """The run is coming to its end."""
        self._notifier.stopping()

    def _follow_tasks(self, state: ViewState, now_ns: int) -> None:
        if self._clock is not None:
            self._clock, wish = self._clock.look(None if state.stopping else state.phase, now_ns)
            self._heard += [] if wish is None else [wish]

    def _tell_manager(self, state: ViewState, now_ns: int) -> None:
        if self._notifier.wanted and self._ready:
            self._feed, fed = self._feed.look(state.tally.steps, now_ns)
            if fed:
                self._notifier.feed()
                self._notifier.status(status_line(state))

    def _accept(self, text: str) -> str | None:
        """From the socket: instructions only. There is no way from here to any other wish."""
        if self._desk.tasks is not None:
            return "a task sequence gives the instructions of this run: stop it first"
        refused = self._run.hears(text)
        if refused is None:
            self._heard.append(Wish(Kind.INSTRUCT, text, by="edgevla say"))
        return refused

    def _press(self, key: Key) -> None:
        if key is Key.HELP:
            self._help = not self._help
            self._shown_ns = 0
        else:
            self._heard.append(Wish(_WISH_OF[key], by=f"key {key.name.lower()}"))

    def _read_file(self) -> None:
        heard = None if self._desk.instruction_file is None else self._desk.instruction_file.poll()
        if heard is None:
            return
        refused = heard.error or self._run.hears(heard.instruction)
        if refused:
            self._run.line(f"the old instruction stays: {refused.splitlines()[0]}")
        else:
            self._heard.append(Wish(Kind.INSTRUCT, heard.instruction, by="instruction file"))

    def _suspending(self) -> None:
        self._run.halt()
        if self._screen is not None:
            self._screen.leave()

    def _resumed(self) -> None:
        if self._screen is not None:
            self._screen.enter()
            self._shown_ns = 0
