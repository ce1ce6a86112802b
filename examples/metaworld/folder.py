"""A folder of recorded shards: nothing is ever put beside shards of other options.

plan.json       what decides the content: written before the first shard, compared when the command comes again
NAME.npz        shards, each written whole or not at all
dataset.json    the plan and more, written last
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from bench.files import write_json
from edgevla.errors import BadInput, explain

PLAN, DATASET = "plan.json", "dataset.json"
_ANEW = "pass another -o, or remove it to begin anew"


def claim(out: Path, plan: Mapping[str, Any]) -> None:
    """Makes the folder, and keeps the plan in it.

    Args:
        out: new, or of an earlier call. What was finished before there were plans is known by its dataset.json.
        plan: entries of the dataset.json that is to be, all that decide the content of the shards.

    Raises:
        BadInput: it cannot be written to, or its shards are of another plan, or nobody knows of which.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        _require_same(out, json.loads(json.dumps(plan)))
    except OSError as error:
        raise BadInput(explain(f"{out}", "a folder to write to", error, "pass another -o")) from None
    write_json(out / PLAN, plan)


def finish(out: Path, dataset: Mapping[str, Any]) -> None:
    """Writes dataset.json, after all shards. Raises BadInput: it cannot be written."""
    write_json(out / DATASET, dataset)


def _require_same(out: Path, plan: dict[str, Any]) -> None:
    """Raises BadInput, OSError."""
    told = next((path for path in (out / PLAN, out / DATASET) if path.exists()), None)
    if told is None:
        if any(not path.name.startswith(".") for path in out.glob("*.npz")):
            raise BadInput(explain(f"{out}", f"a {PLAN} beside its shards", "none: of which options are they?", _ANEW))
        return
    found = _read(told)
    differing = [_first(key, asked, found.get(key)) for key, asked in plan.items() if asked != found.get(key)]
    if differing:
        expected = ", ".join(f"{name} {json.dumps(asked)}" for name, asked, _ in differing)
        got = ", ".join(f"{name} {json.dumps(there)}" for name, _, there in differing)
        raise BadInput(explain(f"{out}", f"shards of {expected}", got, _ANEW))


def _read(path: Path) -> dict[str, Any]:
    """Raises BadInput, OSError."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise BadInput(explain(f"{path}", "JSON", error, _ANEW)) from None
    if not isinstance(found, dict):
        raise BadInput(explain(f"{path}", "a table", f"{found}"[:100], _ANEW))
    return found


def _first(name: str, one: Any, other: Any) -> tuple[str, Any, Any]:
    """Name and both values of the first thing that differs in two that do."""
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = [(f"{name} {key}", one.get(key), other.get(key)) for key in {**one, **other}]
    elif isinstance(one, list) and isinstance(other, list):
        pairs = [(name, mine, yours) for mine, yours in zip_longest(one, other)]
    else:
        return name, one, other
    return next(_first(*pair) for pair in pairs if pair[1] != pair[2])
