"""Results of a stopped search, one small JSON file each, named by the hash of what it depends on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from export.search.engines import Feeds


class Cache:
    """A folder of results; without a folder nothing is kept. A damaged file is as good as none."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, key: str) -> dict[str, Any] | None:
        if self._folder is None:
            return None
        try:
            value = json.loads((self._folder / f"{key}.json").read_text())
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._folder / f".{key}.{os.getpid()}.part"
        part.write_text(json.dumps(value))
        os.replace(part, self._folder / f"{key}.json")


def key_of(*parts: object) -> str:
    """A name for a result, from everything it depends on."""
    return hashlib.sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()[:32]


def digest(graphs: Mapping[str, bytes], frames: Iterable[Feeds]) -> str:
    """sha256 of graphs and frames."""
    total = hashlib.sha256()
    for name, graph in graphs.items():
        total.update(name.encode() + hashlib.sha256(graph).digest())
    for feeds in frames:
        for name in sorted(feeds):
            total.update(name.encode() + feeds[name].tobytes())
    return total.hexdigest()
