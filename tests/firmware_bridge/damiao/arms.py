"""The seven joints of an OpenArm's side, as the tests of Damiao drive them (kp, kd: LeRobot's openarm_follower)."""

from firmware_bridge.arm import Joint

_ROWS = (  # model, range, kp, kd
    ("dm8009", -1.3, 1.3, 240.0, 5.0),
    ("dm8009", -1.5, 0.1, 240.0, 5.0),
    ("dm4340", -1.4, 1.4, 240.0, 3.0),
    ("dm4340", 0.0, 2.3, 240.0, 5.0),
    ("dm4310", -1.4, 1.4, 24.0, 0.3),
    ("dm4310", -0.7, 0.7, 31.0, 0.3),
    ("dm4310", -1.4, 1.4, 25.0, 0.3),
)
JOINTS: tuple[Joint, ...] = tuple(
    Joint(f"joint_{i}", "rad", low, high, i, model, kp=kp, kd=kd, max_effort=7.0, reply_id=0x10 + i)
    for i, (model, low, high, kp, kd) in enumerate(_ROWS, start=1)
)
GRIPPER = Joint("gripper", "rad", -1.1, 0.0, 8, "dm4310", max_effort=2.0, reply_id=0x18)  # force-position mode
OPTIONS: dict[str, float] = {}
WATCHDOG_S = 0.1
