"""How the effect of finishing is measured: errors by hand, and the command on a small policy."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.distill.finish_effect import rms, worst

ROOT = Path(__file__).parents[3]


def test_errors_count_rows_after_the_prefix_and_the_worst_channel_is_told_in_its_unit():
    """One row of two counts: off by 3 and 4 numbers, 0.01 m and 0.5 rad each."""
    got, weight = np.array([[[9.0, 9.0], [3.0, 4.0]]]), np.array([[[0.0], [1.0]]])
    assert rms(got, np.zeros((1, 2, 2)), weight) == pytest.approx(12.5**0.5)
    assert worst(got, np.zeros((1, 2, 2)), weight, {"x": 0.01, "turn": 0.5}) == ("turn", 2.0)


def test_both_ways_start_from_the_same_state_and_differ_only_in_the_last_stretch(tmp_path):
    own = ["--teacher", "examples/own_module.py:policy", "--data", "examples/own_module.py:recording"]
    small = ["--steps", "20", "--examples", "512", "--batch", "8", "--seeds", "1", "--frames", "20"]
    command = [sys.executable, "-m", "export.distill.finish_effect", *own, *small]
    done = subprocess.run(
        [*command, "--work", str(tmp_path), "-o", str(tmp_path / "x.json")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    plain, finished = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert (plain["finish"], finished["finish"]) == ("none", "dynamic-s8")
    assert plain["frames"] == finished["frames"] == 20
    assert plain["int8_to_float"] != finished["int8_to_float"]
    assert 0 < plain["int8_to_float"] < 0.2 * plain["float_to_teacher"]
