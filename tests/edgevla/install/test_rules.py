"""udev rules come before the self-test of a first release, and go with it where it fails.

The manager is the real one, below another root; `systemctl` and `udevadm` are programs that note what they are told,
and the second makes the link as udevd would: no udevd listens in a test.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgevla.errors import DeviceFault
from edgevla.install.install import Install
from edgevla.install.layout import Layout
from edgevla.install.place import PLACES, RULES
from edgevla.install.steps import Options, Outcome
from edgevla.install.systemd import Systemd, names_of_rules
from edgevla.install.tools import Tools
from tests.edgevla.install.kit import Made, Recorder, make_release, new_robot, stage, tools_with
from tests.edgevla.install.test_install import installed

UNITS = {"edgevla.service": b"[Unit]\n", RULES: b'SYMLINK+="edgevla-arm"\n', "edgevla.sysusers": b"g dialout -\n"}
EXTRA = {f"runtime/units/{name}": content for name, content in UNITS.items()}


@pytest.fixture
def robot(folder: Path) -> Layout:
    return new_robot(folder / "edgevla")


@pytest.fixture
def root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system without our units, whose tools are at the front of PATH."""
    root, tools = folder / "root", folder / "tools"
    for place in (root / "dev", root / "run" / "udev", tools):
        place.mkdir(parents=True)
    (root / "run" / "udev" / "control").touch()
    said = f'echo "$(basename "$0") $*" >> {root}/told\n'
    link = f"[ -e {root}/plugged ] && [ -e {root}/{PLACES[RULES]} ] && touch {root}/dev/edgevla-arm\n"
    for name, acts in {
        "systemctl": "",
        "systemd-sysusers": "",
        "udevadm": f'case "$1" in trigger) {link};; esac\n',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{said}{acts}exit 0\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return root


def told(root: Path) -> list[str]:
    return (root / "told").read_text().splitlines() if (root / "told").exists() else []


def placed(root: Path) -> list[str]:
    return sorted(name for name, place in PLACES.items() if (root / place).exists())


class OnSystemd(Recorder):
    """What places units is real; the service itself is not started."""

    def __init__(self, layout: Layout, root: Path) -> None:
        super().__init__(layout)
        self.units = Systemd(layout.prefix, root)

    def place_rules(self, folder: Path, port: str) -> None:
        super().place_rules(folder, port)
        self.units.place_rules(folder, port)

    def install_units(self, folder: Path) -> None:
        super().install_units(folder)
        self.units.install_units(folder)

    def remove_units(self) -> None:
        super().remove_units()
        self.units.remove_units()


def install(layout: Layout, made: Made, tools: Tools) -> tuple[Outcome, list[Mapping[str, Any]]]:
    stage(layout, made)
    events: list[Mapping[str, Any]] = []
    return Install(layout, made.id, tools, Options(), events.append).run(), events


def test_the_rules_act_before_the_arm_is_looked_at_and_before_the_self_test(robot: Layout, root: Path) -> None:
    (root / "plugged").touch()
    manager, made = OnSystemd(robot, root), make_release(1, extra=EXTRA)
    seen: list[tuple[str, list[str], bool]] = []

    def look(release: Path | None) -> tuple[str, str]:
        seen.append(("torque", placed(root), (root / "dev/edgevla-arm").exists()))
        return ("off", "said by the arm") if release else ("unknown", "no release")

    tools = replace(tools_with(manager), torque=look)
    assert install(robot, made, tools)[0].good
    assert seen == [("torque", [], False), ("torque", [RULES], True)]
    order = [call.split()[0] for call in manager.calls]
    assert order == ["rules", "stop", "engines", "golden", "selftest", "units", "start", "health"]
    assert "udevadm control --reload" in told(root)
    trigger = "udevadm trigger --action=add --subsystem-match=usb --subsystem-match=usb-serial --subsystem-match=tty"
    assert told(root).index("udevadm control --reload") < told(root).index(trigger)
    assert placed(root) == sorted(UNITS)


@pytest.mark.parametrize("broken", [{"torque": "unknown on"}, {"selftest": "late"}, {"failing": "health"}])
def test_what_a_first_release_placed_goes_when_it_fails(robot: Layout, root: Path, broken: dict[str, str]) -> None:
    (root / "plugged").touch()
    manager, made = OnSystemd(robot, root), make_release(1, extra=EXTRA)
    manager.failing = {broken.pop("failing")} if "failing" in broken else set()
    outcome, _ = install(robot, made, tools_with(manager, **broken))
    assert (outcome.good, outcome.warnings) == (False, ())
    assert placed(root) == []
    assert [line for line in told(root) if "reload" in line][-2:] == [
        "systemctl daemon-reload",
        "udevadm control --reload",
    ]


def test_an_upgrade_that_fails_has_the_rules_of_the_old_release_again(robot: Layout, root: Path) -> None:
    (root / "plugged").touch()
    old, _ = installed(robot, 1, extra=EXTRA)
    manager = OnSystemd(robot, root)
    manager.active = True
    made = make_release(2, extra={**EXTRA, f"runtime/units/{RULES}": b'SYMLINK+="edgevla-arm" # new\n'})
    outcome, _ = install(robot, made, tools_with(manager, selftest="late"))
    assert not outcome.good
    order = [call.split()[0] for call in manager.calls]
    assert order[:2] == ["stop", "rules"]  # not while the service holds the port
    assert (root / PLACES[RULES]).read_bytes() == UNITS[RULES]
    assert manager.calls[-1] == f"start {old.id}"


def test_a_port_that_udev_does_not_make_is_one_clear_error_before_the_stop(
    robot: Layout, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgevla.install.systemd._NAME_S", 0.2)
    manager, made = OnSystemd(robot, root), make_release(1, extra=EXTRA)
    outcome, events = install(robot, made, tools_with(manager))
    assert (outcome.good, outcome.exit_code) == (False, 5)
    assert "the port /dev/edgevla-arm is not there" in outcome.why
    assert "/dev/serial/by-id" in outcome.why
    assert [event["name"] for event in events if event.get("failed")] == ["stop"]
    assert "stop" not in manager.calls
    assert placed(root) == []


def test_which_ports_the_rules_name() -> None:
    assert names_of_rules("/dev/edgevla-arm") == ["/dev/edgevla-arm"]
    assert names_of_rules("left=/dev/edgevla-arm-A1,right=/dev/ttyUSB0") == ["/dev/edgevla-arm-A1"]
    assert names_of_rules("can0") == names_of_rules("/dev/edgevla-armada") == []


def test_where_no_udev_is_a_missing_name_is_said_at_once(tmp_path: Path, root: Path) -> None:
    (root / "run/udev/control").unlink()
    units = tmp_path / "units"
    units.mkdir()
    (units / RULES).write_bytes(UNITS[RULES])
    with pytest.raises(DeviceFault, match="the port /dev/edgevla-arm is not there"):
        Systemd(tmp_path, root).place_rules(units, "/dev/edgevla-arm")
    assert not any(line.startswith("udevadm") for line in told(root))
