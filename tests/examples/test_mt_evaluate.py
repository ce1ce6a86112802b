"""The policy of many tasks judged: a tiny one is played for real, and every figure computed again from outcomes."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgevla.bundle.reader import open_bundle
from edgevla.errors import BadInput
from edgevla.policy.engine import PolicyEngine
from edgevla.sim.lockstep import Episode
from examples.metaworld.mt import evaluate as judging
from examples.metaworld.mt import gallery, realtime, robustness
from examples.metaworld.mt.disturb import Disturbed
from examples.metaworld.mt.episodes import FRESH_SEED, fresh, half_way
from examples.metaworld.mt.evaluate import OUTCOMES, RESULT, Plan, evaluate, first_scenes, recounted, successes
from examples.metaworld.mt.robustness import Curve
from examples.metaworld.mt.tasks import tasks
from examples.metaworld.publish_student import publish
from export.evidence.outcomes import Row, read_rows, write_rows
from export.evidence.paired import Design
from export.evidence.rollouts import PolicySpec, loop_of
from tests.examples.mt_desk import MT, Desk, in_this_process, write_desk

SMALL = Plan(MT, Design(0.02, 0.05, (2, 4)), published_per_task=1, half_way_per_instruction=1)
CURVES = (
    Curve("light", "times", (0.5, 1.0), neutral=1.0),
    Curve("delay", "ticks more", (0, 6)),
    Curve("words added", "known words", (0, 2)),
    Curve("unknown words", "words", (0, 1)),
)
FEW = robustness.Plan(MT, 1, CURVES)
TICKS = 20


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return write_desk(tmp_path_factory.mktemp("mt"))


@pytest.fixture(scope="module")
def judged(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with outcomes, and evaluation.json as it was made from them."""
    out = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        in_this_process(patch, TICKS)
        patch.setattr(judging, "ROUNDS", 5)
        found = evaluate(SMALL, "mt10", desk.bundle, desk.teacher, out)
    (out / RESULT).write_text(json.dumps(found))
    return out, found


# --- episodes ---


def test_scenes_are_fresh_and_sentences_held_out_as_many_of_each_task():
    for which, count in (("mt10", 10), ("mt50", 50)):
        episodes = fresh(which, 4)
        assert len(set(episodes)) == len(episodes) == 4 * count
        said = {task.name: task.held_out for task in tasks(which)}
        assert all(one.instruction in said[one.task] and one.seed >= FRESH_SEED for one in episodes)
    assert [one.seed for one in fresh(MT, 2, first=5)] == 2 * [9_000_005, 9_000_006]


def test_both_instructions_start_from_the_same_half_way_scenes():
    episodes = half_way(3)
    assert {one.task for one in episodes} == {
        "drawer-open-v3", "drawer-close-v3", "window-open-v3", "window-close-v3",
    }  # fmt: skip
    assert {one.seed for one in episodes} == {9_500_000, 9_500_001, 9_500_002}
    assert all(one.half_way for one in episodes)


# --- evaluation ---


def test_the_declared_looks_are_whole_scenes_of_every_task():
    for which in ("mt10", "mt50"):
        plan = Plan(tasks(which))
        for pairs in plan.design.looks:
            assert len(plan.pairs(pairs)) == pairs
    assert (plan.design.margin, plan.design.alpha) == (0.02, 0.05)


def test_the_result_says_everything_that_was_asked_for(judged, desk):
    found = judged[1]
    assert found["schema"] == "edgevla.mt/2"
    episodes = {name: told["episodes"] for name, told in found["success"].items()}
    pairs = found["sequential"]["paired"]["pairs"]
    assert pairs in SMALL.design.looks
    assert episodes == {
        "teacher_fresh": pairs, "teacher_fresh_10": 2, "teacher": pairs, "student_fp32": pairs, "int8": pairs,
        "int8_10": 2,
    }  # fmt: skip
    steps = ["teacher_fresh", "teacher", "student_fp32", "int8"]
    assert [(one["reference_policy"], one["policy"]) for one in found["steps"]] == list(pairwise(steps))
    assert {one["pairs"] for one in found["steps"]} == {pairs}
    assert set(found["success"]["int8"]["per_task"]) == {task.name for task in MT}
    assert found["bundle"]["bytes"] == sum(file.stat().st_size for file in (desk.bundle / "model").iterdir())
    assert found["teacher"]["bytes"] == (desk.teacher / "model.safetensors").stat().st_size
    assert found["latency"]["p50_ms"] <= found["latency"]["p99_ms"]
    assert found["latency"]["budget_L_ms"] == 25.0
    assert {row["model"] for row in found["halfway"]} == {"teacher", "int8"}


def test_what_was_written_is_counted_again_from_the_outcomes_alone(judged):
    out, found = judged
    again = recounted(out, SMALL)
    assert again == {key: found[key] for key in again}
    assert set(again) == {"success", "sequential", "steps", "halfway", "policies"}


def test_one_changed_outcome_changes_the_recount(judged, tmp_path):
    out, found = judged
    for path in (out / OUTCOMES).iterdir():
        write_rows(tmp_path / OUTCOMES / path.name, read_rows(path))
    path = tmp_path / OUTCOMES / "int8.parquet"
    first, *rest = read_rows(path)
    write_rows(path, [replace(first, success=not first.success), *rest])
    again = recounted(tmp_path, SMALL)
    assert again["success"]["int8"] != found["success"]["int8"]
    assert again["sequential"]["paired"] != found["sequential"]["paired"]
    assert again["success"]["teacher"] == found["success"]["teacher"]
    path.unlink()
    with pytest.raises(BadInput, match=r"int8\.parquet"):
        recounted(tmp_path, SMALL)


def test_nothing_is_played_twice(judged, desk, monkeypatch):
    out, found = judged
    played = in_this_process(monkeypatch, TICKS)
    monkeypatch.setattr(judging, "ROUNDS", 5)
    (out / judging.RESULT).write_text(json.dumps({**found, "host": {"cpu": "the one that played"}}))
    again = evaluate(SMALL, "mt10", desk.bundle, desk.teacher, out)
    assert played == []
    assert again["success"] == found["success"]
    assert again["host"] == {"cpu": "the one that played"}  # and not the one that only counted


def test_a_bundle_without_its_float_graphs_is_judged_without_them(judged, desk, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(judging, "ROUNDS", 5)
    in_this_process(monkeypatch, TICKS)
    publish(open_bundle(desk.bundle), tmp_path / "small.bundle")
    found = evaluate(SMALL, "mt10", tmp_path / "small.bundle", desk.teacher, tmp_path / "out")
    assert "student-fp32: not played" in capsys.readouterr().out
    assert "student_fp32" not in found["success"]
    assert [one["policy"] for one in found["steps"]] == ["teacher", "int8"]
    assert found["success"]["int8"] == judged[1]["success"]["int8"]
    assert recounted(tmp_path / "out", SMALL)["success"] == found["success"]


def test_a_teacher_that_the_bundle_was_not_made_from_is_refused(desk, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"other")
    with pytest.raises(BadInput, match=r"teacher of tiny\.bundle"):
        evaluate(SMALL, "mt10", desk.bundle, tmp_path, tmp_path)


@pytest.mark.parametrize("text", [None, '{"schema": ', "[]", "{}"])
def test_a_teacher_without_its_config_is_refused_before_anything_is_played(desk, tmp_path, text):
    shutil.copy(desk.teacher / "model.safetensors", tmp_path)
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadInput, match=r"config\.json"):
        evaluate(SMALL, "mt10", desk.bundle, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_student_of_another_bundle_is_not_counted_as_this_one_s(judged, desk, tmp_path, monkeypatch, capsys):
    """Rows in FP32 lie there, of a student that was judged before in the same folder."""
    monkeypatch.setattr(judging, "ROUNDS", 5)
    in_this_process(monkeypatch, TICKS)
    publish(open_bundle(desk.bundle), tmp_path / "small.bundle")
    for path in (judged[0] / OUTCOMES).iterdir():
        write_rows(tmp_path / "out" / OUTCOMES / path.name, read_rows(path))
    path = tmp_path / "out" / OUTCOMES / f"{judging.FLOAT}.parquet"
    write_rows(path, [replace(row, policy="fp32 other", success=False) for row in read_rows(path)])
    found = evaluate(SMALL, "mt10", tmp_path / "small.bundle", desk.teacher, tmp_path / "out")
    assert "student_fp32" not in found["success"]
    assert [one["policy"] for one in found["steps"]] == ["teacher", "int8"]


def test_counting_again_says_whether_the_figures_were_the_same(judged, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(judging, "Plan", lambda tasks: SMALL)
    for path in (judged[0] / OUTCOMES).iterdir():
        write_rows(tmp_path / OUTCOMES / path.name, read_rows(path))
    told = json.loads(json.dumps(judged[1]))
    for what, says in (
        (told, "the same figures as before"),
        ({**told, "success": {}, "steps": []}, "differed in success, steps"),
    ):
        (tmp_path / judging.RESULT).write_text(json.dumps(what))
        assert judging.main(["--recount", "-o", str(tmp_path)]) == 0
        assert says in capsys.readouterr().out
        assert json.loads((tmp_path / judging.RESULT).read_text()) == told
    (tmp_path / judging.RESULT).write_text(json.dumps({**told, "policies": {**told["policies"], "int8": "int8 other"}}))
    assert judging.main(["--recount", "-o", str(tmp_path)]) == BadInput.exit_code
    assert "int8 other" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[]", "{}", "no"])
def test_a_result_of_another_shape_is_refused(judged, tmp_path, text, capsys):
    (tmp_path / judging.RESULT).write_text(text)
    assert judging.main(["--recount", "-o", str(tmp_path)]) == BadInput.exit_code
    assert "evaluation.json" in capsys.readouterr().err
    assert (tmp_path / judging.RESULT).read_text() == text


def test_a_place_that_cannot_be_written_is_said_before_anything_is_played(desk, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    told = ["--bundle", str(desk.bundle), "--teacher", str(desk.teacher), "-o"]
    for where in (tmp_path / "file", tmp_path / "file" / "out"):
        for command in (judging, robustness):
            assert command.main([*told, str(where)]) == BadInput.exit_code
            assert "-o" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_looking_ends_at_the_first_crossing_and_every_task_counts_alike():
    rows = [Row("p", Episode(task.name, FRESH_SEED + i, "do"), i > 0, 9, 2, 0.0) for task in MT for i in range(4)]
    told = successes([*rows[:4], *rows[4:6]], MT)
    assert told["mean"] == pytest.approx(4 / 6)
    assert told["per_task"] == {"drawer-open-v3": 0.75, "window-close-v3": 0.5}
    assert told["by_difficulty"] == {"easy": 0.625}
    assert len(first_scenes(rows, 2)) == 4

    class Told:
        """Both policies always succeed."""

        def play(self, name: str, spec: PolicySpec, episodes: list[Episode]) -> list[Row]:
            return [Row(name, episode, True, 9, 2, 0.0) for episode in episodes]

    plan = Plan(MT)
    _, candidate, verdict = judging.sequential(Told(), plan, judging.Specs())  # type: ignore[arg-type]
    assert verdict["decision"] == "non-inferior"
    assert len(verdict["looks"]) < len(plan.design.looks)
    assert len(candidate) == verdict["looks"][-1]["pairs"]


@pytest.mark.parametrize("module", [judging, robustness, realtime, gallery])
def test_a_command_names_what_is_missing_and_shows_an_example(module, capsys, tmp_path):
    assert module.main(["-o", str(tmp_path)]) == 2
    assert "--bundle" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0
    assert "python -m examples.metaworld.mt." in capsys.readouterr().out


@pytest.mark.parametrize("module", [judging, robustness])
def test_a_recount_of_nothing_is_refused(module, capsys, tmp_path):
    assert module.main(["--recount", "-o", str(tmp_path)]) == 4
    assert "let the command run first" in capsys.readouterr().err


# --- robustness ---


def test_curves_are_played_and_counted_again_and_refused_words_are_told(desk, tmp_path, monkeypatch):
    played = in_this_process(monkeypatch, TICKS)
    found = robustness.robustness(FEW, "mt10", desk.bundle, desk.teacher, tmp_path)
    names = {spec.disturbance.name for spec in played if spec.disturbance}
    assert names == {"light 0.5", "delay 6"}
    curves = {curve["name"]: curve["points"] for curve in found["curves"]}
    assert [point["level"] for point in curves["light"]] == [0.5, 1.0]
    assert curves["unknown words"][1] == {"level": 1, "teacher": 0.0, "int8": 0.0, "episodes": 2, "refused": 2}
    assert robustness.recounted(tmp_path, FEW) == {key: found[key] for key in ("scenes_per_task", "policies", "curves")}
    played.clear()
    robustness.robustness(FEW, "mt10", desk.bundle, desk.teacher, tmp_path)
    assert played == []


def test_a_disturbance_stands_in_the_name_of_the_policy(desk):
    plain = PolicySpec("int8", desk.bundle)
    spec = replace(plain, disturbance=Disturbed("light", 0.4))
    assert spec.identity() == f"{plain.identity()}, light 0.4"


def test_every_level_of_every_curve_is_told_apart():
    for curve in robustness.CURVES:
        assert curve.neutral in curve.levels
        names = [one.name for level in curve.levels if (one := curve.disturbance(level))]
        assert len(set(names)) == len(names)


# --- by the clock ---

# Stands in for `edgevla run`: succeeds in every second scene.
RECORD = {
    "success_tick": 90, "stop_reason": "task succeeded", "exit_code": 0, "stolen_s": 0.0,
    "real_time": {"missing": []}, "chunks": {"release_misses": 1},
    "loop": {"ticks": 90, "late_commands": 0, "expired_commands": 0, "misses": 2},
}  # fmt: skip


class Clock:
    """Writes a record as `edgevla run` does; the third run is late, and one with a late success counts as none."""

    def __init__(self) -> None:
        self.runs: list[Episode] = []

    def __call__(self, bundle: Path, episode: Episode, record: Path) -> None:
        self.runs.append(episode)
        number = len(self.runs)
        loop = {**RECORD["loop"], "late_commands": int(number == 3)}
        record.mkdir(parents=True)
        told = {**RECORD, "loop": loop, "success_tick": 501 if number == 2 else 90}
        (record / "run.json").write_text(json.dumps(told))


@pytest.fixture
def flights(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.zeros(4, [("phase", "u1"), ("wake_ns", "i8"), ("deadline_ns", "i8")])
    rows["phase"], rows["wake_ns"] = sorted(realtime.MOVABLE)[0], [10_000, 20_000, 30_000, 90_000]
    monkeypatch.setattr(realtime, "read_record", lambda path: type("R", (), {"ticks": rows}))


def test_runs_by_the_clock_are_kept_counted_and_not_made_twice(judged, desk, tmp_path, flights):
    rows = read_rows(judged[0] / OUTCOMES / "int8.parquet")
    write_rows(tmp_path / OUTCOMES / "int8.parquet", [replace(row, success=True) for row in rows])
    plan, clock = realtime.Plan(MT, 1), Clock()
    with pytest.MonkeyPatch.context() as patch:
        in_this_process(patch, TICKS)
        found = realtime.realtime(plan, "mt10", desk.bundle, tmp_path, clock)
    assert [run["success"] for run in found["runs"]] == [True, False]  # after tick 500 is too late
    assert (found["paired"]["both"], found["paired"]["only_reference"]) == (1, 1)
    assert found["paired"]["loss_low95"] < 0.5 < found["paired"]["loss_high95"]
    assert (found["late_commands"], found["misses"], found["release_misses"]) == (0, 4, 2)
    assert found["wake_p99_us"] == 90
    assert found["per_task"] == {"drawer-open-v3": 1.0, "window-close-v3": 0.0}
    (tmp_path / realtime.RESULT).write_text(json.dumps(found))
    assert realtime.recounted(tmp_path) == {key: found[key] for key in realtime.recounted(tmp_path)}
    more = realtime.realtime(replace(plan, scenes_per_task=2), "mt10", desk.bundle, tmp_path, clock)
    assert len(clock.runs) == 4
    assert (more["late_commands"], more["runs_with_late_commands"], more["episodes"]) == (1, 1, 4)


def test_runs_of_another_bundle_are_not_taken_for_this_one_s(judged, desk, tmp_path, flights, capsys, monkeypatch):
    in_this_process(monkeypatch, TICKS)
    write_rows(tmp_path / OUTCOMES / "int8.parquet", read_rows(judged[0] / OUTCOMES / "int8.parquet"))
    (tmp_path / realtime.RESULT).write_text(json.dumps({"policy": "int8 other", "runs": []}))
    realtime.realtime(realtime.Plan(MT, 1), "mt10", desk.bundle, tmp_path, Clock())
    assert "int8 other: it is realtime-other.json now" in capsys.readouterr().out
    assert json.loads((tmp_path / "realtime-other.json").read_text()) == {"policy": "int8 other", "runs": []}
    assert len(json.loads((tmp_path / realtime.RESULT).read_text())["runs"]) == len(MT)


def test_a_run_without_a_record_says_what_the_command_said(monkeypatch, tmp_path):
    (tmp_path / "edgevla").write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no such port')\n")
    (tmp_path / "edgevla").chmod(0o755)
    monkeypatch.setattr(realtime.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(realtime.DeviceFault, match="no such port"):
        realtime.edgevla_run(tmp_path, Episode("drawer-open-v3", 1, "open the drawer"), tmp_path / "run")


# --- gallery ---


def test_a_picture_of_every_task_is_small_and_says_how_its_first_scene_ended(desk, tmp_path, monkeypatch):
    whole = loop_of(desk.bundle)
    monkeypatch.setattr(gallery, "loop_of", lambda bundle: replace(whole, max_ticks=TICKS))
    found = gallery.gallery(fresh(MT, 1), desk.bundle, tmp_path)
    (first, second) = found["episodes"]
    assert (first["file"], first["seed"]) == ("drawer-open.gif", FRESH_SEED)
    assert second["caption"] == f'"{second["instruction"]}": no success in {TICKS} ticks'
    for entry in found["episodes"]:
        with Image.open(tmp_path / entry["file"]) as picture:
            assert picture.size == (160, 160)
            assert picture.n_frames >= 2
        assert (tmp_path / entry["file"]).stat().st_size <= gallery.MOST_BYTES


def test_the_pictures_show_the_very_episode_that_was_played(desk):
    loop = replace(loop_of(desk.bundle), max_ticks=8)
    film = gallery.filmed(PolicyEngine(gallery.open_bundle(desk.bundle)), fresh(MT, 1)[0], loop)
    assert len(film.pictures) == 3  # ticks 0, 4 and 8
    assert (film.pictures[0] != film.pictures[2]).any()


def test_a_long_film_is_made_smaller_until_it_fits():
    dice = np.random.default_rng(0)
    noise = [np.repeat(np.repeat(dice.integers(0, 255, (40, 40, 3), np.uint8), 4, 0), 4, 1) for _ in range(60)]
    assert len(gallery.animated(noise, 0.0125)) <= gallery.MOST_BYTES
