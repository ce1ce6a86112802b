"""The second robot's demonstrations: its real simulator, a scripted expert, a LeRobot data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgevla.errors import BadInput
from examples.so101 import demos
from examples.so101.expert import Kinematics, targets
from examples.so101.scene import JOINTS, TASKS, So101
from export.data.load import open_dataset

LIFT, PLACE = TASKS[0], TASKS[-1]


@pytest.fixture(scope="module")
def lifting() -> So101:
    return So101(LIFT)


def test_the_expert_lifts_the_cube_in_most_scenes(lifting: So101) -> None:
    found = []
    for seed in range(6):
        lifting.reset(seed)
        for target in targets(lifting, np.random.default_rng(seed)):
            lifting.step(target)
        found.append(lifting.success)
    assert sum(found) >= 3


def test_a_solution_of_the_kinematics_is_where_it_was_asked(lifting: So101) -> None:
    lifting.reset(0)
    kinematics = Kinematics(lifting.model)
    place, turn = np.array([0.2, 0.05, 0.06]), 0.3
    joints = kinematics.solve(place, turn, lifting.position()[:5].astype(np.float64))
    assert joints is not None
    off_m, _, _ = kinematics._off(joints, place, turn)
    assert np.linalg.norm(off_m) < 0.004
    assert kinematics.solve(np.array([2.0, 0.0, 0.0]), 0.0, joints) is None  # out of reach


def test_the_same_seed_is_the_same_episode(lifting: So101) -> None:
    seed = next(s for s in range(20) if demos.record_episode(lifting, s) is not None)
    first, second = (demos.record_episode(lifting, seed) for _ in range(2))
    assert first is not None
    assert second is not None
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key])
    assert first["image"].shape[1:] == (96, 96, 3)
    assert first["image"].std() > 10  # something is to be seen
    assert first["state"].shape == first["action"].shape == (len(first["frame"]), len(JOINTS))


def test_a_data_set_is_written_that_training_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(demos, "TASKS", (LIFT, PLACE))
    demos.main(["-o", str(tmp_path / "so101"), "--episodes", "1", "--workers", "1"])
    assert "2 instructions" in capsys.readouterr().out
    data = open_dataset(tmp_path / "so101", tmp_path / "work", False)
    assert list(data.action_names) == list(JOINTS)
    assert data.period_s == pytest.approx(0.02)
    assert [data.instruction(int(t)) for t in np.unique(data.start)] == [LIFT.instruction, PLACE.instruction]
    assert not (tmp_path / "so101.shards").exists()
    assert demos.main(["-o", str(tmp_path / "so101"), "--episodes", "1"]) == BadInput.exit_code
    assert "not there yet" in capsys.readouterr().err


def test_shards_of_other_settings_are_not_mixed_in(tmp_path: Path) -> None:
    (tmp_path / "so101.shards").mkdir()
    (tmp_path / "so101.shards/asked.json").write_text('{"episodes": 3, "seed": 0}')
    with pytest.raises(BadInput, match="remove that folder"):
        demos.record(tmp_path / "so101", 5, 0, 1)
