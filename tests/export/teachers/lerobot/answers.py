"""From a raw observation to raw actions through our teacher: what is compared with the library's answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from export.teachers.interface import TeacherPolicy

Float32 = npt.NDArray[np.float32]


def inputs_of(
    teacher: TeacherPolicy, observations: Sequence[Mapping[str, Any]], task: str | None = None
) -> dict[str, Tensor]:
    """The teacher's inputs of raw observations, oldest first, as `tests_lerobot.build.Made.observations` makes them."""
    names = [camera.name for camera in teacher.spec.cameras]
    pictures = [raw["images"][name] for raw in observations for name in names]
    states = [np.concatenate([raw["state"], raw["environment"]], axis=1) for raw in observations]
    batch = len(states[0])
    inputs = {
        "state": torch.from_numpy(np.concatenate([teacher.spec.state_stats.apply(s) for s in states], axis=1)),
        "camera_mask": torch.ones(batch, len(pictures)),
    }
    if pictures:
        raw = torch.from_numpy(np.stack(pictures, axis=1))
        inputs["image"] = raw.float() / 127.5 - 1
    if task is not None:
        tokens, mask = teacher.tokenize(task)
        inputs["tokens"] = torch.from_numpy(tokens)[None].repeat(batch, 1)
        inputs["token_mask"] = torch.from_numpy(mask)[None].repeat(batch, 1)
    return inputs


@torch.inference_mode()
def raw_chunk(
    teacher: TeacherPolicy,
    observations: Sequence[Mapping[str, Any]],
    noise: Tensor | None = None,
    task: str | None = None,
) -> Float32:
    """Raw actions (B, H, A). `noise` (B, H, Z), none for a teacher without."""
    inputs, spec = inputs_of(teacher, observations, task), teacher.spec
    shape = (len(inputs["state"]), spec.horizon)
    noise = torch.zeros(*shape, spec.noise) if noise is None else noise
    prefix, mask = torch.zeros(*shape, len(spec.actions)), torch.zeros(*shape, 1)
    return spec.action_stats.invert(teacher(inputs, noise, prefix, mask).numpy())


def noise_of_rows(rows: Tensor, past: int) -> Tensor:
    """Noise (B, horizon, A) of a Diffusion Policy as its teacher takes it (B, horizon - past, A or 2 A)."""
    if not past:
        return rows
    side = torch.zeros_like(rows[:, past:])
    side[:, :past] = rows[:, :past]
    return torch.cat([rows[:, past:], side], dim=-1)
