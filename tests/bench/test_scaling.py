"""Scaling: exponents are found where they hold, walls where curves meet limits, and each kind of point really runs."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.processes import CpuWatch, descendants
from bench.scaling.axes import AXES, SIZES, Axis, config_of
from bench.scaling.build import build
from bench.scaling.command import _chosen, _read
from bench.scaling.curves import svg
from bench.scaling.fit import local_exponents, power_law, wall
from bench.scaling.policy import costs, points, policy
from bench.scaling.result import axis_result, first_wall
from edgevla.errors import BadInput, Unsound, Usage

LIMITS = {"policy": 12.5, "budget": 25.0, "servo": 0.76}
TINY = {"vocabulary": 5, "picture_height": 32, "picture_width": 32, "width": 32, "heads": 2}


def noisy(values, cost, rounds=60, seed=0):
    dice = np.random.default_rng(seed)
    return [list(cost(value) * np.exp(0.05 * dice.standard_normal(rounds))) for value in values]


def test_the_exponent_of_a_power_law_lies_in_its_interval_nineteen_times_of_twenty():
    values = [1, 2, 4, 8, 16]
    laws = [power_law(values, noisy(values, lambda v: 3 * v**1.5, seed=seed)) for seed in range(40)]
    inside = sum(law.low <= 1.5 <= law.high for law in laws)
    assert 34 <= inside <= 40  # 38 are expected; binomial, 97 %
    assert all(law.high - law.low < 0.1 for law in laws)
    assert (laws[0].first, laws[0].last, laws[0].points) == (1, 16, 5)
    assert laws[0].factor == pytest.approx(3, rel=0.1)


def test_a_law_with_a_floor_holds_from_where_the_floor_is_small():
    values = [1, 2, 4, 64, 128, 256, 512]
    law = power_law(values, noisy(values, lambda v: 20 + v))
    assert law.first == 64
    assert law.exponent == pytest.approx(0.88, abs=0.06)  # the floor is still felt there


def test_where_no_three_points_follow_one_there_is_none():
    values = [1, 2, 4, 8]
    assert power_law(values, noisy(values, lambda v: {1: 1, 2: 1, 4: 8, 8: 9}[v])) is None
    assert local_exponents([1, 2, 4], [1, 2, 16]) == [1.0, 3.0]


def test_a_wall_lies_between_the_points_that_it_parts():
    assert wall([1, 10, 100], [1, 10, 100], 50).value == pytest.approx(50)
    met = wall([1, 2, 4], [1, 2, 4], 8)
    assert (met.value, met.beyond, met.headroom) == (pytest.approx(8), True, pytest.approx(8))
    assert wall([1, 2, 4], [1, 1, 1], 8).value is None
    assert wall([3, 6], [9, 12], 8).headroom == 1.0
    assert wall([1, 2], [1, 1.01], 1e9).value is None  # far beyond what may be continued


def measured(values, ms):
    ns = [[int(1e6 * cost)] * 10 for cost in ms]
    return {"values": values, "parameters": [1] * len(values), "ns": ns, "skipped": {}}


def test_the_first_wall_is_the_one_with_the_least_room():
    near = axis_result(Axis("cameras", "", (1, 2, 4)), measured([1, 2, 4], [4, 8, 16]), LIMITS)
    far = axis_result(Axis("chunk", "ticks", (32, 64, 128)), measured([32, 64, 128], [4, 4.4, 4.8]), LIMITS)
    assert near["wall"]["value"] == pytest.approx(3.125, rel=0.01)
    assert near["budget_wall"]["beyond"]
    found = first_wall([far, near])
    assert (found["axis"], found["limit_is"]) == ("cameras", "control period")
    assert first_wall([{**far, "wall": {"value": None, "beyond": False, "headroom": None}}]) is None


def arm(share, misses=0):
    figures = {"cpu_share": share, "shares": [share, share, 5 * share], "misses": misses, "servo_steps": 100}
    return {**figures, "late_commands": 0, "write_p50_us": 90.0, "write_p99_us": 200.0}


def test_the_shares_of_arms_on_one_core_add_up():
    told = {"values": [1, 2, 4], "arms": [[arm(0.1)], [arm(0.1)] * 2, [arm(0.1, 3)] * 4], "skipped": {}}
    found = axis_result(Axis("arms", "", (1, 2, 4), "arms"), told, LIMITS)
    assert [p["p50"] for p in found["points"]] == [0.1, 0.2, 0.4]
    assert found["power_law"]["exponent"] == pytest.approx(1.0)  # the look of the start is left out
    assert (found["points"][2]["misses"], found["wall"]["value"]) == (12, pytest.approx(7.6))


def test_the_curves_are_one_picture_that_parses():
    found = axis_result(Axis("cameras", "", (1, 2, 4)), measured([1, 2, 4], [4, 8, 16]), LIMITS)
    empty = axis_result(Axis("chunk", "ticks", (32,)), measured([32], [4]), LIMITS)
    root = ET.fromstring(svg([found, empty]))
    words = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert any("value^1.00" in word for word in words)
    assert {"not measured", "control period"} <= set(words)
    assert root.attrib["width"] == "660"


def test_every_point_of_every_axis_is_a_student():
    import torch

    from export.students.onepass import OnePassStudent

    for axis in (a for a in AXES if a.kind == "policy" and a.name != "model size"):
        for value in axis.values:
            OnePassStudent.from_config({**config_of(axis.name, value), "width": 16, "heads": 2})
    assert all(width % 64 == 0 for width, _, _ in SIZES.values())
    with torch.device("meta"):
        largest = OnePassStudent.from_config(config_of("model size", 500.0)).parameters_total
    assert largest == pytest.approx(500e6, rel=0.02)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    for side in (32, 64, 96):
        build(folder / f"image-side-{side}", {**TINY, "picture_height": side, "picture_width": side})
    return folder


def test_points_that_are_built_really_run(built):
    axis = Axis("image side", "px", (32, 64, 96))
    values, skipped = points(axis, built, free=0)  # what is there needs no memory
    assert (values, skipped) == ([32, 64, 96], {})
    assert policy(built / "image-side-64")().shape == (1, 32, 4)
    told = costs(axis, values, built, rounds=5, limit_s=5.0)
    assert [len(row) for row in told["ns"]] == [5, 5, 5]
    assert min(told["parameters"]) > 10_000


def test_what_does_not_fit_into_memory_is_left_out_and_says_why(tmp_path):
    axis = Axis("model size", "M parameters", (150.0, 500.0))
    values, skipped = points(axis, tmp_path, free=10**9)
    assert values == []
    assert "15 GB, 1 GB are free" in skipped[500.0]
    with pytest.raises(Unsound, match="too few points"):
        costs(axis, values, tmp_path, 5, 1.0)


def test_unknown_axes_and_other_hosts_files_are_refused(tmp_path):
    with pytest.raises(Usage, match="wings"):
        _chosen("wings", AXES)
    assert [axis.name for axis in _chosen("cameras, arms", AXES)] == ["cameras", "arms"]
    other = tmp_path / "axes.json"
    other.write_text(json.dumps({"schema": "edgevla.scaling/1", "cpu": "another", "done": {}}))
    with pytest.raises(BadInput, match="another"):
        _read(other)


def test_cpu_time_of_a_child_is_seen(tmp_path):
    import subprocess
    import sys

    script = tmp_path / "spins_for_the_test.py"
    script.write_text("import time\nt = time.process_time()\nwhile time.process_time() - t < 60: pass\n")
    child = subprocess.Popen([sys.executable, str(script)])
    try:
        watch = CpuWatch(str(script))
        while len(watch.seen.get(child.pid, ())) < 2 or watch.share == 0:
            watch.look()
        assert child.pid in descendants(str(script))
        assert watch.share > 0
        assert len(watch.shares) == len(watch.seen[child.pid]) - 1
    finally:
        child.kill()
        child.wait()


def test_the_real_loop_runs_at_a_servo_rate_and_its_axis_goes_on_where_it_was(tmp_path, monkeypatch):
    import bench.scaling.command as command

    axis = (Axis("servo rate", "Hz", (80,), "servo"),)
    monkeypatch.setattr(command, "QUICK", axis)
    asked = ["scaling", "--quick", "--best-effort", "--work", str(tmp_path), "--json", "-o", str(tmp_path / "s.json")]
    first = CliRunner().invoke(app, asked)
    assert first.exit_code == 0, first.output
    found = json.loads((tmp_path / "s.json").read_text())
    (point,) = found["axes"][0]["points"]
    assert point["steps"] > 50
    assert 0 < point["p50"] < 1
    again = CliRunner().invoke(app, asked)
    assert json.loads(again.output)["raw"] == found["raw"]  # nothing was measured again
