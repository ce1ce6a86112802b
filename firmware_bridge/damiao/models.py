"""The motors: what the integers of a frame are scaled to. A motor's own registers 21, 22, 23 have the last word.

The public tables do not agree with each other, and a motor's registers can be set to anything; so the driver reads them
at connect and refuses a motor that differs from its row here. A motor that is meant to differ says so in the profile:

    model = "dm4340@12.5,8,28"     PMAX, VMAX, TMAX as that motor has them

Sources: (a) openarm_can, dm_motor_constants.hpp, MOTOR_LIMIT_PARAMS; (b) LeRobot 0.4.4, motors/damiao/tables.py,
MOTOR_LIMIT_PARAMS; (c) damiao-motor 1.0.6, core/motor.py, _MOTOR_LIMIT_PARAM. All give rad, rad/s, N m.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from firmware_bridge.errors import WrongJoint, explain

KP_MAX = 500.0  # N m/rad, the same for all (a, b, c)
KD_MAX = 5.0  # N m s/rad, the same for all (a, b, c)


class Scale(NamedTuple):
    """Full scale of position, velocity and torque, each from minus to plus."""

    pmax_rad: float
    vmax_rad_s: float
    tmax_nm: float


MODELS: dict[str, Scale] = {
    "dm3507": Scale(12.5, 50.0, 5.0),  # a; b has 30 and 10, c 12.566
    "dm4310": Scale(12.5, 30.0, 10.0),  # a, b, c
    "dm4310_48v": Scale(12.5, 50.0, 10.0),  # a, b
    "dm4310p": Scale(12.5, 50.0, 10.0),  # c
    "dm4340": Scale(12.5, 10.0, 28.0),  # a, c; b has 8
    "dm4340_48v": Scale(12.5, 10.0, 28.0),  # a, b
    "dm4340p": Scale(12.5, 10.0, 28.0),  # c
    "dm6006": Scale(12.5, 45.0, 20.0),  # a, b, c
    "dm6248p": Scale(12.566, 20.0, 120.0),  # c
    "dm8006": Scale(12.5, 45.0, 40.0),  # a, b, c
    "dm8009": Scale(12.5, 45.0, 54.0),  # a, b, c
    "dm10010": Scale(12.5, 20.0, 200.0),  # a, b, c
    "dm10010l": Scale(12.5, 25.0, 200.0),  # a, b, c
    "dmh3510": Scale(12.5, 280.0, 1.0),  # a, b, c
    "dmh6215": Scale(12.5, 45.0, 10.0),  # a, b; c calls it G6215
    "dmg6220": Scale(12.5, 45.0, 10.0),  # a, b; c calls it H6220
    "dmjh11": Scale(12.5, 10.0, 12.0),  # c
}


def scale_of(model: str) -> Scale:
    """The row of `model`, or what stands behind its @. Raises WrongJoint for a model nobody knows."""
    name, _, own = model.partition("@")
    row = MODELS.get(name.lower())
    if row is None:
        raise WrongJoint(explain("a Damiao model that is not in the table", ", ".join(MODELS), model, _TODO))
    if not own:
        return row
    try:
        scale = Scale(*(float(part) for part in own.split(",")))
    except (TypeError, ValueError):
        scale = Scale(0.0, 0.0, 0.0)
    if not all(math.isfinite(value) and value > 0 for value in scale):
        raise WrongJoint(
            explain(f"the scale of model {model!r}", f"{name}@PMAX,VMAX,TMAX, numbers above 0", own, _TODO)
        )
    return scale


def named(scale: Scale) -> str:
    """Which models have this scale, for a table of what was found: several share one."""
    same = [name for name, row in MODELS.items() if row == scale]
    return " or ".join(same) if same else "@{:g},{:g},{:g}".format(*scale)


_TODO = 'write the model of the name plate, e.g. "dm4310", or "dm4310@12.5,30,10" with the motor\'s own registers'
