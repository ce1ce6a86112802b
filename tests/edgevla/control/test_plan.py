"""What a run is told comes from bundle, target and arm, and what does not fit is refused before it starts."""

from dataclasses import replace

import pytest

import profiles
from edgevla.bundle import open_bundle
from edgevla.control.plan import plan_of
from edgevla.control.schedule import Schedule
from edgevla.errors import Refused
from tests.rich_bundle import write_rich_bundle

TARGET = profiles.load_target("host")
ARM = profiles.load_arm("metaworld-sawyer")


def test_the_plan_of_a_bundle_takes_each_number_from_its_owner(tiny_bundle_path):
    plan = plan_of(open_bundle(tiny_bundle_path), TARGET, ARM)
    assert plan.schedule == Schedule(32, 2, 8, 2)  # H of the bundle; d, r, m of the target
    assert plan.period_s == 0.0125
    assert plan.kinds == ("delta", "delta", "delta", "absolute")
    assert plan.scale == (0.01, 0.01, 0.01, 1.0)
    assert [(c.name, c.max_age_s) for c in plan.cameras] == [("corner", ARM.cameras[0].max_age_s)]
    assert plan.bundle_sha256 == open_bundle(tiny_bundle_path).sha256


@pytest.mark.parametrize(
    ("arm", "text"),
    [
        ({"torque_policy": "ramp"}, "hold or off"),
        ({"channels": ARM.channels[:3]}, "action channels"),
        ({"cameras": ()}, "camera"),
        ({"watchdog_s": None}, "no watchdog"),
    ],
)
def test_an_arm_that_does_not_fit_is_refused(tiny_bundle_path, arm, text):
    with pytest.raises(Refused, match=text):
        plan_of(open_bundle(tiny_bundle_path), TARGET, replace(ARM, **arm))


def test_a_camera_that_the_arm_lacks_is_refused_unless_it_may_be_absent(tmp_path):
    with pytest.raises(Refused, match="camera"):
        plan_of(write_rich_bundle(tmp_path / "rich.bundle"), TARGET, ARM)


def test_an_arm_without_a_watchdog_that_no_guardian_can_hold_is_refused(tiny_bundle_path):
    """Accepted or not. Those that a guardian can hold: test_motor_arms.py, test_guardian.py."""
    arm = replace(ARM, watchdog_s=None)
    for accepted in (False, True):
        with pytest.raises(Refused, match="watchdog"):
            plan_of(open_bundle(tiny_bundle_path), TARGET, arm, accept_no_watchdog=accepted)
