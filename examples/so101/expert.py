"""A scripted expert of the SO-101: way points of the gripper, joints by inverse kinematics, a bounded speed.

The arm has five joints: a place takes three, the direction in which the gripper opens two. The fingers point down where
the wrist allows it, and lean towards the base or away from it where it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from examples.so101.scene import JOINTS, PERIOD_S, So101, Vector

OPEN_RAD, CLOSED_RAD = 0.9, -0.1  # of the gripper
SPEED_RAD_S = 2.2  # of the fastest joint on its way, in the mean
ABOVE_M, LIFT_M = 0.07, 0.09  # over the cube before the grasp, and after it
GRASP_M = 0.004  # of the finger's tip below the cube's centre
GAP_M = 0.008  # between the fixed finger and the cube
SETTLE_TICKS = 15  # that the gripper needs to close or open
NEAR_M, NEAR_RAD = 0.004, 0.15  # that a solution may be off: the place, the direction of opening
LEAN_RAD = 0.8  # of the fingers, at most
_SITE, _DAMPING, _ITERATIONS, _STILL_RAD = "gripperframe", 1e-2, 300, 1e-4
_TURN_M, _LEAN_M = 0.1, 0.01  # m that a rad of a wrong turn and of leaning counts


@dataclass(frozen=True)
class WayPoint:
    """Where the fixed finger's tip is to be (m), how the gripper is turned (rad), how far it is open (rad).

    exact: it opens just so; else the place alone counts.
    """

    place_m: Vector
    turn_rad: float
    gripper_rad: float
    exact: bool
    settle_ticks: int = 0


class Kinematics:
    """The gripper pointing down at a place, as joints. Works on its own copy of the robot's state."""

    def __init__(self, model: Any) -> None:
        import mujoco

        self._mujoco, self._model, self._data = mujoco, model, mujoco.MjData(model)
        self._site = model.site(_SITE).id
        joints = [model.joint(name) for name in JOINTS[:-1]]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._dof = np.array([joint.dofadr[0] for joint in joints])
        self._low, self._high = np.array([joint.range for joint in joints]).T

    def solve(self, place_m: Vector, turn_rad: float, near_rad: Vector, exact: bool = True) -> Vector | None:
        """Five joints (rad) by damped least squares from `near_rad`; None: out of reach. exact: see `WayPoint`."""
        joints, weights = near_rad.copy(), _weights(turn_rad, exact)
        for _ in range(_ITERATIONS):
            place, turn, jacobian = self._off(joints, place_m, turn_rad)
            off, weighted = np.append(place, weights @ turn), jacobian.copy()
            weighted[3:] = weights @ jacobian[3:]
            step = _step(weighted, off)
            beyond = (joints + step < self._low) | (joints + step > self._high)
            if beyond.any():  # what a joint at its end cannot do is left to the others
                step = _step(np.where(beyond, 0.0, weighted), off)
            before, joints = joints, np.clip(joints + step, self._low, self._high)
            if np.abs(joints - before).max() < _STILL_RAD:
                break
        place, turn, _ = self._off(joints, place_m, turn_rad)
        lean = abs(float(turn @ _opening(turn_rad)))
        turned = float(np.linalg.norm(turn - (turn @ _opening(turn_rad)) * _opening(turn_rad)))
        good = not exact or (lean < LEAN_RAD and turned < NEAR_RAD)
        return joints if good and np.linalg.norm(place) < NEAR_M else None

    def _off(self, joints: Vector, place_m: Vector, turn_rad: float) -> tuple[Vector, Vector, Vector]:
        """What is missing: place (3,) m, rotation vector (3,) rad; and the Jacobian (6, 5)."""
        mujoco, model, data = self._mujoco, self._model, self._data
        data.qpos[self._qpos] = joints
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        mujoco.mj_jacSite(model, data, linear, angular, self._site)
        turned = data.site_xmat[self._site].reshape(3, 3)
        turn = _rotation_vector(_down(turn_rad) @ turned.T)
        return place_m - data.site_xpos[self._site], turn, np.vstack([linear[:, self._dof], angular[:, self._dof]])


def _step(jacobian: Vector, off: Vector) -> Vector:
    """Damped least squares, bounded."""
    square = jacobian @ jacobian.T + _DAMPING**2 * np.eye(6)
    return np.clip(jacobian.T @ np.linalg.solve(square, off), -0.2, 0.2)


def _opening(turn_rad: float) -> Vector:
    """From the fixed finger to the moving one."""
    return np.array([np.cos(turn_rad), np.sin(turn_rad), 0.0])


def _weights(turn_rad: float, exact: bool) -> Vector:
    """(3, 3) m / rad: leaning turns the fingers about the direction of opening."""
    along = np.outer(_opening(turn_rad), _opening(turn_rad))
    return _LEAN_M * along + (_TURN_M if exact else _LEAN_M) * (np.eye(3) - along)


def _down(turn_rad: float) -> Vector:
    """The site's axes as columns: x along the fingers, down; z from the fixed finger to the moving one."""
    opening = _opening(turn_rad)
    fingers = np.array([0.0, 0.0, -1.0])
    return np.stack([fingers, np.cross(opening, fingers), opening], axis=1)


def _rotation_vector(matrix: Vector) -> Vector:
    angle = np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1.0, 1.0))
    axis = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    length = np.linalg.norm(axis)
    return np.zeros(3) if length < 1e-9 else axis / length * angle


def targets(scene: So101, rng: np.random.Generator) -> Iterator[Vector]:
    """Joint targets, [6] rad, one a tick, until the script is at its end; nothing where the cube is out of reach."""
    joints = scene.position().astype(np.float64)
    solved = _solved(scene, joints, rng)
    for goal, settle_ticks in solved:
        ticks = max(1, int(np.ceil(np.abs(goal - joints).max() / (SPEED_RAD_S * PERIOD_S))))
        for tick in range(1, ticks + 1):
            share = 0.5 - 0.5 * np.cos(np.pi * tick / ticks)  # no jump of the speed at the ends
            yield joints + share * (goal - joints)
        for _ in range(settle_ticks):
            yield goal
        joints = goal


def _solved(scene: So101, start: Vector, rng: np.random.Generator) -> list[tuple[Vector, int]]:
    """Way points as joints, with the turn of the gripper that is reached best; empty where none is."""
    kinematics = Kinematics(scene.model)
    _, turned = scene.cube()
    for quarter in rng.permutation(4):  # a cube has four sides
        found: list[tuple[Vector, int]] = []
        arm = start[:5]
        for point in _way_points(scene, turned + quarter * np.pi / 2, rng):
            solution = kinematics.solve(point.place_m, point.turn_rad, arm, point.exact)
            if solution is None:
                break
            arm = solution
            found.append((np.append(arm, point.gripper_rad), point.settle_ticks))
        else:
            return found
    return []


def _way_points(scene: So101, turn_rad: float, rng: np.random.Generator) -> Iterator[WayPoint]:
    """Over the cube (not always at the same place), down, closed, up; and to the disc, down, open, up."""
    cube, _ = scene.cube()
    opening = _opening(turn_rad)
    beside = -(scene.cube_half_m + GAP_M) * opening
    low = cube + beside - np.array([0.0, 0.0, GRASP_M])
    up = np.array([0.0, 0.0, ABOVE_M])
    yield WayPoint(low + up + rng.uniform(-0.02, 0.02, 3), turn_rad, OPEN_RAD, exact=False)
    yield WayPoint(low + up / 3, turn_rad, OPEN_RAD, exact=True)
    yield WayPoint(low, turn_rad, OPEN_RAD, exact=True, settle_ticks=3)
    yield WayPoint(low, turn_rad, CLOSED_RAD, exact=True, settle_ticks=SETTLE_TICKS)
    lifted = low + np.array([0.0, 0.0, LIFT_M])
    yield WayPoint(lifted, turn_rad, CLOSED_RAD, exact=False, settle_ticks=5)
    if scene.task.target is None:
        return
    down = scene.target() + beside + np.array([0.0, 0.0, cube[2] - GRASP_M + 0.002])
    yield WayPoint(down + up, turn_rad, CLOSED_RAD, exact=False)
    yield WayPoint(down, turn_rad, CLOSED_RAD, exact=True, settle_ticks=3)
    yield WayPoint(down, turn_rad, OPEN_RAD, exact=True, settle_ticks=SETTLE_TICKS)
    yield WayPoint(down + up, turn_rad, OPEN_RAD, exact=False, settle_ticks=5)
