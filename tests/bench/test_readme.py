"""The figures of README and docs are those of the committed results, and nothing is made up."""

import json
import re
import subprocess
import sys
from functools import cache

import pytest

from bench import readme
from bench.policy.block import PUBLISHED
from bench.readme import (
    BEGIN,
    BLOCKS,
    END,
    NOT_MEASURED,
    Results,
    figures_block,
    policy_block,
    reliability_block,
    with_block,
)
from edgevla.errors import BadInput
from tests.bench.synthetic import synthetic_report

NOTHING = Results({}, {}, {}, False)
HEADS = {"", "fault", "figure", "control loop", "evidence", "---"}
QUOTED = {f"{row.policy} (MT50)" for row in PUBLISHED}  # figures of others, not of our results
DIGITS = re.compile(r"\d")


@cache
def synthetic():
    """Built once: its sequential run takes a second to compute."""
    return json.dumps(synthetic_report(rounds=60, ticks=200))


def measured():
    """A demo and an evidence of invented numbers, for this test only."""
    demo = {key: value for key, value in json.loads(synthetic()).items() if key != "synthetic"}
    evidence = {
        "success": {
            "teacher_fresh": {
                "mean": 0.961,
                "per_task": {"door-open-v3": 0.9, "button-press-v3": 1.0},
                "episodes": 300,
            },
            "halfway_teacher": 0.95,
            "halfway_int8": 0.935,
            "blank_words": 0.505,
            "distilled": 0.954,
            "demos_only": 0.871,
            "without_z": float("nan"),
        },
        "control_episodes": 240,
        "sequential": demo["figures"]["sequential"],
        "halfway": [
            {"scene": "drawer half open", "instruction": "open", "model": "student_int8", "episodes": 50, "right": 47}
        ],
        "host": {"cpu": "Other CPU", "measured_at": "2000-01-01 00:00 UTC"},
    }
    export = {"figures": {"int8_vs_ort_fp32": {"value": 2.5, "interval": [2.4, 2.6], "sense": "at least", "goal": 2.0}}}
    return Results(demo, evidence, export, True)


@pytest.fixture
def documents(tmp_path):
    """A repository of which only the documents exist."""
    for name in BLOCKS:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# Title\n\n{BEGIN}\n{END}\n\nafter\n")
    return tmp_path


def test_blocks_of_the_repository_are_what_the_committed_results_give():
    result = subprocess.run(
        [sys.executable, "-m", "bench.readme", "--check"], cwd=readme.ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("block", BLOCKS.values())
def test_without_results_no_cell_holds_a_measured_number(block):
    for line in block(NOTHING).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        is_budget = len(cells) > 2 and cells[2] == NOT_MEASURED and cells[1][:1] in "≤≥"
        is_row = line.startswith("|") and cells[0] not in HEADS | QUOTED
        if is_row and not is_budget:
            assert not any(DIGITS.search(cell) for cell in cells[1:] if not cell.startswith("goal")), line


def test_a_number_that_is_absent_or_nan_is_called_not_measured():
    block = figures_block(measured())
    assert "| student, without z | not measured |" in block
    assert "| runs that succeeded | not measured |" in block  # the synthetic loop has no episodes


def test_measured_numbers_stand_in_their_rows():
    block = figures_block(measured())
    assert "| teacher, weakest task | 90.0 % (door-open-v3) | goal: no task under 88 % |" in block
    assert "| half-way scenes, int8 | 93.5 % |" in block
    assert "| late commands | 0 |" in block
    assert "| Late commands | ≤ 0 | 0 | kept |" in block
    assert re.search(r"\| Student, ONNX Runtime FP32 \| 3\.42 M \| 13\.7 MB \| 212 M \| [\d.]+ ms", block)


def test_each_figure_names_the_host_it_was_measured_on():
    demo, evidence = figures_block(measured()).split("Committed evidence")
    assert "Test CPU" in demo
    assert "Other CPU" in evidence
    assert "2000-01-01" in evidence


def test_a_missed_budget_is_said_in_bold():
    results = measured()
    results.demo["loop"]["late_commands"] = 2
    assert "| Late commands | ≤ 0 | 2 | **missed** |" in figures_block(results)


def test_the_last_look_of_the_sequential_run_is_the_one_shown():
    verdict = measured().evidence["sequential"]
    row = next(line for line in figures_block(measured()).splitlines() if "same scenes |" in line)
    assert f"{verdict['decision']} at 3 points" in row
    assert f"{verdict['looks'][-1]['pairs']} pairs" in row


def test_half_way_rows_and_tasks_stand_on_the_policy_page():
    block = policy_block(measured())
    assert "| drawer half open | open | Student int8 | 47 of 50 |" in block
    assert "| button-press-v3 | 100.0 % |" in block


def test_the_picture_is_linked_once_there_is_one():
    assert readme.PICTURE in figures_block(measured())
    assert readme.PICTURE not in figures_block(NOTHING)


def test_writing_changes_the_block_only_and_writing_again_changes_nothing(documents):
    (documents / "bench/results").mkdir(parents=True)
    (documents / readme.DEMO).write_text(json.dumps(measured().demo))
    assert readme.main([], documents) == 0
    once = (documents / "README.md").read_text()
    assert once.startswith("# Title\n\n" + BEGIN)
    assert once.endswith(END + "\n\nafter\n")
    assert "3.42 M" in once
    assert readme.main([], documents) == 0
    assert (documents / "README.md").read_text() == once


def test_check_refuses_a_stale_block_and_writes_nothing(documents, capsys):
    before = (documents / "README.md").read_text()
    assert readme.main(["--check"], documents) == 1
    assert (documents / "README.md").read_text() == before
    assert "python -m bench.readme" in capsys.readouterr().err


def test_an_invented_report_is_refused(documents, capsys):
    (documents / "bench/results").mkdir(parents=True)
    (documents / readme.DEMO).write_text(synthetic())
    assert readme.main([], documents) == 4
    assert "synthetic" in capsys.readouterr().err


@pytest.mark.parametrize("document", ["no markers", BEGIN, f"{END} {BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_document_without_one_pair_of_markers_is_refused(document):
    with pytest.raises(BadInput, match="has no block"):
        with_block(document, "new", "README.md")


def test_a_row_of_the_fault_suite_stands_with_its_bounds_and_a_survivor_without_times():
    row = {"fault": "serial cut", "outcome": "stopped", "late_commands": 0, "out_of_limit_commands": 0, "samples": 63}
    times = {"stop_ms": 0.1, "bound_ms": 25.0, "latched_ms": 94.8, "latched_bound_ms": 137.5}
    survivor = {**row, "fault": "one chunk of NaN", "outcome": "survived", "explained_by": "1 chunk | lost"}
    faults = {"rows": [{**row, **times, "explained_by": "bus: gone"}, survivor], "seconds": 60}
    block = reliability_block(Results({}, {}, {}, False, faults=faults))
    assert "| serial cut | stopped | 0 | 0 | 63 | 0 / 25 | 95 / 138 | bus: gone |" in block
    assert "| one chunk of NaN | survived | 0 | 0 | 63 | - | - | 1 chunk / lost |" in block
    assert "2 faults, 126 commands: **0 late, 0 beyond limits**" in block


def test_a_chapter_of_the_power_cut_proof_stands_with_its_counts_and_what_was_lost():
    counts = {"calls": 1305, "states": 11112, "distinct": 62, "boots": 160, "kills": 35}
    kept = {"chapter": "upgrade", **counts, "commit_calls": 16, "kills_met": 16, "lost": []}
    broken = {**kept, "chapter": "rollback", "lost": ["after call 3: no release is current"]}
    total = {"calls": 2610, "points": 22224, "boots": 320, "kills": 70, "releases_lost": 1, "seconds": 600}
    block = reliability_block(Results({}, {}, {}, False, powercut={**total, "chapters": [kept, broken]}))
    assert "| upgrade | 1,305 | 11,112 | 62 | 160 | 35 | 0 |" in block
    assert "| rollback | 1,305 | 11,112 | 62 | 160 | 35 | 1 |" in block
    assert "2,610 calls recorded, 22,224 states tried, 320 boots, 70 kills: **1 releases lost**" in block
    assert "32 of the 32 calls of the commit phase" in block
