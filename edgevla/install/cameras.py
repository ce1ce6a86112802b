"""The cameras of robot.toml and those of a release, compared by the release itself before the service is stopped.

A release that nobody confirmed the cameras for would be refused by its own start, long after the stop.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, DeviceFault, EdgevlaError, Refused, explain
from edgevla.install.launch import edgevla
from edgevla.install.robot_config import STATE, RobotConfig
from edgevla.install.systemd import USER
from edgevla.install.trial import first_line, json_as_service

_LOOK_S = 60.0
_KINDS: dict[int, type[EdgevlaError]] = {4: BadInput, 5: DeviceFault}


def require_cameras(release: Path, config: RobotConfig) -> dict[str, Any]:
    """Figures. Raises Refused or DeviceFault, with what to type on the robot; no camera is opened."""
    options = [f"--camera={name}={source}" for name, source in config.cameras.items()]
    command = [*edgevla(release), "camera", "check", "--bundle", str(release / "bundle"), *options]
    state = {"XDG_STATE_HOME": str(state_home(release, config))}
    code, told, errors = json_as_service([*command, "--confirmed", "--json"], release, config, _LOOK_S, state)
    if told.get("kept") is True:
        return {"cameras": len(config.cameras)}
    if isinstance(lack := told.get("lack"), dict):
        raise _refusal(lack, release, config)
    if "--confirmed" in errors:  # no such option: a release of before
        return {"cameras": "not looked at"}
    got, todo = first_line(errors) or f"exit code {code}", "report this; the service was not stopped"
    what = "the release does not say whether it can use this robot's cameras"
    raise _KINDS.get(code, Refused)(explain(what, "`edgevla camera check --confirmed`", got, todo))


def state_home(release: Path, config: RobotConfig) -> Path:
    """XDG_STATE_HOME of the service, below which the confirmed cameras are kept."""
    return Path(STATE).parent if config.service == "systemd" else release.parents[1] / "var"


def confirm_line(release: Path, config: RobotConfig) -> str:
    """What a person types on the robot to confirm its cameras for that release: as the service's user."""
    before = ["sudo", "-u", USER] if config.service == "systemd" else []
    words = [*before, f"XDG_STATE_HOME={state_home(release, config)}", str(release / "venv" / "bin" / "edgevla")]
    words += ["camera", "check", "--bundle", str(release / "bundle")]
    for name, source in config.cameras.items():
        words += ["--camera", f"{name}={source}"]
    return " ".join(map(_quoted, [*words, "--confirm"]))


def _quoted(word: str) -> str:
    """For a shell; an assignment in front keeps its name outside the quotes."""
    name, equals, value = word.partition("=")
    return f"{name}={shlex.quote(value)}" if equals and name == "XDG_STATE_HOME" else shlex.quote(word)


def _refusal(lack: Mapping[str, Any], release: Path, config: RobotConfig) -> EdgevlaError:
    camera, kind, text = (str(lack.get(key, "")) for key in ("camera", "kind", "text"))
    source, given = config.cameras.get(camera), ", ".join(config.cameras) or "none"
    if kind == "source" and source is None:
        what, expected = (
            f"robot.toml has no camera {camera}, which this release needs",
            f'[cameras] {camera} = "SOURCE"',
        )
        todo = f"sources: {release}/venv/bin/edgevla camera list; then deploy with --robot robot.toml"
        return Refused(explain(what, expected, given, todo))
    if kind == "source":
        what, todo = f"robot.toml names a camera {camera} that this release does not have", "correct [cameras]"
        return Refused(explain(what, text, given, todo))
    if kind == "library":
        what, expected = f"camera {camera} cannot be read by this release", f"OpenCV in its wheels, for {source}"
        todo = "build it again without --no-opencv; or use a gst: or csi: source in robot.toml"
        return Refused(explain(what, expected, "none: it was built with --no-opencv", todo))
    if kind == "device":
        todo = f"plug it in; those that are there: {release}/venv/bin/edgevla camera list"
        return DeviceFault(explain(f"camera {camera} is not there", str(source), text.splitlines()[0], todo))
    what, expected, got = _three(text)
    todo = f"on the robot, type:\n    {confirm_line(release, config)}\n  then deploy again: nothing is copied twice"
    return Refused(explain(what, expected, got, todo))


def _three(text: str) -> tuple[str, str, str]:
    """What, expected and got of a message that `explain` made."""
    lines = [*text.splitlines(), "", ""]
    return lines[0], lines[1].partition(":")[2].strip(), lines[2].partition(":")[2].strip()
