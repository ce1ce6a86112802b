"""Engines of a few lines for tests of the loop: imported by the policy process under its dotted name."""

from __future__ import annotations

import os
import time

import numpy as np

from edgevla.errors import BadInput, explain

GOAL = np.array([0.10, 0.70, 0.20], np.float32)  # m, of the virtual arm's integrator scene
FAR = np.array([-0.4, 0.45, 0.4], np.float32)  # m, the far corner: never a success
SCALE = 0.01  # m per unit of action
HORIZON, CHANNELS = 32, 4
LOW = np.array([-0.5, 0.40, 0.05, -1.0], np.float32)
HIGH = np.array([0.5, 1.0, 0.5, 1.0], np.float32)


class ToGoal:
    """Half speed towards a goal, gripper open; `after` inferences later `then()` is called in each."""

    def __init__(self, goal=GOAL, after=1 << 30, then=lambda: None):
        self.goal, self.after, self.then, self.count = goal, after, then, 0

    def set_instruction(self, text):
        if text != "go to the dot":
            raise BadInput(explain("instruction outside the vocabulary", "go to the dot", text, "say it so"))

    def forget(self):
        """It remembers nothing."""

    def observe(self, images, state):
        """It remembers nothing."""

    def node_providers(self):
        return {}

    def infer(self, images, state, prefix):
        self.count += 1
        if self.count > self.after:
            self.then()
        chunk = np.full((HORIZON, CHANNELS), -1.0, np.float32)
        chunk[:, :3] = np.clip((self.goal - state[:3]) / SCALE / HORIZON * 2, -0.5, 0.5)
        chunk[: len(prefix)] = prefix
        return chunk

    def to_setpoints(self, chunk, anchor, d):
        setpoints = chunk.copy()
        setpoints[d:, :3] = anchor[:3] + np.cumsum(chunk[d:, :3], axis=0) * SCALE
        setpoints[:d, :3] = anchor[:3]
        return np.clip(setpoints, LOW, HIGH).astype(np.float32)


WARM_UPS = 10


def to_goal(config):
    return ToGoal()


def away(config):
    """Never succeeds: the far corner."""
    return ToGoal(goal=FAR)


def listening(config):
    """Never succeeds, and hears anything."""
    engine = ToGoal(goal=FAR)
    engine.set_instruction = lambda text: None
    return engine


def _fail():
    raise RuntimeError("the engine broke")


def failing(config):
    return ToGoal(goal=FAR, after=WARM_UPS + 4, then=_fail)


def hanging(config):
    return ToGoal(goal=FAR, after=WARM_UPS + 3, then=lambda: time.sleep(3600))


def dying(config):
    return ToGoal(goal=FAR, after=WARM_UPS + 3, then=lambda: os._exit(7))


def broken(config):
    raise RuntimeError("no such model")


def not_finite(config):
    engine = ToGoal()
    engine.to_setpoints = lambda chunk, anchor, d: np.full((HORIZON, CHANNELS), np.nan, np.float32)
    return engine


class Aside(ToGoal):
    """Joints of any number: a tenth of a unit up from where each was first seen."""

    def __init__(self):
        super().__init__()
        self.goal = None

    def infer(self, images, state, prefix):
        if self.goal is None or not np.isfinite(self.goal).all():
            self.goal = state + np.float32(0.1)
        return np.repeat(self.goal[None], HORIZON, axis=0)

    def to_setpoints(self, chunk, anchor, d):
        return np.asarray(chunk, np.float32)


def aside(config):
    return Aside()
