"""Whole machines: a Jetson as it comes, a Raspberry Pi, an industrial PC set up for a robot, and an empty one."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from edgevla.doctor.examine import examine
from edgevla.doctor.finding import Finding, can_hold, worst_first
from edgevla.doctor.host import Host, User, Wanted
from edgevla.doctor.probe import Reading, Tree
from profiles import load_target
from tests.edgevla.doctor.machine import REFUSED, build, by_name, parts, wanted

ON_ORIN = wanted("jetson-orin", "/dev/ttyUSB0")
ON_PI = Wanted(replace(load_target("jetson-orin"), servo_core=3, policy_core=2), None, "can0")
ON_PC = wanted("host", "/dev/ttyACM0")


def of_level(findings: dict[str, Finding], level: str) -> set[str]:
    return {name for name, finding in findings.items() if finding.level == level}


def test_a_jetson_as_it_comes_fails_for_its_latency_timer_and_its_rights(tmp_path: Path) -> None:
    found = by_name(build("orin", tmp_path, grant=REFUSED), ON_ORIN)
    assert of_level(found, "fail") == {"servo's rights, tried", "latency timer of /dev/ttyUSB0"}
    assert of_level(found, "warn") == {
        *("preemption", "RLIMIT_RTPRIO", "RLIMIT_MEMLOCK", "isolated cores", "governor", "frequency", "idle states"),
        *("power mode", "clocks", "ModemManager on /dev/ttyUSB0", "swap"),
    }


def test_a_raspberry_pi_is_warned_of_the_voltage_that_sagged_and_of_its_short_can_queue(tmp_path: Path) -> None:
    found = by_name(build("pi5", tmp_path), ON_PI)
    assert of_level(found, "fail") == set()
    assert of_level(found, "warn") == {
        *("preemption", "RLIMIT_RTPRIO", "RLIMIT_MEMLOCK", "isolated cores", "governor", "Raspberry Pi firmware"),
        *("CAN can0 restart", "CAN can0 txqueuelen", "swap", "kernel log: supply", "kernel log: USB"),
    }
    assert found["CAN can0"].level == found["CAN can0 bit rate"].level == "pass"


def test_a_pc_set_up_for_a_robot_has_no_fail_and_no_warning(tmp_path: Path) -> None:
    found = by_name(build("x86-rt", tmp_path), ON_PC)
    assert of_level(found, "fail") | of_level(found, "warn") == set()
    assert of_level(found, "info") == {"kernel", "supply voltage", "CAN", "time of day"}


def test_on_an_empty_machine_nothing_passes(tmp_path: Path) -> None:
    nothing = Host(
        Tree(tmp_path),
        lambda argv: Reading(None, f"{argv[0]} is not installed"),
        "aarch64",
        User(1000, frozenset()),
        lambda: 0,
        lambda *_: "no child process could be started",
    )
    found = by_name(nothing, Wanted(load_target("jetson-orin"), None, None))
    assert of_level(found, "pass") == {"target"}  # its architecture is what Python itself was built for
    unreadable = {name: finding for name, finding in found.items() if finding.found.startswith("not known: ")}
    assert len(unreadable) >= 20
    assert all(finding.level == "info" for finding in unreadable.values())


# What is not there is a fact, not a gap: processes, udev rules, interrupts, swap areas, a log without a line.
FACTS = ("proc/8", "proc/9", "proc/irq/", "usr/lib/udev", "sys/class/watchdog", "sys/class/devfreq", "dev/")


def files_of(name: str) -> list[str]:
    """Every file of the machine; of cores that no process is given, one stands for the others."""
    return [path for path in parts(name).files if name != "orin" or not re.search(r"cpu/cpu[1-3]/", path)]


@pytest.mark.parametrize(("name", "what"), [("orin", ON_ORIN), ("pi5", ON_PI), ("x86-rt", ON_PC)])
def test_a_file_that_cannot_be_read_never_makes_a_pass(name: str, what: Wanted, tmp_path: Path) -> None:
    machine = build(name, tmp_path)
    before = of_level(by_name(machine, what), "pass")
    gained = {}
    for path in files_of(name):
        file, aside = tmp_path / path, tmp_path / "aside"
        file.rename(aside)
        after = of_level(by_name(machine, what), "pass")
        aside.rename(file)
        if after - before and not path.startswith(FACTS):
            gained[path] = after - before
    assert gained == {}


@pytest.mark.parametrize(("name", "what"), [("orin", ON_ORIN), ("pi5", ON_PI), ("x86-rt", ON_PC)])
def test_nonsense_in_any_file_is_survived(name: str, what: Wanted, tmp_path: Path) -> None:
    machine = build(name, tmp_path)
    for path in files_of(name):
        file = tmp_path / path
        good = file.read_bytes()
        file.write_bytes(b"\xff\x00 nonsense \n\n: - = , 9" * 3)
        assert examine(machine, what)
        file.write_bytes(good)


@pytest.mark.parametrize("name", ["orin", "pi5", "x86-rt"])
def test_the_doctor_changes_nothing(name: str, tmp_path: Path) -> None:
    def state() -> dict[str, tuple[str, int, int]]:
        return {
            str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns, path.stat().st_mode)
            for path in tmp_path.rglob("*")
            if path.is_file()
        }

    machine = build(name, tmp_path)
    before = state()
    examine(machine, ON_PI)
    assert state() == before


def test_every_warning_and_every_fail_has_a_line_to_type(tmp_path: Path) -> None:
    found = by_name(build("orin", tmp_path, grant=REFUSED), ON_ORIN)
    assert all(f.todo and all(f.todo) for f in found.values() if f.level in ("warn", "fail"))


@pytest.mark.parametrize("level", ["warn", "fail"])
def test_a_verdict_without_a_line_to_type_cannot_be_made(level: str) -> None:
    with pytest.raises(ValueError, match="without a line to type"):
        Finding("swap", level, "some")


def test_a_level_of_another_name_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="none of fail, warn, info, pass"):
        Finding("swap", "good", "none")


def test_the_worst_comes_first_and_only_a_fail_means_that_it_cannot_hold() -> None:
    findings = [
        Finding("a", "pass", ""),
        Finding("b", "info", ""),
        Finding("c", "warn", "", "", ("do",)),
        Finding("d", "fail", "", "", ("do",)),
        Finding("e", "warn", "", "", ("do",)),
    ]
    assert [finding.name for finding in worst_first(findings)] == ["d", "c", "e", "b", "a"]
    assert not can_hold(findings)
    assert can_hold([finding for finding in findings if finding.name != "d"])
