"""The whole loop over a real pty: virtual arm, servo and policy as processes of their own, no mocks."""

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgevla.control.crew import Child
from edgevla.control.heartbeat import Heartbeat
from edgevla.control.ladder import Phase
from edgevla.control.options import RunOptions, check_options
from edgevla.control.plan import PlannedCamera
from edgevla.control.run import run
from edgevla.errors import BadInput, EdgevlaError, Refused, Usage
from firmware_bridge.errors import BridgeError

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)

from loop import options, patient_arm, plan  # noqa: E402


@pytest.fixture(autouse=True)
def engines_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", HERE)


@pytest.fixture(autouse=True)
def nothing_left_open():
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.fixture(scope="module")
def success():
    os.environ["PYTHONPATH"] = HERE
    return run(plan("to_goal"), options())


def test_the_task_succeeds_and_the_run_says_why_it_stopped(success):
    assert success.stop_reason == "task succeeded (reported by the simulator)"
    assert success.exit_code == 0
    assert success.success is True


def test_every_command_of_the_flight_record_reached_the_device(success):
    assert success.figures["link"]["sent"] == success.figures["device"]["accepted"] + sum(
        success.figures["device"]["refused"].values()
    )
    assert success.figures["loop"]["late_commands"] == success.figures["link"]["overtaken"]
    assert success.figures["loop"]["expired_commands"] == success.figures["link"]["late"]


def test_the_stamps_of_a_servo_step_are_in_order_and_each_reply_belongs_to_a_message_sent(success):
    rows = success.ticks[success.ticks["write_ns"] > 0]
    assert (rows["wake_ns"] <= rows["look_ns"]).all()
    assert (rows["look_ns"] <= rows["send_ns"]).all()
    assert (rows["send_ns"] <= rows["write_ns"]).all()
    heard = rows[1:]["state_seq"]
    assert np.isin(heard[heard >= 0], success.ticks["sent_seq"]).all()
    assert not success.ticks["send_ns"][success.ticks["phase"] == Phase.DISARMED].any()


def test_each_chunk_acts_first_at_its_release_tick(success):
    rows = success.ticks
    for asked in np.unique(rows["chunk"][rows["chunk"] >= 0]):
        first = rows[rows["chunk"] == asked][0]
        assert first["tick"] - first["skipped"] <= asked + 2 <= first["tick"]


def test_deadlines_lie_on_one_grid_of_exactly_one_period(success):
    steps = np.diff(success.ticks["deadline_ns"]) / np.diff(success.ticks["step"])
    assert (steps == 12_500_000).all()
    assert (success.ticks["wake_ns"] >= success.ticks["deadline_ns"]).all()


def test_no_command_was_written_after_its_expiry(success):
    rows = success.ticks[success.ticks["write_ns"] > 0]
    overtaken = (rows["write_ns"] > rows["deadline_ns"] + 12_500_000).sum()
    assert overtaken == success.figures["link"]["overtaken"]


def test_the_run_ends_at_rest_latched_and_confirmed_by_the_device(success):
    assert success.ticks[-1]["phase"] == Phase.LATCHED
    assert (success.ticks[-1]["setpoint"] == success.ticks[-2]["setpoint"]).all()
    assert success.figures["stop_confirmed"]
    assert success.figures["device"]["mode"] == "STOPPED"
    assert np.allclose(success.figures["device"]["held"], success.ticks[-1]["setpoint"], atol=1e-6)


def test_the_duration_ends_a_run_that_does_not_succeed():
    result = run(plan("away"), options(duration_s=0.5))
    assert (result.stop_reason, result.exit_code, result.success) == ("duration reached", 0, False)


def test_a_policy_that_starts_to_fail_runs_the_chunk_out_and_latches_as_a_bad_bundle():
    result = run(plan("failing", arm=patient_arm(hold_s=0.2)), options())
    assert result.stop_reason.startswith("latched: chunk ran out after ")
    assert "the engine broke" in result.stop_reason
    assert result.exit_code == 4
    phases = [Phase(p) for p in np.unique(result.ticks["phase"])]
    assert phases == [Phase.DISARMED, Phase.START, Phase.TRACK, Phase.SLOW, Phase.HOLD, Phase.LATCHED]


def test_chunks_that_are_not_finite_never_move_the_arm():
    result = run(plan("not_finite", arm=patient_arm(hold_s=0.3)), options())
    assert result.stop_reason == "latched: no chunk within 0.3 s of arming"
    assert "not_finite" in result.error
    assert "to do:" in result.error
    assert result.exit_code == 1
    assert (result.ticks["setpoint"] == result.ticks["setpoint"][0]).all()


def test_a_latched_servo_that_waits_before_it_takes_the_torque_is_no_hung_servo():
    arm = patient_arm(hold_s=0.3, torque_policy="off", torque_s=2.0)
    result = run(plan("not_finite", arm=arm), options())
    assert result.stop_reason == "latched: no chunk within 0.3 s of arming"
    assert result.figures["device"]["mode"] == "DISARMED"


@pytest.mark.parametrize(("engine", "how"), [("hanging", "hung"), ("dying", "ended")])
def test_a_policy_process_that_keeps_hanging_or_dying_is_started_again_three_times_only(engine, how):
    said = []
    result = run(plan(engine, hang_s=0.3), options(duration_s=60.0), say=said.append)
    assert result.stop_reason == f"the policy process {how} 4 times"
    assert result.exit_code == 4
    assert said.count(f"the policy process {how}: started again") == 3
    assert result.ticks[-1]["phase"] == Phase.LATCHED


def test_a_policy_that_does_not_load_is_a_bad_bundle():
    with pytest.raises(BadInput, match="no such model"):
        run(plan("broken"), options())


def test_an_instruction_outside_the_vocabulary_is_bad_input():
    with pytest.raises(BadInput, match="outside the vocabulary"):
        run(plan(), options(instruction="dance"))


def test_an_unknown_task_of_the_simulator_is_bad_input():
    with pytest.raises(BadInput, match="peg-unplug"):
        run(plan(), options(sim="peg-unplug", plant="metaworld"))


def test_a_dead_serial_port_is_a_device_error():
    with pytest.raises(EdgevlaError, match="/dev/no-such-port") as error:
        run(plan(), options(sim=None, port="/dev/no-such-port"))
    assert error.value.exit_code == BridgeError.exit_code == 5


def test_a_camera_of_another_size_is_bad_input():
    with pytest.raises(EdgevlaError) as error:
        run(replace(plan(), cameras=(PlannedCamera("corner", 64, 64, 40.0, 10.0, "refuse"),)), options())
    assert error.value.exit_code in (4, 5)


def test_an_arm_outside_the_start_range_is_refused_before_it_is_armed():
    with pytest.raises(Refused, match="outside the start range in x"):
        run(replace(plan(), start_low=(0.1, 0.4, 0.05, -1.0)), options())


def test_a_core_that_does_not_exist_is_refused_unless_best_effort_is_said():
    with pytest.raises(Refused, match="core 4095"):
        run(plan(servo_core=4095), options(best_effort=False))
    result = run(plan(servo_core=4095), options(duration_s=0.2))
    assert any("core 4095" in text for text in result.figures["real_time"]["missing"])


def test_two_servo_steps_a_tick_interpolate_between_set_points():
    result = run(plan("away", servo_ratio=2), options(duration_s=0.5))
    assert result.figures["loop"]["servo_steps"] > 1.5 * result.figures["loop"]["ticks"]
    assert result.figures["device"]["refused"]["out_of_limit"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"sim": None, "port": None},
        {"sim": "drawer-open-v3", "port": "/dev/ttyUSB0"},
        {"sim": "drawer-open-v3", "duration_s": 0.0},
        {"sim": "drawer-open-v3", "duration_s": float("nan")},
        {"sim": "drawer-open-v3", "seed": -1},
    ],
)
def test_options_that_make_no_run_are_a_usage_error(wrong):
    with pytest.raises(Usage):
        check_options(RunOptions(instruction="x", **wrong))


def test_silence_is_counted_in_the_looks_of_the_watcher_so_that_a_stalled_host_is_no_silence():
    heartbeat = Heartbeat(0.1)
    assert heartbeat.look(count=5, now_s=10.0) == 0.0
    assert heartbeat.look(count=5, now_s=10.05) == pytest.approx(0.05)
    assert heartbeat.look(count=5, now_s=14.0) == pytest.approx(0.15)  # nobody ran for 4 s
    assert heartbeat.look(count=6, now_s=14.05) == 0.0


def test_the_last_words_of_a_child_are_the_last_line_of_its_traceback():
    with tempfile.TemporaryFile() as errors:
        child = Child("servo", process=None, errors=errors)
        assert child.last_words() == ""
        errors.write(b"Traceback\n" + b'  File "x.py", line 1, in main\n' * 900 + b"OverflowError: too long\n\n")
        assert child.last_words() == "OverflowError: too long"
