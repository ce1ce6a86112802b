"""The profile as one HTML file: inline CSS and SVG, no script, no request to anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from bench.profile import drawings, flame
from bench.report import parts, text
from bench.report.charts import both_widths
from bench.report.shell import whole_page

Profile = Mapping[str, Any]
_MOST = 40  # operators in the table; all of them are in profile.json
_STYLE = """
.flame .f0 { fill: var(--line); } .flame rect { fill: var(--c); stroke: var(--card); stroke-width: .5; }
.flame .f0 { fill: var(--grid); } .flame .f1 { fill-opacity: .80; } .flame .f2 { fill-opacity: .58; }
.flame .f3 { fill-opacity: .40; } .flame .f4 { fill-opacity: .24; }
.flame rect:hover { fill-opacity: 1; stroke: var(--ink); stroke-width: 1; } .flame .t.in { pointer-events: none; }
.tile small { overflow-wrap: anywhere; }
.step { fill: var(--c); fill-opacity: .75; } .roof { stroke: var(--soft); stroke-width: 1.4; fill: none; }
.c-run { --c: var(--stage); } .c-policy { --c: var(--int8); } .c-servo { --c: var(--teacher); }
.c-camera { --c: var(--fp32); }
"""


def render(profile: Profile) -> str:
    """The page as text."""
    title = f"{profile['bundle']['name']} on {profile['target']}: where time and memory go"
    sections = (
        ("flame", "Flame view", _flame(profile)),
        ("stages", "Stages", _stages(profile)),
        ("startup", "Cold start", _startup(profile)),
        ("memory", "Memory", _memory(profile)),
        ("roofline", "Roofline", _roofline(profile)),
        ("operators", "Operators", _operators(profile)),
        ("limits", "What this does not say", _limits()),
    )
    return whole_page(
        title,
        "",
        profile.get("host"),
        [(anchor, name) for anchor, name, _ in sections],
        f"{_warning(profile)}{_tiles(profile)}{''.join(body for _, _, body in sections)}",
        "Made by edgevla profile. profile.json holds the same numbers; trace.json opens in Perfetto.",
        _STYLE,
    )


def _warning(profile: Profile) -> str:
    words = "; ".join(profile["not_granted"])
    said = f"Best effort: the run was not granted {escape(words)}. Times of the servo are those of an ordinary process."
    return f'<div class="banner">{said}</div>' if words else ""


def _tiles(profile: Profile) -> str:
    start, memory, stages = profile["startup"], profile["memory"], profile["stages"]
    slowest, whole = profile["operators"][0], stages.get("sensor-to-bus")
    longest = f"{slowest['type']} of {slowest['stage'].removeprefix('graph:')}"
    goal = f"goal {start['goal_s']:g} s: {'kept' if start['kept'] else 'BROKEN'}"
    made = [
        parts.tile(text.seconds(start["first_command_s"]), "cold start to first command", goal),
        parts.tile(_us(whole and whole["p50_us"]), "sensor to bus, p50", f"p99 {_us(whole and whole['p99_us'])}"),
        parts.tile(text.percent(slowest["share"]), "of operator time in the longest", longest),
        parts.tile(text.size(memory["peak_rss_bytes"]), "resident at most", "all processes, shared pages twice"),
    ]
    return f'<div class="tiles">{"".join(made)}</div>'


def _flame(profile: Profile) -> str:
    root = flame.tree(profile)
    lead = (
        f"One re-plan interval of {text.ms(1e3 * profile['interval']['replan_s'])}: what each process spends in it. "
        "Rest the pointer on a bar for its time. What operators leave of their graph is between them, or waiting "
        "for a core."
    )
    key = parts.key([(process.name, f"c-{process.name}") for process in root.children])
    lines = [(node.name, node.us, _us(node.us), f"c-{node.name}") for node in root.children]
    return parts.section(
        "flame", "Flame view", lead, key, both_widths(flame.draw, root), _graphs_alone(profile), parts.bars(lines)
    )


def _graphs_alone(profile: Profile) -> str:
    lead = "The graphs of one chunk by themselves, one thread, back to back: median passes without a profiler."
    drawn = both_widths(flame.draw, flame.graph_tree(profile))
    return f'<h3>Graphs alone</h3><p class="lead">{lead}</p>{drawn}<h3>By process</h3>'


def _stages(profile: Profile) -> str:
    lead = "From the stamps that the loop writes itself, without a profiler. They describe this run and bound nothing."
    head = ("stage", "p50", "p99", "p99.9", "max", "n")
    body = [
        (parts.cell(name), *(_us(row[f"{q}_us"]) for q in ("p50", "p99", "p999", "max")), text.whole(row["count"]))
        for name, row in profile["stages"].items()
    ]
    return parts.section("stages", "Stages", lead, parts.table(head, body))


def _startup(profile: Profile) -> str:
    start = profile["startup"]
    goal = parts.verdict_tag(start["kept"])
    lead = (
        "A fresh process; the arm is powered and the camera delivers already, the files are in the page cache. "
        f"First command after {text.seconds(start['first_command_s'])}, goal {start['goal_s']:g} s {goal}"
    )
    lead += f". On a core: {_spent(start['cpu_s'])}; the rest is waiting."
    key = parts.key([(name, f"c-{name}") for name in ("run", "policy", "servo")])
    rows = [
        (
            parts.cell(f"{step['process']}: {step['name']}"),
            *(f"{step[k]:.3f} s" for k in ("begin_s", "end_s", "took_s")),
        )
        for step in start["steps"]
    ]
    table = parts.table(("step", "from", "to", "took"), rows)
    return parts.section(
        "startup",
        "Cold start",
        lead,
        key,
        both_widths(drawings.gantt, start["steps"]),
        table,
        _imports(start["imports"]),
    )


def _spent(cpu_s: Mapping[str, float]) -> str:
    words = {
        "begun": "run, up to its first child",
        "policy_imported": "policy, imports",
        "policy_warm": "policy, ready",
    }
    return ", ".join(f"{words.get(name, name)} {text.duration(spent * 1e9)}" for name, spent in cpu_s.items())


def _imports(imports: Mapping[str, Any]) -> str:
    out = "<h3>What the imports cost</h3><p class=lead>By package, from <code>-X importtime</code> in processes of "
    out += "their own; recording adds a little to each module.</p>"
    made = []
    for process, cost in imports.items():
        lines = [(name, us, _us(us), f"c-{process}") for name, us in list(cost["packages"].items())[:6]]
        made.append(f"<div><h3>{escape(process)}: {_us(cost['total_us'])}</h3>{parts.bars(lines)}</div>")
    return f'{out}<div class="trio">{"".join(made)}</div>'


def _memory(profile: Profile) -> str:
    memory = profile["memory"]
    lines = [(name, size, text.size(size), _colour(name)) for name, size in memory["processes"].items()]
    rows = [
        (parts.cell(name), *(parts.cell(text.size(row[key])) for key in ("file_bytes", "in_use_bytes", "arena_bytes")))
        for name, row in memory["per_stage"].items()
    ]
    lead = "Peak resident size of each process (VmHWM), read from outside while it ran."
    table = parts.table(("graph", "file", "in use", "arena"), rows)
    arena = f"<h3>Arenas: {text.size(memory['arena_bytes'])}</h3><p class=lead>{escape(memory['arena_by'])}.</p>"
    return parts.section("memory", "Memory", lead, parts.bars(lines), arena, table)


def _colour(process: str) -> str:
    return {"policy": "c-int8", "servo": "c-teacher", "run": "c-stage"}.get(process, "c-fp32")


def _roofline(profile: Profile) -> str:
    roof = profile["roofline"]
    peaks = roof["peaks"]
    lead = (
        f"One thread here reached {peaks['fp32_gops']:.0f} Gop/s in FP32, {peaks['u8s8_gops']:.0f} Gop/s in U8S8 and "
        f"{peaks['copy_gbs']:.1f} GB/s in a large copy, in this run. The floor is what a graph would "
        "take at its ceiling."
    )
    head = ("graph", "operations", "moved", "op/byte", "takes", "floor", "of ceiling", "bound by")
    rows = [
        (
            parts.cell(one["name"]), text.count(one["operations"]), text.size(one["bytes"]),
            text.small(one["intensity"]), _us(one["wall_us"]), _us(one["floor_us"]),
            text.percent(one["share_of_ceiling"]), one["bound"],
        )
        for one in roof["graphs"]
    ]  # fmt: skip
    classes = [
        (
            parts.cell(row["name"]), text.whole(row["operators"]), text.ms(row["ms"]),
            text.percent(row["share_of_time"]),
            "" if row["reached"] is None else f"{row['reached']:.1f} {escape(row['unit'])}",
            "" if row["share_of_peak"] is None else text.percent(row["share_of_peak"], 0),
        )
        for row in roof["classes"]
    ]  # fmt: skip
    table = parts.table(("class of operators", "n", "takes", "of time", "reached", "of peak"), classes)
    drawn = both_widths(drawings.roofline, roof)
    return parts.section("roofline", "Roofline", lead, drawn, parts.table(head, rows), "<h3>Classes</h3>", table)


def _operators(profile: Profile) -> str:
    rows = profile["operators"]
    lead = (
        f"The {min(_MOST, len(rows))} longest of {len(rows)} that a chunk runs, with the node of the bundle's graph "
        "whose tensor each produces. Time that the profiler adds is taken off."
    )
    head = ("operator", "graph", "node of the bundle", "calls", "time", "share", "multiply-adds", "bytes")
    body = [
        (
            parts.cell(row["type"]), parts.cell(row["stage"].removeprefix("graph:")), parts.cell(row["origin"] or "-"),
            text.whole(row["calls"]), _us(row["total_us"]), text.percent(row["share"]),
            text.count(row["macs"]) if row["macs"] else "", text.size(row["bytes"]),
        )
        for row in rows[:_MOST]
    ]  # fmt: skip
    return parts.section("operators", "Operators", lead, parts.table(head, body, left=(1, 2)))


def _limits() -> str:
    said = (
        "Virtual arm over a pty, pictures of noise: real bytes and a real clock, no motor, no wire, no exposure.",
        (
            "The trace is of a run with ONNX Runtime's profiler on, which makes small operators longer than they are; "
            "stages and start-up are of a run without it."
        ),
        (
            "What an operator moves is counted from the shapes of its tensors. Caches serve part of it, so a graph can "
            "reach more than its ceiling."
        ),
        "A cold start here is a new process, not a cold disk.",
        "A figure of this host is none of a Jetson.",
    )
    items = "".join(f"<li>{escape(one)}</li>" for one in said)
    return parts.section("limits", "What this does not say", "", f'<ul class="plain">{items}</ul>')


def _us(value: float | None) -> str:
    return text.duration(None if value is None else value * 1e3)
