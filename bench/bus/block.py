"""The tables of docs/bridge.md, from committed results. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.bus.result import CPU_TIMES, EFFICIENCY, HOST_US, WALL_TIMES
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

_WORDS_HELD = "Held against the targets; **bold** is missed. Ratios by the low end of their interval."


def bus_block(bus: Json, fuzz: Json, can: Json, host: Callable[[Json], str]) -> str:
    """Protocol by protocol, then beside the makers' libraries. An absent result is an empty mapping."""
    parts = [
        f"Host: {host(bus)}. {_WORDS}",
        _table(_HEAD, [_row(name, works, rows(bus, "rows")) for name, works in WORKS.items()]),
        _WORDS_PEER,
        _table(_PEER_HEAD, [_peer(row) for row in rows(bus, "rows") if row.get("peer")]),
        _WORDS_HELD,
        _table(_HELD_HEAD, [_held(row) for row in rows(bus, "rows")]),
        f"Fuzzing of every decoder (`make fuzz-bridge`): {_fuzzed(fuzz)}.",
        f"SocketCAN in QEMU (`make test-can`): {_can(can)}.",
    ]
    return "\n\n".join(parts)


_HEAD = ("protocol", "what works", "watchdog", "wire limit", "measured", "efficiency", "host share", "held against")
_PEER_HEAD = (
    "",
    "library",
    "its CPU",
    "its wall time",
    "ours, CPU / wall us",
    "paced by the wire: CPU us, its / ours",
    "paced: host share us, its / ours",
)
_HELD_HEAD = (
    "",
    f"host share <= {HOST_US:.0f} us",
    f"efficiency >= {EFFICIENCY:.2f}",
    f"its CPU >= {CPU_TIMES:g}x",
    f"its wall >= {WALL_TIMES:g}x",
)


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
    ours, theirs = row["paced"]["ours"], row["paced"]["peer"]
    return (
        _case(row),
        row["peer"],
        *times,
        f"{row['cpu_us']:.0f} / {row['wall_us']:.0f}",
        f"{theirs['cpu_us']:.0f} / {ours['cpu_us']:.0f}",
        f"{theirs['host_us_p50']:.0f} / {ours['host_us_p50']:.0f}",
    )


def _times(ratio: Json | None) -> str:
    return "-" if ratio is None else f"{ratio['median']:.2f}x ({ratio['low']:.2f} to {ratio['high']:.2f})"


def _case(row: Json) -> str:
    return f"{row['protocol']}, {row['joints']} joints"


def _held(row: Json) -> tuple[str, ...]:
    """The figures that have a target; a missed one is bold."""
    ratios = row["unpaced"]["ratios"]
    figures = {
        "host share": f"{row['host_us_p50']:.0f} us",
        "efficiency": f"{row['wire_efficiency']:.3f}",
        **{f"{name} of the peer": f"{ratios[name]['low']:.2f}" for name in ("cpu", "wall") if name in ratios},
    }
    missed = {text.partition(":")[0] for text in row["missed"]}
    names = ("host share", "efficiency", "cpu of the peer", "wall of the peer")
    return (_case(row), *(f"**{figures[n]}**" if n in missed else figures.get(n, "no peer") for n in names))


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
