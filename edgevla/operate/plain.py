"""A run without a terminal: one line per change of state, for a journal. Pure."""

from __future__ import annotations

from edgevla.operate.state import CameraView, ViewState
from edgevla.operate.view import phase_words


def status_line(state: ViewState) -> str:
    """The moment in one line; systemd shows it as the status of the service."""
    name = "starting" if state.phase is None else state.phase.name.lower()
    tally = state.tally
    effort = "BEST EFFORT, " if state.not_granted else ""
    return (
        f"{name}: {phase_words(state)[0]}; {effort}{state.instruction!r}, {state.rate_hz:.1f} Hz, "
        f"{tally.misses} misses, {tally.late} late, {tally.release_misses} release misses"
    )


def changes(before: ViewState | None, now: ViewState) -> list[str]:
    """What is different since the last look, a line each; counts that only grow slowly are no state."""
    lines = []
    if before is None or (before.phase, before.stopping) != (now.phase, now.stopping):
        lines += [] if now.phase is None else [status_line(now)]  # before the first step there is nothing to say
    elif before.instruction != now.instruction:
        lines.append(f"instruction: {now.instruction!r}")
    if now.not_granted and (before is None or before.not_granted != now.not_granted):
        lines.append("BEST EFFORT, not granted: " + "; ".join(now.not_granted))
    if before is None:
        return lines
    if now.tally.late > before.tally.late:
        lines.append(f"late commands: {now.tally.late} expired and were not written")
    if now.restarts > before.restarts:
        lines.append(f"policy process started again, {now.restarts} times so far")
    if now.recorder != before.recorder:
        lines.append(f"recorder: {now.recorder}")
    if now.device_faults != before.device_faults:
        lines.append(f"device faults: 0x{now.device_faults:04x}")
    return lines + _camera_changes(before.cameras, now.cameras)


def _camera_changes(before: tuple[CameraView, ...], now: tuple[CameraView, ...]) -> list[str]:
    known = {camera.name: camera for camera in before}
    lines = []
    for camera in now:
        last = known.get(camera.name, camera)
        if camera.stale == last.stale:
            continue
        age = "never delivered" if camera.age_s is None else f"{camera.age_s:.2f} s old"
        delivers = "delivers" if last.age_s is None else "delivers again"
        lines.append(f"camera {camera.name}: " + (f"stalled, {age}" if camera.stale else delivers))
    return lines
