"""A dataset that the real library records, whose numbers say where they come from.

    .venv-lerobot/bin/python -m tests_lerobot.recorded tests/export/data/recorded_by_lerobot

makes the copy that the fast tests read. Row t of episode e: state (e, t, -t), action (100 e + t, 0.5), pictures by
`picture`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.export.data.counted import ACTION, EPISODES, FPS, STATE, TASKS, action, picture, state
from tests_lerobot.build import prepare_library


def record(folder: Path, kind: str, file_mb: float | None = None) -> None:
    """`kind`: video or image; `file_mb`: at which a new file is begun."""
    prepare_library()
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    features = {
        "observation.state": {"dtype": "float32", "shape": (len(STATE),), "names": list(STATE)},
        "action": {"dtype": "float32", "shape": (len(ACTION),), "names": list(ACTION)},
        "observation.images.top": {"dtype": kind, "shape": (64, 96, 3), "names": ["height", "width", "channels"]},
    }
    made = LeRobotDataset.create("a/b", FPS, features, root=folder, robot_type="counter", use_videos=kind == "video")
    if file_mb:
        made.meta.update_chunk_settings(data_files_size_in_mb=file_mb, video_files_size_in_mb=file_mb)
    for episode, ticks in enumerate(EPISODES):
        for tick in range(ticks):
            made.add_frame(
                {
                    "observation.state": state(episode, tick),
                    "action": action(episode, tick),
                    "observation.images.top": picture(episode, tick),
                    "task": TASKS[episode],
                }
            )
        made.save_episode(parallel_encoding=False)
    made.finalize()


if __name__ == "__main__":
    for name in ("video", "image"):
        record(Path(sys.argv[1]) / name, name)
