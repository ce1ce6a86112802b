"""Temperatures of the computer, from the kernel's thermal zones."""

from __future__ import annotations

from pathlib import Path

_ZONES = Path("/sys/class/thermal")
_MOST = 16  # zones shown
_SOUND_C = (-40.0, 200.0)  # a zone without its sensor says nonsense


def thermal_zones(zones: Path = _ZONES) -> tuple[tuple[str, float], ...]:
    """(type of the zone, degrees Celsius) of every zone that answers; empty where there is none.

    A read asks the sensor (on a Jetson the power processor, some 0.1 ms each): once a second is plenty.
    """
    found = []
    for zone in sorted(zones.glob("thermal_zone*"), key=_number)[:_MOST]:
        try:
            name = (zone / "type").read_text(encoding="ascii", errors="replace").strip()
            celsius = int((zone / "temp").read_text(encoding="ascii")) / 1e3
        except (OSError, ValueError):
            continue  # a Jetson's zone of a unit that is switched off refuses the read
        if _SOUND_C[0] <= celsius <= _SOUND_C[1]:
            found.append((name.removesuffix("-thermal"), celsius))
    return tuple(found)


def _number(zone: Path) -> int:
    digits = zone.name.removeprefix("thermal_zone")
    return int(digits) if digits.isdigit() else 0
