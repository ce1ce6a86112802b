"""bench/soak: a block's figures, blocks that add up, and a real soak that is stopped and goes on."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bench.loop.histogram import unpacked
from bench.plans import patrol_plan, servo_ratio
from bench.soak.command import Soak, progress, run_blocks
from bench.soak.evidence import TICKS, added, begun, continued, figures, time_left_s
from edgevla.control.ladder import Phase
from edgevla.control.options import RunOptions
from edgevla.errors import BadInput, Usage
from edgevla.telemetry.rows import tick_dtype

KEY = {"rate_hz": 500.0, "load": "policy inference"}
MS = 1_000_000


def steps(late_ms, skipped=0, expired=()):
    """Flight record of armed steps 2 ms apart, `late_ms` after their deadlines."""
    rows = np.zeros(len(late_ms), tick_dtype(4, 4))
    rows["phase"] = Phase.TRACK
    rows["deadline_ns"] = 10**12 + np.arange(len(rows)) * 2 * MS
    rows["wake_ns"] = rows["deadline_ns"] + 20_000
    rows["write_ns"] = rows["deadline_ns"] + (np.array(late_ms) * MS).astype(np.int64)
    rows["skipped"][0] = skipped
    rows["late"][list(expired)] = 1
    rows["write_ns"][list(expired)] = 0
    return rows


def block(**changes):
    given = {
        **figures(steps([0.1] * 1000), 0.002, 0.0125),
        "stolen_s": 0.5,
        "wall_s": 4.0,
        "reason": "",
        "exit_code": 0,
    }
    return {**given, **changes}


def test_late_expired_and_missed_are_three_things():
    # Ts 2 ms: a miss from 1 ms on; ttl 12.5 ms: late from there on
    found = figures(steps([0.1, 1.5, 13.0, 0.1, 0.1], skipped=2, expired=[3]), 0.002, 0.0125)
    assert found["ticks"] == 5
    assert found["late_commands"] == 1
    assert found["expired_commands"] == 1
    assert found["misses"] == 2 + 1 + 2  # 1.5 and 13 ms, the expired one, the periods overslept
    assert unpacked(found["histogram_us"]) == {100: 2, 1500: 1, 13000: 1}
    assert unpacked(found["wake_histogram_us"]) == {20: 4}


def test_steps_in_which_the_arm_may_not_move_are_no_ticks():
    rows = steps([0.1] * 10)
    rows["phase"][:4] = Phase.DISARMED
    assert figures(rows, 0.002, 0.0125)["ticks"] == 6


def test_blocks_add_up():
    evidence = added(added(begun(KEY, {}), block()), block(late_commands=1, stolen_s=0.25))
    assert (evidence["ticks"], evidence["late_commands"], evidence["stolen_s"]) == (2000, 1, 0.75)
    assert unpacked(evidence["histogram_us"]) == {100: 2000}
    assert evidence["late_share"]["bound_if_independent"] is None  # one was late
    assert len(evidence["blocks"]) == 2


def test_a_clean_soak_of_460515_ticks_bounds_p99999():
    evidence = added(begun(KEY, {}), block(ticks=TICKS, effective_samples=TICKS / 10))
    assert TICKS == 460_515
    assert evidence["late_share"]["bound_if_independent"] <= 1e-5
    assert evidence["late_share"]["bound_by_effective_samples"] == pytest.approx(1e-4, rel=1e-3)


def test_blocks_of_another_rate_or_load_are_not_mixed_in():
    with pytest.raises(Usage, match=r"rate_hz: 500\.0, now 80\.0"):
        continued(begun(KEY, {}), {**KEY, "rate_hz": 80.0}, "soak.json")


def test_a_file_that_is_no_evidence_is_refused():
    with pytest.raises(BadInput, match="no evidence of a soak"):
        continued({"ticks": 3}, KEY, "other.json")


def test_the_time_left_counts_the_starts_of_blocks():
    evidence = added(begun(KEY, {}), block(wall_s=4.0))  # 1,000 steps in 4 s, not in 2
    assert time_left_s(evidence, 2000) == pytest.approx(4.0)
    assert "1,000 of 2,000 steps" in progress(evidence, 2000)


@pytest.mark.parametrize(("asked", "ratio"), [(80, 1), (81, 2), (500, 7), (640, 8), (1, 1)])
def test_a_servo_rate_is_the_next_whole_part_of_the_period(asked, ratio):
    assert servo_ratio(asked, 0.0125) == ratio


@pytest.mark.parametrize("rate", [0, 3000, float("nan")])
def test_a_servo_rate_that_is_none_is_refused(rate):
    with pytest.raises(Usage):
        servo_ratio(rate, 0.0125)


def test_a_real_soak_goes_on_where_it_was_stopped(tmp_path):
    plan = patrol_plan(160)
    loose = replace(plan.target, servo_core=None, policy_core=None)
    arm = replace(plan.arm, hold_s=20.0, max_state_age_s=10.0)
    options = RunOptions(instruction="patrol", sim="drawer-open-v3", plant="integrator", best_effort=True)
    asked = Soak(replace(plan, target=loose, arm=arm), options, (), 100, 0.8, tmp_path / "soak.json")
    first = run_blocks(asked, lambda text: None)
    assert first["ticks"] >= 100
    said = []
    again = run_blocks(replace(asked, ticks=first["ticks"] + 50), said.append)
    kept = json.loads(asked.out.read_text())
    assert kept == again
    assert kept["blocks"][: len(first["blocks"])] == first["blocks"]
    assert kept["ticks"] == sum(one["ticks"] for one in kept["blocks"]) >= first["ticks"] + 50
    assert sum(unpacked(kept["histogram_us"]).values()) == kept["ticks"] - kept["expired_commands"]
    assert kept["host"]["cores_usable"] >= 1
    assert said
