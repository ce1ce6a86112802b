"""The arm of six moteus joints that tests use."""

from __future__ import annotations

from firmware_bridge.arm import Joint

JOINTS: tuple[Joint, ...] = (
    Joint("base", "rad", -1.5, 1.5, 1, "moteus"),
    Joint("shoulder", "rad", -1.2, 1.2, 2, "moteus", direction=-1, zero_rad=0.1, kp=40.0, kd=1.0),
    Joint("elbow", "rad", -1.8, 1.8, 3, "moteus", torque_ff=0.15, max_effort=2.5),
    Joint("wrist", "rad", -1.5, 1.5, 4, "moteus"),
    Joint("hand", "rad", -1.5, 1.5, 9, "moteus"),  # its answers need extended identifiers
    Joint("gripper", "m", 0.0, 0.08, 10, "moteus", ratio=0.02, zero_rad=-2.0),
)
OPTIONS: dict[str, str] = {}
WATCHDOG_S = 0.1
DATA_BAUD = 5_000_000
