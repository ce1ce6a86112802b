"""A trained policy, packed in int8 and played in the fixed-latency loop on the same fresh scenes as every other."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, explain
from edgevla.sim.lockstep import Episode, Outcome
from edgevla.sim.metaworld import TASKS
from export.compress import compress
from export.data.ours import OurData
from export.evidence.rollouts import PolicySpec, play_all
from export.request import DIRECT, ArtifactAsk, Request, TeacherAsk

FRESH_SEED = 9_700_000  # of the episodes; training scenes are below 2,000,000
RESULT, POLICY, BUNDLE = "result.json", "policy", "policy.bundle"


def played(folder: Path, where: Path, data: OurData, pairs: int, seed: int, dark: float = 0.0) -> list[Outcome]:
    """Outcomes of the policy that stands in `folder`; its bundle is made where it is not there yet.

    Args:
        folder: of the cell.
        where: the demonstrations, of which calibration and parity take frames.
        data: the same, opened.
        pairs: episodes in all.
        seed: of calibration.
        dark: share of black pictures.
    """
    bundle = folder / BUNDLE
    if not bundle.is_dir():
        compress(_request(folder, where, seed))
    known, recorded = data.demonstrations.meta["known_instructions"], set(data.demonstrations.tasks)
    asked = episodes(pairs, {task: known[task] for task in TASKS if task in recorded})
    return play_all(PolicySpec("int8", bundle, dark=dark), asked, workers=1)


def episodes(pairs: int, known: Mapping[str, str]) -> list[Episode]:
    """The same fresh scenes for every cell, as many of each task. known: task -> words of training."""
    each = -(-pairs // len(known))
    return [Episode(task, FRESH_SEED + i, words) for task, words in known.items() for i in range(each)]


def identity(frames: int, pairs: int, data: OurData) -> dict[str, Any]:
    """What results of one study have in common."""
    return {"frames": frames, "asked": pairs, "data": data.sha256}


def keep(path: Path, found: Mapping[str, Any]) -> None:
    """Writes a result, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(_lines(found))
    os.replace(part, path)


def _lines(found: Mapping[str, Any]) -> str:
    """JSON, a line for each key and each entry of a list of tables: episodes are many, and lines are read."""
    told = []
    for key, value in found.items():
        many = isinstance(value, list) and value and isinstance(value[0], dict)
        inner = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]" if many else json.dumps(value)
        told.append(f" {json.dumps(key)}: {inner}")
    return "{\n" + ",\n".join(told) + "\n}\n"


def kept(folder: Path, same: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result that stands in the folder, if there is one of as many episodes: a trained policy is played again.

    Raises BadInput: it is of another training than `same`.
    """
    if not (folder / RESULT).is_file():
        return None
    found: dict[str, Any] = json.loads((folder / RESULT).read_text())
    if found.get("asked") != same["asked"]:
        return None
    for key, expected in same.items():
        if found.get(key) != expected:
            raise BadInput(explain(f"{key} of {folder}", expected, found.get(key), "pass another --work"))
    return found


def _request(folder: Path, data: Path, seed: int) -> Request:
    return Request(
        TeacherAsk(str(folder / POLICY)), str(data), folder / BUNDLE, folder / "work", "1s", seed, 1,
        mode=DIRECT, artifact=ArtifactAsk("dynamic-s8", smooth=False),
    )  # fmt: skip
