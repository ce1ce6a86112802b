"""Where an arm may be armed, and what a person is told to type where it may not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import profiles
from edgevla.cli.run import _home
from edgevla.control.arming import require_start_range
from edgevla.errors import Refused

ARM = profiles.load_arm("so101")
HOME = "edgevla arm home --arm so101 --port /dev/ttyACM0 --calibration so101.json"
INSIDE = [0.5 * (low + high) for low, high in zip(ARM.start_low, ARM.start_high, strict=True)]


def told(pan_rad: float, bundle_low: float, home: str = HOME) -> str:
    low = (bundle_low, *ARM.start_low[1:])
    config = SimpleNamespace(arm=ARM, start_low=low, start_high=ARM.start_high, home=home)
    held = np.array([pan_rad, *INSIDE[1:]], np.float32)
    with pytest.raises(Refused) as caught:
        require_start_range(config, SimpleNamespace(held_setpoint=held))
    return str(caught.value)


def test_outside_the_arms_start_range_the_line_of_this_run_is_named() -> None:
    text = told(-1.9, ARM.start_low[0])
    assert text.startswith("the arm is outside the start range in shoulder_pan\n  expected: -1.89 .. 1.89 rad\n")
    assert text.endswith(f"to do:    `{HOME}`, then run again")


def test_an_arm_on_two_buses_may_have_them_swapped() -> None:
    arm = profiles.load_arm("openarm")
    config = SimpleNamespace(arm=arm, start_low=arm.start_low, start_high=arm.start_high, home="edgevla arm home")
    with pytest.raises(Refused, match=r"or swap the ports of left and right, if each cable is on the other's$"):
        require_start_range(config, SimpleNamespace(held_setpoint=np.array(arm.start_low) - 0.01))


def test_where_only_the_bundle_starts_elsewhere_going_home_is_not_advised() -> None:
    text = told(0.2, 0.5)
    assert "by hand to where the bundle starts" in text
    assert "arm home" not in text


def test_an_arm_that_no_other_command_reaches_has_no_line() -> None:
    assert told(-1.9, ARM.start_low[0], home="").endswith("to do:    move the arm into the start range before arming")


def test_the_command_line_names_its_own_arm_port_and_calibration() -> None:
    assert _home("so101", "/dev/ttyACM0", Path("so101.json")) == HOME
    assert _home("./my arm.toml", "/dev/ttyACM0", None) == "edgevla arm home --arm './my arm.toml' --port /dev/ttyACM0"
    assert _home("so101", "", None) == ""
