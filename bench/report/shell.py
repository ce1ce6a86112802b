"""The frame of every page: one HTML file, inline CSS and SVG, no script, no request to anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from edgevla.telemetry.host import host_line

STYLE = Path(__file__).with_name("style.css")
# The browser itself then refuses any request, whatever slips into a string.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def whole_page(
    title: str,
    lead: str,
    host: Mapping[str, Any] | None,
    links: Sequence[tuple[str, str]],
    body: str,
    footer: str,
    style: str = "",
) -> str:
    """The page as text. `title` is escaped here; `lead`, `body` and `footer` are our own markup.

    links: (anchor, name) of each section. style: CSS beyond that of all pages.
    """
    name = escape(title)
    nav = "".join(f'<a href="#{anchor}">{words}</a>' for anchor, words in links)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}</title><style>{STYLE.read_text(encoding='utf-8')}{style}</style></head><body><main>"
        f"<header><h1>{name}</h1>{f'<p>{lead}</p>' if lead else ''}"
        f"<p>Measured on {escape(host_line(host))}</p><nav>{nav}</nav></header>"
        f"{body}<footer>{footer}</footer></main></body></html>\n"
    )
