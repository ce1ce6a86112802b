"""The preflight table: every question has a row, and only what cannot be mended on the way ends a deploy."""

from __future__ import annotations

from dataclasses import replace

import pytest

import profiles
from edgevla.deploy.facts import Facts, facts_of, findings_of
from edgevla.deploy.preflight import Situation, judge, needed_bytes, numbers, require_go, torque_row
from edgevla.doctor.finding import Finding, failed, passed, warned
from edgevla.errors import Refused
from edgevla.trust.envelope import Envelope, FileEntry, Release
from profiles.modules import BoardFacts

WHEEL = "runtime/wheels/numpy.whl"
FILES = {WHEEL: FileEntry("0" * 64, 20_000_000), "model/head.onnx": FileEntry("0" * 64, 80_000_000)}
RELEASE = Release(7, "jetson-orin-nano-8", "aarch64", "3.10", (WHEEL,), (), False)
ENVELOPE = Envelope(3, "student", FILES, RELEASE, "0" * 32)
NANO = BoardFacts("NVIDIA Jetson Orin Nano Developer Kit", ("nvidia,p3768-0000+p3767-0005", "nvidia,p3767-0005"), 7620)
FACTS = Facts("aarch64", "3.10", "36.4.3", "2.35", "5.15.148-tegra", 8_000_000_000, 1_000_000.0, NANO)
MODE = ("jetson", passed("power mode", "MAXN_SUPER (mode 2)", "MAXN"))


def rows_of(facts: Facts = FACTS, *findings: tuple[str, Finding], torque: str = "off") -> dict[str, Finding]:
    target = profiles.load_target("jetson-orin-nano-8")
    rows = judge(target, ENVELOPE, RELEASE, Situation(facts, findings, torque, "asked", 1_000_000.0))
    assert len({row.name for row in rows}) == len(rows)
    return {row.name: row for row in rows}


def test_a_robot_that_fits_passes_every_row() -> None:
    rows = rows_of()
    assert {row.level for row in rows.values()} == {"pass", "info"}
    assert rows["module"].found.startswith("jetson-orin-nano-8")
    require_go(list(rows.values()), "robot")


@pytest.mark.parametrize(
    ("facts", "name", "found"),
    [
        (replace(FACTS, arch="x86_64"), "architecture", "x86_64"),
        (replace(FACTS, python="3.12"), "Python of the wheels", "3.12"),
        (replace(FACTS, l4t="35.6.0"), "Jetson Linux (L4T)", "35.6.0"),
        (replace(FACTS, l4t=None), "Jetson Linux (L4T)", "none"),
        (replace(FACTS, glibc="2.31"), "C library", "2.31"),
        (replace(FACTS, kernel="5.10.216-tegra"), "kernel", "5.10.216"),
        (replace(FACTS, free_bytes=150_000_000), "free space", "150 MB"),
        (replace(FACTS, board=BoardFacts("NVIDIA Jetson AGX Orin", ("nvidia,p3701-0005",), 63_000)), "module", "AGX"),
        (replace(FACTS, board=BoardFacts()), "module", "no device tree"),
    ],
)
def test_what_cannot_be_mended_on_the_way_fails(facts: Facts, name: str, found: str) -> None:
    rows = rows_of(facts)
    assert rows[name].level == "fail"
    assert found in rows[name].found
    assert [row.name for row in rows.values() if row.level == "fail"] == [name]
    with pytest.raises(Refused, match=r"1 of \d+ rows fail"):
        require_go(list(rows.values()), "robot")


@pytest.mark.parametrize(
    ("floor", "good", "level"),
    [(0, (), "pass"), (6, (), "pass"), (7, (), "fail"), (9, (), "fail"), (9, (ENVELOPE.id,), "pass")],
)
def test_a_release_counter_must_be_above_what_was_good_there(floor: int, good: tuple[str, ...], level: str) -> None:
    situation = Situation(FACTS, (), "off", "asked", 1_000_000.0, floor, good)
    rows = judge(profiles.load_target("jetson-orin-nano-8"), ENVELOPE, RELEASE, situation)
    assert [row.level for row in rows if row.name == "release counter"] == [level]


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        (replace(FACTS, free_bytes=700_000_000), "free space"),  # enough for it, not for flight records
        (replace(FACTS, time_unix_s=5_000.0), "time of day"),
    ],
)
def test_what_can_wait_is_a_warning(facts: Facts, name: str) -> None:
    assert rows_of(facts)[name].level == "warn"


@pytest.mark.parametrize("name", ["architecture", "kernel", "C library", "free space", "time of day"])
def test_what_the_robot_does_not_say_is_never_a_pass(name: str) -> None:
    rows = rows_of(Facts(l4t="36.4", board=NANO))
    assert rows[name].level == "info"
    assert "does not say" in rows[name].found


def test_the_power_mode_is_judged_by_the_one_that_the_budget_is_meant_in() -> None:
    assert rows_of(FACTS, MODE)["power mode"].level == "warn"  # the target's is 15W
    mine = ("jetson", warned("power mode", "15W (mode 0)", "MAXN", "sudo nvpmodel -m 2"))
    assert rows_of(FACTS, mine)["power mode"].level == "pass"


def test_what_the_doctor_finds_fatal_for_a_run_is_a_warning_but_for_a_port_that_is_not_there() -> None:
    kernel = ("kernel", failed("servo's rights, tried", "refused", "FIFO", "setcap"))
    can = ("can", failed("CAN can0", "down", "up", "sudo ip link set can0 up"))
    gone = ("serial", failed("port /dev/ttyUSB0", "No such file or directory", "a port", "ls -l /dev/serial/by-id"))
    rows = rows_of(FACTS, kernel, can, gone)
    assert [rows[name].level for name in ("servo's rights, tried", "CAN can0")] == ["warn", "warn"]
    assert rows["port /dev/ttyUSB0"].level == "fail"
    assert rows["doctor"].found == "3 fail, 0 warn, 0 info, 0 pass, of 3 looked at"
    assert rows["doctor"].expected == "every fail and warn is above"


def test_the_service_that_holds_the_port_is_not_in_the_way() -> None:
    row = rows_of(FACTS, ("serial", failed("who has /dev/ttyUSB0 open", "python (7)", "nobody", "kill 7")))
    assert row["who has /dev/ttyUSB0 open"].level == "info"


@pytest.mark.parametrize(("torque", "level"), [("off", "pass"), ("on", "fail"), ("unknown", "warn"), ("?", "warn")])
def test_torque_must_be_off_and_unknown_is_no_pass(torque: str, level: str) -> None:
    assert torque_row(torque, "").level == level


def test_versions_are_compared_as_numbers() -> None:
    assert numbers("5.15.148-tegra") == (5, 15, 148)
    assert numbers("36.10") > numbers("36.9")
    assert numbers("unknown") == ()


def test_a_wheel_counts_with_what_it_becomes() -> None:
    assert needed_bytes(ENVELOPE, RELEASE) == 100_000_000 + 4 * 20_000_000


def test_facts_of_another_form_are_not_known_and_findings_of_another_form_are_left_out() -> None:
    assert facts_of({"arch": 5, "free_bytes": True, "compatible": "x", "time_unix_s": "now"}) == Facts()
    said = [{"subject": "can", "name": "CAN", "level": "warn", "found": "none"}, {"level": "fail"}, {"name": "x"}]
    found = findings_of(said)
    assert [(subject, finding.name, bool(finding.todo)) for subject, finding in found] == [("can", "CAN", True)]


@pytest.mark.parametrize(
    ("change", "level"),
    [
        ({}, "warn"),
        ({"service": "direct"}, "fail"),  # nobody places rules there
        ({"good": ("1" * 32,)}, "fail"),  # its rules were placed: the arm is not plugged in
        ({"port": "/dev/ttyUSB0"}, "fail"),
    ],
)
def test_a_port_that_the_rules_of_the_first_release_make_may_come_later(change: dict[str, str], level: str) -> None:
    rules = {"runtime/units/99-edgevla.rules": FileEntry("0" * 64, 1)}
    envelope = replace(ENVELOPE, files={**FILES, **rules})
    port = change.pop("port", "/dev/edgevla-arm")
    finding = failed(f"port {port}", "No such file or directory", "a serial port", "ls -l /dev/serial/by-id")
    situation = Situation(FACTS, [("serial", finding)], "off", "", 1_000_000.0, service="systemd")
    target = profiles.load_target("jetson-orin-nano-8")
    rows = {row.name: row for row in judge(target, envelope, RELEASE, replace(situation, **change))}  # type: ignore[arg-type]
    assert rows[f"port {port}"].level == level
    bare = {row.name: row for row in judge(target, ENVELOPE, RELEASE, situation)}
    assert bare[f"port {port}"].level == "fail"  # a release without rules
