"""The SO-101 of so101-nexus-mujoco: another robot, in another simulator than the reference tasks'.

Six joints (rad; the last is the gripper) that follow absolute targets, a table, a cube, perhaps a disc; a camera in
front of it. The package brings dynamics, meshes and success; the camera is ours.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.errors import BadInput, explain

os.environ.setdefault("MUJOCO_GL", "osmesa")

PERIOD_S = 0.02  # ten physics steps of 2 ms
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
IMAGE_SIZE = 96  # px, square
_LOOKAT_M, _DISTANCE_M, _AZIMUTH_DEG, _ELEVATION_DEG = (0.18, 0.0, 0.05), 0.55, 145.0, -35.0
Float32 = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """What is asked, and the colours that tell the scenes apart. target: the cube is to be put on its disc."""

    cube: str
    target: str | None = None

    @property
    def name(self) -> str:
        return f"lift-{self.cube}" if self.target is None else f"place-{self.cube}-{self.target}"

    @property
    def instruction(self) -> str:
        if self.target is None:
            return f"pick up the {self.cube} cube"
        return f"put the {self.cube} cube on the {self.target} circle"


TASKS = (
    Task("red"), Task("green"), Task("blue"), Task("yellow"), Task("red", "blue"), Task("green", "yellow"),
)  # fmt: skip


class So101:
    """One task; `reset` begins another scene of it. `success`: the simulator's own, of the newest tick.

    Raises BadInput: the simulator is not installed.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._env = _environment(task)
        self._renderer: Any = None
        self.success = False

    def reset(self, seed: int) -> None:
        """A scene of that seed, the arm at rest."""
        self._env.reset(seed=seed)
        self.success = False

    def position(self) -> Float32:
        """Joint positions, float32[6], rad."""
        return np.array([self._env.data.joint(name).qpos[0] for name in JOINTS], np.float32)

    def step(self, target_rad: npt.NDArray[np.floating[Any]]) -> None:
        """One period towards absolute joint targets, [6] rad."""
        *_, info = self._env.step(np.asarray(target_rad, np.float64))
        self.success = bool(info["success"])

    def cube(self) -> tuple[Vector, float]:
        """Its centre (m) and its turn about the vertical (rad): for the scripted expert only."""
        body = self._env.data.body("cube")
        return body.xpos.copy(), 2.0 * float(np.arctan2(body.xquat[3], body.xquat[0]))

    def target(self) -> Vector:
        """Where the cube is to be put (m): for the scripted expert only."""
        return np.array(self._env.data.body("target").xpos)

    @property
    def cube_half_m(self) -> float:
        return float(self._env.cube_half_size)

    @property
    def model(self) -> Any:
        return self._env.model

    def render(self) -> npt.NDArray[np.uint8]:
        """The camera's newest frame, RGB uint8 (96, 96, 3)."""
        if self._renderer is None:
            self._renderer = _Renderer(self._env.model)
        return self._renderer.frame(self._env.data)


def _environment(task: Task) -> Any:
    try:
        from so101_nexus_mujoco.pick_and_place import PickAndPlaceEnv
        from so101_nexus_mujoco.pick_cube import PickCubeLiftEnv
    except ImportError as error:
        todo = "pip install 'edgevla[so101]'"
        raise BadInput(explain("the SO-101 simulator", "package so101-nexus-mujoco", error, todo)) from error
    if task.target is None:
        return PickCubeLiftEnv(cube_color=task.cube)
    return PickAndPlaceEnv(cube_color=task.cube, target_color=task.target)


class _Renderer:
    """MuJoCo's, without shadows, reflections and multisampling."""

    def __init__(self, model: Any) -> None:
        import mujoco

        model.vis.quality.offsamples = 0
        model.vis.quality.shadowsize = 0
        self._renderer = mujoco.Renderer(model, IMAGE_SIZE, IMAGE_SIZE)
        self._camera = mujoco.MjvCamera()
        self._camera.lookat[:] = _LOOKAT_M
        self._camera.distance, self._camera.azimuth = _DISTANCE_M, _AZIMUTH_DEG
        self._camera.elevation = _ELEVATION_DEG
        self._options = mujoco.MjvOption()
        self._options.sitegroup[:] = 0  # sites mark goals: a real camera does not see them
        self._off = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION)

    def frame(self, data: Any) -> npt.NDArray[np.uint8]:
        self._renderer.update_scene(data, camera=self._camera, scene_option=self._options)
        for flag in self._off:
            self._renderer.scene.flags[flag] = 0
        return np.ascontiguousarray(self._renderer.render())
