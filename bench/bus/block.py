"""The tables of docs/bridge.md, from committed results. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.report.data import rows

Json = Mapping[str, Any]
NOT_MEASURED = "not measured"
WORKS = {  # what works, the watchdog that it has, the libraries that nobody here wrote and that it was held against
    "edgelink": (
        "a microcontroller of your own",
        "in the firmware, latches",
        "the C firmware, on the host and in QEMU",
    ),
    "feetech": ("STS by sync read, SCS one by one", "none: the guardian", "feetech-servo-sdk, LeRobot"),
    "dynamixel": ("X series, sync and fast sync read", "bus watchdog, latches", "dynamixel-sdk, LeRobot"),
    "damiao": ("MIT mode, CAN and CAN-FD", "timeout: torque off", "damiao-motor, LeRobot"),
    "odrive": ("CANSimple", "axis watchdog: idle", "ODrive's DBC through cantools"),
    "cia402": ("CANopen, SYNC and PDO, CSP", "heartbeat: drive's fault reaction", "canopen"),
    "moteus": ("CAN-FD, position mode", "command watchdog, latches", "moteus"),
}

_WORDS = (
    "The line is virtual and as slow as a real one of that rate; both sides under SCHED_OTHER. *Host share*: a cycle "
    "without the time in which the line was busy and without declared turnaround, p50."
)
_WORDS_PEER = (
    "Beside the maker's library in the same run, same virtual device, every byte checked on both sides; unpaced, times "
    "ours (95 % interval):"
)


def bus_block(bus: Json, fuzz: Json, can: Json, host: Callable[[Json], str]) -> str:
    """Protocol by protocol, then beside the makers' libraries. An absent result is an empty mapping."""
    parts = [
        f"Host: {host(bus)}. {_WORDS}",
        _table(_HEAD, [_row(name, works, rows(bus, "rows")) for name, works in WORKS.items()]),
        _WORDS_PEER,
        _table(_PEER_HEAD, [_peer(row) for row in rows(bus, "rows") if row.get("peer")]),
        f"Missed targets: {_missed(rows(bus, 'rows'))}",
        f"Fuzzing of every decoder (`make fuzz-bridge`): {_fuzzed(fuzz)}.",
        f"SocketCAN in QEMU (`make test-can`): {_can(can)}.",
    ]
    return "\n\n".join(parts)


_HEAD = ("protocol", "what works", "watchdog", "wire limit", "measured", "efficiency", "host share", "held against")
_PEER_HEAD = ("", "library", "its CPU", "its wall time", "ours, CPU / wall us")


def _row(name: str, works: tuple[str, str, str], found: Sequence[Json]) -> tuple[str, ...]:
    what, watchdog, oracle = works
    mine = [row for row in found if row.get("protocol") == name]
    if not mine:
        return (name, what, watchdog, *[NOT_MEASURED] * 4, oracle)
    row = mine[0]
    limit = f"{1e3 / row['wire_ms']:,.0f} Hz ({row['joints']} joints, {_rate(row)})"
    measured = f"{row['hz']:,.0f} Hz"
    return (
        name,
        what,
        watchdog,
        limit,
        measured,
        f"{row['wire_efficiency']:.3f}",
        f"{row['host_us_p50']:.0f} us",
        oracle,
    )


def _rate(row: Json) -> str:
    rates = [row["baud"], *([row["data_baud"]] if row.get("data_baud") else [])]
    return " / ".join(f"{rate:,}" for rate in rates) + " bit/s"


def _peer(row: Json) -> tuple[str, ...]:
    times = [_times(row["unpaced"]["ratios"].get(name)) for name in ("cpu", "wall")]
    return (
        f"{row['protocol']}, {row['joints']} joints",
        row["peer"],
        *times,
        f"{row['cpu_us']:.0f} / {row['wall_us']:.0f}",
    )


def _times(ratio: Json | None) -> str:
    return "-" if ratio is None else f"{ratio['median']:.2f}x ({ratio['low']:.2f} to {ratio['high']:.2f})"


def _missed(found: Sequence[Json]) -> str:
    told = [
        f"{row['protocol']} with {row['joints']} joints, {'; '.join(row['missed'])}" for row in found if row["missed"]
    ]
    return ("; ".join(told) or "none") + "." if found else NOT_MEASURED + "."


def _fuzzed(fuzz: Json) -> str:
    found = rows(fuzz, "rows")
    if not found:
        return NOT_MEASURED
    clean = all(row["verdict"] == "no crash, no hang" for row in found)
    inputs = ", ".join(f"{row['decoder']} {row['inputs'] / 1e6:.1f} M" for row in found)
    return f"{fuzz['seconds_each']} s each, {'no crash, no hang' if clean else '**broken**'}; inputs: {inputs}"


def _can(can: Json) -> str:
    if not can:
        return NOT_MEASURED
    passed, failed = sum(can["passed"].values()), len(can["failed"])
    return f"{passed} of {passed + failed} tests passed on Linux {can['kernel']}, {len(can['skipped'])} skipped"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in body)])
