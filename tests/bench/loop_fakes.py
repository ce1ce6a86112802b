"""A plant and a policy whose commands say which chunk and which row made them."""

import numpy as np

import profiles
from edgevla.control.schedule import Schedule
from edgevla.sim.lockstep import Loop

R, H = 8, 32
LOOP = Loop(
    schedule=Schedule(horizon=H, delay=2, replan=R, survive=2),
    arm=profiles.load_arm("metaworld-sawyer"),
    period_s=0.0125,
    kinds=("delta", "delta", "delta", "absolute"),
    scale=(0.01, 0.01, 0.01, 1.0),
    offset=(0.0, 0.0, 0.0, 0.0),
)
START = np.array([0.0, 0.6, 0.2, -1.0], np.float32)


class Arm:
    """Goes where it is told at once; its picture says at which tick it was taken."""

    def __init__(self):
        self.setpoint0, self.ticks, self.commanded = START, 0, []

    def render(self):
        return np.full((96, 96, 3), self.ticks, np.uint8)

    def position(self):
        return self.commanded[-1] if self.commanded else START

    def step(self, setpoint):
        self.commanded.append(np.array(setpoint, np.float32))
        self.ticks += 1


class Coded:
    """Stands still; the gripper of row i, asked at tick k, is `code(k, i)`."""

    def __init__(self):
        self.asked, self.prefixes, self.anchors = [], [], []

    def set_instruction(self, text):
        self.words = text

    def infer(self, image, state, prefix):
        self.asked.append(int(image[0, 0, 0]))
        self.prefixes.append(np.array(prefix))
        chunk = np.zeros((H, 4), np.float32)
        chunk[:, 3] = code(self.asked[-1], np.arange(H))
        return chunk

    def to_setpoints(self, chunk, anchor, d):
        self.anchors.append(np.array(anchor))
        told = np.repeat(anchor[None], H, 0)
        told[:, 3] = chunk[:, 3]
        told[:d] = anchor
        return told.astype(np.float32)


def code(asked, row):
    """Gripper value that says: asked at tick `asked`, row `row`."""
    return np.float32(-0.9) + np.float32(0.01) * np.float32(asked) + np.float32(0.0001) * np.asarray(row, np.float32)
