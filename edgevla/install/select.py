"""The boot selector: which release runs. Called at boot, before each start of the service, and by the installer.

    python3 -I PREFIX/agent/current/edgevla/install/select.py PREFIX [recover | count]

`recover` puts `current`, `previous` and state.json in order after whatever happened; called twice it changes nothing
the second time. Without a good release it removes `current`. `count` notes one more try of a release that is not marked
good yet, once per start. Standard library only: it must work when everything else is broken. Prints one JSON object.

Exit code 0: done. 75: the units of the good release that is current were brought back in place of a failed one's. The
start that called this began by the failed one's, so it ends here, and systemd begins another (Restart=on-failure). A
damaged state.json (bad memory, a slip of the pen: no power cut does that) leaves everything as it is, with a word on
stderr, and 4 only where no whole release is current: a robot that ran goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

if __name__ == "__main__":  # by path with -I, nothing of ours is on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edgevla.errors import BadInput
from edgevla.install.durable import BESIDE, empty_waste, open_lock, remove_name, replace_link
from edgevla.install.layout import Layout, link_to, linked_id
from edgevla.install.place import bring_back
from edgevla.install.settings import restore_settings
from edgevla.install.state import MAX_TRIES, State, change_state, read_state

_BROUGHT_BACK = "brought back"
AGAIN = 75  # EX_TEMPFAIL of sysexits.h
_MAX_MANIFEST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Snapshot:
    """What lies on the disk."""

    state: State
    current: str | None  # the id that the link names, whether or not such a release is there
    previous: str | None
    whole: frozenset[str]  # releases that are there


@dataclass(frozen=True)
class Decision:
    """What has to lie there."""

    state: State
    current: str | None
    previous: str | None
    why: str


def decide(found: Snapshot) -> Decision:
    """Pure. A good release that is there stays or comes back; one on trial stays for MAX_TRIES starts."""
    good = tuple(one for one in found.state.good if one in found.whole)
    state = replace(found.state, good=good)
    current, why = _current(found, state)
    if state.trial is not None and (state.trial.id != current or current in good):
        state = state.without_trial()
    return Decision(state, current, _previous(found.previous, good, current), why)


def _current(found: Snapshot, state: State) -> tuple[str | None, str]:
    if found.current in state.good:
        return found.current, "the current release is good"
    trial, back = state.trial, _newest(state.good, None)
    if found.previous in state.good:
        back = found.previous
    on_trial = trial is not None and trial.id == found.current and trial.id in found.whole
    if on_trial and trial is not None and trial.tries < MAX_TRIES:
        return found.current, f"the current release is on trial, {trial.tries} of {MAX_TRIES} starts used"
    if found.current is None:
        reason = "there was no current release"
    elif found.current not in found.whole:
        reason = "the current release is not there"
    elif on_trial:
        reason = f"the current release was not marked good in {MAX_TRIES} starts"
    else:
        reason = "the current release was never marked good"
    return back, f"{reason}; {'returned to a good one' if back else 'no release is good'}"


def _previous(link: str | None, good: tuple[str, ...], current: str | None) -> str | None:
    """The link where it names another good release, else the newest other good one."""
    return link if link in good and link != current else _newest(good, current)


def _newest(good: tuple[str, ...], but: str | None) -> str | None:
    return next((one for one in reversed(good) if one != but), None)


def look(layout: Layout) -> Snapshot:
    """What lies there now. Raises BadInput when state.json is damaged."""
    state = read_state(layout)
    whole = frozenset(one for one in layout.releases_there() if is_whole(layout, one))
    return Snapshot(state, linked_id(layout.current), linked_id(layout.previous), whole)


def is_whole(layout: Layout, release_id: str) -> bool:
    """Whether that release is there and is the one its name says. Its other files were synced before its name was."""
    release = layout.release(release_id)
    try:
        with (release / "bundle" / "manifest.json").open("rb") as file:
            raw = file.read(_MAX_MANIFEST_BYTES + 1)
    except OSError:
        return False
    return hashlib.sha256(raw).hexdigest()[:32] == release_id and (release / "venv" / "bin" / "edgevla").is_file()


def recover(layout: Layout, give_up_trial: bool = False) -> Decision:
    """Make the disk as `decide` says; idempotent, and killed at any point the next call ends the same.

    Not while another installer is at work. give_up_trial: a release that is not good yet has had its tries.
    Raises BadInput when state.json is damaged, OSError; on a full disk the links are right even then.
    """
    found = look(layout)
    if give_up_trial:
        found = replace(found, state=found.state.without_trial())
    decision = decide(found)
    _set_link(layout.current, decision.current)  # first: only after it may the others forget how it was
    _set_link(layout.previous, decision.previous)
    if decision.state.trial is None:
        restore_settings(layout)
    after = replace(found, current=decision.current, previous=decision.previous)
    change_state(layout, lambda now: _settled(decide(replace(after, state=now)).state))  # a start may just be counted
    empty_waste(layout.waste)
    for path in (layout.current, layout.previous, layout.state):
        remove_name(path.with_name(f".{path.name}{BESIDE}"))
    return decision


def _settled(state: State) -> State:
    """Settings have only one form any more when nothing is on trial."""
    return state if state.trial else replace(state, settings="")


def count(layout: Layout) -> State:
    """One more try, if it is the release on trial that starts. Raises BadInput, OSError."""
    starts = linked_id(layout.current)
    return change_state(layout, lambda now: now.tried_once_more() if now.trial and now.trial.id == starts else now)


def _set_link(link: Path, release_id: str | None) -> None:
    if release_id is None:
        remove_name(link)
    elif linked_id(link) != release_id or not link.is_symlink():
        replace_link(link, link_to(release_id))


@contextlib.contextmanager
def no_installer(layout: Layout) -> Iterator[bool]:
    """True while this process keeps installers out; False when one is at work, and then it is the one who decides."""
    layout.prefix.mkdir(parents=True, exist_ok=True)
    handle = open_lock(layout.lock)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(handle)


def main(arguments: list[str], root: Path = Path("/")) -> int:
    """The command. Returns its exit code."""
    place, action = [*arguments, "recover"][:2] if arguments else ("-", "")
    if len(arguments) > 2 or place.startswith("-") or action not in ("recover", "count"):
        print("usage: select.py PREFIX [recover | count]", file=sys.stderr)
        return 2
    layout = Layout(Path(place))
    try:
        said = _act(layout, action, root)
        print(json.dumps(said))
    except (BadInput, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        current = linked_id(layout.current)
        return 0 if current and is_whole(layout, current) else 4
    return AGAIN if said.get("units") == _BROUGHT_BACK else 0


def _act(layout: Layout, action: str, root: Path) -> dict[str, object]:
    why, units = "counted", ""
    if action == "count":
        count(layout)
    else:
        with no_installer(layout) as alone:
            why = recover(layout).why if alone else "an installer is at work, and decides"
            units = _units(layout, root) if alone else ""
    trial = read_state(layout).trial
    tries = trial.tries if trial else None
    said: dict[str, object] = {"current": linked_id(layout.current), "tries": tries, "why": why}
    return said | ({"units": units} if units else {})


def _units(layout: Layout, root: Path) -> str:
    """The units of a good release that is current are placed. Where they cannot be, the service starts by the others'.

    A release on trial has its own from the installer: units that keep the service from starting count no try.
    """
    current = linked_id(layout.current)
    if current is None or current not in read_state(layout).good:
        return ""
    try:
        changed = bring_back(layout.release(current) / "bundle" / "runtime" / "units", layout.prefix, root)
    except (BadInput, OSError) as error:
        print(f"error: its units cannot be brought back: {error}", file=sys.stderr)
        return "of another release"
    return _BROUGHT_BACK if changed else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
