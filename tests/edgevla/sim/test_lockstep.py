"""Episodes in lockstep obey the schedule of the real loop: what a policy says acts d ticks after it looked."""

import numpy as np
import pytest

import profiles
from edgevla.control.schedule import Schedule
from edgevla.errors import BadInput
from edgevla.sim.lockstep import HALF_WAY_TICKS, Episode, Loop, Runner, play
from edgevla.sim.metaworld import MetaworldPlant

D, R = 2, 8
LOOP = Loop(
    schedule=Schedule(horizon=32, delay=D, replan=R, survive=2),
    arm=profiles.load_arm("metaworld-sawyer"),
    period_s=0.0125,
    kinds=("delta", "delta", "delta", "absolute"),
    scale=(0.01, 0.01, 0.01, 1.0),
    offset=(0.0, 0.0, 0.0, 0.0),
)


class Recorder:
    """Writes down what it is asked. Its chunk stands still, but the gripper tells which chunk and row is acting."""

    def __init__(self, plant=None, spoilt=()):
        self.plant, self.spoilt = plant, spoilt
        self.ticks, self.prefixes, self.anchors, self.instruction = [], [], [], None

    def set_instruction(self, text):
        self.instruction = text

    def infer(self, image, state, prefix):
        assert (image.shape, image.dtype) == ((96, 96, 3), np.uint8)
        assert (state.shape, prefix.shape) == ((4,), (D, 4))
        self.ticks.append(self.plant.ticks if self.plant else None)
        self.prefixes.append(prefix)
        return np.zeros((32, 4), np.float32)

    def to_setpoints(self, chunk, anchor, d):
        self.anchors.append(anchor)
        number = len(self.anchors) - 1
        if number in self.spoilt:
            return np.full((32, 4), np.nan, np.float32)
        told = np.repeat(anchor[None], 32, 0)
        told[:, 3] = code(number, np.arange(32))
        return told


def code(number, row):
    """Gripper value that says: chunk `number`, row `row`."""
    return np.float32(-0.9 + 0.3 * number + 0.005 * row)


class Recorded(MetaworldPlant):
    """The plant, which also writes down its set-points."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.commanded = []

    def step(self, setpoint):
        self.commanded.append(np.array(setpoint))
        return super().step(setpoint)


@pytest.fixture(scope="module")
def loaded():
    return MetaworldPlant("drawer-open-v3", 0)


def tick_through(loaded, ticks, spoilt=()):
    plant = Recorded("drawer-open-v3", 0, False, loaded)
    policy = Recorder(plant, spoilt)
    runner = Runner(policy, plant, LOOP)
    for tick in range(ticks):
        runner.tick(tick)
    return plant, policy, runner


def test_a_chunk_acts_exactly_d_ticks_after_its_observation_and_in_its_own_row(loaded):
    plant, policy, runner = tick_through(loaded, 30)
    assert policy.ticks == [0, 8, 16, 24]
    assert runner.inferences == 4
    for tick in range(D, 30):
        number = (tick - D) // R
        assert plant.commanded[tick][3] == pytest.approx(code(number, tick - R * number), abs=1e-6), tick


def test_before_the_first_release_the_arm_holds(loaded):
    plant, _, _ = tick_through(loaded, D + 1)
    for tick in range(D):
        assert (plant.commanded[tick] == plant.setpoint0).all()
    assert plant.commanded[D][3] != plant.setpoint0[3]


def test_the_prefix_told_to_the_policy_is_what_the_arm_was_then_given(loaded):
    plant, policy, _ = tick_through(loaded, 30)
    for asked, prefix, anchor in zip(policy.ticks, policy.prefixes, policy.anchors, strict=True):
        given = np.array(plant.commanded[asked : asked + D])
        np.testing.assert_allclose(prefix[:, 3], given[:, 3], atol=1e-6)
        np.testing.assert_allclose(prefix[:, :3], 0, atol=1e-4)
        np.testing.assert_allclose(anchor, given[-1], atol=1e-6)


def test_a_chunk_that_is_not_finite_is_dropped_and_the_one_before_goes_on(loaded):
    plant, _, _ = tick_through(loaded, 26, spoilt=(1,))
    for tick in range(R + D, 2 * R + D):
        assert plant.commanded[tick][3] == pytest.approx(code(0, tick), abs=1e-6), tick
    assert plant.commanded[2 * R + D][3] == pytest.approx(code(2, D), abs=1e-6)


def test_an_episode_without_motion_ends_at_the_last_tick_without_success(loaded):
    policy = Recorder()
    episode = Episode("drawer-close-v3", 3, "close the drawer", half_way=True)
    outcome, plant = play(policy, episode, LOOP, loaded)
    assert policy.instruction == "close the drawer"
    assert not outcome.success
    assert outcome.ticks == HALF_WAY_TICKS
    assert outcome.inferences == HALF_WAY_TICKS // R
    assert abs(outcome.opened_m) < 0.01
    assert plant.task.name == "drawer-open-v3"  # both instructions start from the same scenes


def test_the_same_episode_plays_the_same_twice(loaded):
    episode = Episode("drawer-open-v3", 5, "open the drawer", half_way=True)
    assert play(Recorder(), episode, LOOP, loaded)[0] == play(Recorder(), episode, LOOP, loaded)[0]


def test_an_unknown_task_is_refused():
    with pytest.raises(BadInput, match="unknown simulator task"):
        play(Recorder(), Episode("fridge-open-v3", 0, "open the door"), LOOP)
