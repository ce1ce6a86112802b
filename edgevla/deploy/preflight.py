"""May this release go onto this robot? Pure: facts, findings and profiles in, one table out.

A `fail` ends the deploy before a byte is copied; a `warn` is shown and the self-test on the device decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgevla.deploy.facts import Facts
from edgevla.doctor.finding import Finding, counts, failed, passed, said, unknown, warned
from edgevla.errors import Refused, explain
from edgevla.trust.envelope import Envelope, Release
from profiles import ProfileError, Target
from profiles.modules import choose_module, resolve_module

CLOCK_TOLERANCE_S = 86_400.0  # a day: trust uses no clock, but logs and file times do
UNPACKED = 4  # allowance for a wheel unpacked, as a multiple of its size
SHOWN = ("jetson", "power", "serial", "can")  # subjects of the doctor that are shown even where they pass
_RULES, _MADE = "runtime/units/99-edgevla.rules", "/dev/edgevla-arm"
_WHAT = {"l4t": "Jetson Linux (L4T)", "glibc": "C library", "kernel": "kernel", "python": "Python"}
_TODO = {
    "l4t": "flash a newer JetPack (a factory act over USB; deploy never does it): NVIDIA SDK Manager",
    "glibc": "install a newer release of the robot's Linux",
    "kernel": "install a newer release of the robot's Linux",
    "python": "install that Python on the robot",
}


@dataclass(frozen=True)
class Situation:
    """Everything that is judged."""

    facts: Facts
    findings: Sequence[tuple[str, Finding]]  # (subject, what the robot's doctor found)
    torque: str  # 'off', 'on', 'unknown'
    torque_why: str
    now_unix_s: float  # time of day here
    counter_floor: int = 0  # highest counter that was ever good there
    good: Sequence[str] = ()  # ids of releases that are good there
    service: str = ""  # of its robot.toml: 'systemd', 'direct'


def judge(target: Target, envelope: Envelope, release: Release, situation: Situation) -> list[Finding]:
    """The table, one row per question."""
    facts = situation.facts
    return [
        _same("architecture", release.arch, facts.arch, f"a bundle built for it: --target with arch {facts.arch}"),
        _same("Python of the wheels", release.python, facts.python, f"a target with python = {facts.python!r}"),
        _counter(envelope, release, situation),
        *_module(target, facts),
        *(_least(name, least, facts.version(name)) for name, least in sorted(target.minimum.items())),
        _space(target, envelope, release, facts.free_bytes),
        _clock(facts.time_unix_s, situation.now_unix_s),
        *_power_mode(target, situation.findings),
        *_doctor(target, situation.findings, _names_port(envelope, situation)),
        torque_row(situation.torque, situation.torque_why),
    ]


def require_go(rows: Sequence[Finding], where: object) -> None:
    """Raises Refused naming the first row that fails."""
    bad = [row for row in rows if row.level == "fail"]
    if bad:
        what = f"preflight of {where}: {len(bad)} of {len(rows)} rows fail, the first: {bad[0].name}"
        raise Refused(explain(what, bad[0].expected, bad[0].found, bad[0].todo[0]))


def torque_row(torque: str, why: str) -> Finding:
    """Nothing is installed while the arm carries torque: a service that stops could let it fall."""
    name, expected = "torque", "off"
    if torque == "off":
        return passed(name, why or "off", expected)
    if torque == "on":
        todo = "bring the arm to rest and stop the service: sudo systemctl stop edgevla"
        return failed(name, why or "on", expected, todo)
    todo = "look at the arm; --yes says that it is at rest and may lose power"
    return warned(name, f"not known: {why}" if why else "not known", expected, todo)


def _same(name: str, expected: str, found: str | None, todo: str) -> Finding:
    if found is None:
        return unknown(name, "the robot does not say", expected)
    return passed(name, found, expected) if found == expected else failed(name, found, expected, f"build {todo}")


def _counter(envelope: Envelope, release: Release, situation: Situation) -> Finding:
    """The rule of `edgevla.install.admission`, said before anything travels; the robot judges it again."""
    floor, found = situation.counter_floor, str(release.counter)
    if envelope.id in situation.good:
        return passed("release counter", found, "this release was good there")
    if release.counter > floor:
        return passed("release counter", found, f"above {floor}")
    todo = "build it with a higher --counter; or `edgevla deploy rollback` to a release that is installed"
    return failed("release counter", found, f"above {floor}, which was good there", todo)


def _module(target: Target, facts: Facts) -> list[Finding]:
    """The board is the one that the target is for; nothing to say of a target for any board."""
    if not (target.family or target.compatible or target.board_model):
        return []
    name = "module"
    try:
        found = resolve_module(target, facts.board) if target.family else choose_module(target, [target], facts.board)
    except ProfileError as error:
        reason = str(error).splitlines()[0]
        todo = "edgevla profiles list; then build for the target of this board"
        if not facts.board.compatible and not facts.board.model:
            return [failed(name, "no device tree: this is no such board", target.name, todo)]
        return [failed(name, f"{facts.board}: {reason}", target.name, todo)]
    return [passed(name, f"{found.name} ({facts.board.model})", target.name)]


def _least(name: str, least: str, found: str | None) -> Finding:
    what, expected = _WHAT.get(name, name), f"{least} or newer"
    if found is None and name == "l4t":
        return failed(what, "none: no /etc/nv_tegra_release", expected, "use a target of this board")
    if found is None:
        return unknown(what, "the robot does not say", expected)
    if numbers(found) < numbers(least):
        return failed(what, found, expected, _TODO.get(name, "update it"))
    return passed(what, found, expected)


def numbers(version: str) -> tuple[int, ...]:
    """'5.15.148-tegra' -> (5, 15, 148); '2.35' -> (2, 35)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def needed_bytes(envelope: Envelope, release: Release) -> int:
    """Disk that the release takes at its largest: files in staging, and every wheel unpacked."""
    wheels = sum(envelope.files[path].bytes for path in release.wheels)
    return envelope.total_bytes + UNPACKED * wheels


def _space(target: Target, envelope: Envelope, release: Release, free: int | None) -> Finding:
    name, needed = "free space", needed_bytes(envelope, release)
    expected = f"{needed / 1e6:,.0f} MB for this release, {target.disk_mb} MB with engines and flight records"
    if free is None:
        return unknown(name, "the robot does not say", expected)
    found, todo = f"{free / 1e6:,.0f} MB", "remove old releases: `edgevla deploy gc`"
    if free < needed:
        return failed(name, found, expected, todo)
    return warned(name, found, expected, todo) if free < target.disk_mb * 1e6 else passed(name, found, expected)


def _clock(there: float | None, here: float) -> Finding:
    name, expected = "time of day", "within a day of this computer's; trust uses no clock, logs do"
    if there is None:
        return unknown(name, "the robot does not say", expected)
    days = abs(there - here) / 86_400
    if abs(there - here) > CLOCK_TOLERANCE_S:
        way = "ahead" if there > here else "behind"
        return warned(name, f"{days:.1f} days {way}", expected, "on the robot: sudo timedatectl set-ntp true")
    return passed(name, f"{abs(there - here):.0f} s apart", expected)


def _power_mode(target: Target, findings: Sequence[tuple[str, Finding]]) -> list[Finding]:
    """The mode that L is meant in, where the target names one and the board has modes at all."""
    found = [finding.found for subject, finding in findings if subject == "jetson" and finding.name == "power mode"]
    if not target.power_mode or not found:
        return []
    if re.match(rf"{re.escape(target.power_mode)} \(", found[0]):
        return [passed("power mode", found[0], target.power_mode)]
    todo = f"sudo nvpmodel -q --verbose; then `sudo nvpmodel -m` with the number of {target.power_mode}"
    return [warned("power mode", found[0], f"{target.power_mode}, which L is meant in", todo)]


def _names_port(envelope: Envelope, situation: Situation) -> bool:
    """The release's udev rules are the first there: the port's name that they make is not there yet."""
    return situation.service == "systemd" and not situation.good and _RULES in envelope.files


def _doctor(target: Target, findings: Sequence[tuple[str, Finding]], names_port: bool) -> list[Finding]:
    """What the doctor found and a person should read, then how much it found in all."""
    rows = []
    for subject, finding in findings:
        if finding.name == "power mode" and target.power_mode:
            continue  # judged above, by the target's own mode
        row = _for_a_deploy(subject, finding, names_port)
        if row is not finding or row.level in ("fail", "warn") or (subject in SHOWN and row.level == "pass"):
            rows.append(row)
    total = counts([finding for _, finding in findings])
    found = ", ".join(f"{number} {level}" for level, number in total.items())
    todo = "on the robot: /opt/edgevla/current/venv/bin/edgevla doctor"
    return [*rows, said("doctor", f"{found}, of {sum(total.values())} looked at", "every fail and warn is above", todo)]


def _for_a_deploy(subject: str, finding: Finding, names_port: bool) -> Finding:
    """Of all that the doctor finds fatal for a run, only a serial port that is not there ends a deploy: a CAN interface
    is brought up by the release's own unit, and what costs deadlines is measured by the self-test."""
    if finding.level == "fail" and finding.name.startswith("who has "):
        # It is the service that runs, and is stopped before the self-test.
        return said(finding.name, finding.found, "nobody but the robot's own service")
    if names_port and finding.name.startswith(f"port {_MADE}") and finding.found.startswith("No such file"):
        expected = "made by this release's udev rules, before its self-test"
        todo = "an adapter that they know: FTDI, CH34x, CP210x; name another one by its path, /dev/serial/by-id/..."
        return warned(finding.name, "not there yet", expected, todo)
    if finding.level != "fail" or (subject == "serial" and finding.name.startswith("port ")):
        return finding
    return warned(finding.name, finding.found, finding.expected, *finding.todo)
