"""A process as a servo process is: commands a Feetech arm at a fixed rate and counts its steps in shared memory.

python -m tests.edgevla.control.servo_like PORT ROWS_FD [PHASE]     prints "moving" once it is
"""

import math
import sys
import time

import numpy as np

from edgevla.control.ladder import Phase
from edgevla.telemetry.rows import Rows, tick_dtype
from firmware_bridge.arm import Mode
from firmware_bridge.protocols import open_arm
from profiles import load_arm
from profiles.bridge import arm_config

STEP_S = 0.01


def main() -> None:
    port, rows_fd, phase = sys.argv[1], int(sys.argv[2]), Phase[sys.argv[3] if len(sys.argv) > 3 else "TRACK"]
    profile = load_arm("so101")
    n = len(profile.channels)
    dtype = tick_dtype(n, len(profile.state))
    rows, row = Rows(rows_fd, dtype), np.zeros(1, dtype)
    row["phase"] = phase
    arm = open_arm(arm_config(profile, {"main": port}))
    arm.connect()
    arm.arm()
    begun_s, at = time.monotonic(), 0
    while True:
        swing = math.sin(2 * math.pi * 0.5 * (time.monotonic() - begun_s))
        setpoint = np.array([*[0.8 * swing] * (n - 1), 0.5 + 0.3 * swing], np.float32)
        arm.send(setpoint, time.monotonic_ns() + 1_000_000_000)
        rows.append(row[0].item())
        at += 1
        if at == 30:
            print("moving", flush=True)
        time.sleep(STEP_S)
        state = arm.poll()
        if state is not None and state.mode is not Mode.ARMED:
            raise SystemExit("the arm stopped itself")


if __name__ == "__main__":
    main()
