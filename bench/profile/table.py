"""A profile on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.report import text
from edgevla.cli.output import kept, megabytes, print_table, say
from edgevla.telemetry.host import host_line

_MOST = 15


def print_profile(profile: Mapping[str, Any]) -> None:
    """Stages, start, memory, roofline, the longest operators, the host."""
    if profile["not_granted"]:
        say("BEST EFFORT, not granted: " + "; ".join(profile["not_granted"]), "bold")
    _stages(profile)
    _startup(profile["startup"])
    _memory(profile["memory"])
    _roofline(profile["roofline"])
    _operators(profile["operators"])
    say(host_line(profile["host"]))


def _us(value: float | None) -> str:
    return text.duration(None if value is None else value * 1e3)


def _stages(profile: Mapping[str, Any]) -> None:
    rows = [
        (name, *(_us(row[f"{q}_us"]) for q in ("p50", "p99", "p999", "max")), row["count"])
        for name, row in profile["stages"].items()
    ]
    print_table("stages, without a profiler", ["stage", "p50", "p99", "p99.9", "max", "n"], rows)


def _startup(start: Mapping[str, Any]) -> None:
    rows: list[tuple[object, ...]] = [
        (f"{step['process']}: {step['name']}", *(f"{step[key]:.3f}" for key in ("begin_s", "end_s", "took_s")), "")
        for step in start["steps"]
    ]
    goal = f"first command, goal {start['goal_s']:g} s"
    rows.append((goal, "", "", f"{start['first_command_s']:.3f}", kept(start["kept"])))
    print_table("cold start", ["step", "from, s", "to, s", "took, s", ""], rows)
    cpu = start["cpu_s"]
    say(
        f"on a core: run {cpu['begun']:.2f} s up to its first child, policy {cpu['policy_warm']:.2f} s until ready",
        "dim",
    )
    for process, cost in start["imports"].items():
        packages = ", ".join(f"{name} {us / 1e3:.0f}" for name, us in list(cost["packages"].items())[:6])
        say(f"imports of {process}: {cost['total_us'] / 1e3:.0f} ms ({packages})", "dim")


def _memory(memory: Mapping[str, Any]) -> None:
    rows: list[tuple[object, ...]] = [(name, megabytes(size)) for name, size in memory["processes"].items()]
    rows.append(("all, shared pages twice", megabytes(memory["peak_rss_bytes"])))
    for name, row in memory["per_stage"].items():
        if row["arena_bytes"] is not None:
            rows.append(
                (f"arena of {name}", f"{megabytes(row['arena_bytes'])} ({megabytes(row['in_use_bytes'])} in use)")
            )
    print_table("memory, largest", ["process", "resident"], rows)
    if memory["arena_bytes"] is None:
        say(memory["arena_by"], "dim")


def _roofline(roof: Mapping[str, Any]) -> None:
    rows = [
        (
            one["name"], _us(one["wall_us"]), _us(one["floor_us"]), text.percent(one["share_of_ceiling"]),
            text.small(one["intensity"]), f"{one['reached_gops']:.1f}", one["bound"],
        )
        for one in roof["graphs"]
    ]  # fmt: skip
    columns = ["graph", "takes", "floor", "of ceiling", "op/byte", "Gop/s", "bound by"]
    print_table("under the roofline, one thread", columns, rows)
    peaks = roof["peaks"]
    say(
        f"peaks here: FP32 {peaks['fp32_gops']:.0f} Gop/s, U8S8 {peaks['u8s8_gops']:.0f} Gop/s, "
        f"copy {peaks['copy_gbs']:.1f} GB/s; {roof['recorder_us']:.1f} us of recording taken off each operator",
        "dim",
    )


def _operators(operators: list[Mapping[str, Any]]) -> None:
    rows = [
        (
            row["type"], row["stage"].removeprefix("graph:"), row["origin"] or "-", row["calls"], _us(row["total_us"]),
            text.percent(row["share"]), text.count(row["macs"]) if row["macs"] else "", megabytes(row["bytes"]),
        )
        for row in operators[:_MOST]
    ]  # fmt: skip
    columns = ["operator", "graph", "node of the bundle", "calls", "time", "share", "multiply-adds", "moved"]
    print_table(f"the {len(rows)} longest of {len(operators)} operators of a chunk", columns, rows)
