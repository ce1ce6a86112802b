"""What numbers mean on the robot: drafted from a dataset, refused until it is filled in, then read to the letter."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from edgevla.errors import BadInput
from export.channels import action_channels
from export.embodiment import FILL_IN, draft, read_embodiment, reference_embodiment, require_fits


@dataclass
class Recorded:
    action_names: tuple = ("pan.pos", "gripper.pos")
    state_names: tuple = ("pan.pos",)
    fps: float = 30.0
    action: np.ndarray = field(default_factory=lambda: np.array([[1.0, 0], [2, 5], [-3, 10]], np.float32))
    start: np.ndarray = field(default_factory=lambda: np.array([0, 0, 2]))


def filled(tmp_path, text=None, **changes):
    text = text or draft(Recorded(), {"front": "top", "wrist": "none"})
    text = text.replace(f'arm = "{FILL_IN}"', 'arm = "so101"').replace(f'"{FILL_IN}"', '"deg"')
    for before, after in changes.values():
        assert before in text
        text = text.replace(before, after, 1)
    path = tmp_path / "robot.toml"
    path.write_text(text)
    return path


def test_a_draft_holds_names_and_recorded_ranges_and_is_refused_until_filled_in(tmp_path):
    text = draft(Recorded(), {"front": "top"})
    (tmp_path / "robot.toml").write_text(text)
    with pytest.raises(BadInput, match=r"robot\.toml"):
        read_embodiment(tmp_path / "robot.toml")
    (tmp_path / "robot.toml").write_text(text.replace(f'arm = "{FILL_IN}"', 'arm = "so101"'))
    with pytest.raises(BadInput, match="what it is on your robot"):
        read_embodiment(tmp_path / "robot.toml")


def test_a_filled_draft_is_read_with_every_number(tmp_path):
    found = read_embodiment(filled(tmp_path))
    assert [a.name for a in found.actions] == ["pan.pos", "gripper.pos"]
    pan = found.actions[0]
    assert (pan.minimum, pan.maximum) == (-3.0, 2.0)
    assert (pan.start_minimum, pan.start_maximum) == (-3.0, 1.0)  # of the first ticks of both episodes
    assert (pan.kind, pan.unit) == ("absolute", "deg")
    assert [(c.name, c.source, c.rate_hz) for c in found.cameras] == [("front", "top", 30.0), ("wrist", "none", 30.0)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('kind = "absolute"', 'kind = "torque"'), "absolute"),
        (("maximum = 2.0", "maximum = -3.0"), "start_maximum <= maximum"),
        (("rate_hz = 30.0", "rate_hz = 0"), "rate_hz"),
        (("minimum = -3.0", 'minimum = "low"'), "minimum"),
        (('arm = "so101"', 'arm = "so101"\nspeed = 1'), "speed"),
        (('name = "gripper.pos"', 'name = "pan.pos"'), "names that differ"),
        (('target = "host"', "target = host"), "a TOML file"),
    ],
)
def test_a_file_that_is_wrong_names_the_key(tmp_path, change, told):
    with pytest.raises(BadInput) as caught:
        read_embodiment(filled(tmp_path, change=change))
    assert told in str(caught.value)


def test_names_in_another_order_than_the_policys_are_refused(tmp_path):
    found = read_embodiment(filled(tmp_path))
    require_fits(found, ("pan.pos", "gripper.pos"), ("pan.pos",))
    with pytest.raises(BadInput, match=r"gripper\.pos, pan\.pos, in this order"):
        require_fits(found, ("gripper.pos", "pan.pos"), ("pan.pos",))
    with pytest.raises(BadInput, match="embodiment: state"):
        require_fits(found, ("pan.pos", "gripper.pos"), ("lift.pos",))


def test_the_reference_arm_needs_no_file():
    found = reference_embodiment()
    assert [a.name for a in found.actions] == [channel["name"] for channel in action_channels()]
    assert found.actions[0].unit == "m"
