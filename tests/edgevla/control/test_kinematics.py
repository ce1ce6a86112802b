"""Where the tool is, by hand, by MuJoCo and by us; and that its speed and its box are kept."""

import math
from dataclasses import replace

import numpy as np
import pytest

import profiles
from edgevla.control.config import arm_of
from edgevla.control.kinematics import tool_of
from edgevla.control.limiter import Limited, Limits, Motion, limits_of, slow_down, track
from profiles import ProfileError
from profiles.model import Cartesian

STEP_S = 0.002
JOINTS = (  # kind, xyz, rpy, axis: a six-joint arm about 0.9 m long, one joint slides
    ("revolute", (0.0, 0.0, 0.1), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
    ("revolute", (0.05, 0.0, 0.2), (0.0, -0.3, 0.0), (0.0, 1.0, 0.0)),
    ("revolute", (0.0, 0.0, 0.3), (0.0, 0.9, 0.2), (0.0, 1.0, 0.0)),
    ("revolute", (0.1, 0.0, 0.1), (0.4, 0.0, 0.0), (1.0, 0.0, 0.0)),
    ("prismatic", (0.0, 0.02, 0.0), (0.0, 0.3, 0.0), (0.6, 0.0, 0.8)),
    ("revolute", (0.1, 0.0, 0.0), (0.0, 0.0, -0.5), (0.0, 0.0, -1.0)),
)
TIP = (0.05, 0.0, 0.1)


def chain_text(minimum="[-0.3, -0.5, 0.1]", maximum="[0.7, 0.5, 0.8]"):
    """A profile of that arm, made from the shipped one."""
    text = (profiles.loader._HERE / "arms/metaworld-sawyer.toml").read_text()
    head = text[: text.index("[[channels]]")]
    head = head.replace("[-0.5, 0.40, 0.05, -1.0]", "[-1, -1, -1, -1, 0, -1]").replace(
        "[0.5, 1.0, 0.5, 1.0]", "[0.1, 0.1, 0.1, 0.1, 0.01, 0.1]"
    )
    tail = text[text.index("[[state]]") :]
    parts = [head, f"[cartesian]\nmax_speed = 0.25\nminimum = {minimum}\nmaximum = {maximum}\ntip_xyz = {list(TIP)}\n"]
    for i, (kind, xyz, rpy, axis) in enumerate(JOINTS):
        parts.append(
            f'[[cartesian.joints]]\nchannel = "j{i}"\nkind = "{kind}"\n'
            f"xyz = {list(xyz)}\nrpy = {list(rpy)}\naxis = {list(axis)}\n"
        )
    for i, (kind, *_) in enumerate(JOINTS):
        slides = kind == "prismatic"
        unit, low, high = ("m", 0.0, 0.1) if slides else ("rad", -2.5, 2.5)
        parts.append(
            f'[[channels]]\nname = "j{i}"\nunit = "{unit}"\nminimum = {low}\nmaximum = {high}\nmax_velocity = 1.5\n'
            "max_acceleration = 15.0\nmax_jerk = 500.0\nstop_deceleration = 8.0\n"
        )
    return "\n".join([*parts, tail])


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    path = tmp_path_factory.mktemp("arm") / "chain.toml"
    path.write_text(chain_text())
    return profiles.load_arm(path)


def test_the_profile_survives_the_line_of_json_to_the_servo(arm):
    import json
    from dataclasses import asdict

    assert arm_of(json.loads(json.dumps(asdict(arm)))) == arm


def test_a_planar_arm_is_where_the_drawing_says(arm):
    """Two links of 0.5 and 0.3 m that turn about z: at 90 and -90 degrees the tool is at (0.3, 0.5)."""
    about_z = {"rpy": (0.0, 0.0, 0.0), "axis": (0.0, 0.0, 1.0)}
    first = replace(arm.cartesian.joints[0], xyz=(0.0, 0.0, 0.0), **about_z)
    second = replace(arm.cartesian.joints[1], xyz=(0.5, 0.0, 0.0), **about_z)
    tool = tool_of(replace(arm, cartesian=replace(arm.cartesian, joints=(first, second), tip_xyz=(0.3, 0.0, 0.0))))
    assert tool.position([math.pi / 2, -math.pi / 2, 0, 0, 0, 0]) == pytest.approx((0.3, 0.5, 0.0))
    assert tool.position([0.0, math.pi / 2, 0, 0, 0, 0]) == pytest.approx((0.5, 0.3, 0.0))
    assert [link.lever for link in tool.chain] == [0.8, 0.3]


def test_roll_pitch_yaw_and_a_sliding_joint_are_those_of_a_urdf(arm):
    """Yaw 90 degrees turns the slider's x axis to y: 0.1 m out along it, and the tip 0.2 m above stays above."""
    slider = replace(arm.cartesian.joints[4], xyz=(1.0, 0.0, 0.0), rpy=(0.0, 0.0, math.pi / 2), axis=(1.0, 0.0, 0.0))
    tool = tool_of(replace(arm, cartesian=replace(arm.cartesian, joints=(slider,), tip_xyz=(0.0, 0.0, 0.2))))
    assert tool.position([0, 0, 0, 0, 0.1, 0]) == pytest.approx((1.0, 0.1, 0.2))
    rolled = replace(slider, rpy=(math.pi / 2, 0.0, math.pi / 2))  # first about x: the tip's z goes to -y, then to x
    tool = tool_of(replace(arm, cartesian=replace(arm.cartesian, joints=(rolled,), tip_xyz=(0.0, 0.0, 0.2))))
    assert tool.position([0, 0, 0, 0, 0.1, 0]) == pytest.approx((1.2, 0.1, 0.0))


def test_mujoco_puts_the_tool_of_the_same_chain_at_the_same_place(arm):
    mujoco = pytest.importorskip("mujoco", reason="mujoco is not installed: extra `sim`")
    body = f'<site name="tip" pos="{TIP[0]} {TIP[1]} {TIP[2]}"/>'
    for kind, xyz, rpy, axis in reversed(JOINTS):
        joint = "slide" if kind == "prismatic" else "hinge"
        numbers = [" ".join(map(str, values)) for values in (xyz, rpy, axis)]
        body = (
            f'<body pos="{numbers[0]}" euler="{numbers[1]}"><joint type="{joint}" axis="{numbers[2]}"/>'
            f'<geom size="0.01" mass="1"/>{body}</body>'
        )
    text = f'<mujoco><compiler angle="radian" eulerseq="XYZ"/><worldbody>{body}</worldbody></mujoco>'
    model = mujoco.MjModel.from_xml_string(text)
    data, tool, rng = mujoco.MjData(model), tool_of(arm), np.random.default_rng(0)
    for _ in range(50):
        data.qpos[:] = rng.uniform(-2.5, 2.5, 6)
        mujoco.mj_forward(model, data)
        assert tool.position(data.qpos.tolist()) == pytest.approx(data.site("tip").xpos.tolist(), abs=1e-9)


def test_a_lever_is_never_shorter_than_what_a_joint_can_move(arm):
    tool, rng = tool_of(arm), np.random.default_rng(0)
    for _ in range(200):
        pose = [rng.uniform(channel.minimum, channel.maximum) for channel in arm.channels]
        for link in tool.chain:
            moved = list(pose)
            moved[link.channel] += 1e-6
            assert math.dist(tool.position(pose), tool.position(moved)) <= link.lever * 1e-6 * (1 + 1e-3)


def drive(arm, steps, seed):
    """Random targets, jumps and stops from a pose inside the box; (tool speed, tool position, flags) of each step."""
    limits, tool, rng = limits_of(arm, STEP_S), tool_of(arm), np.random.default_rng(seed)
    motion, target = Motion.at_rest(np.array([0.0, 0.0, 0.0, 0.0, 0.05, 0.0])), None
    rows = []
    for step in range(steps):
        if step % 150 == 0:
            target = np.array([rng.uniform(c.minimum, c.maximum) for c in arm.channels])
        elapsed_s = STEP_S * int(rng.choice([1, 1, 1, 2, 5]))
        stop = step % 400 > 380
        after, hit = slow_down(limits, motion, elapsed_s) if stop else track(limits, motion, target, elapsed_s)
        require_joint_limits(limits, motion, after, elapsed_s)
        place = tool.position(after.setpoint.tolist())
        rows.append((math.dist(place, tool.position(motion.setpoint.tolist())) / elapsed_s, place, hit))
        motion = after
    return rows


def require_joint_limits(limits: Limits, before: Motion, after: Motion, elapsed_s: float) -> None:
    velocity = (after.setpoint - before.setpoint) / elapsed_s
    acceleration = (velocity - before.velocity) / elapsed_s
    jerk = (acceleration - before.acceleration) / elapsed_s
    assert (after.setpoint >= limits.minimum).all()
    assert (after.setpoint <= limits.maximum).all()
    assert (np.abs(velocity) <= limits.max_velocity).all()
    assert (np.abs(acceleration) <= limits.max_acceleration * (1 + 1e-7)).all()
    assert (np.abs(jerk) <= limits.max_jerk * (1 + 1e-6)).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_tool_of_a_chain_keeps_its_speed_and_the_joints_their_limits(arm, seed):
    rows = drive(arm, 2000, seed)
    speeds = np.array([speed for speed, _, _ in rows])
    assert sum(bool(hit & Limited.CARTESIAN) for _, _, hit in rows) > 100
    assert 0.24 < speeds.max() <= 0.25 * 1.001  # 0.1 %: a braking arm may get into a pose of longer levers


@pytest.mark.parametrize("seed", range(3))
def test_the_tool_of_a_chain_stays_in_its_box_and_the_joints_keep_their_limits(arm, seed):
    start = np.array(tool_of(arm).position([0.0, 0.0, 0.0, 0.0, 0.05, 0.0]))
    low, high = start - np.array([0.08, 0.05, 0.1]), start + np.array([0.02, 0.05, 0.1])
    box = replace(arm.cartesian, max_speed=10.0, minimum=tuple(low.tolist()), maximum=tuple(high.tolist()))
    rows = drive(replace(arm, cartesian=box), 2000, seed)
    places = np.array([place for _, place, _ in rows])
    out = np.maximum(low - places, places - high).max()
    assert sum(bool(hit & Limited.CARTESIAN) for _, _, hit in rows) > 100
    assert -0.001 < out <= 0.001  # it comes near the wall; joints that stop one after the other may cut a corner


def test_without_cartesian_limits_the_same_drive_breaks_them(arm):
    """The test above can fail."""
    limits, tool = limits_of(replace(arm, cartesian=None), STEP_S), tool_of(arm)
    motion, fastest = Motion.at_rest(np.array([0.0, 0.0, 0.0, 0.0, 0.05, 0.0])), 0.0
    for _ in range(500):
        after, _ = track(limits, motion, [2.0, 1.0, -1.0, 0.5, 0.1, 0.0], STEP_S)
        places = [tool.position(m.setpoint.tolist()) for m in (motion, after)]
        fastest, motion = max(fastest, math.dist(*places) / STEP_S), after
    assert fastest > 0.5


def sawyer(max_speed):
    arm = profiles.load_arm("metaworld-sawyer")
    box = Cartesian(max_speed, (-0.2, 0.5, 0.1), (0.2, 2.0, 0.4), ("x", "y", "z"), (), (0.0, 0.0, 0.0))
    return replace(arm, cartesian=box)


def test_a_cartesian_arm_keeps_its_box_as_it_keeps_its_ranges():
    limits = limits_of(sawyer(2.0), 0.0125)
    assert limits.minimum == pytest.approx([-0.2, 0.5, 0.1, -1.0])
    assert limits.maximum == pytest.approx([0.2, 1.0, 0.4, 1.0])  # y: the range is narrower than the box


def test_a_cartesian_arm_is_slowed_along_its_own_direction():
    """Asked for 0.8 m/s in x and y, allowed 0.4."""
    limits, motion = limits_of(sawyer(0.4), 0.0125), Motion.at_rest(np.array([0.0, 0.6, 0.2, -1.0]))
    for _ in range(5):
        after, hit = track(limits, motion, motion.setpoint + np.array([0.008, 0.006, 0.0, 0.0]), 0.0125)
        step, motion = after.setpoint - motion.setpoint, after
        assert hit & Limited.CARTESIAN
        assert np.linalg.norm(step) / 0.0125 <= 0.4
        assert np.linalg.norm(step) / 0.0125 > 0.38
        assert step[1] / step[0] == pytest.approx(0.75, abs=1e-6)


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("max_speed", "max_speed = 0.25", "max_speed = 0"),
        ("maximum", "[0.7, 0.5, 0.8]", "[0.7, -0.5, 0.8]"),
        ("tip_xyz", "tip_xyz = [0.05, 0.0, 0.1]", "tip_xyz = [0.05, 0.0]"),
        ("kind", 'kind = "prismatic"', 'kind = "revolute"'),
        ("channel", 'channel = "j3"', 'channel = "elbow"'),
        ("joints", 'channel = "j3"', 'channel = "j2"'),
        ("axis", "axis = [0.6, 0.0, 0.8]", "axis = [0.0, 0.0, 0.0]"),
        ("joints", "tip_xyz", 'channels = ["j0", "j1", "j2"]\ntip_xyz'),
        ("colour", "tip_xyz", 'colour = "red"\ntip_xyz'),
    ],
)
def test_a_wrong_chain_is_refused_by_key(tmp_path, key, old, new):
    path, text = tmp_path / "wrong.toml", chain_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ProfileError, match=key if key != "joints" else "channel"):
        profiles.load_arm(path)
