"""After a release is marked good: its trust update, its installer, and what it makes superfluous.

A power cut may come between the mark and these; `catch_up` does the first two at the next contact.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from edgevla.errors import DeviceFault, explain
from edgevla.install.admission import load_trust
from edgevla.install.agent_files import place_agent
from edgevla.install.durable import replace_link, write_file
from edgevla.install.layout import Layout, agent_id, linked_id
from edgevla.install.releases import collect
from edgevla.install.state import read_state
from edgevla.install.steps import each_tried
from edgevla.install.venv import this_interpreter
from edgevla.trust.envelope import TRUST_FILE, parse_envelope
from edgevla.trust.folder import read_file, read_head
from edgevla.trust.store import parse_store

_AGENT_S = 60.0  # a new installer says its version within


def after_good(layout: Layout, release_id: str, keep: int) -> tuple[str, ...]:
    """The release is good whatever fails here; each failure is one text, to be shown."""
    acts: tuple[Callable[[], object], ...] = (
        lambda: update_trust(layout, release_id),
        lambda: update_agent(layout, release_id),
        lambda: collect(layout, keep),
    )
    return each_tried(acts)


def catch_up(layout: Layout) -> tuple[str, ...]:
    """What the newest good release brought and a power cut kept back. Nothing to do is the rule; errors are texts."""
    good = read_state(layout).good
    current = linked_id(layout.current)
    if not good or current is None or current != good[-1]:  # after a rollback the newer trust and installer stay
        return ()
    return each_tried((lambda: update_trust(layout, current), lambda: update_agent(layout, current)))


def update_trust(layout: Layout, release_id: str) -> bool:
    """Take over the release's trust update, if it has one that is new. Raises BadInput, OSError."""
    bundle = layout.release(release_id) / "bundle"
    envelope = parse_envelope(read_head(bundle).manifest)
    if TRUST_FILE not in envelope.files:
        return False
    update = parse_store(read_file(bundle, TRUST_FILE, envelope.files[TRUST_FILE]), TRUST_FILE)
    pinned = load_trust(layout)
    after = pinned.updated(update)
    if after == pinned:
        return False
    write_file(layout.trust, after.to_bytes())
    return True


def update_agent(layout: Layout, release_id: str) -> bool:
    """Let the installer be the one that this release brings, if it starts. Raises BadInput, DeviceFault, OSError."""
    bundle = layout.release(release_id) / "bundle"
    envelope = parse_envelope(read_head(bundle).manifest)
    wheels = envelope.release.agent_wheels if envelope.release else ()
    if not wheels or agent_id(layout) == release_id:
        return False
    folder = place_agent(layout, release_id, [bundle / path for path in wheels])
    require_starts(folder)
    replace_link(layout.agent, release_id)
    return True


def require_starts(agent: Path) -> None:
    """The installer in that folder can be imported with what the robot has. Raises DeviceFault."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import edgevla.install.agent, edgevla.install.select"
    command = [str(this_interpreter().executable), "-I", "-B", "-c", code, str(agent)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_AGENT_S, check=False)
        words = done.stderr.decode(errors="replace").strip().splitlines()
        said = "" if done.returncode == 0 else (words or [f"exit code {done.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        said = f"nothing within {_AGENT_S:g} s"
    if said:
        todo = "the old installer stays; report this"
        raise DeviceFault(explain("the release's installer does not start", "it imports", said, todo))
