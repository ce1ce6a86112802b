"""What is installed, the way back to it, and what may be removed."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, EdgevlaError, Refused, explain
from edgevla.install.durable import discard_folder, remove_name
from edgevla.install.layout import Layout, agent_id, linked_id
from edgevla.install.select import look
from edgevla.install.state import State, change_state, read_state
from edgevla.trust.envelope import parse_envelope
from edgevla.trust.folder import read_head

_AGENT_FOLDER = Path(__file__).resolve().parents[2]


def list_releases(layout: Layout) -> list[dict[str, Any]]:
    """What is installed, the newest good one first, then what was never good. Raises BadInput."""
    found = look(layout)
    order = [*reversed(found.state.good), *(one for one in layout.releases_there() if one not in found.state.good)]
    return [
        {
            "id": one,
            **_said_by_bundle(layout.release(one) / "bundle"),
            "good": one in found.state.good,
            "current": one == found.current,
            "previous": one == found.previous,
            "on_trial": found.state.trial is not None and found.state.trial.id == one,
            "why": _why(layout.release(one)),
        }
        for one in order
        if one in found.whole
    ]


def back_to(layout: Layout, wanted: str | None) -> str:
    """The good release that a rollback goes to: the wanted one, else `previous`, else the newest other one.

    Raises Refused where there is none, BadInput.
    """
    found = look(layout)
    others = [one for one in reversed(found.state.good) if one in found.whole and one != found.current]
    if found.previous in others and wanted is None:
        return found.previous or others[0]
    if wanted is None and others:
        return others[0]
    if wanted is not None and wanted in others:
        return wanted
    only = "the one that runs, and no other" if found.current in found.state.good else "none"
    got = f"{wanted}; there are: {', '.join(others)}" if others else only
    if wanted is not None and wanted == found.current:
        got = f"{wanted}, which runs already"
    todo = "name one of `edgevla deploy releases`" if others else "deploy another release; failed ones cannot be used"
    raise Refused(explain("no release to go back to", "an installed one that was good here", got, todo))


def superfluous(there: Sequence[str], good: Sequence[str], protected: Collection[str | None], keep: int) -> list[str]:
    """Pure. Of what is there: never the protected ones; of the good ones the newest `keep` stay; others go."""
    kept = {*good[len(good) - keep :]} if keep < len(good) else {*good}
    return [one for one in there if one not in protected and one not in kept]


def collect(layout: Layout, keep: int) -> list[str]:
    """Remove releases that nobody needs, and everything in staging; returns their ids. Raises BadInput, OSError."""
    if keep < 1:
        raise BadInput(explain("`keep` is wrong", "1 at least", keep, "pass a larger number"))
    state = read_state(layout)
    trial = state.trial.id if state.trial else None
    protected = {linked_id(layout.current), linked_id(layout.previous), trial, agent_id(layout)}
    gone = superfluous(layout.releases_there(), state.good, protected, keep)
    for release_id in gone:
        discard_release(layout, release_id)
    agents = {agent_id(layout), _AGENT_FOLDER.name}  # this process may import more of itself
    for entry in [*_folders(layout.staging), *_folders(layout.agents)]:
        if entry != layout.waste and not (entry.parent == layout.agents and entry.name in agents):
            discard_folder(entry, layout.waste)
    return gone


def discard_release(layout: Layout, release_id: str) -> None:
    """Not good any more, then not there any more, then its chunk index. Never the current one. Raises Refused."""
    if linked_id(layout.current) == release_id:
        todo = "roll back first, or install another one"
        raise Refused(explain(f"release {release_id} runs", "another one to remove", "the current one", todo))
    if release_id in read_state(layout).good:

        def forget(now: State) -> State:
            return now.without(release_id)

        change_state(layout, forget)
    discard_folder(layout.release(release_id), layout.waste)
    remove_name(layout.chunk_index(release_id))


def _folders(folder: Path) -> list[Path]:
    """The folders in it, links left out."""
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())


def _said_by_bundle(bundle: Path) -> dict[str, Any]:
    try:
        envelope = parse_envelope(read_head(bundle).manifest)
    except EdgevlaError as error:
        return {"name": f"unreadable: {str(error).splitlines()[0]}", "counter": None, "bytes": None}
    counter = envelope.release.counter if envelope.release else None
    return {"name": envelope.name, "counter": counter, "bytes": envelope.total_bytes}


def _why(release: Path) -> str:
    """Why its last install failed; '' where it did not."""
    try:
        return str(json.loads((release / "installed.json").read_text()).get("why", ""))
    except (OSError, ValueError, AttributeError):
        return ""
