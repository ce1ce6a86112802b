"""Limits on absolute set-points: acceleration, velocity, range. Pure, per channel, float64 inside.

The limiter is the last judge before the codec: what leaves it is finite, inside the range of every channel,
and no faster than the profile allows over the time since the last command.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from profiles.model import ArmProfile

Array = NDArray[np.float64]

_REST = 1e-9  # channel units per second: rounding left of a stop, not a motion


class Limited(IntFlag):
    """What the limiter changed."""

    NONE = 0
    ACCELERATION = 1
    VELOCITY = 2
    RANGE = 4
    NOT_FINITE = 8  # the wanted set-point was rejected, the last one is repeated


@dataclass(frozen=True)
class Limits:
    """One value per channel, float64 (n,), in the channel's unit and seconds."""

    minimum: Array
    maximum: Array
    max_velocity: Array
    max_acceleration: Array
    stop_deceleration: Array


@dataclass(frozen=True)
class Motion:
    """The last command and its rate: set-point (n,) in channel units, velocity (n,) per second."""

    setpoint: Array
    velocity: Array

    @staticmethod
    def at_rest(setpoint: NDArray[np.floating]) -> Motion:
        return Motion(np.array(setpoint, np.float64), np.zeros(len(setpoint)))

    @property
    def resting(self) -> bool:
        return not self.velocity.any()


def limits_of(arm: ArmProfile) -> Limits:
    """Limits of an arm profile; ranges rounded to float32 because that is what goes over the wire."""

    def column(name: str) -> Array:
        return np.array([getattr(channel, name) for channel in arm.channels], np.float64)

    return Limits(
        minimum=column("minimum").astype(np.float32).astype(np.float64),
        maximum=column("maximum").astype(np.float32).astype(np.float64),
        max_velocity=column("max_velocity"),
        max_acceleration=column("max_acceleration"),
        stop_deceleration=column("stop_deceleration"),
    )


def track(limits: Limits, motion: Motion, wanted: NDArray[np.floating], elapsed_s: float) -> tuple[Motion, Limited]:
    """Towards `wanted` (n,) as far as the limits allow in `elapsed_s` since the last command."""
    target = np.asarray(wanted, np.float64)
    if target.shape != motion.setpoint.shape or not np.isfinite(target).all():
        return Motion(motion.setpoint, np.zeros_like(motion.setpoint)), Limited.NOT_FINITE
    velocity = (target - motion.setpoint) / elapsed_s
    step = limits.max_acceleration * elapsed_s
    accelerated = np.clip(velocity, motion.velocity - step, motion.velocity + step)
    bounded = np.clip(accelerated, -limits.max_velocity, limits.max_velocity)
    moved, ranged = _move(limits, motion, bounded, elapsed_s)
    # A limit counts only when it bites by more than float32 rounding of a set-point can explain.
    slack = 1e-6 * np.maximum(1.0, np.abs(motion.setpoint)) / elapsed_s
    hit = Limited.NONE
    if (np.abs(accelerated - velocity) > slack).any():
        hit |= Limited.ACCELERATION
    if (np.abs(bounded - accelerated) > slack).any():
        hit |= Limited.VELOCITY
    return moved, hit | ranged


def slow_down(limits: Limits, motion: Motion, elapsed_s: float) -> tuple[Motion, Limited]:
    """One step of the stop: every channel loses `stop_deceleration` until it rests."""
    speed = np.abs(motion.velocity) - limits.stop_deceleration * elapsed_s
    speed[speed < _REST] = 0.0
    return _move(limits, motion, np.copysign(speed, motion.velocity), elapsed_s)


def hold(motion: Motion) -> Motion:
    """The last commanded position, at rest."""
    return Motion(motion.setpoint, np.zeros_like(motion.velocity))


def _move(limits: Limits, motion: Motion, velocity: Array, elapsed_s: float) -> tuple[Motion, Limited]:
    free = (motion.setpoint + velocity * elapsed_s).astype(np.float32).astype(np.float64)
    setpoint = np.clip(free, limits.minimum, limits.maximum)
    ranged = Limited.RANGE if (setpoint != free).any() else Limited.NONE
    # At the end of the range the command rests: the next step must not believe in a speed that is not there.
    return Motion(setpoint, np.where(setpoint == free, velocity, 0.0)), ranged
