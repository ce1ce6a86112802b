"""Demonstrations with pictures that nobody acted in: a student can be asked about both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgevla.errors import BadInput
from export.data.ours import OurData
from export.data.stills import Stills
from export.data.unlabelled import WithStills
from export.distill.opening import source_of
from tests.examples.mt_desk import SIDE, teacher_of, write_data

PICTURES = 5


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    data = write_data(tmp_path / "data")
    stills = tmp_path / "stills"
    stills.mkdir()
    rng = np.random.default_rng(3)
    task = "window-close-v3"
    np.savez(
        stills / "one.npz", image=rng.integers(256, size=(PICTURES, SIDE, SIDE, 3), dtype=np.uint8),
        state=rng.normal(size=(PICTURES, 4)).astype(np.float32), places=np.zeros((PICTURES, 9), np.float32),
    )  # fmt: skip
    meta = json.loads((data.folder / "dataset.json").read_text())
    kept = {key: meta[key] for key in ("camera", "vocabulary")} | {"instructions": {task: meta["instructions"][task]}}
    shards = [{"file": "one.npz", "task": task}]
    (stills / "dataset.json").write_text(json.dumps({"schema": "edgevla.stills/1", "shards": shards, **kept}))
    return data.folder, stills


def test_each_still_is_an_episode_of_one_tick_behind_the_demonstrations(folders: tuple[Path, Path]) -> None:
    alone, stills, both = OurData(folders[0]), Stills(folders[1]), WithStills(*folders)
    done = len(alone)
    assert len(both) == done + PICTURES == len(both.state) == len(both.episode)
    assert (both.end[done:] - both.start[done:]).tolist() == [1] * PICTURES
    assert np.array_equal(
        both.image([done + 2, 0], "table"), np.stack([stills.images([2])[0], alone.image([0], "table")[0]])
    )
    assert both.instruction(done) == alone.instructions[alone.instructions.index(stills.instructions[0])]
    assert not both.executed[done:, :3].any()
    assert len({both.sha256, alone.sha256, stills.sha256}) == 3


def test_a_teacher_is_asked_about_both(folders: tuple[Path, Path]) -> None:
    both = WithStills(*folders)
    teacher = teacher_of(both, "flow")
    rows = source_of(both, teacher).draw(200, 0, teacher.spec.horizon, teacher.spec.d_max)
    still = rows["tick"] >= len(both) - PICTURES
    assert 0 < still.sum() < 200
    assert (rows["valid"][still, :, 0].sum(1) == 1).all()
    assert source_of(both, teacher).pictures(rows["seen"])[0].shape == (200, SIDE, SIDE, 3)


def test_stills_of_other_tasks_are_refused(folders: tuple[Path, Path]) -> None:
    path = folders[1] / "dataset.json"
    meta = json.loads(path.read_text())
    meta["instructions"]["window-close-v3"]["train"] = ["fly away"]
    path.write_text(json.dumps(meta))
    with pytest.raises(BadInput, match="fly away"):
        WithStills(*folders)
