"""Where the tool centre point is, how fast it moves, whether it keeps its box. Pure floats, SI units.

A chain is read from the base to the tool as in a URDF: each joint has an origin (xyz in m, roll-pitch-yaw in rad, seen
from the joint before), then turns about or slides along its axis. Only the tool's position matters here, so a point
is carried from the tool to the base: one rotation about z and one fixed transform a joint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, sin, sqrt

import numpy as np
from numpy.typing import NDArray

from edgevla.control.braking import Axis, can_stay, travel_up
from profiles.model import ArmProfile, Cartesian, ChainJoint

Point = tuple[float, float, float]
Matrix = tuple[float, float, float, float, float, float, float, float, float]  # 3 x 3, row by row


@dataclass(frozen=True)
class Link:
    """One joint, its axis turned to z: p -> rotation (Rz(q) p, or p + q z) + offset."""

    channel: int
    slides: bool
    rotation: Matrix
    offset: Point
    lever: float  # m of tool per rad (at most), 1 for a sliding joint


@dataclass(frozen=True)
class Tool:
    """The Cartesian limits of an arm. `minimum`, `maximum` None: the box is kept by the channels' own ranges."""

    max_speed: float
    minimum: Point | None
    maximum: Point | None
    channels: tuple[int, ...]  # those that are x, y, z; empty for a chain
    chain: tuple[Link, ...]  # base first
    tip: Point  # tool centre point behind the last joint

    def position(self, setpoint: Sequence[float]) -> Point:
        """Tool centre point (m) in the base's frame at `setpoint` (n,)."""
        if self.channels:
            x, y, z = (setpoint[i] for i in self.channels)
            return x, y, z
        x, y, z = self.tip
        for link in reversed(self.chain):
            q = setpoint[link.channel]
            if link.slides:
                z += q
            else:
                c, s = cos(q), sin(q)
                x, y = x * c - y * s, x * s + y * c
            a, b, d, e, f, g, h, i, j = link.rotation
            ox, oy, oz = link.offset
            x, y, z = a * x + b * y + d * z + ox, e * x + f * y + g * z + oy, h * x + i * y + j * z + oz
        return x, y, z

    def keeps(self, axes: Sequence[Axis], before: Sequence[float], rows: Sequence[Point], elapsed_s: float) -> bool:
        """Whether a step from `before` to `rows` (set-point, velocity, acceleration per channel) keeps the limits.

        Judged at the step, at the speed that its accelerations still lead to, and where braking from it ends.
        """
        return self._slow_enough(axes, before, rows, elapsed_s) and self._inside(axes, rows)

    def _slow_enough(
        self, axes: Sequence[Axis], before: Sequence[float], rows: Sequence[Point], elapsed_s: float
    ) -> bool:
        coming = [_coming_speed(axis, v, a) for axis, (_, v, a) in zip(axes, rows, strict=True)]
        most = self.max_speed
        if self.chain:
            levers = [(link.lever, link.channel) for link in self.chain]
            if sum(r * max(abs(coming[i]), abs(rows[i][1])) for r, i in levers) <= most:
                return True
        here = [row[0] for row in rows]
        there = self.position(here)
        if _distance(self.position(before), there) > most * elapsed_s:
            return False
        return self._fastest_mix(here, there, coming, elapsed_s) <= most * elapsed_s

    def _fastest_mix(self, here: list[float], there: Point, speeds: list[float], elapsed_s: float) -> float:
        """The longest way (m) of the tool in `elapsed_s` when some joints still move and the others have braked.

        Joints that cancel each other make a slow tool until one of them stops first, so every choice of them counts.
        """
        if self.channels:  # x, y, z are at right angles: nothing cancels
            return sqrt(sum((speeds[i] * elapsed_s) ** 2 for i in self.channels))
        sums: list[Point] = [(0.0, 0.0, 0.0)]
        for link in self.chain:
            moved = list(here)
            moved[link.channel] += speeds[link.channel] * elapsed_s
            x, y, z = self.position(moved)
            x, y, z = x - there[0], y - there[1], z - there[2]
            sums += [(x + a, y + b, z + c) for a, b, c in sums]
        return sqrt(max(x * x + y * y + z * z for x, y, z in sums))

    def _inside(self, axes: Sequence[Axis], rows: Sequence[Point]) -> bool:
        if self.minimum is None or self.maximum is None:
            return True
        rest = [s + travel_up(x, v, a) - travel_up(x, -v, -a) for x, (s, v, a) in zip(axes, rows, strict=True)]
        return self._in_box([row[0] for row in rows]) and self._in_box(rest)

    def _in_box(self, setpoint: Sequence[float]) -> bool:
        if self.minimum is None or self.maximum is None:
            return True
        sides = zip(self.minimum, self.position(setpoint), self.maximum, strict=True)
        return all(low <= value <= high for low, value, high in sides)


def tool_of(arm: ArmProfile) -> Tool | None:
    """The Cartesian limits that the profile declares, or None."""
    limits = arm.cartesian
    if limits is None:
        return None
    index = {channel.name: i for i, channel in enumerate(arm.channels)}
    if limits.channels:
        named = tuple(index[name] for name in limits.channels)
        return Tool(limits.max_speed, None, None, named, (), (0.0, 0.0, 0.0))
    chain, tip = _links(arm, limits, index)
    return Tool(limits.max_speed, limits.minimum, limits.maximum, (), chain, tip)


def rotation_rpy(roll: float, pitch: float, yaw: float) -> NDArray[np.float64]:
    """Rotation (3, 3) about the fixed axes x, then y, then z, as a URDF means it."""
    cr, sr, cp, sp, cy, sy = cos(roll), sin(roll), cos(pitch), sin(pitch), cos(yaw), sin(yaw)
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cr, -sr], [0.0, sr, cr]])
    about_y = np.array([[cp, 0.0, sp], [0.0, 1.0, 0.0], [-sp, 0.0, cp]])
    about_z = np.array([[cy, -sy, 0.0], [sy, cy, 0.0], [0.0, 0.0, 1.0]])
    turned: NDArray[np.float64] = about_z @ about_y @ about_x
    return turned


def _links(arm: ArmProfile, limits: Cartesian, index: dict[str, int]) -> tuple[tuple[Link, ...], Point]:
    frames = [_with_z(joint) for joint in limits.joints]
    lever = float(np.linalg.norm(limits.tip_xyz))
    links: list[Link] = []
    before = [np.eye(3), *frames[:-1]]
    for joint, frame, turned in reversed(list(zip(limits.joints, frames, before, strict=True))):
        channel = arm.channels[index[joint.channel]]
        slides = joint.kind == "prismatic"
        rotation = turned.T @ rotation_rpy(*joint.rpy) @ frame
        offset = turned.T @ np.array(joint.xyz)
        reach = 1.0 if slides else lever
        links.append(Link(index[joint.channel], slides, _matrix(rotation), _point(offset), reach))
        lever += float(np.linalg.norm(joint.xyz))
        lever += max(abs(channel.minimum), abs(channel.maximum)) if slides else 0.0
    return tuple(reversed(links)), _point(frames[-1].T @ np.array(limits.tip_xyz))


def _with_z(joint: ChainJoint) -> NDArray[np.float64]:
    """A rotation (3, 3) whose third column is the joint's axis."""
    axis = np.array(joint.axis) / np.linalg.norm(joint.axis)
    other = np.eye(3)[int(np.argmin(np.abs(axis)))]
    first = np.cross(other, axis)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(axis, first), axis], axis=1)


def _coming_speed(axis: Axis, v: float, a: float) -> float:
    """Velocity reached while an acceleration in its direction is brought to zero."""
    if a * v <= 0.0 or can_stay(axis, v, a):
        return v
    return v + a * abs(a) / (2.0 * axis.jerk)


def _distance(one: Point, other: Point) -> float:
    x, y, z = other[0] - one[0], other[1] - one[1], other[2] - one[2]
    return sqrt(x * x + y * y + z * z)


def _point(values: NDArray[np.float64]) -> Point:
    x, y, z = values.tolist()
    return x, y, z


def _matrix(values: NDArray[np.float64]) -> Matrix:
    a, b, c, d, e, f, g, h, i = values.ravel().tolist()
    return a, b, c, d, e, f, g, h, i
