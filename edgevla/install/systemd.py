"""The service as systemd has it."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edgevla.errors import DeviceFault, explain
from edgevla.install.place import PLACES, RULES, place_units, remove_units, udev_listens
from edgevla.install.watch import Health, status_of, watch

UNIT = "edgevla.service"
_ENABLED = (UNIT, "edgevla-boot.service")
_START_S, _STOP_S, _TOOL_S = (
    300.0,
    400.0,
    60.0,
)  # beyond TimeoutStartSec and TimeoutStopSec of the unit: systemd decides
_LINES = 20
_SYSUSERS = "edgevla.sysusers"
USER = "edgevla"
_NAMES = "/dev/edgevla-arm"  # what the rules of a release make: this, and this with a serial number or a socket
_NAME_S, _LOOK_S = 10.0, 0.1
_NO_SUCH_UNIT = 5  # exit code, systemctl(1)


class Systemd:
    """`root` is / but for tests; the tools are those of the system, asked to work below it."""

    runtime = Path("/run/edgevla")

    def __init__(self, prefix: Path, root: Path = Path("/")) -> None:
        self.prefix, self._root = prefix, root

    def install_units(self, folder: Path) -> None:
        """See ServiceManager."""
        changed = place_units(folder, self._root)
        if changed:
            self._tool("systemd-sysusers", str(self._root / PLACES[_SYSUSERS]))
            self._tool("systemctl", "daemon-reload")
            self._read_rules()
        self._tool("systemctl", "enable", "--quiet", *_ENABLED)

    def place_rules(self, folder: Path, port: str) -> None:
        """See ServiceManager."""
        if place_units(folder, self._root, (RULES,)):
            ensure_user(folder)  # they name it, and udev passes over a rule whose user it does not know
            self._read_rules()
        for path in names_of_rules(port):
            self._require_name(path)

    def remove_units(self) -> None:
        """See ServiceManager."""
        if not any((self._root / place).exists() for place in PLACES.values()):
            return
        with suppress(DeviceFault):  # rules may have come without a unit
            self._tool("systemctl", "disable", "--quiet", *_ENABLED)
        remove_units(self._root)
        self._tool("systemctl", "daemon-reload")
        self._read_rules()

    def _read_rules(self) -> None:
        """As at boot, so that rules for what is plugged in act on what is there already."""
        if not udev_listens(self._root):
            return
        self._tool("udevadm", "control", "--reload")
        subsystems = [f"--subsystem-match={name}" for name in ("usb", "usb-serial", "tty")]
        self._tool("udevadm", "trigger", "--action=add", *subsystems)
        with suppress(DeviceFault):  # what takes longer is waited for by its name
            self._tool("udevadm", "settle", f"--timeout={_NAME_S:g}")

    def _require_name(self, path: str) -> None:
        """Raises DeviceFault where udev does not make it in time."""
        until = time.monotonic() + (_NAME_S if udev_listens(self._root) else 0.0)
        while not (self._root / path.lstrip("/")).exists():
            if time.monotonic() >= until:
                todo = "plug the arm in; or name its adapter as `port`: ls -l /dev/serial/by-id"
                what, expected = (
                    f"the port {path} is not there",
                    "an adapter that the release's udev rules give that name",
                )
                raise DeviceFault(explain(what, expected, f"none within {_NAME_S:g} s", todo))
            time.sleep(_LOOK_S)

    def stop(self) -> None:
        """See ServiceManager. A start that waits for its next try ends too; the failures of before are forgotten."""
        self._tool("systemctl", "stop", UNIT, patience_s=_STOP_S, absent=_NO_SUCH_UNIT)  # the first install
        with suppress(DeviceFault):  # there was none
            self._tool("systemctl", "reset-failed", UNIT)
        if self.is_active():
            todo = "look at the arm, then `systemctl status edgevla`"
            raise DeviceFault(explain("the service does not stop", "inactive", self._state(), todo))

    def start(self) -> None:
        """See ServiceManager."""
        done = self._call("systemctl", "start", UNIT, patience_s=_START_S)
        state = self._state()
        if done.returncode or state != "active":  # a condition that does not hold is no failure of `systemctl start`
            said = "\n".join(self.logs(_LINES))
            todo = "read the lines above; `journalctl -u edgevla` has all of them"
            got = f"{state}; its newest lines:\n{said}\n"
            raise DeviceFault(explain("the service did not start", "READY=1", got, todo))

    def is_active(self) -> bool:
        """See ServiceManager."""
        return self._state() in ("active", "activating", "reloading", "deactivating")

    def is_enabled(self) -> bool:
        """It starts at boot."""
        return self._call("systemctl", "is-enabled", UNIT).stdout.strip() == "enabled"

    def health(self, ticks: int, timeout_s: float) -> Health:
        """See ServiceManager."""
        return watch(lambda: status_of(self.runtime), lambda: self._state() == "active", ticks, timeout_s)

    def logs(self, lines: int) -> list[str]:
        """See ServiceManager."""
        done = self._call("journalctl", "--unit", UNIT, "--lines", str(lines), "--no-pager", "--output", "short")
        return done.stdout.splitlines()

    def _state(self) -> str:
        return self._call("systemctl", "is-active", UNIT).stdout.strip()

    def _tool(self, *command: str, patience_s: float = _TOOL_S, absent: int = 0) -> None:
        done = self._call(*command, patience_s=patience_s)
        if done.returncode not in (0, absent):
            todo = "call it by hand, as root; what it says is above"
            raise DeviceFault(explain(" ".join(command), "exit code 0", done.stderr.strip() or done.returncode, todo))

    def _call(self, *command: str, patience_s: float = _TOOL_S) -> subprocess.CompletedProcess[str]:
        return _called(command, patience_s)


def _called(command: Sequence[str], patience_s: float) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C", "SYSTEMD_PAGER": ""}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=patience_s, env=environment
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", "it is not installed")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no end within {patience_s:g} s")


def names_of_rules(port: str) -> list[str]:
    """The paths in robot.toml's `port` that exist only where the rules of a release are placed."""
    paths = [part.partition("=")[2] or part for part in port.split(",")]
    return [path for path in paths if path == _NAMES or path.startswith(f"{_NAMES}-")]


def ensure_user(units: Path, user: str = USER) -> None:
    """The service's user, made by the snippet of a release whose units are not placed yet. Raises DeviceFault."""
    with suppress(KeyError):
        pwd.getpwnam(user)
        return
    done = _called(["systemd-sysusers", str(units / _SYSUSERS)], _TOOL_S)
    if done.returncode:
        todo = f"make the user by hand: useradd --system {user}"
        raise DeviceFault(explain(f"the user {user} cannot be made", "systemd-sysusers", done.stderr.strip(), todo))


def as_service_user(command: Sequence[str], prefix: Path) -> list[str]:
    """The command in a transient unit with the service's user, groups and limits, its output on ours."""
    properties = (f"User={USER}", f"Group={USER}", "LimitRTPRIO=95", "LimitMEMLOCK=infinity", "UMask=0077")
    state = (f"StateDirectory={USER}", "StateDirectoryMode=0750")  # before the first start of the service too
    options = [f"--property={item}" for item in (*properties, *state, "SupplementaryGroups=dialout video")]
    environment = ["--setenv=XDG_STATE_HOME=/var/lib", f"--working-directory={prefix}"]
    return ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", *options, *environment, "--", *command]
