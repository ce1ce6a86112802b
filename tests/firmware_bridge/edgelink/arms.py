"""What the contract test needs of edgelink: a controller with six joints."""

from firmware_bridge.arm import Joint

JOINTS = (
    *(Joint(f"joint{i}", "rad", -1.5, 1.5, i, "", direction=(-1) ** i, zero_rad=0.1 * i) for i in range(5)),
    Joint("slide", "m", 0.0, 0.2, 5, "", ratio=0.1),
)
OPTIONS: dict[str, float | int | str | bool] = {}
WATCHDOG_S = 0.1
ONE_DEVICE = True  # one controller answers for all joints: none can be silent alone
