"""The trials of a release, by its own commands: golden vectors, self-test, and is the torque off?"""

import subprocess
import sys

import pytest

from edgevla.install.robot_config import load_robot_config
from edgevla.install.trial import look_at_torque, run_golden, run_selftest, torque_state
from firmware_bridge.torque import look
from profiles import load_arm
from profiles.bridge import driver_of
from tests.edgevla.install.robot import ROOT, Robot

TIMING = {"servo", "bus", "camera corner", "cameras", "policy", "recorder"}


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    made = Robot(tmp_path_factory.mktemp("robot"))
    yield made
    made.close()


def config_of(robot, **more):
    return load_robot_config(robot.write_config(**more))


def test_golden_vectors_are_computed_again_and_the_first_diverging_stage_is_named(robot):
    good = run_golden(robot.release)
    assert (good.kept, good.why, good.exit_code) == (True, "", 0)
    assert good.figures["kept"] is True
    manifest = robot.release / "bundle" / "manifest.json"
    before = manifest.read_bytes()
    manifest.write_bytes(before.replace(b'"tiny"', b'"tinz"', 1))
    try:
        altered = run_golden(robot.release)
        assert (altered.kept, altered.exit_code) == (False, 4)
        assert "manifest.json" in altered.why
    finally:
        manifest.write_bytes(before)


def test_the_selftest_of_a_sound_robot_states_every_claim_with_its_samples(robot):
    trial = run_selftest(robot.release, config_of(robot), ["--inferences", "100", "--warm-up-s", "0.3"])
    claims = {claim["name"]: claim for claim in trial.figures["claims"]}
    assert list(claims) == [
        *("disarmed", "servo", "bus", "camera corner", "cameras", "policy", "recorder", "processes"),
    ]
    broken = {name for name, claim in claims.items() if not claim["kept"]}
    assert broken <= TIMING, trial.why  # a busy test machine may be late, nothing else
    assert trial.kept == (not broken), trial.why
    assert (trial.exit_code == 0) == trial.kept
    assert claims["policy"]["samples"] >= 100
    assert claims["servo"]["samples"] >= 459
    assert claims["servo"]["confidence"] == 0.99
    assert trial.figures["asked"] + trial.figures["passed_over"] >= 100
    assert trial.figures["recorder"]["messages"] > 0
    assert trial.figures["loop"]["servo_steps"] == 0  # it commanded nothing


def test_too_few_samples_are_not_soundly_measured(robot):
    trial = run_selftest(robot.release, config_of(robot), ["--inferences", "89"])
    assert (trial.kept, trial.exit_code) == (False, 3)
    assert "at least 90" in trial.why


def test_a_dead_port_is_a_device_error_and_its_torque_unknown(robot):
    config = config_of(robot, port="/dev/no-such-port")
    trial = run_selftest(robot.release, config, ["--inferences", "100"])
    assert (trial.kept, trial.exit_code) == (False, 5)
    assert "/dev/no-such-port" in trial.why
    state, why = torque_state(robot.prefix, config)
    assert state == "unknown"
    assert "/dev/no-such-port" in why


def test_without_a_release_nobody_can_look(tmp_path, robot):
    assert torque_state(tmp_path, config_of(robot)) == ("unknown", "no release is installed")


def test_an_arm_that_holds_is_seen_and_the_selftest_refused(robot):
    config = config_of(robot)
    assert torque_state(robot.prefix, config) == ("off", "its controller is DISARMED")
    arm = driver_of(load_arm("metaworld-sawyer"), {"main": robot.port})
    arm.connect()
    arm.arm()
    arm.stop()
    arm.close()
    try:
        assert look_at_torque(robot.release, config) == ("on", "its controller is STOPPED")
        trial = run_selftest(robot.release, config, ["--inferences", "100"])
        assert (trial.kept, trial.exit_code) == (False, 1)
        assert "its controller is STOPPED" in trial.why
        assert look(arm).name == "STOPPED"  # nothing was changed by all those looks
    finally:
        arm.connect()
        arm.disarm()
        arm.close()


def test_a_release_that_is_broken_says_so(tmp_path):
    trial = run_golden(tmp_path)
    assert (trial.kept, trial.exit_code) == (False, 5)
    assert "cannot be run" in trial.why


def test_the_command_says_to_people_whether_torque_is_on(robot):
    bundle = robot.release / "bundle"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "edgevla.cli.main", "selftest", "--bundle", str(bundle), "--port", robot.port),
            *("--arm", str(bundle / "profiles/arm.toml"), "--torque-only"),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "torque off: its controller is DISARMED\n")
