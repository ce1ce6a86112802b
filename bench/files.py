"""Results on disk: whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, explain


def write_json(path: Path, value: Any) -> None:
    """Write beside `path`, then rename. Raises BadInput where that cannot be written."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, words: str) -> None:
    """Write beside `path`, then rename. Raises BadInput where that cannot be written."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(words, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        got = error.strerror or type(error).__name__
        raise BadInput(explain(f"{path} cannot be written", "a folder with room", got, "pass another --out")) from None
