"""CALVIN, where it is installed (`calvin_env`, `calvin_agent`): its environment, its chains, its sentences.

Not run by our own tests: it does not install offline. Its counting is `chains`, its playing `play`, and both are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.bundle.manifest import Manifest
from edgevla.errors import BadInput, explain
from export.eval.benchmarks.play import Seen

Float32 = npt.NDArray[np.float32]
CAMERAS = {"static": "rgb_static", "gripper": "rgb_gripper"}  # of a bundle -> of an observation
ACTION = 7  # relative x, y, z, roll, pitch, yaw; gripper: 1 opens, -1 closes


class Calvin:
    """See `export.eval.benchmarks.play.Chained`.

    Args:
        dataset: folder of a CALVIN data set; its `validation` names the scene.
        manifest: of the bundle that plays: cameras among `CAMERAS`, the first numbers of `robot_obs` as its state.

    Raises:
        BadInput: CALVIN is not installed, or the bundle is of another robot.
    """

    def __init__(self, dataset: Path, manifest: Manifest) -> None:
        _require_fits(manifest)
        try:
            import calvin_agent
            import hydra
            from calvin_agent.evaluation.multistep_sequences import get_sequences
            from calvin_agent.evaluation.utils import get_env_state_for_initial_condition
            from calvin_env.envs.play_table_env import get_env
            from omegaconf import OmegaConf
        except ImportError as error:
            todo = "install CALVIN as its authors say, in this environment"
            raise BadInput(explain("--env calvin", "calvin_env and calvin_agent", str(error), todo)) from error
        conf = Path(calvin_agent.__file__).resolve().parents[1] / "conf"
        self._oracle = hydra.utils.instantiate(
            OmegaConf.load(conf / "callbacks/rollout/tasks/new_playtable_tasks.yaml")
        )
        self._sentences = OmegaConf.load(conf / "annotations/new_playtable_validation.yaml")
        self._world: Any = get_env(dataset / "validation", show_gui=False)
        self._sequences, self._state_of = get_sequences, get_env_state_for_initial_condition
        self._cameras = [camera.name for camera in manifest.cameras]
        self._state = len(manifest.state)
        self._since: Any = None

    def chains(self, count: int) -> Sequence[tuple[Any, tuple[str, ...]]]:
        return [(start, tuple(subtasks)) for start, subtasks in self._sequences(count)]

    def begin(self, start: Any) -> Seen:
        robot, scene = self._state_of(start)
        self._world.reset(robot_obs=robot, scene_obs=scene)
        return self._seen(self._world.get_obs())

    def sentence(self, subtask: str) -> str:
        self._since = self._world.get_info()
        return str(self._sentences[subtask][0])

    def step(self, action: Float32) -> Seen:
        told = np.append(action[:-1], 1.0 if action[-1] > 0 else -1.0)
        seen, _, _, self._now = self._world.step(told)
        return self._seen(seen)

    def reached(self, subtask: str) -> bool:
        return len(self._oracle.get_task_info_for_set(self._since, self._now, {subtask})) > 0

    def _seen(self, observation: Any) -> Seen:
        images = {name: np.asarray(observation["rgb_obs"][CAMERAS[name]], np.uint8) for name in self._cameras}
        return Seen(images, np.asarray(observation["robot_obs"][: self._state], np.float32))


def _require_fits(manifest: Manifest) -> None:
    names = [camera.name for camera in manifest.cameras]
    if len(manifest.channels) != ACTION or not set(names) <= set(CAMERAS):
        got = f"{len(manifest.channels)} channels, cameras {', '.join(names)}"
        expected = f"{ACTION} channels, cameras among {', '.join(CAMERAS)}"
        raise BadInput(explain("a bundle for CALVIN", expected, got, "take one that was trained on it"))
