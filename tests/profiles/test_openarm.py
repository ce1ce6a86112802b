"""The bimanual OpenArm: its profile, and the whole of it over two virtual buses."""

import time

import pytest

import profiles
from firmware_bridge import bus_arm
from firmware_bridge.arm import StopKind, exchange
from firmware_bridge.damiao import access, driver
from firmware_bridge.group import ArmGroup
from firmware_bridge.protocols import open_arm
from firmware_bridge.virtual.client import VirtualProcess
from profiles import ProfileError
from profiles.bridge import arm_config, joints_of, parse_ports, wire_s

# openarm_description, config/arm/v10/joint_limits.yaml with the offsets of urdf/arm/openarm_arm.xacro, rad
DESCRIBED = {
    "left": [(-3.490659, 1.396263), (-3.316125, 0.174533), (-1.570796, 1.570796), (0.0, 2.443461)],
    "right": [(-1.396263, 3.490659), (-0.174533, 3.316125), (-1.570796, 1.570796), (0.0, 2.443461)],
}
WRIST = [(-1.570796, 1.570796), (-0.785398, 0.785398), (-1.570796, 1.570796)]


@pytest.fixture(scope="module")
def openarm():
    return profiles.load_arm("openarm")


def test_it_has_two_arms_of_seven_joints_and_a_gripper(openarm):
    assert openarm.buses == ("left", "right")
    for side in openarm.buses:
        joints = joints_of(openarm, side)
        assert [joint.model for joint in joints] == ["dm8009"] * 2 + ["dm4340"] * 2 + ["dm4310"] * 4
        assert [(joint.id, joint.reply_id) for joint in joints] == [(i, 0x10 + i) for i in range(1, 9)]
        assert [joint.kp for joint in joints] == [240.0, 240.0, 240.0, 240.0, 24.0, 31.0, 25.0, None]
        assert [joint.kd for joint in joints] == [5.0, 5.0, 3.0, 5.0, 0.3, 0.3, 0.3, None]
        assert joints[7].max_effort == 1.5


@pytest.mark.parametrize("side", ["left", "right"])
def test_its_ranges_lie_inside_the_public_description(openarm, side):
    for joint, (low, high) in zip(joints_of(openarm, side)[:7], DESCRIBED[side] + WRIST, strict=True):
        assert low <= joint.minimum < joint.maximum <= high


def test_it_says_what_its_motors_do_when_commands_cease(openarm):
    assert (openarm.watchdog_s, openarm.on_expiry, openarm.falls_on_loss) == (0.1, "free", True)


def test_both_buses_together_need_the_wire_of_one(openarm):
    assert wire_s(openarm) == pytest.approx(16 * 51.2e-6)  # 32 bits at 1 Mbit, 96 at 5 Mbit, 16 frames


def test_the_whole_arm_connects_arms_and_exchanges_over_two_buses(openarm, monkeypatch):
    for where in (driver, access, bus_arm):
        monkeypatch.setattr(where, "FIRST_READ_S", 0.5)  # a busy test machine must not look like a silent bus
    with (
        VirtualProcess("damiao", joints_of(openarm, "left"), options=dict(openarm.options)) as left,
        VirtualProcess("damiao", joints_of(openarm, "right"), options=dict(openarm.options)) as right,
    ):
        config = arm_config(openarm, parse_ports(openarm, f"left={left.port},right={right.port}"))
        arm = open_arm(config)
        assert isinstance(arm, ArmGroup)
        info = arm.connect()
        assert [row.name for row in info.joints] == [channel.name for channel in openarm.channels]
        assert info.watchdog_ms == 100
        for part in arm.parts:
            part._timeout = 40_000  # 2 s: this test is not about a busy machine's watchdog
        arm.arm()
        state = exchange(arm, arm.held, time.monotonic_ns() + 1_000_000_000)
        assert state.faults == 0
        assert len(state.position) == 16
        assert arm.stop(StopKind.FREE)
        arm.close()


@pytest.mark.parametrize(
    ("left", "right"),
    [("can0", "can0"), ("can0", "socketcan:can0"), ("{}/bus", "{}/link"), ("slcan:{}/bus", "slcan:{}/link")],
)
def test_one_bus_given_for_both_arms_is_refused(tmp_path, left, right):
    (tmp_path / "bus").touch()
    (tmp_path / "link").symlink_to(tmp_path / "bus")
    ports = f"left={left},right={right}".replace("{}", str(tmp_path))
    with pytest.raises(ProfileError, match="left and right are the same bus") as caught:
        parse_ports(profiles.load_arm("openarm"), ports)
    assert caught.value.exit_code == 4


def test_two_buses_are_two(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).touch()
    for left, right in (("can0", "can1"), (f"{tmp_path}/a", f"{tmp_path}/b"), ("virtual:0", "virtual:1")):
        assert parse_ports(profiles.load_arm("openarm"), f"left={left},right={right}") == {"left": left, "right": right}


def test_a_bus_that_an_arm_does_not_have_is_no_path():
    so101 = profiles.load_arm("so101")
    (bus,) = so101.buses
    assert parse_ports(so101, f"{bus}=/dev/ttyACM0") == parse_ports(so101, "/dev/ttyACM0")
    with pytest.raises(ProfileError, match=f"{bus}=PORT"):
        parse_ports(so101, "foo=/dev/ttyACM0")
