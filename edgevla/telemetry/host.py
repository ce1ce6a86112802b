"""Describe the machine a figure was measured on; every result carries this dict as ``host{}``.

Nothing here imports torch or onnxruntime: versions come from the installed package metadata.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

_STEAL_FIELD = 8  # of the `cpu` line in /proc/stat, proc(5)
# Instruction sets that decide int8 and bf16 speed, as /proc/cpuinfo names them ("flags" on x86, "Features" on Arm)
X86_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
ARM_FLAGS = ("asimd", "asimddp", "i8mm", "bf16", "sve")
DOT_PRODUCT_FLAGS = (*X86_FLAGS[2:], "asimddp", "i8mm", "bf16")
PACKAGES = ("numpy", "onnxruntime", "torch", "onnx", "mujoco", "metaworld")


def describe_host(proc: Path = Path("/proc")) -> dict[str, Any]:
    """Return CPU, cores, memory, kernel, package versions and the steal counter of this machine.

    ``proc`` is the root of procfs (a test points it elsewhere). Unknown entries are None, never guessed.
    """
    cpuinfo = _read(proc / "cpuinfo")
    flags = _cpu_flags(cpuinfo)
    return {
        "cpu": _cpu_model(cpuinfo, proc),
        "arch": platform.machine(),
        "cores_usable": _usable_cores(),
        "cores_total": os.cpu_count(),
        "flags": [name for name in (*X86_FLAGS, *ARM_FLAGS) if name in flags],
        "vnni": bool(flags & {"avx512_vnni", "avx_vnni"}),
        "bf16": bool(flags & {"avx512_bf16", "amx_bf16", "bf16"}),
        "memory_mb": _memory_mb(_read(proc / "meminfo")),
        "kernel": platform.release(),
        "preempt_rt": "PREEMPT_RT" in platform.version() or "PREEMPT RT" in platform.version(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "virtual": _virtual(flags, proc),
        "steal_s": steal_s(proc),
        "measured_at": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def steal_s(proc: Path = Path("/proc")) -> float | None:
    """Seconds the hypervisor took from all CPUs since boot; None where there is no /proc/stat."""
    return stolen_s(proc / "stat") if (proc / "stat").is_file() else None


def host_line(host: Mapping[str, Any] | None) -> str:
    """One line for the foot of a figure: ``CPU · 2 cores · VNNI · kernel · Python · onnxruntime``."""
    if not host:
        return "host not recorded"
    packages = host.get("packages") or {}
    parts = [
        host.get("cpu") or "CPU unknown",
        f"{host['cores_usable']} cores" if host.get("cores_usable") else None,
        "+".join(name for name in host.get("flags") or () if name in DOT_PRODUCT_FLAGS) or None,
        f"Linux {host['kernel']}" if host.get("kernel") else None,
        host.get("virtual"),
        f"Python {host['python']}" if host.get("python") else None,
        *(f"{name} {packages[name]}" for name in ("onnxruntime", "torch") if name in packages),
    ]
    return " · ".join(str(part) for part in parts if part)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _cpu_flags(cpuinfo: str) -> set[str]:
    match = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    return set(match.group(1).split()) if match else set()


def _cpu_model(cpuinfo: str, proc: Path) -> str | None:
    board = _read(proc / "device-tree" / "model").strip("\0 \n")  # a Jetson names itself here
    if board:
        return board
    match = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    return re.sub(r"\s+", " ", match.group(1)).strip() if match else None


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_mb(meminfo: str) -> int | None:
    match = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(match.group(1)) // 1024 if match else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _virtual(flags: set[str], proc: Path) -> str | None:
    """'virtual machine' and/or 'container', as far as the machine says so itself."""
    container = Path("/.dockerenv").exists() or "container=" in _read(proc / "1" / "environ")
    found = ["virtual machine"] if "hypervisor" in flags else []
    return " + ".join(found + (["container"] if container else [])) or None


def stolen_s(stat: Path = Path("/proc/stat")) -> float:
    """Seconds stolen from all cores together since boot; 0 where the kernel does not say."""
    try:
        fields = stat.read_text(encoding="ascii").splitlines()[0].split()
        return int(fields[_STEAL_FIELD]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0
