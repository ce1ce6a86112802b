"""Power mode, clocks and temperatures of this board, read and never set. What is not there is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgevla.doctor.probe import run_tool


def environment(root: Path = Path("/sys")) -> dict[str, Any]:
    """`power_mode` (text or None), `cpu_mhz` now and at most by core, `temperatures_c` by zone."""
    cores = sorted((root / "devices/system/cpu").glob("cpu[0-9]*/cpufreq"), key=lambda path: path.parent.name)
    zones = sorted((root / "class/thermal").glob("thermal_zone*"))
    named = {f"{_text(zone / 'type') or 'zone'} {zone.name[12:]}": _number(zone / "temp", 1e3) for zone in zones}
    return {
        "power_mode": _power_mode(),
        "cpu_mhz": {path.parent.name: _number(path / "scaling_cur_freq", 1e3) for path in cores},
        "cpu_mhz_most": {path.parent.name: _number(path / "scaling_max_freq", 1e3) for path in cores},
        "temperatures_c": {name.replace("/", " "): value for name, value in named.items()},
    }


def _power_mode() -> str | None:
    """As `nvpmodel -q` says it: 'NV Power Mode: 15W'."""
    said = run_tool(("nvpmodel", "-q")).text or ""
    lines = [line.partition(":")[2].strip() for line in said.splitlines() if line.startswith("NV Power Mode:")]
    return lines[0][:40] if lines else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()[:40]
    except OSError:
        return ""


def _number(path: Path, unit: float) -> float | None:
    """None where the kernel gives none."""
    text = _text(path)
    return round(int(text) / unit, 1) if text.lstrip("-").isdigit() else None
