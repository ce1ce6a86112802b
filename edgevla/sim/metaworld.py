"""Meta-World as a plant: absolute set-points in, positions and camera frames out.

Stands in for an arm and its camera. Everything a policy or the control loop may see comes from `position()` and
`render()`; object poses stay inside (`scripted_observation()` feeds the scripted experts that record demonstrations,
`success` and `joint_position` feed reports).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.errors import BadInput, explain

os.environ.setdefault("MUJOCO_GL", "osmesa")

PERIOD_S = 0.0125  # s, Meta-World's frame_skip 5 x 2.5 ms physics steps
IMAGE_SIZE = 96  # px, square
CAMERA = "corner2"  # upside down in Meta-World's scene: frames are turned by 180 degrees
CAMERA_POSITION_M = (0.75, 0.075, 0.7)  # moved closer, as the Meta-World data sets of LeRobot do
ACTION_SCALE_M = 0.01  # m of displacement per unit of action per tick (SawyerXYZEnv.action_scale)
SETPOINT_LOW = np.array([-0.5, 0.40, 0.05, -1.0], np.float32)
SETPOINT_HIGH = np.array([0.5, 1.0, 0.5, 1.0], np.float32)


@dataclass(frozen=True)
class Mechanism:
    """The sliding or turning joint that a task moves, and where it is half-way."""

    joint: str
    half_way: float  # joint units (m)
    opening_sign: int  # sign of the joint velocity when it opens


@dataclass(frozen=True)
class Task:
    """One Meta-World task: its environment, and the mechanism if two instructions fit its half-way scene."""

    name: str
    mechanism: Mechanism | None = None


_DRAWER = Mechanism(joint="goal_slidey", half_way=-0.09, opening_sign=-1)
_WINDOW = Mechanism(joint="window_slide", half_way=0.10, opening_sign=+1)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("drawer-open-v3", _DRAWER),
        Task("drawer-close-v3", _DRAWER),
        Task("window-open-v3", _WINDOW),
        Task("window-close-v3", _WINDOW),
        Task("button-press-v3"),
        Task("door-open-v3"),
    )
}


def require_task(name: str) -> Task:
    """The task of that name.

    Raises:
        BadInput: the name is not one of the reference tasks.
    """
    if name not in TASKS:
        raise BadInput(
            explain("unknown simulator task", " | ".join(TASKS), repr(name), "choose one of these with --sim")
        )
    return TASKS[name]


def _make_environment(name: str, seed: int) -> Any:
    try:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    except ImportError as error:
        raise BadInput(
            explain(
                "the simulator is not installed",
                "package metaworld",
                str(error),
                "pip install 'edgevla[sim]'",
            )
        ) from error
    environment = ALL_V3_ENVIRONMENTS[name]()
    environment._freeze_rand_vec = False
    environment._set_task_called = True
    environment.seeded_rand_vec = True
    environment.seed(seed)
    environment.model.camera(CAMERA).pos[:] = CAMERA_POSITION_M  # before reset: MuJoCo derives the pose there
    return environment


class MetaworldPlant:
    """One episode of one task, advanced by absolute set-points.

    Args:
        task: name in `TASKS`.
        seed: of the scene (object placement).
        half_way: start with the mechanism half open (drawer and window tasks only).
        reuse: a plant of the same task whose loaded environment is taken over (loading costs 0.2 s).
    """

    def __init__(self, task: str, seed: int, half_way: bool = False, reuse: MetaworldPlant | None = None) -> None:
        self.task = require_task(task)
        self._env: Any
        self._renderer: _FastRenderer | None
        if reuse is not None:
            self._env, self._renderer = reuse._env, reuse._renderer
            self._env.seed(seed)
        else:
            self._env, self._renderer = _make_environment(task, seed), None
        self._env.reset()
        self._half_way = half_way
        if half_way:
            self._open_half_way(np.random.default_rng(seed))
        self._place()
        self._observation = self._env._get_obs()
        self.success = False
        self.ticks = 0
        self.setpoint0 = np.concatenate([self._env.data.mocap_pos[0], [-1.0]]).astype(np.float32)

    def _place(self) -> None:
        """Puts what is drawn where the state is: a reset leaves markers and objects where they were before it."""
        import mujoco

        mujoco.mj_kinematics(self._env.model, self._env.data)
        mujoco.mj_camlight(self._env.model, self._env.data)

    def _open_half_way(self, rng: np.random.Generator) -> None:
        import mujoco

        mechanism = self._mechanism
        joint = self._env.data.joint(mechanism.joint)
        joint.qpos = mechanism.half_way + rng.uniform(-0.02, 0.02)
        joint.qvel = 0.0
        mujoco.mj_forward(self._env.model, self._env.data)
        self.joint_start = float(joint.qpos[0])

    @property
    def _mechanism(self) -> Mechanism:
        if self.task.mechanism is None:
            raise BadInput(
                explain("no half-way scene", "a drawer or window task", self.task.name, "leave out --half-way")
            )
        return self.task.mechanism

    @property
    def joint_position(self) -> float:
        """Position of the task's mechanism in joint units, for reports only."""
        return float(self._env.data.joint(self._mechanism.joint).qpos[0])

    def opened_by(self) -> float:
        """How far (m) the mechanism has opened since the half-way start; negative when it closed."""
        return (self.joint_position - self.joint_start) * self._mechanism.opening_sign

    def position(self) -> npt.NDArray[np.float32]:
        """Hand x, y, z [m] and gripper opening [0..1], float32[4]: what a real robot knows of itself."""
        return self._observation[:4].astype(np.float32)

    def effort(self) -> npt.NDArray[np.float32]:
        """Force of the gripper's right finger, N, > 0 closes; NaN for x, y, z: a mocap weld pulls the hand."""
        return np.array([np.nan, np.nan, np.nan, self._env.data.actuator_force[0]], np.float32)

    def scripted_observation(self) -> npt.NDArray[np.float64]:
        """The full observation with object poses, for the scripted experts that record demonstrations only."""
        return self._observation.copy()

    def step(self, setpoint: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
        """Advances one period T towards the absolute set-point x, y, z [m], gripper [-1..1]; returns `position()`."""
        import mujoco

        env = self._env
        target = np.clip(np.asarray(setpoint, np.float64), SETPOINT_LOW, SETPOINT_HIGH)
        env.data.mocap_pos[0] = target[:3]
        env.data.mocap_quat[0] = (1.0, 0.0, 1.0, 0.0)
        env.do_simulation([target[3], -target[3]], n_frames=env.frame_skip)
        mujoco.mj_forward(env.model, env.data)
        self._observation = env._get_obs()
        self.ticks += 1
        _, info = env.evaluate_state(self._observation, np.zeros(4, np.float32))
        self.success = self.success or bool(info["success"])
        return self.position()

    def render(self) -> npt.NDArray[np.uint8]:
        """The corner camera's newest frame, RGB uint8 (96, 96, 3)."""
        if self._renderer is None:
            self._renderer = _FastRenderer(self._env.model)
        return self._renderer.frame(self._env.data)

    def close(self) -> None:
        """Frees the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


class _FastRenderer:
    """MuJoCo's renderer with shadows, reflections and multisampling off: 10 times as fast at this size."""

    def __init__(self, model: Any) -> None:
        import mujoco

        model.vis.quality.offsamples = 0
        model.vis.quality.shadowsize = 0
        self._renderer = mujoco.Renderer(model, IMAGE_SIZE, IMAGE_SIZE)
        self._options = mujoco.MjvOption()
        self._options.sitegroup[:] = 0  # sites mark goals: a real camera does not see them
        self._off = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION)

    def frame(self, data: Any) -> npt.NDArray[np.uint8]:
        self._renderer.update_scene(data, camera=CAMERA, scene_option=self._options)
        for flag in self._off:
            self._renderer.scene.flags[flag] = 0
        return np.ascontiguousarray(self._renderer.render()[::-1, ::-1])

    def close(self) -> None:
        self._renderer.close()
