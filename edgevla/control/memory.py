"""Everything the processes of a run share: file descriptors without names, closed with this object."""

from __future__ import annotations

import os

from edgevla.control.exchange import ORDER_BYTES, WORDS_BYTES, reply_bytes, request_bytes
from edgevla.control.options import RunOptions
from edgevla.control.plan import RunPlan
from edgevla.control.shm import Slots
from edgevla.flight.tape import observation_bytes
from edgevla.sensors.camera import CameraSlot
from edgevla.telemetry.rows import Rows, capture_dtype, inference_dtype, tick_dtype

_ROWS_KEPT_S = 600.0  # of servo steps and inferences in memory; the newest are kept
_TAPE_SLOTS = 8  # observations that the recorder may lag behind
_CAMERA_SLOTS = 4


class Memory:
    """Slots and rows of one run."""

    def __init__(self, plan: RunPlan, options: RunOptions) -> None:
        channels, states = len(plan.arm.channels), len(plan.arm.state)
        steps = int(_ROWS_KEPT_S / plan.period_s * plan.target.servo_ratio)
        self.requests = Slots.create(request_bytes(plan.schedule.delay, channels, states, plan.observations))
        self.replies = Slots.create(reply_bytes(plan.schedule.horizon, channels))
        self.orders = Slots.create(ORDER_BYTES, slots=16, name="edgevla-orders")
        self.words = Slots.create(WORDS_BYTES, name="edgevla-words")
        self.ticks = Rows.create(tick_dtype(channels, states), steps)
        self.inferences = Rows.create(inference_dtype(), steps // plan.target.servo_ratio + 1)
        self.kick_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.cameras = {camera.name: _camera(plan, options, camera.name) for camera in plan.cameras}
        frames = {camera.name: max(2, int(_ROWS_KEPT_S * camera.rate_hz)) for camera in plan.cameras}
        self.captures = {name: Rows.create(capture_dtype(), frames[name]) for name in options.cameras}
        self.tape = None if options.record is None else _tape(plan)

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        for slots in (self.requests, self.replies, self.orders, self.words):
            slots.close()
        for rows in (self.ticks, self.inferences, *self.captures.values()):
            rows.close()
        for camera in self.cameras.values():
            camera.close()
        if self.tape is not None:
            self.tape.close()
        os.close(self.kick_fd)


def _camera(plan: RunPlan, options: RunOptions, name: str) -> CameraSlot:
    if name in options.camera_fds:
        return CameraSlot.attach(os.dup(options.camera_fds[name]))
    camera = next(camera for camera in plan.cameras if camera.name == name)
    past = (plan.observations - 1) * plan.period_s * camera.rate_hz  # frames between the first and the last observation
    return CameraSlot.create(camera.width, camera.height, _CAMERA_SLOTS + int(past) + 1)


def _tape(plan: RunPlan) -> Slots:
    sizes = {
        f"{camera.name}@-{back}" if back else camera.name: (camera.height, camera.width)
        for camera in plan.cameras
        for back in range(plan.observations)
    }
    channels, states = len(plan.arm.channels), plan.observations * len(plan.arm.state)
    size = observation_bytes(plan.schedule.delay, channels, states, plan.schedule.horizon, sizes)
    return Slots.create(size, _TAPE_SLOTS, name="edgevla-tape")
