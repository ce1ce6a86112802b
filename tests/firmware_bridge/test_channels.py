"""What may be commanded, and the units of channels and joints."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.arm import Joint
from firmware_bridge.channels import Channels
from firmware_bridge.errors import BadSetpoint

JOINTS = (
    Joint("pan", "rad", -1.0, 1.0, 1, "m", direction=-1, zero_rad=0.5),
    Joint("lift", "m", 0.0, 0.2, 2, "m", ratio=0.05),
    Joint("turn", "1", 0.0, 200.0, 3, "m", zero_rad=-0.25, ratio=2.0),
)
MIDDLE = np.array([0.0, 0.1, 1.0], np.float32)
NAN = float("nan")


@pytest.fixture
def channels():
    return Channels(JOINTS)


def test_a_set_point_inside_its_ranges_is_taken_as_it_is(channels):
    ends = np.array([[-1.0, 0.0, 0.0], [1.0, 0.2, 200.0]], np.float32)
    assert channels.judged(ends[0]) == ends[0].tolist()
    assert channels.judged(ends[1]) == ends[1].tolist()  # 0.2 as float32 lies beyond 0.2


@pytest.mark.parametrize("joint", range(3))
@pytest.mark.parametrize("value", [NAN, np.inf, -np.inf, -1.5, 201.0])
def test_one_bad_value_refuses_all_and_names_the_ranges(channels, joint, value):
    setpoint = MIDDLE.copy()
    setpoint[joint] = value
    with pytest.raises(BadSetpoint, match=r"pan -1\.\.1, lift 0\.\.0\.2, turn 0\.\.200"):
        channels.judged(setpoint)


@pytest.mark.parametrize(
    "setpoint",
    [
        MIDDLE.tolist(),
        MIDDLE.astype(np.float64),
        MIDDLE.astype(">f4"),
        MIDDLE[:2],
        np.append(MIDDLE, np.float32(0)),
        MIDDLE.reshape(1, 3),
        MIDDLE.astype(np.int32),
        None,
    ],
    ids=str,
)
def test_a_set_point_of_another_kind_is_refused(channels, setpoint):
    with pytest.raises(BadSetpoint, match=r"expected: float32 \(3,\)"):
        channels.judged(setpoint)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3))
def test_device_angles_are_bit_for_bit_those_of_the_joints(values):
    expected = [joint.to_device(value) for joint, value in zip(JOINTS, values, strict=True)]
    assert Channels(JOINTS).device_rad(values) == expected


def test_angles_of_another_number_of_joints_are_an_error(channels):
    with pytest.raises(ValueError, match="zip"):
        channels.device_rad([0.0, 0.1])


def test_what_was_measured_is_told_in_channel_units(channels):
    rows = channels.measured((0.25, 2.0, 0.25), (1.0, 1.0, 1.0), (2.0, 2.0, NAN), (30.0, 31.0, NAN))
    assert rows.dtype == np.float32
    assert rows[:2].tolist() == np.array([[0.25, 0.1, 1.0], [-1.0, 0.05, 2.0]], np.float32).tolist()
    assert rows[2:, :2].tolist() == [[-2.0, 40.0], [30.0, 31.0]]  # effort is divided by the ratio
    assert np.isnan(rows[2:, 2]).all()


def test_a_joint_on_its_stop_reads_a_little_beyond_its_range(channels):
    at = np.array([-1.5, 0.25, 201.0], np.float32)
    assert channels.inside(at).tolist() == np.array([-1.0, 0.2, 200.0], np.float32).tolist()
    assert channels.outside(at) == ["pan", "lift"]  # half a percent of 200 is 1: still on its stop
    assert channels.outside(np.array([-1.009, -0.0009, -1.001], np.float32)) == ["turn"]
