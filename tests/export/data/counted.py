"""Episodes whose numbers and pictures say which tick they are; the real library recorded the same ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from export.data.interface import Camera
from export.data.video import Encoding
from export.data.writer import Episode, Layout, LeRobotWriter

FPS = 10
EPISODES = (7, 12, 5)  # ticks
TASKS = ("push it", "push it", "pull it")
STATE = ("x", "y", "z")
ACTION = ("dx", "dy")
RECORDED = Path(__file__).parent / "recorded_by_lerobot"  # made by tests_lerobot/recorded.py
WHERE = [(episode, tick) for episode, ticks in enumerate(EPISODES) for tick in range(ticks)]


def state(episode: int, tick: int) -> np.ndarray:
    return np.array([episode, tick, -tick / 3], np.float32)


def action(episode: int, tick: int) -> np.ndarray:
    return np.array([100 * episode + tick, 0.1], np.float32)


def picture(episode: int, tick: int, height: int = 64, width: int = 96) -> np.ndarray:
    """Ramps in red and green, the tick as a level of blue, the episode as a bright bar: easy on any codec."""
    y, x = np.mgrid[0:height, 0:width]
    out = np.stack([x * 2, y * 3, np.full_like(x, 18 * tick)], -1).astype(np.uint8)
    out[8 + 16 * episode : 24 + 16 * episode, 16:80] = 230
    return out


def layout(**changes: object) -> Layout:
    cameras = (Camera("top", 64, 96),)
    return Layout(**{"fps": FPS, "state_names": STATE, "action_names": ACTION, "cameras": cameras,
                     "encoding": Encoding("h264", crf=20), **changes})  # fmt: skip


def episode(number: int, **changes: object) -> Episode:
    ticks = range(EPISODES[number])
    parts = {
        "state": np.stack([state(number, tick) for tick in ticks]),
        "action": np.stack([action(number, tick) for tick in ticks]),
        "images": {"top": np.stack([picture(number, tick) for tick in ticks])},
        "task": TASKS[number],
    }
    return Episode(**{**parts, **changes})


def write(folder: Path, **changes: object) -> Path:
    """The counted episodes by our writer."""
    with LeRobotWriter(folder, layout(**changes)) as writer:
        for number in range(len(EPISODES)):
            writer.add(episode(number))
    return folder


def psnr_db(mine: np.ndarray, theirs: np.ndarray) -> float:
    error = np.mean((mine.astype(np.float64) - theirs) ** 2)
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)
