"""Durations as people type them."""

from __future__ import annotations

import re

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration_s(text: str) -> float:
    """`90s`, `10m`, `1.5h` to seconds.

    Raises:
        ValueError: another form, or not positive.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not match or float(match[1]) <= 0:
        raise ValueError(f"duration: expected a number with s, m or h such as 8m, got {text!r}")
    return float(match[1]) * _UNITS[match[2]]
