"""The robot's service, started and stopped: by systemd, or as a child in a private prefix without it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from edgevla.errors import Refused, explain
from edgevla.install.direct import Direct
from edgevla.install.place import belong_to
from edgevla.install.robot_config import RobotConfig
from edgevla.install.systemd import Systemd
from edgevla.install.watch import Health as Health

_NO_UNITS = "sudo systemctl disable --now edgevla edgevla-boot"


class ServiceManager(Protocol):
    """How the installer starts and stops what drives the arm."""

    def install_units(self, folder: Path) -> None:
        """Copy runtime/units into place and have them read; units of before that it lacks go. Idempotent.

        Raises DeviceFault, BadInput.
        """

    def place_rules(self, folder: Path, port: str) -> None:
        """The udev rules alone of a release that is not started yet, read; returns when `port` has the name that they
        give it. Raises DeviceFault, BadInput.
        """

    def remove_units(self) -> None:
        """Nothing of any release is placed any more. Idempotent. Raises DeviceFault."""

    def stop(self) -> None:
        """Returns when it is stopped and disarmed. Idempotent. Raises DeviceFault."""

    def start(self) -> None:
        """Returns when it said READY=1. Raises DeviceFault with the newest lines of its log."""

    def is_active(self) -> bool:
        """It runs, ready or about to be."""

    def health(self, ticks: int, timeout_s: float) -> Health:
        """Watch `ticks` disarmed ticks of the started service. Raises nothing: what is wrong is in `why`."""

    def logs(self, lines: int) -> list[str]:
        """The newest lines of its log, oldest first."""


def require_one_manager(prefix: Path, config: RobotConfig, root: Path = Path("/")) -> None:
    """Nothing of this prefix runs, or starts at boot, under the manager that robot.toml does not name.

    Two managers would drive one arm, and the new one could stop nothing of the old. Nothing is stopped here: what runs
    was started by settings that a person has just changed. Raises Refused.
    """
    direct, systemd = Direct(prefix), Systemd(prefix, root)
    if config.service == "systemd" and direct.is_active():
        got, todo = f"process {direct.pid()} of {prefix}", f"bring the arm to rest, then: kill {direct.pid()}"
        raise _two_managers("a run without systemd is going", got, todo)
    if config.service == "direct" and belong_to(prefix, root) and (systemd.is_active() or systemd.is_enabled()):
        got, todo = "edgevla.service, placed for this prefix", f"bring the arm to rest, then: {_NO_UNITS}"
        raise _two_managers("systemd runs the service, or starts it at boot", got, todo)


def _two_managers(what: str, got: str, todo: str) -> Refused:
    return Refused(explain(f"robot.toml changes `service`, and {what}", "one manager", got, f"{todo}; deploy again"))


def manager_of(prefix: Path, config: RobotConfig) -> ServiceManager:
    """The manager that robot.toml asks for."""
    return Systemd(prefix) if config.service == "systemd" else Direct(prefix, config.best_effort)


def runtime_folder(prefix: Path, config: RobotConfig) -> Path:
    """Where the run listens."""
    return Systemd.runtime if config.service == "systemd" else prefix / "run"
