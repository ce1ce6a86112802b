"""A dataset whose numbers say where they come from, and teachers with random weights, both of real format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from edgevla.policy.tokens import Vocabulary
from examples.metaworld.instructions import SHORT, WORDINGS, vocabulary
from export.teachers.folder import Teacher, load_teacher, save_teacher
from export.teachers.reference import FlowTeacher, TeacherConfig

LENGTHS = {"drawer-open-v3": (50, 40), "window-close-v3": (45,)}  # ticks per episode
EXPERT = 1000  # added to the tick number in labels


def write_counting_dataset(folder: Path) -> Path:
    """Two shards. At tick t of the dataset: state and executed action are t, the expert's t + 1000, pixels the frame.

    Frames come every 2 ticks of an episode and count over the whole shard, as `examples.metaworld.demos` writes them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tick = 0
    for task, lengths in LENGTHS.items():
        total = sum(lengths)
        count = np.arange(tick, tick + total, dtype=np.float32)[:, None].repeat(4, 1)
        frame, frames = [], 0
        for length in lengths:
            frame.append(frames + np.arange(length) // 2)
            frames = frame[-1][-1] + 1
        image = np.zeros((frames, 96, 96, 3), np.uint8)
        image += np.arange(frames, dtype=np.uint8)[:, None, None, None]
        arrays = {
            "image": image,
            "frame": np.concatenate(frame).astype(np.int32),
            "state": count,
            "executed": count,
            "expert": count + EXPERT,
            "episode": np.repeat(np.arange(len(lengths)), lengths).astype(np.int32),
        }
        np.savez(folder / f"{task}.npz", **arrays)
        tick += total
    write_meta(folder, list(LENGTHS))
    return folder


def write_meta(folder: Path, tasks: list[str]) -> None:
    """dataset.json, as `examples.metaworld.demos` writes it."""
    meta = {
        "schema": "edgevla.demos/1",
        "period_s": 0.0125,
        "shards": [{"file": f"{task}.npz", "task": task, "half_way": False, "episodes": 1} for task in tasks],
        "instructions": {t: {"train": w.train, "held_out": w.held_out} for t, w in WORDINGS.items()},
        "known_instructions": SHORT,
        "vocabulary": vocabulary(),
    }
    (folder / "dataset.json").write_text(json.dumps(meta))


def tiny_model(width: int = 32, heads: int = 2, seed: int = 0) -> FlowTeacher:
    """A teacher with random weights, one layer everywhere, two flow steps."""
    torch.manual_seed(seed)
    config = TeacherConfig(
        vocabulary=len(vocabulary()) + 1,
        width=width,
        heads=heads,
        encoder_layers=1,
        head_layers=1,
        flow_steps=2,
    )
    return FlowTeacher(config).eval()


def teacher_meta() -> dict[str, object]:
    """What stands in config.json beside the sizes."""
    return {
        "words": vocabulary(),
        "state_mean": [0.0, 0.6, 0.15, 0.7],
        "state_std": [0.1, 0.1, 0.05, 0.3],
    }


def write_teacher(folder: Path, width: int = 32, heads: int = 2) -> Path:
    """A teacher folder."""
    save_teacher(folder, tiny_model(width, heads), teacher_meta())
    return folder


def tiny_teacher(folder: Path, width: int = 32, heads: int = 2) -> Teacher:
    """The same, loaded."""
    return load_teacher(write_teacher(folder, width, heads))


def words() -> Vocabulary:
    return Vocabulary(tuple(vocabulary()), 16)
