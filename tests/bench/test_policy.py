"""docs/policy.md, its curves and policy.json: from results that were invented for this test, and marked so."""

import hashlib
import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench import readme
from bench.policy import curves
from bench.policy.block import PUBLISHED, Measured, policy_of_many_tasks
from bench.readme import BEGIN, BLOCKS, END
from bench.summaries import policy_summary, write_summaries
from bench.verify import subjects
from edgevla.bundle.reader import open_bundle
from export.evidence.paired import Design, PairCounts, compare_counts, sequential_verdict
from tests.bench.browser import Browser, chromium

ROOT = Path(__file__).parents[2]
HOST = {"cpu": "a CPU that does not exist", "cores_usable": 1}
TASKS = {"reach-v3": 0.98, "push-v3": 0.9, "peg-insert-side-v3": 0.84}
POLICIES = ("teacher_fresh", "teacher_fresh_10", "teacher", "student_fp32", "int8", "int8_10")
COUNTS = [PairCounts(440, 25, 25, 10), PairCounts(955, 15, 20, 10)]


def success(mean):
    return {
        "mean": mean, "per_task": TASKS, "episodes": 150,
        "by_difficulty": {"easy": 0.98, "medium": 0.84, "hard": 0.9},
    }  # fmt: skip


def evaluation():
    """Invented."""
    verdict = sequential_verdict(Design(margin=0.02, alpha=0.05, looks=(500, 1000, 2500)), COUNTS).as_dict()
    return {
        "schema": "edgevla.mt/2", "set": "mt10", "host": HOST, "synthetic": True,
        "bundle": {
            "bytes": 9_100_000, "parameters": 8_200_000, "int8_parameters": 7_000_000, "float_parameters": 1_200_000,
        },
        "teacher": {"bytes": 29_000_000, "parameters": 7_250_000},
        "success": {name: success(0.9067) for name in POLICIES},
        "sequential": {**verdict, "paired": compare_counts(COUNTS[-1]).as_dict()},
        "steps": [
            {"reference_policy": "teacher", "policy": "student_fp32", **compare_counts(COUNTS[-1]).as_dict()}
        ],
        "halfway": [{"scene": "drawer half open", "instruction": "open", "model": "int8", "episodes": 50, "right": 47}],
        "latency": {"p50_ms": 7.1, "p99_ms": 26.0, "hz_one_core": 131.0, "budget_L_ms": 25.0, "host": HOST},
    }  # fmt: skip


def robustness():
    """Invented."""
    points = [{"level": level, "teacher": 0.95, "int8": 0.9 - 0.05 * level, "episodes": 60} for level in (0, 1, 2, 8)]
    worded = [
        {"level": words, "teacher": 0.9, "int8": None, "episodes": 60, "refused": 60}
        for words in ("as trained", "with & <noise>")
    ]
    return {
        "host": HOST, "synthetic": True, "scenes_per_task": 20,
        "curves": [
            {"name": "actuation delay", "unit": "ticks", "points": points},
            {"name": "phrasing", "unit": "", "points": worded},
            {"name": "dropped frames", "unit": "share", "points": []},
        ],
    }  # fmt: skip


def realtime():
    """Invented."""
    return {
        "host": HOST, "per_task": {"push-v3": 0.925}, "paired": compare_counts(PairCounts(110, 4, 3, 3)).as_dict(),
        "episodes": 120, "same_outcome": 113, "late_commands": 0, "runs_with_late_commands": 0, "misses": 2,
        "wake_p99_us": 61.4, "wake_p999_us": 140.0, "best_effort": True,
    }  # fmt: skip


def ablations():
    """Invented."""
    row = {
        "name": "no places",
        "what": "without the lesson",
        "success": 0.61,
        "success_ci": [0.55, 0.66],
        "episodes": 300,
    }
    return {"host": HOST, "frames": 1_280_000, "rows": [row], "conclusions": ["places matter most", ""]}


def starts():
    """Invented."""
    first = {"seed": 0, "scale": 0.0, "policy": "a", "episodes": 4, "successes": 3, "ticks": 9}
    second = {"seed": 5, "scale": 1.0, "policy": "b", "episodes": 4, "successes": 4, "ticks": 8}
    per_task = {"push-v3": 1, "reach-v3": 2}
    rows = [{**first, "per_task": per_task}, {**second, "per_task": {**per_task, "push-v3": 2}}]
    return {"host": HOST, "rows": rows, "chosen": {"seed": 5, "scale": 1.0}}


def gallery():
    """Invented."""
    ends = {"push-v3": "no success in 500 ticks", "reach-v3": "success after 9 ticks", "door-open-v3": "the third"}
    return {
        "episodes": [
            {"task": task, "file": f"{task}.gif", "caption": f'"push the puck": {end}'} for task, end in ends.items()
        ]
    }


def block(**found):
    return policy_of_many_tasks(Measured(**found), lambda result: result.get("host", {}).get("cpu", "not measured"))


def sections(text):
    """Title -> what stands below it."""
    parts = (part.partition("\n") for part in text.removeprefix("### ").split("\n### "))
    return {title: body.strip() for title, _, body in parts}


# --- the published table ---


def test_a_published_average_is_the_mean_of_its_groups():
    for row in PUBLISHED:
        assert math.isclose(sum(map(float, row.groups)) / 4, float(row.average), abs_tol=0.051), row.policy


def test_the_averages_are_those_that_issue_9_names():
    averages = [row.average for row in PUBLISHED if "PaliGemma" not in row.policy]
    assert averages == ["10.5", "31.6", "47.9", "56.95", "57.3", "68.24"]


def test_the_mean_over_tasks_counts_every_task_alike():
    largest = PUBLISHED[-1]  # (28 * 87.14 + 11 * 51.82 + 6 * 70 + 5 * 64) / 50
    assert largest.mean_of_tasks == pytest.approx(74.9988)
    assert "| SmolVLA (MT50) | 2.25 B | 87.14 % | 51.82 % | 70.0 % | 64.0 % | 68.24 % | 75.0 % | 500 |" in block()


def test_our_rows_stand_below_with_the_groups_that_mt10_has():
    row = "| 98.0 % | 84.0 % | 90.0 % | no task | 90.7 % | 90.7 % | 150 |"
    shown = block(evaluation=evaluation())
    assert f"| **our student, int8, in the loop (MT10)** | 8.20 M {row}" in shown
    assert f"| our teacher, FP32, one noise, in the loop (MT10) | 7.25 M {row}" in shown


def test_mt50_is_null_and_the_reason_is_said():
    shown = block(evaluation=evaluation())
    assert "Ours on MT50 was not measured: no GPU was at hand for its training." in shown
    assert "| ours (MT50) | not measured |" in shown


# --- the other sections ---


def test_a_figure_is_held_against_what_the_issue_asks():
    shown = sections(block(evaluation=evaluation()))["Size and speed"]
    assert "| success of int8 in the loop, mean of tasks | ≥ 90.0 % | 90.7 % | kept |" in shown
    assert "| student, bytes of its graphs | ≤ 15.0 MB | 9.10 MB | kept |" in shown
    assert "| inferences a second, one core | ≥ 50 Hz | 131 Hz | kept |" in shown
    assert "| p99 of an inference, against L | ≤ 25.0 ms | 26.0 ms | **missed** |" in shown


def test_pairs_stand_with_their_table_and_every_look():
    shown = sections(block(evaluation=evaluation()))["Paired evidence"]
    assert "**non-inferior** at 2.0 points, one-sided alpha 0.05" in shown
    assert "looks declared beforehand, pairs: 500, 1,000, 2,500." in shown
    assert "| 1,000 | 955 | 15 | 20 | 10 |" in shown
    assert "Teacher 97.0 %, int8 97.5 %; loss -0.5 points" in shown
    assert "| teacher | student FP32 | 97.0 % | 97.5 % | -0.5 (" in shown
    assert shown.count("| not yet |") == 1
    assert shown.count("| yes |") == 1


def test_words_and_tasks_have_their_rows():
    shown = block(evaluation=evaluation())
    assert "| drawer half open | open | student int8 | 47 of 50 |" in shown
    assert "| push-v3 | 90.0 % | 90.0 % | 90.0 % | 90.0 % |" in shown
    assert "Episodes of each task, column by column: 50, 50, 50, 50." in shown


def test_real_time_stands_against_lockstep():
    shown = sections(block(realtime=realtime()))["Real time"]
    assert "| 120 | 110 | 4 | 3 | 3 |" in shown
    assert "runs: 120; ended as in lockstep: 113." in shown
    assert "| servo misses | 2 |" in shown
    assert "| wake after deadline, p99 / p99.9, us | 61 / 140 |" in shown
    assert "| real-time priority | not granted in every run |" in shown
    assert "| push-v3 | 92.5 % |" in shown


def test_every_curve_has_a_line_with_all_its_points():
    shown = sections(block(robustness=robustness()))["Robustness"]
    assert "](images/robustness.svg)" in shown
    ticks = "0: 95.0 / 90.0; 1: 95.0 / 85.0; 2: 95.0 / 80.0; 8: 95.0 / 50.0"
    assert f"| actuation delay (ticks) | {ticks} | 60 | - |" in shown
    words = "as trained: 90.0 / not measured; with & <noise>: 90.0 / not measured"
    assert f"| phrasing | {words} | 60 | 120 |" in shown
    assert "| dropped frames (share) | not measured |  | - |" in shown


def test_ablations_stand_with_their_interval_and_what_may_be_said():
    shown = sections(block(ablations=ablations()))["What mattered"]
    assert "| no places | without the lesson | 61.0 % | 55.0 to 66.0 | 300 |" in shown
    assert "Frames a training: 1,280,000." in shown
    assert shown.endswith("Places matter most.")


def test_every_start_stands_with_its_successes_and_the_chosen_one_is_marked():
    shown = sections(block(starts=starts()))["Where it starts"]
    assert "| z | all | push | reach |" in shown
    assert "| z = 0 | 3 of 4 | 1 | 2 |" in shown
    assert "| drawn from seed 5 (chosen) | 4 of 4 | 2 | 2 |" in shown


def test_pictures_of_the_gallery_stand_two_a_line_with_how_they_ended():
    shown = sections(block(gallery=gallery()))["Gallery"].splitlines()
    first = '![push-v3](images/mt10/push-v3.gif)<br>push-v3: "push the puck": no success in 500 ticks'
    assert shown[-2].startswith(f"| {first} | ![")
    assert shown[-1].endswith(" |  |")


def test_what_is_absent_says_so_in_every_section():
    for title, body in sections(block()).items():
        assert "not measured" in body, title


# --- the curves ---


def drawn(found):
    root = ET.fromstring(curves.svg(found))
    return root, [element.text for element in root.iter() if element.tag.endswith("}text")]


def test_the_svg_is_xml_and_holds_every_curve_with_its_axes():
    root, words = drawn(robustness())
    assert root.attrib["width"] == "990"
    assert {"actuation delay", "phrasing", "dropped frames", "not measured"} <= set(words)
    assert "across: ticks; upwards: success (%)" in words
    assert {"Teacher, FP32", "int8 in the loop", "0", "8", "100 %"} <= set(words)


def test_both_policies_have_a_line_and_a_bar_at_every_level_that_was_measured():
    root, _ = drawn(robustness())
    classes = [element.attrib.get("class") for element in root.iter()]
    assert classes.count("curve teacher") == 1 + 2  # the legend, and two curves
    assert classes.count("curve int8") == 1 + 1  # phrasing was not measured
    assert classes.count("bar teacher") == 4 + 2
    assert classes.count("bar int8") == 4


def test_one_drawing_serves_light_and_dark():
    assert "prefers-color-scheme:dark" in curves.svg(robustness())


def test_a_level_stands_at_its_value_and_words_one_after_the_other():
    at = curves.placed([0, 1, 8], 0.0, 80.0)
    assert [at(level) for level in (0, 1, 8)] == [0.0, 10.0, 80.0]
    at = curves.placed(["a", "b", "c"], 0.0, 80.0)
    assert [at(level) for level in ("a", "b", "c")] == [0.0, 40.0, 80.0]
    assert curves.placed([3], 10.0, 80.0)(3) == 10.0


def test_a_point_has_the_interval_of_its_episodes():
    (point,) = curves.points({"points": [{"level": 0, "int8": 0.9, "episodes": 50}]}, "int8")
    assert (point.low, point.high) == pytest.approx((0.7864, 0.9565), abs=1e-4)  # Wilson, 45 of 50


def test_labels_that_would_touch_are_left_out():
    levels = [0, 0.01, 0.02, 1]
    points = [{"level": level, "teacher": 1.0, "int8": 1.0, "episodes": 9} for level in levels]
    _, words = drawn({"curves": [{"name": "noise", "unit": "share", "points": points}]})
    assert "0.01" not in words
    assert {"0", "1"} <= set(words)


def test_a_browser_shows_the_curves_whole(tmp_path):
    if chromium() is None:
        pytest.skip("no chromium here")
    page = tmp_path / "robustness.svg"
    page.write_text(curves.svg(robustness()))
    with Browser(tmp_path / "profile") as browser:
        for dark in (False, True):
            seen = browser.look(page, 1000, dark)
            assert seen.complaints == []
            assert len(seen.png) > 5_000


# --- the files ---


@pytest.fixture
def repository(tmp_path):
    """Documents with empty blocks, and curves that were invented."""
    for name in BLOCKS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# Title\n\n{BEGIN}\n{END}\n")
    (tmp_path / "bench/results/mt10").mkdir(parents=True)
    found = {key: value for key, value in robustness().items() if key != "synthetic"}
    (tmp_path / "bench/results/mt10/robustness.json").write_text(json.dumps(found))
    return tmp_path


def test_curves_are_written_once_and_checked_after(repository):
    picture = repository / readme.CURVES
    assert readme.main(["--check"], repository) == 1
    assert not picture.exists()
    assert readme.main([], repository) == 0
    assert "actuation delay" in picture.read_text()
    assert readme.main(["--check"], repository) == 0
    picture.write_text("<svg/>")
    assert readme.main(["--check"], repository) == 1


def test_pictures_of_the_gallery_are_found(repository):
    (repository / readme.GALLERY).mkdir(parents=True)
    (repository / readme.MT10["gallery"]).write_text(json.dumps(gallery()))
    assert readme.main([], repository) == 0
    assert "images/mt10/reach-v3.gif" in (repository / "docs/policy.md").read_text()


def test_an_invented_result_is_refused(repository, capsys):
    (repository / readme.MT10["evaluation"]).write_text(json.dumps(evaluation()))
    assert readme.main([], repository) == 4
    assert "synthetic" in capsys.readouterr().err


def test_the_committed_policy_is_the_one_that_was_judged():
    judged = json.loads((ROOT / readme.MT10["evaluation"]).read_text())["bundle"]
    committed = open_bundle(ROOT / "examples/metaworld/mt/student.bundle")
    assert committed.manifest.recipe["published_from"] == judged["sha256"]
    assert committed.total_bytes("model/") == judged["bytes"]
    weights = (ROOT / "examples/metaworld/mt/teacher/model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == judged["teacher_sha256"]


def test_the_short_list_has_the_pairs_and_their_bound():
    found = policy_summary(evaluation())
    assert found["mt10"] == {
        "mean": 0.9067, "per_task": TASKS, "parameters": 8_200_000, "bytes": 9_100_000, "hz_one_core": 131.0,
    }  # fmt: skip
    assert (found["mt50"], found["mt50_reason"]) == (None, "no GPU was at hand for its training")
    paired = found["paired"]
    assert (paired["pairs"], paired["teacher"], paired["int8_in_loop"]) == (1000, 0.97, 0.975)
    assert paired["difference_lower95"] == -evaluation()["sequential"]["looks"][-1]["upper_bound"]
    assert "a CPU that does not exist" in found["host"]


def test_what_was_not_played_is_null_in_the_short_list():
    found = policy_summary({"host": HOST, "success": {}, "sequential": None})
    assert (found["mt10"], found["paired"]) == (None, None)


def test_the_short_list_is_written_from_its_source_and_a_planted_figure_is_named(tmp_path):
    assert write_summaries(tmp_path) == []
    (tmp_path / "mt10").mkdir()
    (tmp_path / "mt10/evaluation.json").write_text(json.dumps(evaluation()))
    assert write_summaries(tmp_path) == [tmp_path / "policy.json"]
    assert {one.name: one.kept for one in subjects.verdicts(tmp_path)}["policy.json"] is True
    told = json.loads((tmp_path / "policy.json").read_text())
    told["mt10"]["mean"] = 0.99
    (tmp_path / "policy.json").write_text(json.dumps(told))
    (difference,) = {one.name: one.differences for one in subjects.verdicts(tmp_path)}["policy.json"]
    assert difference.startswith("mt10.mean: 0.99")


@pytest.mark.parametrize("name", ["evaluation", "robustness", "realtime", "starts", "ablations"])
def test_a_result_without_its_outcomes_is_a_difference(tmp_path, name):
    (tmp_path / "mt10").mkdir()
    (tmp_path / f"mt10/{name}.json").write_text(json.dumps({"runs": []}))
    (verdict,) = subjects.verdicts(tmp_path)
    assert verdict.kept is False
    assert verdict.differences


def test_a_planted_figure_of_the_ablations_is_named(tmp_path):
    (tmp_path / "mt10").mkdir()
    path = tmp_path / "mt10/ablations.json"
    told = json.loads((ROOT / readme.MT10["ablations"]).read_text())
    path.write_text(json.dumps(told))
    assert [one.kept for one in subjects.verdicts(tmp_path)] == [True]
    told["rows"][0]["success"] = 0.99
    path.write_text(json.dumps(told))
    (verdict,) = subjects.verdicts(tmp_path)
    assert verdict.kept is False
    assert any("0.99" in difference for difference in verdict.differences)
