"""Draws the loss curve of a training log.

python -m examples.metaworld.curve out/teacher/log.jsonl -o examples/metaworld/teacher/curve.svg
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bench.report.svg import Canvas, LinearScale, LogScale

STYLE = (
    "<style>text{font:12px sans-serif;fill:#666}.grid{stroke:#ccc;stroke-width:.5}"
    ".curve{fill:none;stroke:#0a7;stroke-width:2}</style>"
)


def draw(log: list[dict[str, float]]) -> str:
    """SVG of the smoothed loss (log axis) over training minutes."""
    minutes = [row["elapsed_s"] / 60 for row in log]
    losses = [row["loss"] for row in log]
    canvas = Canvas(720, 320)
    x = LinearScale(0.0, max(minutes), 60, 700)
    y = LogScale(min(losses) * 0.9, max(losses) * 1.1, 270, 20)
    for mark in y.ticks():
        canvas.line(60, y(mark), 700, y(mark), "grid")
        canvas.text(52, y(mark) + 4, f"{mark:g}", anchor="end")
    for mark in x.ticks():
        canvas.text(x(mark), 290, f"{mark:g}", anchor="middle")
    canvas.path("M" + " L".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(minutes, losses, strict=True)), "curve")
    samples = int(log[-1]["samples"])
    canvas.text(380, 312, f"minutes on two cores ({samples:,} observations); flow-matching loss", anchor="middle")
    svg = canvas.render("training loss over time", "")
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ').replace(">", f">{STYLE}", 1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.log.read_text().splitlines()]
    arguments.out.write_text(draw(rows) + "\n")


if __name__ == "__main__":
    main()
