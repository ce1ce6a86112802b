"""The z of a bundle: candidates are played, counted, not played twice, and the best one is what a bundle carries."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevla.bundle.reader import open_bundle
from edgevla.errors import BadInput
from edgevla.sim.lockstep import Episode
from examples.metaworld.mt import starts
from examples.metaworld.mt.episodes import practice
from examples.metaworld.mt.packed import packed
from examples.metaworld.mt.starts import Plan, play_starts, result_of, write_choice
from export.distill.start import bundle_noise
from export.evidence.outcomes import Row
from export.evidence.rollouts import PolicySpec
from export.structures.teacher import load_structure
from export.teachers.noise import drawn
from tests.examples.mt_desk import MT, Desk, in_this_process, write_desk

STARTS = ((0, 0.0), (3, 1.0))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return write_desk(tmp_path_factory.mktemp("starts"))


@pytest.fixture
def teacher(desk: Desk, tmp_path: Path) -> Path:
    """A copy that may be written to."""
    return Path(shutil.copytree(desk.teacher, tmp_path / "teacher"))


def _row(task: str, seed: int, won: bool, ticks: int) -> Row:
    return Row("teacher", Episode(task, seed, "words", False), won, ticks, 1, None, 0.1)


def test_most_successes_win_then_fewest_ticks() -> None:
    rows = {
        (0, 0.0): [_row("a", 0, True, 50), _row("b", 0, False, 500)],
        (1, 1.0): [_row("a", 0, True, 90), _row("b", 0, True, 90)],
        (2, 1.0): [_row("a", 0, True, 80), _row("b", 0, True, 90)],
    }
    found = result_of(rows)
    assert found["chosen"] == {"seed": 2, "scale": 1.0}
    first = {"seed": 0, "scale": 0.0, "policy": "teacher", "episodes": 2, "successes": 1, "ticks": 550}
    assert found["rows"][0] == {**first, "per_task": {"a": 1, "b": 0}}


def test_candidates_are_played_once_each_from_its_own_z(desk: Desk, tmp_path: Path, monkeypatch: Any) -> None:
    played = in_this_process(monkeypatch, 40)
    plan = Plan(practice(MT[:1], 1), STARTS)
    rows = play_starts(plan, desk.bundle, desk.teacher, tmp_path / "starts.parquet")
    assert [spec.noise for spec in played] == list(STARTS)
    assert [[row.episode.seed for row in own] for own in rows.values()] == [[9_200_000], [9_200_000]]
    again = play_starts(plan, desk.bundle, desk.teacher, tmp_path / "starts.parquet")
    assert (len(played), again) == (2, rows)


def test_a_teacher_answers_from_the_z_that_is_asked_for(desk: Desk) -> None:
    picture, state = np.full((128, 128, 3), 90, np.uint8), np.array([0.0, 0.6, 0.2, 1.0], np.float32)
    answers = []
    for noise in (None, *STARTS):
        policy = PolicySpec("teacher", desk.bundle, desk.teacher, noise=noise).open()
        policy.set_instruction(MT[0].train[0])
        answers.append(policy.infer(picture, state, np.zeros((0, 4), np.float32)))
    np.testing.assert_array_equal(answers[0], answers[1])  # nothing was chosen for this one: its bundle carries z = 0
    assert np.abs(answers[2] - answers[1]).max() > 1e-3


def test_the_choice_is_the_z_of_every_bundle_made_from_the_teacher(teacher: Path) -> None:
    before = load_structure(teacher)
    assert not bundle_noise(before, 7)[0].any()
    write_choice(teacher, result_of({(3, 1.0): [_row("a", 0, True, 50)]}))
    loaded = load_structure(teacher)
    assert loaded.noise == {"seed": 3, "scale": 1.0, "chosen_from": 1, "episodes_each": 1, "successes": 1}
    assert loaded.sha256 == before.sha256
    noise, others = bundle_noise(loaded, 7)
    np.testing.assert_array_equal(noise.numpy(), drawn((32, 4), 3, 1.0))
    assert others == 1.0
    loaded.save(teacher)
    assert load_structure(teacher).noise == loaded.noise


@pytest.mark.parametrize("noise", [{"seed": 3}, {"seed": -1, "scale": 1.0}, {"seed": 0, "scale": float("nan")}, "z"])
def test_a_choice_that_is_none_is_refused(teacher: Path, noise: Any) -> None:
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps({**config, "noise": noise}))
    with pytest.raises(BadInput, match="weights and sizes of one policy"):
        load_structure(teacher)


def test_the_command_packs_plays_writes_and_says_what_it_chose(
    desk: Desk, teacher: Path, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    in_this_process(monkeypatch, 40)
    monkeypatch.setattr(starts, "tasks", lambda which: MT[:1])
    monkeypatch.setattr(starts, "packed", lambda teacher, data, folder: desk.bundle)
    folders = ["--teacher", str(teacher), "--data", str(desk.teacher.parent / "data"), "--work", str(tmp_path / "w")]
    assert starts.main([*folders, "--per-task", "1", "-o", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "out" / "starts.json").read_text())
    assert (written["rows"], written["chosen"]) == (found["rows"], found["chosen"])
    assert starts.recounted(tmp_path / "out", written) == found
    assert len(found["rows"]) == 9
    assert load_structure(teacher).noise["seed"] == found["chosen"]["seed"]
    assert open_bundle(desk.bundle).noise is not None
    (tmp_path / "out" / "starts.json").write_text(json.dumps({**written, "host": {"name": "who played"}}))
    assert starts.main([*folders, "--per-task", "1", "-o", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads((tmp_path / "out" / "starts.json").read_text())["host"] == {"name": "who played"}


def test_a_bundle_of_weights_that_were_trained_anew_is_made_anew(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "policy.bundle").symlink_to(desk.bundle)
    assert packed(desk.teacher, desk.teacher.parent / "data", tmp_path) == tmp_path / "policy.bundle"
    assert open_bundle(tmp_path / "policy.bundle").sha256 == open_bundle(desk.bundle).sha256  # taken as it is


def test_folders_that_are_not_there_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert starts.main(["--teacher", str(tmp_path), "--data", str(tmp_path)]) == 4
    assert "--teacher" in capsys.readouterr().err
