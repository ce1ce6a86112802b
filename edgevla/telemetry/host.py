"""What the host took away while we measured: stolen time, as the hypervisor reports it."""

from __future__ import annotations

import os
from pathlib import Path

_STEAL_FIELD = 8  # of the `cpu` line in /proc/stat, proc(5)


def stolen_s(stat: Path = Path("/proc/stat")) -> float:
    """Seconds stolen from all cores together since boot; 0 where the kernel does not say."""
    try:
        fields = stat.read_text(encoding="ascii").splitlines()[0].split()
        return int(fields[_STEAL_FIELD]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0
