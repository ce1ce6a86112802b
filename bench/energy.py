"""What a Jetson draws: its INA3221 sensors in sysfs, or the log of `tegrastats` that ran beside a measurement.

Sensors: kernel.org, Documentation/hwmon/ina3221 (`in[123]_input` mV, `curr[123]_input` mA, `in[123]_label`).
tegrastats: Jetson Linux Developer Guide, "tegrastats Utility": NAME now/mean, with or without mW after each number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgevla.doctor.probe import Tree
from edgevla.errors import BadInput, explain

_HWMON = "sys/class/hwmon"
_NOT_CONNECTED = "NC"
_RAIL = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/(\d+)(?:mW)?(?!\S)")
_HOT = re.compile(r"(?<!\S)([A-Za-z][A-Za-z0-9_]*)@(-?\d+(?:\.\d+)?)C(?!\S)")
_ABSENT_C = -256.0  # a zone that is powered down says this

Rails = Mapping[str, float]  # W by name of the rail


def rails_w(tree: Tree) -> dict[str, float]:
    """Power by rail of the INA3221 sensors, W; a channel without label or that is off is left out."""
    found = {}
    for chip in tree.names(_HWMON, r"hwmon\d+"):
        if tree.text(f"{_HWMON}/{chip}/name") != "ina3221":
            continue
        for channel in (1, 2, 3):
            label = tree.text(f"{_HWMON}/{chip}/in{channel}_label")
            millivolt = tree.number(f"{_HWMON}/{chip}/in{channel}_input")
            milliampere = tree.number(f"{_HWMON}/{chip}/curr{channel}_input")
            if label and millivolt is not None and milliampere is not None:
                found[label] = millivolt * milliampere / 1e6
    return found


def mean_power(looks: Sequence[Rails]) -> dict[str, Any] | None:
    """`{mean_w: {rail: W}, samples}` of looks at the rails; None where there was nothing to see."""
    known = [look for look in looks if look]
    if not known:
        return None
    names = dict.fromkeys(name for look in known for name in look)
    mean = {rail: round(float(np.mean([look[rail] for look in known if rail in look])), 3) for rail in names}
    return {"mean_w": mean, "samples": len(known)}


def tegrastats_rails_w(line: str) -> dict[str, float]:
    """Power by rail now, W, of one line that tegrastats printed; empty of a line without any."""
    return {name: int(now) / 1e3 for name, now, _ in _RAIL.findall(line) if name != _NOT_CONNECTED}


def tegrastats_celsius(line: str) -> dict[str, float]:
    """Temperature by zone of one line that tegrastats printed; zones that are off are left out."""
    return {name: float(value) for name, value in _HOT.findall(line) if float(value) > _ABSENT_C}


def read_tegrastats(path: Path) -> dict[str, Any]:
    """`{mean_w, samples, max_celsius}` of a log of tegrastats. Raises BadInput."""
    todo = "record one beside the run: tegrastats --interval 1000 --logfile FILE"
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise BadInput(explain(f"cannot read {path}", "a log of tegrastats", error.strerror, todo)) from None
    found = mean_power([tegrastats_rails_w(line) for line in lines])
    if found is None:
        got = f"{len(lines)} lines without a rail"
        raise BadInput(explain(f"no power in {path}", "lines with rails as VDD_IN 4264mW/4264mW", got, todo))
    celsius: dict[str, float] = {}
    for line in lines:
        for zone, value in tegrastats_celsius(line).items():
            celsius[zone] = max(value, celsius.get(zone, value))
    return {**found, "max_celsius": celsius}
