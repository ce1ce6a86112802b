"""What each deploy of a stand-in took, step by step, by the clock and the log of the robot itself."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

LOG = "log/deploy.jsonl"  # below the prefix


def deploys_of(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Of each deploy in the order of the log: what was done, seconds of each step that ended, how it ended.

    `ended`: "good", "not good", or "cut off in NAME": the robot was reset there, or the installer killed.
    """
    found: dict[str, dict[str, Any]] = {}
    begun_s: dict[str, float] = {}
    for text in lines:
        line = json.loads(text)
        deploy = found.setdefault(line["deploy"], {"do": line.get("do"), "seconds": {}, "ended": "cut off"})
        name = line.get("name")
        if "outcome" in line:
            deploy["ended"] = "good" if line["outcome"]["good"] else "not good"
        elif line.get("done") or line.get("failed"):
            deploy["seconds"][name] = round(line["boot_s"] - begun_s[line["deploy"]], 1)
            deploy["ended"] = "cut off"
        elif name is not None:
            begun_s[line["deploy"]] = line["boot_s"]
            deploy["ended"] = f"cut off in {name}"
    return list(found.values())
