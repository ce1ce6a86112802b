"""The joints of an arm, followed: one table that renews itself on a terminal, one line a look anywhere else."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edgevla.bus import watch
from edgevla.cli.output import stdout
from profiles import ArmProfile


def follow(profile: ArmProfile, looks: Iterator[watch.Seen], as_json: bool = False) -> None:
    """Until `looks` ends."""
    console = stdout()
    if as_json or not console.is_terminal:
        for seen in looks:
            sys.stdout.write((json.dumps(plain(profile, seen)) if as_json else line(profile, seen)) + "\n")
            sys.stdout.flush()
        return
    with Live(console=console, auto_refresh=False) as live:
        for seen in looks:
            live.update(_table(profile, seen), refresh=True)


def line(profile: ArmProfile, seen: watch.Seen) -> str:
    """One look as a line of a log."""
    rows = watch.rows(profile, seen) if seen.state is not None else []
    joints = [f"{row['joint']} {row['position']:.4f}{'' if row['inside'] else ' OUTSIDE'}" for row in rows]
    return "; ".join([f"{profile.name}: {watch.heading(profile, seen)}", *joints])


def plain(profile: ArmProfile, seen: watch.Seen) -> dict[str, Any]:
    """One look as JSON. `controller_mode` of an arm whose controller reports one, else null."""
    if seen.state is None:
        return {"error": seen.error}
    return {
        "stamp_ns": seen.state.stamp_ns,
        "age_ms": seen.age_ms,
        "rate_hz": seen.rate_hz,
        "controller_mode": watch.controller_mode(seen),
        "faults": int(seen.state.faults),
        "joints": watch.rows(profile, seen),
    }


def _table(profile: ArmProfile, seen: watch.Seen) -> Table:
    title = f"{profile.name}: {watch.heading(profile, seen)}. Ctrl-C ends"
    table = Table(title=escape(title), title_justify="left")
    for column in ("joint", "position", "velocity", "effort", "°C", "torque", "code"):
        table.add_column(column, justify="left" if column == "joint" else "right")
    for row in watch.rows(profile, seen) if seen.state is not None else []:
        numbers = [_number(row[key]) for key in ("velocity", "effort", "temperature_c")]
        position = f"{row['position']:.4f} {row['unit']}"
        cells = [position, *numbers, torque_word(row["torque_on"]), str(row["code"] or "")]
        table.add_row(escape(row["joint"]), *cells, style="" if row["inside"] else "yellow")
    return table


def torque_word(on: bool | None) -> str:
    """What an actuator says of its torque."""
    return "-" if on is None else "on" if on else "off"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


@contextmanager
def progress(took_s: float) -> Iterator[Callable[[str, float, str], None]]:
    """To be told at every step of a ramp of `took_s`: joint that is furthest away, how far, its unit. Never waits.

    A line that renews itself on a terminal; anywhere else a line a second. Printed by a thread: a terminal that stands
    still must not hold an arm's commands.
    """
    newest: list[tuple[str, float, str]] = [("", 0.0, "")]
    ended, console, began_s = threading.Event(), stdout(), time.monotonic()

    def tell(joint: str, left: float, unit: str) -> None:
        newest[0] = joint, left, unit

    def show(live: Live | None) -> None:
        with suppress(OSError):  # nobody reads any more
            while not ended.wait(1.0 if live is None else 0.2):
                joint, left, unit = newest[0]
                left_s = max(0.0, took_s - (time.monotonic() - began_s))
                text = f"on its way: {joint} has {left:.3f} {unit} to go, some {left_s:.1f} s left"
                print(text, flush=True) if live is None else live.update(Text(text), refresh=True)

    with Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else nullcontext() as live:
        thread = threading.Thread(target=show, args=(live,), daemon=True)
        thread.start()
        try:
            yield tell
        finally:
            ended.set()
            thread.join(0.5)
