"""A camera process of the suite: a grey picture 40 times a second into an inherited slot, until stdin closes.

python -m tests.faults.camera FD
"""

from __future__ import annotations

import os
import select
import sys
import time

import numpy as np

from edgevla.sensors.camera import CameraSlot

SIZE, PERIOD_S = 96, 0.025


def main() -> int:
    slot = CameraSlot.attach(int(sys.argv[1]))
    image = np.full((SIZE, SIZE, 3), 60, np.uint8)
    while not select.select([0], [], [], PERIOD_S)[0] or os.read(0, 64):
        slot.publish(image, time.monotonic_ns())
    return 0


if __name__ == "__main__":
    sys.exit(main())
