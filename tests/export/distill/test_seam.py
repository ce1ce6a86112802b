"""The seam between chunks: in numbers worked out by hand, for a policy that knows no prefix, and as it is typed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.own_module import ACTIONS, OwnPolicy, Recording
from export.distill.seam import Seam, seam, seams, table
from export.distill.source import RobotSource
from export.distill.start import Wish, make_student
from export.students.interface import save_student

ROOT = Path(__file__).parents[3]


def test_the_worst_channel_is_the_one_whose_jump_is_the_most_of_its_own_steps():
    """Chunk 5, 6, 7, 8 and 10, 10, 10.5, 11 behind a committed 2 and 8: 3 of its steps of 1, and 2 of 0.5: 4 steps."""
    chunk = np.array([[[5.0, 10.0], [6.0, 10.0], [7.0, 10.5], [8.0, 11.0]]])
    found = seam("teacher", 0, np.array([[2.0, 8.0]]), chunk, ("lift", "turn"))
    assert (found.depth, found.frames, found.channel) == (0, 1, "turn")
    assert found.jump_p50 == found.jump_p95 == 2.0
    assert found.steps_p50 == found.steps_p95 == 4.0


def test_rows_of_the_prefix_are_no_part_of_the_seam():
    chunk = np.array([[[99.0], [4.0], [5.0], [6.0]]])
    found = seam("student", 1, np.array([[3.5]]), chunk, ["x"])
    assert found.jump_p50 == 0.5
    assert found.steps_p50 == 0.5


def ramp(offset):
    """Answers tick * 0.5 + offset per row, and keeps a prefix if it is asked to; the ramp goes on between ticks."""

    def answer(rows, prefix, mask):
        ticks = torch.from_numpy(rows["tick"])[:, None, None] + torch.arange(12.0)[None, :, None]
        return torch.where(mask > 0, prefix, (0.5 * ticks + offset(rows["tick"])).expand(-1, -1, 3))

    return answer


@pytest.fixture(scope="module")
def asked():
    source = RobotSource(Recording(), OwnPolicy().spec)
    return source, source.draw(60, 1, 12, 0)


def test_a_policy_whose_chunks_go_on_from_one_another_has_a_seam_of_one_step(asked):
    lines = seams("smooth", ramp(lambda ticks: 0.0), *asked, 3, 4, dict.fromkeys(ACTIONS, 2.0))
    assert [line.depth for line in lines] == [0, 1, 2, 3]
    assert all(line.steps_p50 == pytest.approx(1.0) for line in lines)
    assert all(line.jump_p95 == pytest.approx(1.0) for line in lines)  # half a unit a tick, two units per number
    assert 0 < lines[0].frames < 60  # those too near to the start of their episode fall out


def test_a_policy_that_changes_its_mind_shows_it_at_every_depth(asked):
    def offset(ticks):
        return torch.from_numpy(np.where(ticks % 2, 3.0, 0.0))[:, None, None]

    lines = seams(
        "fickle", ramp(offset), *asked, 3, 3, dict.fromkeys(ACTIONS, 1.0)
    )  # odd ticks behind even ones, even behind odd
    assert all(line.jump_p50 >= 2.5 for line in lines)


def test_the_table_names_policy_and_depth():
    text = table([Seam("teacher", 2, 10, "elbow", 0.1, 0.2, 1.5, 3.0)])
    assert text.splitlines()[1].split() == ["teacher", "2", "elbow", "1.50", "3.00", "0.1", "0.2"]


def test_the_command_writes_both_policies_at_every_depth(tmp_path):
    student, feeding = make_student(OwnPolicy(), Wish(width=64), "distil", torch.randn(12, 5), ("follow the dot",))
    save_student(tmp_path / "student.safetensors", student, feeding, {})
    own = ["--teacher", "examples/own_module.py:policy", "--data", "examples/own_module.py:recording"]
    command = [sys.executable, "-m", "export.distill.seam", *own, "--frames", "20"]
    command += ["--student", str(tmp_path / "student.safetensors"), "-o", str(tmp_path / "seam.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "seam.json").read_text())
    assert told["prefix_trained"] == 0
    assert [(row["policy"], row["depth"]) for row in told["rows"]] == [
        (policy, depth) for policy in ("teacher", "student") for depth in range(4)
    ]
    assert len(done.stdout.splitlines()) == 9
