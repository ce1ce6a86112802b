"""Committed summaries are what their sources give, a planted figure is named, a seed draws what is played again."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.guard.budget import Budget, Limit
from bench.guard.claims import bounded, measured, observed
from bench.verify import __main__ as verify
from bench.verify import subjects
from bench.verify.differ import compared
from bench.verify.replay import Part, chosen, differences, other_paths, parts
from edgevla.sim.lockstep import Episode, Outcome
from export.evidence.outcomes import Row, write_rows
from export.evidence.rollouts import PolicySpec

RESULTS = Path(__file__).parents[2] / "bench" / "results"


@pytest.fixture
def copy(tmp_path):
    """Takes files of the results into a folder of their own, some of them changed."""

    def take(*names, change=None):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(RESULTS / name, tmp_path / name)
        if change is not None:
            path = tmp_path / names[0]
            document = json.loads(path.read_text())
            change(document)
            path.write_text(json.dumps(document))
        return {one.name: one for one in subjects.verdicts(tmp_path)}

    return take


def test_every_committed_summary_is_what_its_source_gives(capsys):
    assert verify.main(["--results", str(RESULTS), "--episodes", "0"]) == 0
    shown = capsys.readouterr().out
    assert "DIFFERS" not in shown
    assert {"loop.json", "faults.json", "bus.json", "delay.json", "evidence.json"} <= {
        word.split("/")[-1] for word in shown.split()
    }


def test_every_committed_file_is_either_computed_or_said_to_be_raw():
    names = {str(path.relative_to(RESULTS)) for path in RESULTS.rglob("*.json")}
    names = {name for name in names if not name.startswith("submitted/")}
    assert names <= set(subjects.SUBJECTS) | set(subjects.RAW)
    assert not set(subjects.SUBJECTS) & set(subjects.RAW)


@pytest.mark.parametrize(
    ("names", "change", "place"),
    [
        (("loop.json", "loop-windows.json"), lambda d: d[3].update(ours_p99_us=1), "[3].ours_p99_us"),
        (("faults.json", "faults-run.json"), lambda d: d[0].update(late_commands=7), "[0].late_commands"),
        (("bus.json", "bus-run.json"), lambda d: d.pop(), ""),
        (
            ("soak.json",),
            lambda d: d["late_share"].update(bound_if_independent=1e-9),
            "late_share.bound_if_independent",
        ),
        (("steady.json",), lambda d: d.update(traced_growth_bytes=0), "traced_growth_bytes"),
        (
            ("compare.json",),
            lambda d: d["figures"]["int8_vs_openvino"].update(median=9.0),
            "figures.int8_vs_openvino.median",
        ),
        (("demo.json",), lambda d: d["success"].update(student_int8=0.99), "success.student_int8"),
        (("twin.json",), lambda d: d.update(verdict="broken"), "verdict"),
        (("delay.json", "delay.parquet"), lambda d: d["cells"][2].update(successes=1), "cells[2].successes"),
    ],
)
def test_a_planted_figure_is_named(copy, names, change, place):
    verdict = copy(*names, change=change)[names[0]]
    assert verdict.kept is False
    assert len(verdict.differences) == 1
    assert verdict.differences[0].startswith(place)


def test_a_planted_outcome_is_an_exit_of_1_that_names_file_and_field(copy, tmp_path, capsys):
    copy("steady.json", change=lambda d: d.update(minor_faults=3))
    assert verify.main(["--results", str(tmp_path), "--episodes", "0"]) == 1
    assert "steady.json: minor_faults: 3, recomputed 0" in capsys.readouterr().out


def test_a_file_that_nobody_explains_is_a_difference(copy, tmp_path):
    (tmp_path / "new.json").write_text("{}")
    assert "neither" in {one.name: one for one in subjects.verdicts(tmp_path)}["new.json"].differences[0]


def test_a_summary_without_its_source_is_a_difference(copy):
    assert "loop-windows.json cannot be read" in copy("loop.json")["loop.json"].differences[0]


def guard_document():
    random = np.random.default_rng(3)
    stages = {"wake": measured("wake", [random.gamma(2.0, 20_000, 3000)])}
    claims = [*bounded(stages, Budget((Limit("wake", 0.99, 400.0),)), {}), *observed(stages)]
    histogram = stages["wake"].histogram
    quantiles = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999}
    wake = {key: round(histogram.quantile_ns(q) / 1e3, 3) for key, q in quantiles.items()}
    wake |= {"max_us": round(histogram.maximum_ns / 1e3, 3), "count": 3000, "hdr": histogram.encoded}
    wake["effective_samples"] = round(stages["wake"].effective, 1)
    claims = [claim.as_dict() for claim in claims]
    return {"claims": claims, "stages": {"wake": wake}, "sound": True, "unsound_because": []}


def test_a_guard_is_recomputed_from_its_histograms(tmp_path):
    document = guard_document()
    (tmp_path / "guard.json").write_text(json.dumps(document))
    assert subjects.verdicts(tmp_path)[0].kept is True
    document["claims"][0]["value_us"] -= 1.0
    document["stages"]["wake"]["max_us"] += 1.0
    (tmp_path / "guard.json").write_text(json.dumps(document))
    wrong = subjects.verdicts(tmp_path)[0].differences
    assert [text.split(":")[0] for text in wrong] == ["stages.wake.max_us", "claims[0].value_us"]


def test_fields_are_counted_and_floats_may_differ_in_their_last_digits():
    assert compared({"a": [1, 2.0], "b": {"c": "x"}}, {"a": [1, 2.0 + 1e-13], "b": {"c": "x"}, "more": 1}).fields == 3
    assert compared({"a": [1, 2.0]}, {"a": [1, 2.0 + 1e-13]}).differences == ()
    assert compared({"a": 1}, {}).differences == ('a: "(absent)", recomputed 1',)
    assert compared({"a": True}, {"a": 1}).differences


def row(policy, seed, success=True, ticks=80):
    return Row(policy, Episode("drawer-open-v3", seed, "open the drawer", False), success, ticks, 10, 0.0)


def test_what_cannot_be_played_again_is_left_out_with_its_reason():
    found = parts(RESULTS / "metaworld", [], Path("nowhere"))
    reasons = {(part.name, "of student" in part.policy): part.why_not for part in found}
    assert "was not kept" in reasons["metaworld/sequential-int8", True]
    assert "not here (here: none)" in reasons["metaworld/sequential-int8", False]
    assert "draws new noise" in reasons["metaworld/half-way-teacher", False]
    assert "not here (here: none)" in reasons["metaworld/sequential-teacher", False]
    assert chosen(found, "seed", None) == []


def test_the_committed_policy_of_ten_tasks_can_be_played_again():
    bundles, teacher = verify.JUDGED["mt10"]
    able = {part.name: part for part in parts(RESULTS / "mt10", bundles, teacher) if part.spec is not None}
    assert {"mt10/int8", "mt10/teacher", "mt10/half-way-int8", "mt10/half-way-teacher"} <= set(able)
    assert len(able["mt10/int8"].rows) == len(able["mt10/teacher"].rows) == 1000


def test_disturbed_episodes_are_left_out_together(tmp_path):
    rows = [row(policy, 5) for policy in ("int8 1", "int8 1, light 0.4", "int8 1, delay 8")]
    write_rows(tmp_path / "mt10" / "outcomes" / "robustness-int8.parquet", rows)
    plain, disturbed = parts(tmp_path / "mt10", [], Path("nowhere"))
    assert (len(plain.rows), len(disturbed.rows)) == (1, 2)
    assert "on purpose" in disturbed.why_not


def test_five_percent_are_drawn_by_the_seed():
    able = Part("a", "int8 1", tuple(row("int8 1", k) for k in range(200)), PolicySpec("int8"), "")
    unable = Part("b", "int8 2", tuple(row("int8 2", k) for k in range(200)), None, "not here")
    ((part, rows),) = chosen([able, unable], "commit", None)
    assert part is able
    assert len(rows) == 10
    assert chosen([able, unable], "commit", None) == [(able, rows)] != chosen([able], "another", None)
    assert len(chosen([able, unable], "commit", 3)[0][1]) == 3


def test_an_episode_that_ends_otherwise_is_named():
    rows = [row("int8 1", 5), row("int8 1", 6)]
    outcomes = [Outcome(True, 80, 10, 0.0), Outcome(False, 80, 10, 0.0)]
    (wrong,) = differences("sequential-int8", rows, outcomes)
    assert wrong.startswith("sequential-int8: drawer-open-v3 seed 6")
    assert "played again (False" in wrong


def test_other_ticks_to_the_same_end_are_said_and_no_difference():
    rows = [row("int8 1", 5), row("int8 1", 6)]
    outcomes = [Outcome(True, 80, 10, 0.0), Outcome(True, 79, 10, 0.0)]
    assert differences("sequential-int8", rows, outcomes) == []
    (path,) = other_paths("sequential-int8", rows, outcomes)
    assert "seed 6" in path
    assert "(True, 79, 10)" in path
