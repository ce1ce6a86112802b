"""SimplerEnv, where it is installed: its prepackaged tasks, which are those of its visual matching.

Not run by our own tests: it does not install offline. Its counting is `agreement`, its playing `play`, and both are.
As in its own evaluation of policies that never say that they are done, an episode is played to the end of its time, and
what counts is whether the task is done then: an object that was lifted and dropped is none. Our policies never say so
either, so a task of several parts stays in its first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.bundle.manifest import Manifest
from edgevla.errors import BadInput, explain
from export.eval.benchmarks.play import Episode, Seen

Float32 = npt.NDArray[np.float32]
ACTION = 7  # relative x, y, z; rotation as axis times angle; gripper
SETTING = "visual matching"
HELD_STEPS = 15  # for so long the Google robot is told one change of its gripper


class Bridge:
    """Gripper of the WidowX: 1 opens, -1 closes, at every step."""

    def tell(self, wanted: float) -> float:
        """wanted: of the policy, above 0 is open."""
        return 1.0 if wanted > 0 else -1.0


class Google:
    """Gripper of the Google robot: told changes, 1 closes, -1 opens, each for HELD_STEPS; 0 leaves it as it is.

    A change that comes while one is told is passed over, as in SimplerEnv's own policies.
    """

    def __init__(self) -> None:
        self._open: bool | None = None
        self._change, self._left = 0.0, 0

    def tell(self, wanted: float) -> float:
        """wanted: of the policy, above 0 is open."""
        before, self._open = self._open, wanted > 0
        if self._left == 0 and before is not None and before != self._open:
            self._change, self._left = 1.0 if before else -1.0, HELD_STEPS
        if self._left == 0:
            return 0.0
        self._left -= 1
        return self._change


GRIPPERS: dict[str, type[Bridge] | type[Google]] = {"widowx": Bridge, "google_robot": Google}


def gripper_of(task: str) -> Bridge | Google:
    """Of the robot that a task is named after. Raises BadInput: it is neither."""
    for robot, kind in GRIPPERS.items():
        if task.startswith(f"{robot}_"):
            return kind()
    todo = "such as widowx_spoon_on_towel, google_robot_pick_coke_can"
    raise BadInput(explain("--tasks", f"names that begin with {' or '.join(GRIPPERS)}", task, todo))


class Simpler:
    """See `export.eval.benchmarks.play.Tasks`.

    Args:
        tasks: names of its tasks, such as google_robot_pick_coke_can.
        manifest: of the bundle that plays: one camera, seven channels, state zeros of the size it takes.

    Raises:
        BadInput: SimplerEnv is not installed, a task of neither robot, or a bundle of another one.
    """

    def __init__(self, tasks: Sequence[str], manifest: Manifest) -> None:
        if len(manifest.channels) != ACTION or len(manifest.cameras) != 1:
            got = f"{len(manifest.channels)} channels, {len(manifest.cameras)} cameras"
            todo = "take one that was trained on Bridge or the Google robot"
            raise BadInput(explain("a bundle for SimplerEnv", f"{ACTION} channels, one camera", got, todo))
        self._grippers = {task: gripper_of(task) for task in tasks}
        try:
            import simpler_env
            from simpler_env.utils.env.observation_utils import get_image_from_maniskill2_obs_dict
        except ImportError as error:
            todo = "install SimplerEnv as its authors say, in this environment"
            raise BadInput(explain("--env simpler", "simpler_env", str(error), todo)) from error
        self._make, self._picture = simpler_env.make, get_image_from_maniskill2_obs_dict
        self._tasks, self._camera, self._state = tuple(tasks), manifest.cameras[0].name, len(manifest.state)
        self._opened, self._world, self._done = "", None, False  # type: str, Any, bool

    def episodes(self, count: int) -> Sequence[Episode]:
        return [Episode(task, SETTING, task, seed) for task in self._tasks for seed in range(count)]

    def begin(self, episode: Episode) -> Seen:
        if self._opened != episode.task:
            self._world, self._opened = self._make(episode.task), episode.task
        seen, _ = self._world.reset(seed=episode.seed, options={"obj_init_options": {"episode_id": episode.seed}})
        self._done, self._grippers[episode.task] = False, gripper_of(episode.task)
        return self._seen(seen)

    def sentence(self) -> str:
        return str(self._world.get_language_instruction())

    def step(self, action: Float32) -> tuple[Seen, bool]:
        gripper = self._grippers[self._opened].tell(float(action[6]))
        told = np.concatenate([action[:3], _axis_angle(action[3:6]), [gripper]])
        seen, _, done, truncated, _ = self._world.step(told)
        self._done = bool(done)
        return self._seen(seen), bool(truncated)

    def succeeded(self) -> bool:
        return self._done

    def _seen(self, observation: Any) -> Seen:
        picture = np.asarray(self._picture(self._world, observation), np.uint8)
        return Seen({self._camera: picture}, np.zeros(self._state, np.float32))


def _axis_angle(rpy: Float32) -> npt.NDArray[np.float64]:
    """Roll, pitch, yaw (rad, about fixed x, y, z) as axis times angle (3,). Pure."""
    (sr, sp, sy), (cr, cp, cy) = np.sin(rpy / 2), np.cos(rpy / 2)
    w = cr * cp * cy + sr * sp * sy
    axis = np.array([sr * cp * cy - cr * sp * sy, cr * sp * cy + sr * cp * sy, cr * cp * sy - sr * sp * cy])
    length = float(np.linalg.norm(axis))
    if length < 1e-9:
        return 2.0 * axis
    return axis / length * 2.0 * float(np.arctan2(length, w))
