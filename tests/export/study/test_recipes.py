"""Recipes across robots: equal frames of the own robot, paired differences, and one cell the whole way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevla.errors import BadInput, Refused
from export import compress as steps
from export.distill.alone import alone
from export.structures.recipe import Recipe
from export.structures.train import FRAMES_A_STEP
from export.study import __main__ as structures
from export.study.play import is_played, keep, result_of, simulator
from export.study.pool import Job, run_all
from export.study.recipes import __main__ as study
from export.study.recipes.cell import run_cell
from export.study.recipes.cells import DEMONSTRATIONS, POST_TRAIN, PRE_TRAIN, RECIPES, Cell, cells, recipe_of
from export.study.recipes.report import conclusions, paired_interval, rows_of, table
from tests.export.tiny import write_counting_dataset
from tests.export.user_files import write_recording


def stages(recipe: str, few: int = 0) -> Recipe:
    return recipe_of(Cell(recipe, few, 3), {}, "own", "other", 1000)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_sees_as_many_frames_of_its_own_robot(recipe: str) -> None:
    found = stages(recipe, 10)
    assert sum(stage.frames for stage in found.stages if stage.data == "own") == 1000
    assert all(stage.demonstrations == (10 if stage.data == "own" else 0) for stage in found.stages)
    assert found.stages[-1].data == "own"
    assert found.stages[-1].beside == ()
    assert found.seed == 3


def test_the_other_robot_is_seen_as_much_beside_as_before() -> None:
    def others(recipe: str) -> int:
        return sum(s.frames for s in stages(recipe).stages if s.data == "other" or "other" in s.beside)

    assert others(PRE_TRAIN) == others(POST_TRAIN) == 500
    assert others("in-domain") == 0


def test_cells_come_seed_by_seed() -> None:
    found = cells(3)
    assert len({cell.name for cell in found}) == len(found) == 3 * len(RECIPES) * len(DEMONSTRATIONS)
    assert {cell.seed for cell in found[: len(RECIPES) * len(DEMONSTRATIONS)]} == {0}


def results(shares: dict[str, list[float]], few: int = 10, pairs: int = 200) -> list[dict[str, Any]]:
    return [
        {"cell": {"recipe": recipe, "demonstrations": few, "seed": seed},
         "success": (np.arange(pairs) < s * pairs).tolist()}
        for recipe, seeds in shares.items()
        for seed, s in enumerate(seeds)
    ]  # fmt: skip


def test_a_gain_is_called_one_only_where_its_interval_leaves_zero_out() -> None:
    rows = rows_of(results({"in-domain": [0.5] * 3, "pre-train": [0.5, 0.55, 0.45], "post-train": [0.8, 0.82, 0.81]}))
    assert [row["recipe"] for row in rows] == ["in-domain", "pre-train", "post-train"]
    assert "gain" not in rows[0]
    assert rows[2]["gain"] == pytest.approx(0.31)
    level, better = conclusions(rows)
    assert level.endswith("no difference is shown")
    assert better.endswith("better")
    assert "10 demonstrations a task" in better
    (worse,) = conclusions(rows_of(results({"in-domain": [0.9] * 3, "pre-train": [0.2] * 3})))
    assert worse.endswith("worse")


def test_one_seed_claims_nothing() -> None:
    (said,) = conclusions(rows_of(results({"in-domain": [0.1], "post-train": [0.9]})))
    assert "nothing is claimed" in said


def test_a_paired_interval_knows_that_the_episodes_are_the_same() -> None:
    rng = np.random.default_rng(0)
    base = rng.random((3, 300)) < 0.5
    low, high = paired_interval(base, base)
    assert (low, high) == (0.0, 0.0)
    better = base | (rng.random(base.shape) < 0.2)
    low, high = paired_interval(better, base)
    assert 0.0 < low < (better.mean() - base.mean()) < high


def test_the_table_has_a_dash_where_there_is_nothing_to_compare() -> None:
    shown = table(rows_of(results({"in-domain": [0.5] * 3, "post-train": [0.75] * 3}, few=0)))
    assert shown[0][1:] == ["all demonstrations", "50.0 %", shown[0][3], "-", "-", "3 x 200"]
    assert shown[1][4] == "+25.0"


def test_a_recipe_across_robots_is_trained_packed_played_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, frames in (("PARITY_FRAMES", 3), ("CALIBRATION_FRAMES", 2)):
        monkeypatch.setattr(steps, name, frames)
    own = write_counting_dataset(tmp_path / "own")
    other = write_recording(tmp_path / "other", {"front": (48, 64)}, 6, 6)
    cell = Cell(PRE_TRAIN, 10, 0)
    found = run_cell(cell, own, str(other), tmp_path / "work", frames=256, pairs=6, loud=False)
    assert len(found["success"]) == 6
    kept = result_of(tmp_path / "work" / cell.name, 6)
    before = kept.stat().st_mtime_ns
    again = run_cell(cell, own, str(other), tmp_path / "work", frames=256, pairs=6, loud=False)
    assert json.loads(json.dumps(found)) == again
    assert kept.stat().st_mtime_ns == before
    kept.write_text(kept.read_text()[:40])
    with pytest.raises(BadInput, match="made again"):
        run_cell(cell, own, str(other), tmp_path / "work", frames=256, pairs=6, loud=False)
    with pytest.raises(BadInput, match="pass another --work"):
        run_cell(cell, own, str(other), tmp_path / "work", frames=512, pairs=12, loud=False)


def test_every_recipe_takes_as_many_steps_on_its_own_robot() -> None:
    for frames in (128, 1280, 128_000):
        made = [recipe_of(Cell(recipe, 0, 0), {}, "own", "other", frames) for recipe in RECIPES]
        steps = [sum(s.frames // FRAMES_A_STEP for s in recipe.stages if s.data == "own") for recipe in made]
        assert set(steps) == {frames // FRAMES_A_STEP}


@pytest.mark.parametrize(
    ("option", "said"),
    [("--seeds 0", "--seeds"), ("--frames 100", "--frames"), ("--frames 200", "a multiple of 128"),
     ("--pairs 0", "--pairs"), ("--workers 0", "--workers")],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(tmp_path: Path, capsys: Any, option: str, said: str) -> None:
    own = str(write_counting_dataset(tmp_path / "own"))
    for command in (study.main, structures.main):
        with pytest.raises(SystemExit) as ended:
            command(["--data", own, *option.split()])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


def test_one_session_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    with alone(tmp_path / "work"), pytest.raises(Refused, match="another is at work"), alone(tmp_path / "work"):
        pass
    with alone(tmp_path / "work"):
        pass


def test_a_failing_cell_is_named_with_its_log_and_stops_no_other(tmp_path: Path) -> None:
    late = "import time; time.sleep(1.5); print('ended')"
    jobs = [
        Job(tmp_path / "good", ("-c", late)),
        Job(tmp_path / "bad", ("-c", "raise SystemExit('no data')")),
        Job(tmp_path / "after", ("-c", "print('ended')")),
    ]
    with pytest.raises(BadInput, match=r"cell bad\n(.|\n)*exit 1\n(.|\n)*bad/output\.log"):
        run_all(jobs, 2)
    assert "no data" in (tmp_path / "bad" / "output.log").read_text()
    assert all("ended" in (tmp_path / name / "output.log").read_text() for name in ("good", "after"))


def test_the_command_says_what_is_not_there(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        study.main(["--data", str(tmp_path)])
    assert ended.value.code == 4
    assert "dataset.json" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        study.main(["--data", str(write_counting_dataset(tmp_path / "own")), "--other", str(tmp_path / "none")])
    assert "examples.so101.demos" in capsys.readouterr().err


def test_a_result_of_another_simulator_is_played_again(tmp_path: Path) -> None:
    path = tmp_path / "result-120.json"
    assert not is_played(path)
    for told in ({}, {"simulator": "before"}):
        keep(path, told)
        assert not is_played(path)
    keep(path, {"simulator": simulator()})
    assert is_played(path)


@pytest.mark.parametrize("module", ["export.study.train", "export.study.recipes.cell"])
def test_a_cell_that_there_is_not_is_told_so(tmp_path: Path, module: str) -> None:
    sizes = ["--frames", "128", "--pairs", "1", "--data", str(tmp_path), "--work", str(tmp_path / "work")]
    more = ["--other", "there"] if "recipes" in module else []
    command = [sys.executable, "-m", module, "nothing-0", *sizes, *more]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "expected: " in done.stderr
    assert "Traceback" not in done.stderr
