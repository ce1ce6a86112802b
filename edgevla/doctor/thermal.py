"""Heat: how far each zone is from its first trip point, and whether something is throttled now."""

from __future__ import annotations

import re

from edgevla.doctor.finding import Finding, failed, passed, unknown, warned
from edgevla.doctor.host import Host, Wanted

_THERMAL = "sys/class/thermal"
MARGIN_C = 10.0  # nearer than this to throttling is a warning: a run heats what an idle machine does not
_THROTTLING = re.compile(
    r".*cpufreq.*|.*devfreq.*|Processor|.*throttle-alert"
)  # cooling by running slower, not by a fan
_PI_SOFT_C = 80.0  # a Raspberry Pi's firmware lowers the clock from here on; the kernel's trip points do not say so
_COOLER = "cool it: a fan, a heat sink, a lower power mode; then `edgevla doctor` again"


def examine(host: Host, wanted: Wanted) -> list[Finding]:
    """Findings of this subject."""
    del wanted
    return [_zones(host), _cooling(host), _counted(host)]


def _zones(host: Host) -> Finding:
    name, expected = "temperature", f"more than {MARGIN_C:g} degC below the first throttling trip point"
    judged, unjudged = [], []
    for zone in host.tree.names(_THERMAL, r"thermal_zone\d+"):
        folder = f"{_THERMAL}/{zone}"
        label = host.tree.text(f"{folder}/type", zone)
        millidegree = host.tree.number(f"{folder}/temp")
        trip = first_trip(host, folder)
        if host.raspberry:
            trip = min(trip or _PI_SOFT_C, _PI_SOFT_C)
        if millidegree is None or trip is None:
            unjudged.append(label)
        else:
            judged.append((trip - millidegree / 1e3, f"{label} {millidegree / 1e3:.1f} degC, trips at {trip:g}"))
    if not judged:
        why = f"no trip point or no reading of {', '.join(unjudged)}" if unjudged else f"no zone in /{_THERMAL}"
        return unknown(name, why, expected)
    margin, text = min(judged)
    found = f"nearest of {len(judged)}: {text}" + (f"; not readable: {', '.join(unjudged)}" if unjudged else "")
    if margin <= 0:
        return failed(name, found, expected, _COOLER)
    return warned(name, found, expected, _COOLER) if margin <= MARGIN_C else passed(name, found, expected)


def first_trip(host: Host, folder: str) -> float | None:
    """degC of the lowest trip point at which the machine slows down or ends. 'active' ones only start a fan."""
    points = []
    for file in host.tree.names(folder, r"trip_point_\d+_type"):
        if host.tree.text(f"{folder}/{file}") in ("passive", "hot", "critical"):
            millidegree = host.tree.number(f"{folder}/{file.replace('_type', '_temp')}")
            if millidegree is not None and millidegree > 0:  # some firmwares leave unused ones at 0 or -274000
                points.append(millidegree / 1e3)
    return min(points, default=None)


def _cooling(host: Host) -> Finding:
    name, expected = "thermal throttling now", "none"
    states, active = 0, []
    for device in host.tree.names(_THERMAL, r"cooling_device\d+"):
        label = host.tree.text(f"{_THERMAL}/{device}/type")
        state = host.tree.number(f"{_THERMAL}/{device}/cur_state")
        if _THROTTLING.fullmatch(label) and state is not None:
            states += 1
            if state > 0:
                active.append(f"{label} at step {state}")
    if active:
        return failed(name, ", ".join(active), expected, _COOLER)
    if not states:
        return unknown(name, f"no throttling device in /{_THERMAL}", expected)
    return passed(name, f"none of {states} devices", expected)


def _counted(host: Host) -> Finding:
    """Intel counts each throttling since boot."""
    name, expected = "thermal throttling since boot", "none"
    counts = {}
    for cpu in host.tree.names("sys/devices/system/cpu", r"cpu\d+"):
        for kind in ("core", "package"):
            file = f"sys/devices/system/cpu/{cpu}/thermal_throttle/{kind}_throttle_count"
            count = host.tree.number(file)
            if count is not None:
                counts[f"{cpu} {kind}"] = count
    if not counts:
        return unknown(name, "this processor does not count it", expected)
    worst = max(counts, key=lambda key: counts[key])
    if counts[worst]:
        return warned(name, f"{worst}: {counts[worst]} times", expected, _COOLER)
    return passed(name, "0 times", expected)
