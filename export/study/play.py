"""A trained policy, packed in int8 and played in the fixed-latency loop on the same fresh scenes as every other."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevla.bundle.reader import open_bundle
from edgevla.errors import BadInput, explain
from edgevla.sim import lockstep, metaworld
from edgevla.sim.lockstep import Episode
from edgevla.sim.metaworld import TASKS
from export.compress import compress
from export.data.ours import OurData
from export.evidence.rollouts import PolicySpec, play_all
from export.request import DIRECT, ArtifactAsk, Request, TeacherAsk
from export.shards import hash_of
from export.structures.teacher import WEIGHTS
from export.teachers.lerobot.weights import sha256_of

FRESH_SEED = 9_700_000  # of the episodes; training scenes are below 2,000,000
POLICY, BUNDLE, OF = "policy", "policy.bundle", "of.json"


def played(folder: Path, where: Path, data: OurData, pairs: int, seed: int, dark: float = 0.0) -> dict[str, Any]:
    """success, ticks and played_s of the policy that stands in `folder`; its bundle is made where it is not there yet.

    Args:
        folder: of the cell.
        where: the demonstrations, of which calibration and parity take frames.
        data: the same, opened.
        pairs: episodes in all.
        seed: of calibration.
        dark: share of black pictures.
    """
    bundle, started = folder / BUNDLE, time.monotonic()
    trained = hash_of(folder / POLICY / WEIGHTS)
    if bundle.is_dir() and open_bundle(bundle).manifest.teacher.sha256 != trained:
        shutil.rmtree(bundle)
    if not bundle.is_dir():
        compress(_request(folder, where, seed))
    known, recorded = data.demonstrations.meta["known_instructions"], set(data.demonstrations.tasks)
    asked = episodes(pairs, {task: known[task] for task in TASKS if task in recorded})
    outcomes = play_all(PolicySpec("int8", bundle, dark=dark), asked, workers=1)
    return {
        "simulator": simulator(),
        "success": [bool(outcome.success) for outcome in outcomes], "ticks": [outcome.ticks for outcome in outcomes],
        "played_s": time.monotonic() - started,
    }  # fmt: skip


def episodes(pairs: int, known: Mapping[str, str]) -> list[Episode]:
    """The same fresh scenes for every cell, as many of each task. known: task -> words of training."""
    each = -(-pairs // len(known))
    return [Episode(task, FRESH_SEED + i, words) for task, words in known.items() for i in range(each)]


def claim(folder: Path, of: Mapping[str, Any]) -> None:
    """Makes the folder of a cell, and writes down what is trained in it. Raises BadInput: of something else already."""
    path = folder / OF
    if path.is_file():
        found = read(path)
        for key, expected in of.items():
            if found.get(key) != expected:
                raise BadInput(explain(f"{key} of {folder}", expected, found.get(key), "pass another --work"))
        return
    folder.mkdir(parents=True, exist_ok=True)
    keep(path, of)


def result_of(folder: Path, pairs: int) -> Path:
    """The result of a cell's policy in so many episodes; one of another number stands beside it."""
    return folder / f"result-{pairs}.json"


def is_played(path: Path) -> bool:
    """Whether there is a result, and of this very simulator: two of different ones are no pair."""
    return path.is_file() and read(path).get("simulator") == simulator()


def simulator() -> str:
    """Hash of the sources that an episode follows from."""
    return sha256_of([Path(str(module.__file__)) for module in (metaworld, lockstep)])


def keep(path: Path, found: Mapping[str, Any]) -> None:
    """Writes a result, whole or not at all. Raises BadInput: it cannot be written."""
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(_lines(found))
        os.replace(part, path)
    except OSError as error:
        raise BadInput(
            explain(f"{path}", "a file that can be written", error, "free space, or choose another")
        ) from None


def read(path: Path) -> dict[str, Any]:
    """What `keep` wrote. Raises BadInput: it is not there, or not whole."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(explain(f"{path}", "what a cell wrote", error, "remove it; the cell is made again")) from None
    return found


def _lines(found: Mapping[str, Any]) -> str:
    """JSON, a line for each key and each entry of a list of tables: episodes are many, and lines are read."""
    told = []
    for key, value in found.items():
        many = isinstance(value, list) and value and isinstance(value[0], dict)
        inner = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]" if many else json.dumps(value)
        told.append(f" {json.dumps(key)}: {inner}")
    return "{\n" + ",\n".join(told) + "\n}\n"


def _request(folder: Path, data: Path, seed: int) -> Request:
    return Request(
        TeacherAsk(str(folder / POLICY)), str(data), folder / BUNDLE, folder / "work", "1s", seed, 1,
        mode=DIRECT, artifact=ArtifactAsk("dynamic-s8", smooth=False),
    )  # fmt: skip
