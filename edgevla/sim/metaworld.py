"""Meta-World as a plant: absolute set-points in, positions and camera frames out.

Stands in for an arm and its camera. Everything a policy or the control loop may see comes from `position()` and
`render()`; object poses stay inside (`scripted_observation()` feeds the scripted experts that record demonstrations,
`places()` the lesson of places in training, `success` and `joint_position` feed reports).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.errors import BadInput, explain
from edgevla.sim.names import ALL_TASKS
from edgevla.sim.view import CORNER, FastRenderer, View, aim

os.environ.setdefault("MUJOCO_GL", "osmesa")

PERIOD_S = 0.0125  # s, Meta-World's frame_skip 5 x 2.5 ms physics steps
ACTION_SCALE_M = 0.01  # m of displacement per unit of action per tick (SawyerXYZEnv.action_scale)
SETPOINT_LOW = np.array([-0.5, 0.40, 0.05, -1.0], np.float32)
SETPOINT_HIGH = np.array([0.5, 1.0, 0.5, 1.0], np.float32)
# Tasks whose goal is a mark in the air: nothing but its size says how far it is from the camera.
FLOATING = ("reach-v3", "reach-wall-v3", "pick-place-v3", "pick-place-wall-v3")
_OBJECTS = (slice(4, 7), slice(11, 14))  # where the full observation holds the objects' x, y, z (m)


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
    """The task of that name, any of Meta-World's fifty; half-way scenes are those of `TASKS` only.

    Raises:
        BadInput: Meta-World has no such task.
    """
    if name not in ALL_TASKS:
        expected = f"{' | '.join(TASKS)}, or another of Meta-World's {len(ALL_TASKS)}"
        raise BadInput(explain("unknown simulator task", expected, repr(name), "choose one of these with --sim"))
    return TASKS.get(name) or Task(name)


def _make_environment(name: str, seed: int, view: View) -> Any:
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
    environment._partially_observable = False  # the scripted experts of reach, push, ... are told the goal
    environment.seed(seed)
    aim(environment.model, view)
    return environment


class MetaworldPlant:
    """One episode of one task, advanced by absolute set-points.

    Args:
        task: name in `ALL_TASKS`.
        seed: of the scene (object placement).
        half_way: start with the mechanism half open (drawer and window tasks only).
        reuse: a plant of the same task and view whose loaded environment is taken over (loading costs 0.2 s).
        view: what the camera sees.
    """

    def __init__(
        self,
        task: str,
        seed: int,
        half_way: bool = False,
        reuse: MetaworldPlant | None = None,
        view: View = CORNER,
    ) -> None:
        self.task, self.view = require_task(task), view
        self._env: Any
        self._renderer: FastRenderer | None
        if reuse is not None:
            _require_same_scene(reuse, self.task, view)
            self._env, self._renderer = reuse._env, reuse._renderer
            self._env.seed(seed)
        else:
            self._env, self._renderer = _make_environment(task, seed, view), None
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

    def places(self) -> npt.NDArray[np.float32]:
        """x, y, z (m) of object 1, object 2 and the goal, float32[9]; NaN where the task has none.

        Privileged: for the lesson of places in training only, never for a policy.
        """
        objects = [self._observation[where] for where in _OBJECTS]
        known = [place if place.any() else np.full(3, np.nan) for place in objects]
        goal = self._env._target_pos
        return np.concatenate([*known, np.full(3, np.nan) if goal is None else goal[:3]]).astype(np.float32)

    def move_goal(self, rng: np.random.Generator) -> None:
        """Puts the goal of a task in `FLOATING` somewhere else, where a reset may put it. For pictures in training."""
        if self.task.name not in FLOATING:
            raise ValueError(f"goal to be moved: expected one of {', '.join(FLOATING)}, got {self.task.name}")
        space = self._env.goal_space
        self._env._target_pos = rng.uniform(space.low, space.high)

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
        """The camera's newest frame, RGB uint8 (size_px, size_px, 3) of the view."""
        if self._renderer is None:
            self._renderer = FastRenderer(self._env.model, self.view)
        if self.view.goals:
            self._mark_goals()
        return self._renderer.frame(self._env.data)

    def _mark_goals(self) -> None:
        """Puts the marks where the goals are: MuJoCo moves them back with every step and reset."""
        for name, place_m in self._env._target_site_config:
            self._env.data.site(name).xpos = place_m[:3]

    def close(self) -> None:
        """Frees the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def _require_same_scene(reuse: MetaworldPlant, task: Task, view: View) -> None:
    if (reuse.task, reuse.view) != (task, view):
        expected, got = f"{task.name} seen from {view.name}", f"{reuse.task.name} seen from {reuse.view.name}"
        raise ValueError(f"plant to be reused: expected {expected}, got {got}")
