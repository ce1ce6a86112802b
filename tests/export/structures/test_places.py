"""The lesson of places: pictures without actions teach where things are, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from edgevla.errors import BadInput
from export.data.stills import Stills
from export.structures.config import StructureConfig
from export.structures.families.ours import Ours, OwnModel, OwnSizes
from export.structures.lessons import StillLessons, spec_of
from export.structures.objective import StructureObjective
from export.structures.pictures import shown
from export.structures.places import Places, mixed
from export.structures.policy import StructurePolicy
from export.structures.recipe import read_recipe
from export.structures.teacher import StructureTeacher
from export.structures.train import main
from export.teachers.load import load_policy
from tests.export.structures.test_train import RECIPE, written
from tests.export.user_files import write_recording

ROOT = Path(__file__).parents[3]
SIDE, SQUARE = 32, 3  # pixels
CONV = RECIPE.replace('family = "ours"', 'family = "ours"\nstem = "conv"').replace("window = 2", "window = 1")


def scenes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Dark pictures with a small bright square, and where it is in metres (a centimetre a pixel); no second object."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(SIDE - SQUARE, size=(count, 2))
    image = np.full((count, SIDE, SIDE, 3), 40, np.uint8)
    for picture, (row, column) in zip(image, corner, strict=True):
        picture[row : row + SQUARE, column : column + SQUARE] = 220
    places = np.full((count, 6), np.nan, np.float32)
    places[:, :2] = corner * 0.01
    places[:, 2] = 0.5
    return image, places


def write_stills(folder: Path, count: int = 600, seed: int = 0) -> Stills:
    folder.mkdir(parents=True)
    image, places = scenes(count, seed)
    state = np.zeros((count, 4), np.float32)
    np.savez(folder / "one.npz", image=image, state=state, places=places)
    meta = {
        "schema": "edgevla.stills/1", "camera": {"name": "front", "height": SIDE, "width": SIDE},
        "shards": [{"file": "one.npz", "task": "square"}],
        "instructions": {"square": {"train": ["move the arm"], "held_out": []}}, "vocabulary": ["arm", "move", "the"],
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(meta))
    return Stills(folder)


def conv_policy() -> StructurePolicy:
    backbone = Ours(OwnModel(OwnSizes(8, (SIDE, SIDE), 16, 32, 2, 1, stem="conv")), (SIDE, SIDE))
    return StructurePolicy(StructureConfig("one-step", "flow", 1, 2, 1, 4, 4, 8, 2, width=32, heads=2), backbone)


class FourJoints:
    """What `spec_of` reads of a data set."""

    state = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    action = state
    state_names = action_names = ("a", "b", "c", "d")

    class _Front:
        name, height, width = "front", SIDE, SIDE

    cameras = (_Front,)


def test_a_small_square_is_found_within_two_pixels_after_200_steps(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    policy, stills = conv_policy(), write_stills(tmp_path / "stills")
    spec = spec_of(FourJoints(), "structure", (SIDE, SIDE), 8, 2, 6, 1, 2)
    teacher = StructureTeacher(policy, spec, ("arm", "move", "the"))
    lessons = StillLessons(stills, spec, teacher.tokenize, 32, [0, 0], light=0.1)
    policy.backbone.model.stem.whiten(shown(lessons.drawn())["image"].flatten(0, 2))
    places = Places(stills.places, policy.config.width, 1.0)
    objective = StructureObjective(policy, torch.Generator().manual_seed(0), places)
    optimiser = torch.optim.AdamW(objective.parameters(), 2e-3)
    unseen = StillLessons(write_stills(tmp_path / "fresh", 200, 1), spec, teacher.tokenize, 200, [1, 0])
    fresh = shown(unseen.drawn())

    def error_m() -> float:
        with torch.no_grad():
            words = policy.backbone.hear(fresh["tokens"])
            context = policy.contexts(fresh["image"], words, fresh["token_mask"], fresh["state"])
        return places.error_m(context, fresh["places"])

    before = error_m()
    for _ in range(200):
        optimiser.zero_grad()
        objective(shown(lessons.drawn())).backward()
        optimiser.step()
    assert before > 0.05
    assert error_m() < 0.02  # two pixels; a patch is sixteen


def test_pictures_without_actions_count_for_places_alone(tmp_path: Path) -> None:
    policy, stills = conv_policy(), write_stills(tmp_path / "stills", 40)
    spec = spec_of(FourJoints(), "structure", (SIDE, SIDE), 8, 2, 6, 1, 2)
    teacher = StructureTeacher(policy, spec, ("arm", "move", "the"))
    still = shown(StillLessons(stills, spec, teacher.tokenize, 6, [0, 0]).drawn())
    rows = {key: value[:3].clone() for key, value in still.items()}
    rows |= {"actions": torch.randn(3, 1, 8, 4), "valid": torch.ones(3, 1, 8, 1)}

    def loss(batch: dict[str, torch.Tensor]) -> float:
        return StructureObjective(policy, torch.Generator().manual_seed(5))(batch).item()

    both = mixed(rows, still)
    assert {key: len(value) for key, value in both.items()} == dict.fromkeys(rows, 9)
    assert loss(still) == 0.0
    assert loss(rows) > 0.0
    assert not both["valid"][3:].any()


def test_what_is_not_there_is_no_lesson() -> None:
    recorded = np.array([[1.0, np.nan], [3.0, np.nan]], np.float32)
    places = Places(recorded, 4, 1.0)
    context = torch.randn(2, 1, 1, 4)
    some, more = torch.tensor([[[1.0, np.nan]], [[3.0, np.nan]]]), torch.tensor([[[1.0, 7.0]], [[3.0, np.nan]]])
    assert torch.isfinite(places(context, some))
    assert places(context, some) != places(context, more)
    assert float(places(context, torch.full((2, 1, 2), np.nan))) == 0.0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('stills = "DATA"\nstills_share = 0.2', "places"),
        ('places = 0.5\nstills = "DATA"\nstills_share = 1.5', "stills_share"),
        ("light = 2.0", "light"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_recipe(written(tmp_path, tmp_path, CONV + line + "\n"))


def test_stills_have_no_moments_before_them(tmp_path: Path) -> None:
    text = RECIPE + 'places = 0.5\nstills = "DATA"\nstills_share = 0.2\n'
    with pytest.raises(BadInput, match="window 2"):
        read_recipe(written(tmp_path, tmp_path, text))


def test_conv_needs_the_patch_that_it_makes(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="conv with patch = 16 or 32"):
        read_recipe(written(tmp_path, tmp_path, CONV.replace("picture = [32, 32]", "picture = [32, 32]\npatch = 8")))


def test_data_without_places_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_recording(tmp_path / "data", {"front": (SIDE, SIDE)}, 3, 2)
    with pytest.raises(SystemExit):
        main([str(written(tmp_path, tmp_path, CONV + "places = 0.5\n")), "-o", str(tmp_path / "out")])
    assert "lesson of places" in capsys.readouterr().err


def test_two_processes_train_one_policy(tmp_path: Path) -> None:
    write_recording(tmp_path / "data", {"front": (SIDE, SIDE)}, 3, 2)
    recipe = written(tmp_path, tmp_path, CONV)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, "-m", "export.structures.train", str(recipe), "-o", str(tmp_path / "out"), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.strip().splitlines()[-1])["parameters"]
    assert load_policy(tmp_path / "out").policy.backbone.model.sizes.stem == "conv"
