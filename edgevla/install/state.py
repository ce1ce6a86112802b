"""state.json: which releases are known to be good, which one is on trial, and how old a release may be.

Written whole or not at all, under a short lock of its own: the boot selector counts tries while an installer that
waits for the service may mark the release good.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from edgevla.errors import BadInput, explain
from edgevla.install.durable import open_lock, write_file
from edgevla.install.layout import Layout, is_release_id

SCHEMA = 1
MAX_TRIES = 2  # starts of the service that an unmarked release gets
_MAX_BYTES = 1024 * 1024
_MAX_WHOLE = 2**53
_SETTINGS = re.compile(r"(?:[0-9a-f]{64})?")


@dataclass(frozen=True)
class Trial:
    """A release that runs but is not marked good yet."""

    id: str
    tries: int  # starts of the service so far


@dataclass(frozen=True)
class State:
    """The whole file. The default is that of a robot on which nothing was ever installed."""

    good: tuple[str, ...] = ()  # in the order in which they were marked, the newest last
    trial: Trial | None = None
    counter_floor: int = 0  # the highest release counter ever marked good: nothing lower is installed any more
    settings: str = ""  # sha256 of new settings, marked good with their release while the ones before lie beside them

    def on_trial(self, release_id: str) -> State:
        """Before the switch to `release_id`."""
        return replace(self, trial=Trial(release_id, 0))

    def tried_once_more(self) -> State:
        return replace(self, trial=replace(self.trial, tries=self.trial.tries + 1)) if self.trial else self

    def marked_good(self, release_id: str, counter: int, settings: str = "") -> State:
        good = (*(one for one in self.good if one != release_id), release_id)
        return State(good, None, max(self.counter_floor, counter), settings)

    def without_trial(self) -> State:
        return replace(self, trial=None)

    def without(self, release_id: str) -> State:
        """After that release was removed."""
        return replace(self, good=tuple(one for one in self.good if one != release_id))


def read_state(layout: Layout) -> State:
    """What state.json says; the default where there is none. Raises BadInput when it cannot be read or is damaged."""
    try:
        with layout.state.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return State()
    except OSError as error:
        todo = "check the disk and the permissions"
        raise BadInput(explain(f"{layout.state} cannot be read", "a file", error.strerror, todo)) from error
    try:
        return parse_state(raw)
    except ValueError as error:
        example = encode_state(State(("<id of the release that runs>",))).decode().strip()
        todo = f"write it again, with counter_floor of the newest release that was good: {example}"
        raise BadInput(explain(f"{layout.state} is damaged", "what the installer wrote", error, todo)) from error


def change_state(layout: Layout, change: Callable[[State], State]) -> State:
    """Read, change and replace state.json in one go; returns what it says now. Raises BadInput, OSError."""
    with _locked(layout):
        before = read_state(layout)
        after = change(before)
        if after != before or not layout.state.exists():
            write_file(layout.state, encode_state(after))
        return after


def encode_state(state: State) -> bytes:
    trial = {"id": state.trial.id, "tries": state.trial.tries} if state.trial else None
    data = {"schema": SCHEMA, "good": list(state.good), "trial": trial, "counter_floor": state.counter_floor}
    new = {"settings": state.settings} if state.settings else {}
    return (json.dumps({**data, **new}) + "\n").encode()


def parse_state(raw: bytes) -> State:
    """What `encode_state` wrote. Raises ValueError, and only that, on anything else."""
    if len(raw) > _MAX_BYTES:
        raise ValueError(f"more than {_MAX_BYTES} bytes")
    try:
        data = json.loads(raw.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ValueError(f"no state of schema {SCHEMA}: {str(data)[:80]}")
    good, trial, floor = data.get("good"), data.get("trial"), data.get("counter_floor")
    if not isinstance(good, list) or not all(_is_id(one) for one in good) or len(set(good)) != len(good):
        raise ValueError(f"`good` is {str(good)[:80]}")
    settings = data.get("settings", "")
    if not isinstance(settings, str) or not _SETTINGS.fullmatch(settings):
        raise ValueError(f"`settings` is {str(settings)[:80]}")
    return State(tuple(good), None if trial is None else _trial(trial), _whole("counter_floor", floor), settings)


def _trial(data: Any) -> Trial:
    if not isinstance(data, dict) or not _is_id(data.get("id")):
        raise ValueError(f"`trial` is {str(data)[:80]}")
    return Trial(data["id"], _whole("tries", data.get("tries")))


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and is_release_id(value)


def _whole(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MAX_WHOLE:
        raise ValueError(f"`{key}` is {str(value)[:80]}")
    return value


@contextlib.contextmanager
def _locked(layout: Layout) -> Iterator[None]:
    """Held for the time of one replacement; dies with its holder."""
    handle = open_lock(layout.state_lock)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
