"""Supply voltage: what the board itself says of its rails, of under-voltage and of over-current."""

from __future__ import annotations

import re

from edgevla.doctor.finding import Finding, failed, passed, said, unknown, warned
from edgevla.doctor.host import Host, Wanted

_HWMON = "sys/class/hwmon"
_SUPPLY = "a supply and a cable that hold the voltage under load; then reboot, which clears the counts"
# Bits of `vcgencmd get_throttled`, Raspberry Pi documentation; the same 16 places higher: since boot.
_PI_NOW = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_OC = {"oc1": "under-voltage", "oc2": "average over-current", "oc3": "instantaneous over-current"}  # Orin, L4T


def examine(host: Host, wanted: Wanted) -> list[Finding]:
    """Findings of this subject."""
    del wanted
    chips = {chip: host.tree.text(f"{_HWMON}/{chip}/name") for chip in host.tree.names(_HWMON, r"hwmon\d+")}
    found = [
        *(_under_voltage(host, chip) for chip, name in chips.items() if name == "rpi_volt"),
        *(_throttled(host) for _ in range(host.raspberry)),
        *(_over_current(host, chip) for chip, name in chips.items() if name == "soctherm_oc"),
        *(finding for chip, name in chips.items() if name == "ina3221" for finding in _rails(host, chip)),
    ]
    return found or [unknown("supply voltage", "no sensor of it in /sys/class/hwmon", "held under load")]


def _under_voltage(host: Host, chip: str) -> Finding:
    name, expected = "under-voltage alarm", "0"
    alarm = host.tree.number(f"{_HWMON}/{chip}/in0_lcrit_alarm")
    if alarm is None:
        return unknown(name, f"/{_HWMON}/{chip}/in0_lcrit_alarm cannot be read", expected)
    return failed(name, "the firmware reports it", expected, _SUPPLY) if alarm else passed(name, "0", expected)


def throttled_bits(text: str) -> tuple[list[str], list[str]] | None:
    """(now, since boot) of 'throttled=0x50005'; None when it is something else."""
    match = re.search(r"throttled=0x([0-9a-fA-F]+)", text)
    if match is None:
        return None
    value = int(match[1], 16)
    return tuple([name for bit, name in _PI_NOW.items() if value >> shift + bit & 1] for shift in (0, 16))  # type: ignore[return-value]


def _throttled(host: Host) -> Finding:
    name, expected = "Raspberry Pi firmware", "nothing throttled"
    reading = host.run(["vcgencmd", "get_throttled"])
    bits = throttled_bits(reading.text or "")
    if bits is None:
        return unknown(name, reading.reason or f"vcgencmd says {reading.text!r}", expected, "vcgencmd get_throttled")
    now, before = bits
    if now:
        return failed(name, f"now: {', '.join(now)}", expected, _SUPPLY)
    if before:
        return warned(name, f"since boot: {', '.join(before)}", expected, _SUPPLY)
    return passed(name, "nothing, now or since boot", expected)


def _over_current(host: Host, chip: str) -> Finding:
    name, expected = "throttling by the supply since boot", "0 events"
    counts = {label: host.tree.number(f"{_HWMON}/{chip}/{oc}_event_cnt") for oc, label in _OC.items()}
    known = {label: count for label, count in counts.items() if count is not None}
    if not known:
        return unknown(name, f"/{_HWMON}/{chip}/oc1_event_cnt cannot be read", expected)
    found = ", ".join(f"{label} {count}" for label, count in known.items())
    if any(known.values()):
        return warned(name, found, expected, _SUPPLY, "or a lower power mode: sudo nvpmodel -m <ID>")
    return passed(name, found, expected)


def _rails(host: Host, chip: str) -> list[Finding]:
    """INA3221: three rails in mV and mA, with the current at which the board throttles."""
    folder, found = f"{_HWMON}/{chip}", []
    for channel in (1, 2, 3):
        label = host.tree.text(f"{folder}/in{channel}_label")
        millivolt = host.tree.number(f"{folder}/in{channel}_input")
        milliampere = host.tree.number(f"{folder}/curr{channel}_input")
        if not label or millivolt is None or milliampere is None:
            continue
        limit = host.tree.number(f"{folder}/curr{channel}_crit")
        alarm = host.tree.number(f"{folder}/curr{channel}_crit_alarm")
        text = f"{millivolt / 1e3:.2f} V, {milliampere / 1e3:.2f} A"
        expected = f"below {limit / 1e3:.2f} A" if limit else ""
        name = f"rail {label}"
        if alarm:
            found.append(warned(name, f"{text}: over its limit", expected, _SUPPLY))
        elif alarm is None or not limit:
            found.append(said(name, f"{text}, no limit to be read"))
        else:
            found.append(passed(name, text, expected))
    return found or [unknown("rails", f"/{folder} names no channel", "")]
