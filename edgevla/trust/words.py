"""Names from outside in the text of an error: one line, and nothing that a terminal would obey."""

from __future__ import annotations

_MOST = 200  # characters


def shown(text: str) -> str:
    """The text with every character escaped that does not print: control characters, line ends, halves of UTF-16.

    >>> shown("a\\x1b[2J")
    'a\\\\x1b[2J'
    """
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:_MOST])
    return escaped + ("..." if len(text) > _MOST else "")
