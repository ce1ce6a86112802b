"""From the release that runs to another one and back: links, units, service, torque."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, Refused, explain
from edgevla.install.durable import replace_link
from edgevla.install.layout import Layout, link_to, linked_id
from edgevla.install.select import recover
from edgevla.install.state import State, change_state, read_state
from edgevla.install.steps import SAID, Options
from edgevla.install.systemd import Systemd
from edgevla.install.tools import Tools


def require_torque_off(tools: Tools, options: Options, release: Path | None = None) -> dict[str, Any]:
    """What is known, in words too. Raises Refused while the arm has torque, or while a service that runs cannot say.

    release: whose commands look at the arm where no service runs; None: the current one's.
    """
    tools.one_manager()
    said, why = tools.torque(release)
    unknown = said not in ("off", "on")
    if said == "on" or (unknown and not options.accept_unknown_torque and tools.manager.is_active()):
        what, todo = "nothing is changed while the arm may have torque", "bring the arm to rest, disarm it, try again"
        raise Refused(explain(what, "torque off", f"{said}: {why}", todo))
    return {SAID: _in_words(said, why, options.accept_unknown_torque), "torque": said, "why": why}


def _in_words(torque: str, why: str, vouched: bool) -> str:
    if torque == "off":
        return "the arm's torque is off"
    then = "somebody said that it is at rest" if vouched else "nobody said that it is at rest"
    return f"the arm's torque is not known ({why}); {then}"


def switch_to(layout: Layout, release_id: str, state: State) -> None:
    """`previous` leads to what ran if that is good, then `current` to the release. Raises OSError."""
    old = linked_id(layout.current)
    if old is not None and old in state.good and old != release_id:
        replace_link(layout.previous, link_to(old))
    replace_link(layout.current, link_to(release_id))


def go_back(layout: Layout, tools: Tools, to: str | None) -> str | None:
    """Nothing is on trial any more; what ran before runs again, if it is good, else the newest good release.

    Returns its id, None where no release is good. Raises BadInput, DeviceFault, OSError. A disk without room for
    state.json does not keep the old release from running: a trial that is not current is none.
    """
    tools.manager.stop()
    with contextlib.suppress(OSError):  # first, so that a power cut from here on starts no failed release again
        change_state(layout, State.without_trial)
    if to is not None and to in read_state(layout).good and linked_id(layout.current) != to:
        replace_link(layout.current, link_to(to))
    try:
        recover(layout, give_up_trial=True)
    finally:
        current = linked_id(layout.current)
        before = _by_settings(tools)
        if before is not tools:  # the settings named the other one for a while
            tools.manager.remove_units()
        if current is not None and current in read_state(layout).good:
            start_release(layout, current, before)
        else:
            before.manager.remove_units()
    return current


def _kind(tools: Tools) -> bool:
    return isinstance(tools.manager, Systemd)


def _by_settings(tools: Tools) -> Tools:
    """By the settings that are in force again; the same tools where they cannot be read or nothing changed."""
    with contextlib.suppress(BadInput):
        again = tools.again() if tools.again else tools
        if _kind(again) != _kind(tools):
            return again
    return tools


def units_of(layout: Layout, release_id: str) -> Path | None:
    """The folder of its units; None: it has none."""
    units = layout.release(release_id) / "bundle" / "runtime" / "units"
    return units if units.is_dir() else None


def start_release(layout: Layout, release_id: str, tools: Tools) -> None:
    """Its own units, then the service. Raises DeviceFault."""
    if units := units_of(layout, release_id):
        tools.manager.install_units(units)
    tools.manager.start()


def restore_units(layout: Layout, tools: Tools) -> None:
    """Those of the release that runs are placed, none where no release is good. Raises BadInput, DeviceFault."""
    current = linked_id(layout.current)
    if current is None or current not in read_state(layout).good:
        tools.manager.remove_units()
    elif units := units_of(layout, current):
        tools.manager.install_units(units)


def healthy(tools: Tools, options: Options) -> dict[str, Any]:
    """Figures of the health window. Raises Refused when it was not kept."""
    health = tools.manager.health(options.health_ticks, options.health_timeout_s)
    if not health.held:
        got, todo = f"{health.ticks} ticks, {health.late} late: {health.why}", "see `edgevla deploy logs`"
        expected = f"{options.health_ticks} disarmed ticks in {options.health_timeout_s:g} s"
        raise Refused(explain("the started service is not healthy", expected, got, todo))
    return {"ticks": health.ticks, "late": health.late}
