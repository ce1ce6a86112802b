"""What the student of many tasks is asked about: the demonstrations, and the pictures of a hand at play.

edgevla compress out/mt10/teacher --data examples/metaworld/mt/lessons.py:ten -o out/mt10/student.bundle
"""

from __future__ import annotations

from pathlib import Path

from export.data.unlabelled import WithStills

OUT = Path("out")


def ten() -> WithStills:
    """Of the ten tasks."""
    return WithStills(OUT / "mt10/data", OUT / "mt10/stills")


def fifty() -> WithStills:
    """Of all fifty."""
    return WithStills(OUT / "mt50/data", OUT / "mt50/stills")
