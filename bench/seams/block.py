"""The figures of docs/seams.md, from bench/results/delay.json and seams.json. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NOT_MEASURED = "not measured"
DELAYS = (1, 2, 3, 4, 5, 6, 7, 8)
SHOWN_DELAYS = (0, 1, 2, 4, 6, 8)
CLOSED = {  # way of the closed loop -> title
    "ours": "ours: prefix",
    "both": "ours: prefix, residue blended",
    "blend": "ours without a prefix: blend",
    "newest": "naive: newest chunk",
    "ensemble": "ACT ensembling",
    "lerobot": "LeRobot 0.3 / 0.7",
    "think": "stop and think",
}
JOINED = {
    "prefix": "ours",
    "both": "both",
    "blend": "blend",
    "plain": "newest",
    "ensemble": "ensemble",
    "lerobot": "lerobot",
}


def delay_block(delay: Mapping[str, Any], host: str) -> str:
    """Success in closed loop, the goal, and how much longer success takes."""
    cells = {(cell["way"], cell["delay"]): cell for cell in delay.get("cells", [])}
    if ("zero", 0) not in cells:
        return NOT_MEASURED
    zero = cells["zero", 0]
    ways = [way for way in CLOSED if any((way, d) in cells for d in DELAYS)]
    table = [(CLOSED[way], *(_won(cells.get((way, d))) for d in DELAYS)) for way in ways]
    pairs = [(CLOSED[way], *_against(cells.get((way, 4)))) for way in ways]
    slower = [(CLOSED[way], *(_slower(cells.get((way, d))) for d in (2, 4, 8))) for way in ways]
    return "\n\n".join(
        [
            f"Host: {host}. {zero['episodes']} episodes a cell, successes; at zero delay **{zero['successes']}**.",
            _table(("ticks of delay", *map(str, DELAYS)), table),
            _goal(delay.get("goal")),
            _table(("at 4 ticks, pairs with zero delay", "loss, points", "95 % interval", "lost", "won", "p"), pairs),
            _table(("ticks to success, against zero delay", "2", "4", "8"), slower),
        ]
    )


def seams_block(seams: Mapping[str, Any], host: str) -> str:
    """Jumps at seams: in closed loop, and on the same recorded chunks."""
    if not seams.get("readings"):
        return NOT_MEASURED
    scenes, limit = seams["scenes"], seams["limited_to_m_s2"]
    closed = {(line["way"], line["delay"]): line for line in seams["closed_loop"]}
    parts = [
        f"Host: {host}. Episodes: {scenes['episodes']}. p50 / p95 over all seams.",
        f"Jump of the commanded velocity at a seam, mm/s, closed loop. Where no chunk begins: {_inside(seams)}.",
        _table(("ticks of delay", *map(str, sorted({d for _, d in closed}))), _closed_rows(closed)),
    ]
    for reading, lines in seams["readings"].items():
        unit = "mm" if reading == "set-points" else "mm/s"
        measured = "Velocity in mm/s, acceleration in m/s²"
        held, far = (
            f"*limited*: at most {limit:g} m/s²",
            f"Distance to zero delay in {unit}, median of episodes (quartiles)",
        )
        head = ("ticks", "way", "asked a second", "velocity", "acceleration", "velocity, limited", "distance")
        shown = [line for line in lines if line["delay"] in SHOWN_DELAYS and line["way"] in JOINED]
        parts.append(f"The same recorded chunks, read as {reading}. {measured}, {held}. {far}.")
        parts.append(_table(head, [_line(line, seams) for line in shown]))
    return "\n\n".join(parts)


def _closed_rows(closed: Mapping[tuple[str, int], Mapping[str, Any]]) -> list[tuple[str, ...]]:
    delays = sorted({delay for _, delay in closed})
    ways = [way for way in JOINED if any(name == way for name, _ in closed)]
    return [
        (CLOSED[JOINED[way]], *(_jump(closed[way, d]["wanted"]["velocity_m_s"], 1e3) for d in delays)) for way in ways
    ]


def _line(line: Mapping[str, Any], seams: Mapping[str, Any]) -> tuple[str, ...]:
    outside = line["way"] == "blend" and line["delay"] + seams["blend_ticks"] > seams["schedule"]["replan"]
    far = line["distance"]
    return (
        str(line["delay"]),
        CLOSED[JOINED[line["way"]]] + (" †" if outside else ""),
        f"{line['asked_per_s']:.1f}",
        _jump(line["wanted"]["velocity_m_s"], 1e3),
        _jump(line["wanted"]["acceleration_m_s2"], 1.0),
        _jump(line["limited"]["velocity_m_s"], 1e3),
        NOT_MEASURED if far is None else _far(far, 1e3),
    )


def _inside(seams: Mapping[str, Any]) -> str:
    return _jump(seams["inside"]["velocity_m_s"], 1e3)


def _far(far: Mapping[str, float], scale: float) -> str:
    low, high = far["episodes_q25"], far["episodes_q75"]
    return f"{scale * far['p50']:.3g} ({scale * low:.3g} to {scale * high:.3g})"


def _jump(of: Mapping[str, float] | None, scale: float) -> str:
    return "-" if of is None else f"{scale * of['p50']:.3g} / {scale * of['p95']:.3g}"


def _won(cell: Mapping[str, Any] | None) -> str:
    return NOT_MEASURED if cell is None else str(cell["successes"])


def _slower(cell: Mapping[str, Any] | None) -> str:
    value = None if cell is None else cell["slower_than_zero"]
    return NOT_MEASURED if value is None else f"{value:.2f}x"


def _against(cell: Mapping[str, Any] | None) -> tuple[str, ...]:
    if cell is None:
        return (NOT_MEASURED,) * 5
    pairs = cell["against_zero"]
    interval = f"{100 * pairs['loss_low95']:+.1f} to {100 * pairs['loss_high95']:+.1f}"
    lost, won = pairs["only_reference"], pairs["only_candidate"]
    return f"{100 * pairs['loss']:+.1f}", interval, str(lost), str(won), f"{pairs['mcnemar_p']:.3g}"


def _goal(goal: Mapping[str, Any] | None) -> str:
    if goal is None:
        return f"Goal at 4 ticks, prefix: {NOT_MEASURED}."
    said = "kept" if goal["kept"] else "**missed**"
    proved = "and shown" if goal["shown_with_95_percent"] else "and not shown"
    return (
        f"Goal: at 4 ticks the prefix loses at most {100 * goal['margin']:g} points. Counted: "
        f"{100 * goal['loss']:+.1f}, {said}; {proved} with 95 % confidence (at most {100 * goal['loss_upper95']:.1f})."
    )


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
