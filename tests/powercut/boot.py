"""What the next boot makes of a robot's folder: the real boot selector, the real verifier, what has to lie there."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgevla.errors import EdgevlaError
from edgevla.install import select
from edgevla.install.admission import load_trust
from edgevla.install.layout import Layout, linked_id
from edgevla.install.state import MAX_TRIES, read_state
from edgevla.install.unpack import check_release
from edgevla.trust.folder import read_head

CONTENTS = ("releases", "agent")  # below their folders nothing is changed once they have their names

Sound = Callable[
    [Layout, str], str
]  # what is wrong with a release and the installer, beyond what the verifier looks at


@dataclass(frozen=True)
class Expected:
    """Of one chapter. `new`: the release that it installs; `settings` and `trust`: before and after it."""

    new: str
    new_was_good: bool
    settings: tuple[bytes, bytes]
    trust: tuple[bytes, bytes]


def fault_after_boot(
    layout: Layout, expected: Expected, had_good: bool, sound: Sound, as_process: bool = False
) -> tuple[str, int]:
    """(why no good release runs with its own settings, "" when one does; times the selector ran).

    The selector runs twice: the second time it must change nothing. A release on trial then uses up its starts, and
    the boot after them is judged too. had_good: a release was good before the cut, so one must run.
    """
    code, said = selected(layout.prefix, as_process)
    first = names_and_texts(layout.prefix)
    again, _ = selected(layout.prefix)
    if (code, again) != (0, 0):
        return f"the boot selector ended with {code}, then {again}: {said}", 2
    if names_and_texts(layout.prefix) != first:
        return "the boot selector changed something the second time", 2
    why = _fault(layout, expected, had_good, sound)
    if why or read_state(layout).trial is None:
        return why, 2
    for _ in range(MAX_TRIES):
        select_quietly([str(layout.prefix), "count"])
    code, said = selected(layout.prefix)
    if code or read_state(layout).trial is not None:
        return f"a release that used up its starts: the boot selector ended with {code}: {said}", 3
    why = _fault(layout, expected, had_good, sound)
    return (f"after a release had used up its starts: {why}" if why else ""), 3


def _fault(layout: Layout, expected: Expected, had_good: bool, sound: Sound) -> str:
    """Of what lies there after the selector ran."""
    current, state = linked_id(layout.current), read_state(layout)
    if current is None:
        return "no release is current" if had_good or state.good else _wrong_files(layout, expected, None)
    on_trial = state.trial is not None and state.trial.id == current
    if current not in state.good and not on_trial:
        return f"release {current} is neither good nor on trial"
    try:
        check_release(layout, current)
        head = read_head(layout.release(current) / "bundle")
        load_trust(layout).judge(head.manifest, head.signature)
    except EdgevlaError as error:
        return f"the verifier refuses release {current}: {error}"
    return sound(layout, current) or _wrong_files(layout, expected, current)


def _wrong_files(layout: Layout, expected: Expected, current: str | None) -> str:
    """Settings that are not those of the release that runs; a trust store of a release that is not good."""
    state = read_state(layout)
    before, after = expected.settings
    allowed = {after} if current == expected.new else {before}
    if current is None or (current == expected.new and expected.new_was_good):
        allowed = {before, after}
    if not layout.robot.is_file() or layout.robot.read_bytes() not in allowed:
        return f"release {current} does not have its settings"
    if state.trial is None and layout.robot_before.exists():
        return "settings of an earlier release are left beside those in use"
    trusts = {*expected.trust} if expected.new in state.good else {expected.trust[0]}
    if not layout.trust.is_file() or layout.trust.read_bytes() not in trusts:
        return "trust.json is not the one before nor that of the new good release"
    return ""


def selected(prefix: Path, as_process: bool = False) -> tuple[int, str]:
    """Exit code and words of the real boot selector; in a process of its own, or by its `main` in this one."""
    if not as_process:
        return select_quietly([str(prefix)])
    command = [sys.executable, "-I", str(Path(select.__file__)), str(prefix)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def select_quietly(arguments: list[str]) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = select.main(arguments)
    return code, said.getvalue()


def names_and_texts(prefix: Path) -> dict[str, object]:
    """Every name with what a link or a file says; of a release and an installer its name alone."""
    found: dict[str, object] = {}
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(prefix / folder) as entries:
            for entry in entries:
                name = f"{folder}{entry.name}"
                if entry.is_symlink():
                    found[name] = os.readlink(entry.path)
                elif entry.is_file():
                    found[name] = Path(entry.path).read_bytes()
                else:
                    found[name] = None
                    if folder.rstrip("/") not in CONTENTS:
                        waiting.append(f"{name}/")
    return found
