"""Pictures for people: half-block characters in a terminal, an HTML page with both pictures side by side. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from rich.style import Style
from rich.text import Text

from edgevla.telemetry.png import data_uri

Image = NDArray[np.uint8]

_HALF = "\N{UPPER HALF BLOCK}"
_GAP = "  "
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px system-ui, sans-serif; margin: 2em; background: #fff; color: #222 }}
figure {{ display: inline-block; margin: 0 1em 1em 0 }}
img {{ width: 22em; image-rendering: pixelated; border: 1px solid #999 }}
.wrong {{ color: #b00020; font-weight: bold }} .doubtful {{ color: #8a5a00 }} .fine {{ color: #1b6e2c }}
@media (prefers-color-scheme: dark) {{ body {{ background: #181818; color: #ddd }} }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def shrunk(image: Image, columns: int) -> Image:
    """Nearest pixels, `columns` wide and an even number of rows high, for square half blocks."""
    height, width = image.shape[:2]
    rows = max(2, round(columns * height / width / 2) * 2)
    down = (np.arange(rows) + 0.5) * height / rows
    across = (np.arange(columns) + 0.5) * width / columns
    picked: Image = image[np.ix_(down.astype(int), across.astype(int))]
    return picked


def half_blocks(pictures: Sequence[Image], columns: int) -> Text:
    """Pictures side by side, each `columns` characters wide: one character is two pixels, one above the other."""
    small = [shrunk(picture, columns) for picture in pictures]
    text = Text(no_wrap=True)
    for row in range(0, max(len(picture) for picture in small), 2):
        for picture in small:
            text.append_text(_line(picture, row, columns))
            text.append(_GAP)
        text.append("\n")
    return text


def _line(picture: Image, row: int, columns: int) -> Text:
    if row >= len(picture):
        return Text(" " * columns)
    line = Text()
    for top, bottom in zip(picture[row], picture[row + 1], strict=True):
        line.append(_HALF, Style(color=_rgb(top), bgcolor=_rgb(bottom)))
    return line


def _rgb(pixel: NDArray[np.uint8]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*(int(value) for value in pixel))


def page(title: str, cameras: Mapping[str, tuple[Image, Image | None, Sequence[str], Sequence[str]]]) -> str:
    """HTML without anything from outside. cameras: name -> (live, training frame, what is wrong, what is doubtful)."""
    parts = [_section(name, *values) for name, values in cameras.items()]
    return _PAGE.format(title=escape(title), body="\n".join(parts))


def _section(name: str, live: Image, trained: Image | None, wrong: Sequence[str], doubtful: Sequence[str]) -> str:
    shown = [("live", live), *([("training frame of the bundle", trained)] if trained is not None else [])]
    figures = "".join(
        f'<figure><img src="{data_uri(image)}" alt="{label}"><figcaption>{label}</figcaption></figure>'
        for label, image in shown
    )
    kinds = (("wrong", wrong), ("doubtful", doubtful))
    said = "".join(f'<p class="{kind}">{escape(line)}</p>' for kind, lines in kinds for line in lines)
    return f"<h2>{escape(name)}</h2>{figures}" + (said or '<p class="fine">nothing found</p>')
