"""A camera that is there before the run: noise of the right size at the profile's rate, in a slot of shared memory."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import numpy as np

from edgevla.control.clock import Grid
from edgevla.control.plan import PlannedCamera, RunPlan
from edgevla.errors import BadInput, explain
from edgevla.sensors.camera import CameraSlot

_FRAMES = 16  # different pictures, so that no cache holds the answer


def only_camera(plan: RunPlan) -> PlannedCamera:
    """The one that a cold start is given. Raises BadInput where it needs another one besides."""
    needed = [camera.name for camera in plan.cameras if camera.when_missing == "refuse"]
    if len(needed) > 1 or not plan.cameras:
        todo = "a policy of several cameras is profiled with them plugged in: this is not built yet"
        raise BadInput(explain("the bundle cannot be started cold here", "one camera", ", ".join(needed), todo))
    return plan.cameras[0]


@contextlib.contextmanager
def publishing(camera: PlannedCamera) -> Iterator[CameraSlot]:
    """Frames in the slot for as long as the block lasts, from a thread of this process."""
    slot, ended = CameraSlot.create(camera.width, camera.height, slots=8), threading.Event()
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8) for _ in range(_FRAMES)]
    grid = Grid(time.monotonic_ns(), round(1e9 / camera.rate_hz))

    def publish() -> None:
        step = 0
        while not ended.wait(max(0, grid.deadline_ns(step) - time.monotonic_ns()) / 1e9):
            slot.publish(frames[step % _FRAMES], time.monotonic_ns())
            step = grid.current_step(step, time.monotonic_ns()) + 1

    thread = threading.Thread(target=publish, name="camera", daemon=True)
    thread.start()
    try:
        yield slot
    finally:
        ended.set()
        thread.join()
        slot.close()
