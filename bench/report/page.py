"""Assemble the page: one HTML file, inline CSS and SVG, no script, no request to anywhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from bench.report import evidence, sections
from bench.report.data import Assets
from edgevla.telemetry.host import host_line

STYLE = Path(__file__).with_name("style.css")
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
# The browser itself then refuses any request, whatever slips into a string.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def build_report(report: Mapping[str, Any], out_html: Path, assets: Assets = None) -> Path:
    """Write the report; returns the path.

    assets: the folder of the .npy files that ``{"file": "name.npy"}`` names, or a mapping name -> array.
    The file appears whole or not at all. BadInput when a part of the report has the wrong shape.
    """
    page = render(report, assets)
    out_html.parent.mkdir(parents=True, exist_ok=True)
    partial = out_html.with_name(out_html.name + ".partial")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, out_html)
    return out_html


def render(report: Mapping[str, Any], assets: Assets = None) -> str:
    """The page as text."""
    title = escape(str(report.get("title") or "edgevla: compression and control, measured"))
    links = "".join(f'<a href="#{part.__name__}">{name}</a>' for name, part in ORDER)
    synthetic = '<div class="banner">Synthetic test data. Nothing on this page was measured.</div>'
    body = "".join(part(report, assets) for _, part in ORDER)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE.read_text(encoding='utf-8')}</style></head><body><main>"
        f"<header><h1>{title}</h1><p>A vision-language-action policy distilled, quantized to int8 and run in "
        "closed loop at a fixed latency.</p>"
        f"<p>Measured on {escape(host_line(report.get('host')))}</p><nav>{links}</nav></header>"
        f"{synthetic if report.get('synthetic') else ''}{sections.tiles(report, assets)}{body}"
        "<footer>Made by edgevla from report.json, which holds the same numbers.</footer>"
        "</main></body></html>\n"
    )
