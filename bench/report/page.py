"""Assemble the page of the demo from its parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.files import write_text
from bench.report import evidence, sections
from bench.report.data import Assets
from bench.report.shell import whole_page

ORDER = (
    ("Models", sections.models),
    ("Latency", sections.latency),
    ("Jitter", sections.loop),
    ("Parity", sections.parity),
    ("Success", evidence.success),
    ("Words", evidence.words),
    ("Episode", sections.frames),
    ("Distillation", evidence.controls),
    ("Timing contract", sections.claims),
    ("Budgets", sections.budgets),
    ("Wall time", sections.steps),
    ("Limits", sections.limits),
    ("Host", sections.host),
)


def build_report(report: Mapping[str, Any], out_html: Path, assets: Assets = None) -> Path:
    """Write the report; returns the path.

    assets: the folder of the .npy files that ``{"file": "name.npy"}`` names, or a mapping name -> array.
    The file appears whole or not at all. BadInput when a part of the report has the wrong shape.
    """
    write_text(out_html, render(report, assets))
    return out_html


def render(report: Mapping[str, Any], assets: Assets = None) -> str:
    """The page as text."""
    synthetic = '<div class="banner">Synthetic test data. Nothing on this page was measured.</div>'
    return whole_page(
        str(report.get("title") or "edgevla: compression and control, measured"),
        "A vision-language-action policy distilled, quantized to int8 and run in closed loop at a fixed latency.",
        report.get("host"),
        [(part.__name__, name) for name, part in ORDER],
        f"{synthetic if report.get('synthetic') else ''}{sections.tiles(report, assets)}"
        + "".join(part(report, assets) for _, part in ORDER),
        "Made by edgevla from report.json, which holds the same numbers.",
    )
