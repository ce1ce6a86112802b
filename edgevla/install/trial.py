"""What a release must show on the device before it is switched to: golden vectors and the self-test, torque off.

Both are commands of the release itself, in its own environment; here their JSON is read and judged.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgevla.errors import DeviceFault, EdgevlaError
from edgevla.install.launch import PURE, current_release, edgevla, profile_options, robot_options
from edgevla.install.robot_config import RobotConfig
from edgevla.install.service import manager_of, runtime_folder
from edgevla.install.systemd import as_service_user, ensure_user
from edgevla.install.watch import status_of

_GOLDEN_S, _SELFTEST_S, _LOOK_S = 600.0, 900.0, 60.0  # s, far beyond what they take
_REPORT_S, _AGAIN_S = 5.0, 0.1  # s; a run that has just started has no figures yet, and renews them ten times a second
_TORQUE = ("off", "on", "unknown")


@dataclass(frozen=True)
class Trial:
    """One trial of a release. `why` names what broke first; '' where it is kept."""

    name: str
    kept: bool
    why: str
    figures: Mapping[str, object] = field(default_factory=dict)  # the command's whole JSON
    exit_code: int = 0  # 0 kept, 1 broken, 3 not soundly measurable, 4 bad input, 5 device


def run_golden(release: Path) -> Trial:
    """`edgevla bundle verify` in the release's own environment; the first diverging stage is named in `why`."""
    bundle = release / "bundle"
    target = bundle / "profiles" / "target.toml"  # on its providers: another one's answers prove nothing
    where = ["--target", str(target)] if target.exists() else []
    command = [*edgevla(release), "bundle", "verify", str(bundle), *where, "--json"]
    code, told, errors = _json(command, _GOLDEN_S)
    broken = [verdict for verdict in told.get("verdicts", []) if not verdict.get("kept")]
    why = f"{broken[0]['name']}: expected {broken[0]['expected']}, got {broken[0]['got']}" if broken else ""
    return _trial("golden vectors", code, bool(told.get("kept")), why, told, errors)


def run_selftest(release: Path, config: RobotConfig, options: Sequence[str] = ()) -> Trial:
    """`edgevla selftest` in the release's own environment, as the service's user, torque off; with further options."""
    command = [*selftest_command(release, config), *options, "--json"]
    code, told, errors = json_as_service(command, release, config, _SELFTEST_S)
    broken = [claim for claim in told.get("claims", []) if claim.get("kept") is False]
    why = f"{broken[0]['name']}: {broken[0]['text']}" if broken else ""
    return _trial("self-test", code, bool(told.get("kept")), why, told, errors)


def selftest_command(release: Path, config: RobotConfig) -> list[str]:
    """The self-test's argument vector."""
    bundle = release / "bundle"
    command = [*edgevla(release), "selftest", "--bundle", str(bundle), "--port", config.port]
    return [*command, *profile_options(bundle), *robot_options(config)]


def torque_state(prefix: Path, config: RobotConfig, release: Path | None = None) -> tuple[str, str]:
    """("off" | "on" | "unknown", why).

    Of the running service by its own figures; where none runs, by a look of `release` (default: the current one) that
    changes nothing in any actuator.
    """
    try:
        if manager_of(prefix, config).is_active():
            return _of_service(runtime_folder(prefix, config))
        with_release = release or current_release(prefix)
    except EdgevlaError as error:
        return "unknown", str(error).splitlines()[0]
    return look_at_torque(with_release, config)


def _of_service(folder: Path) -> tuple[str, str]:
    """What the running service reports, waited for where it has just started. Raises DeviceFault, BadInput."""
    until = time.monotonic() + _REPORT_S
    while (status := status_of(folder)).get("phase") is None and time.monotonic() < until:
        time.sleep(_AGAIN_S)
    return _known(
        status.get("torque")
    ), f"the running service reports {status.get('torque')}, phase {status.get('phase')}"


def look_at_torque(release: Path, config: RobotConfig) -> tuple[str, str]:
    """As `torque_state`, asked of the arm itself; nothing else may hold its port."""
    command = [*selftest_command(release, config), "--torque-only", "--json"]
    code, told, errors = json_as_service(command, release, config, _LOOK_S)
    if "torque" not in told:
        return "unknown", first_line(errors) or f"exit code {code}"
    return _known(told["torque"]), str(told.get("why", ""))


def _known(word: object) -> str:
    return str(word) if word in _TORQUE else "unknown"


def _trial(name: str, code: int, kept: bool, why: str, told: Mapping[str, Any], errors: str) -> Trial:
    if code == 0 and kept:
        return Trial(name, True, "", told, 0)
    return Trial(name, False, why or first_line(errors) or f"exit code {code}, and no word why", told, code or 1)


def first_line(errors: str) -> str:
    """What the command said first, with what it got: `error: ...` is one block of a few lines."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    begin = next((i for i, line in enumerate(lines) if line.startswith("error: ")), 0)
    return "; ".join(lines[begin : begin + 4]).removeprefix("error: ")


def json_as_service(
    command: Sequence[str],
    release: Path,
    config: RobotConfig,
    patience_s: float,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, dict[str, Any], str]:
    """As the user of the service, who has its groups, limits and state folder, and not root's. As `_json` returns."""
    if config.service != "systemd":
        return _json(command, patience_s, environment)
    try:
        ensure_user(release / "bundle" / "runtime" / "units")
    except DeviceFault as error:
        return error.exit_code, {}, f"error: {error}"
    return _json(as_service_user(command, release), patience_s)


def _json(
    command: Sequence[str], patience_s: float, environment: Mapping[str, str] | None = None
) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON object of stdout ({}: none), stderr. A command that does not end in time is ended."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience_s,
            env={**_inherited(), **PURE, **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        return DeviceFault.exit_code, {}, f"error: no end within {patience_s:g} s: {' '.join(command)}"
    except OSError as error:
        return DeviceFault.exit_code, {}, f"error: {command[0]} cannot be run: {error.strerror or error}"
    told: Any = {}
    with suppress(ValueError):
        told = json.loads(done.stdout)
    return done.returncode, told if isinstance(told, dict) else {}, done.stderr


def _inherited() -> dict[str, str]:
    """This process's, but for what a service manager told it alone."""
    return {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
