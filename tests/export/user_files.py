"""What users bring, made small: policy folders of LeRobot, recordings that fit them, and embodiment files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.data.interface import Camera
from export.data.writer import Episode, Layout, LeRobotWriter
from tests.export.teachers.lerobot.recorded import Recorded, load_recorded

JOINTS = tuple(f"joint{i}.pos" for i in range(6))
SMOLVLA = Path(__file__).parent / "teachers/lerobot/fixtures/smolvla"
TASKS = ("push the red cube", "lift the cube")
_ENVIRONMENT = "observation.environment_state"


def write_act(folder: Path) -> Path:
    """An ACT of two cameras (top, wrist; 48 x 64), five joints, chunks of six; random weights.

    The recorded one hears a state of the environment too, which no dataset of a real robot has: it is left out.
    """
    recorded = load_recorded("act")
    texts = {name: _without_environment(value) for name, value in recorded.texts.items()}
    tensors = {k: s for k, s in texts["tensors"].items() if not k.startswith("model.encoder_env_state")}
    tensors["model.encoder_1d_feature_pos_embed.weight"] = [2, 32]
    arrays = {key: value for key, value in recorded.arrays.items() if _ENVIRONMENT not in key}
    return Recorded({**texts, "tensors": tensors}, arrays).write(folder)


def write_diffusion(folder: Path) -> Path:
    """A Diffusion Policy of the same cameras and joints, two observations; random weights."""
    return load_recorded("diffusion").write(folder)


def _without_environment(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_environment(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _without_environment(entry) for key, entry in value.items() if key != _ENVIRONMENT}
    return value


def write_recording(
    folder: Path,
    cameras: Mapping[str, tuple[int, int]],
    state: int = 5,
    actions: int = 4,
    episodes: int = 12,
    ticks: int = 15,
) -> Path:
    """A LeRobotDataset v3.0 at 10 Hz: joints on sines, a bright square where the first two are; two tasks in turn."""
    layout = Layout(
        fps=10,
        state_names=JOINTS[:state],
        action_names=JOINTS[:actions],
        cameras=tuple(Camera(name, *size) for name, size in cameras.items()),
        video=False,
    )
    with LeRobotWriter(folder, layout) as writer:
        for number in range(episodes):
            phase = 0.1 * np.arange(ticks + 1)[:, None] + np.arange(len(JOINTS)) + number
            joints = np.sin(phase).astype(np.float32)
            images = {name: _square(joints[:-1], *size) for name, size in cameras.items()}
            writer.add(Episode(joints[:-1, :state], joints[1:, :actions], images, TASKS[number % 2]))
    return folder


def _square(joints: np.ndarray, height: int, width: int) -> np.ndarray:
    shown = np.full((len(joints), height, width, 3), 40, np.uint8)
    for picture, (y, x) in zip(shown, (joints[:, :2] + 1) / 2 * [height - 8, width - 8], strict=True):
        picture[int(y) : int(y) + 8, int(x) : int(x) + 8] = 220
    return shown


def write_embodiment(
    path: Path,
    cameras: Mapping[str, str],
    state: Sequence[str] = JOINTS[:5],
    actions: Sequence[str] = JOINTS[:4],
    rate_hz: float = 10.0,
) -> Path:
    """Joints in degrees, wide limits. cameras: the policy's name -> the dataset's."""
    limits = {"minimum": -90.0, "maximum": 90.0, "start_minimum": -45.0, "start_maximum": 45.0}
    meaning = {"kind": "absolute", "space": "joint", "frame": "arm", "unit": "deg", **limits}
    lines = ['arm = "so101"', 'target = "host"']
    lines += [_table("action", {"name": name, **meaning}) for name in actions]
    lines += [_table("state", {"name": name, "unit": "deg"}) for name in state]
    lines += [_table("camera", {"name": n, "source": s, "rate_hz": rate_hz}) for n, s in cameras.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def _table(name: str, values: Mapping[str, Any]) -> str:
    return "\n".join([f"[[{name}]]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())])
