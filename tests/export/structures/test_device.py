"""Training on another device than this processor: PyTorch's `meta` refuses an operation whose tensors lie on two."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

from export.structures.families import FAMILIES
from export.structures.heads.quantized import Quantized
from export.structures.objective import StructureObjective
from export.structures.once import rest
from export.structures.pictures import light_of, on_device
from export.structures.places import Places
from export.structures.policy import StructurePolicy
from tests.export.structures.test_cells import CELLS
from tests.export.structures.tiny import rows, tiny_policy

K = 6
DEVICE = "meta"


def batch_for(policy: StructurePolicy) -> dict[str, torch.Tensor]:
    """As it is drawn: bytes and their light."""
    batch = rows(policy, 4)
    light = light_of(4, batch["image"].shape[1], 0.1, 0.1, np.random.default_rng(0))
    pictures = ((batch["image"] + 1) * 127).to(torch.uint8)
    return {**batch, "image": pictures, "light": light, "places": torch.zeros(*light.shape[:2], K)}


def step(policy: StructurePolicy, batch: dict[str, torch.Tensor], places: Places | None = None) -> torch.Tensor:
    policy.train(not isinstance(policy.head, Quantized))  # its idle entries start anew by values, which `meta` has none
    objective = StructureObjective(policy, torch.Generator().manual_seed(0), places).to(DEVICE)
    with on_device(lambda: batch, DEVICE) as next_batch:
        loss = objective(next_batch())
    loss.backward()
    assert all(p.grad is None or p.grad.device.type == DEVICE for p in objective.parameters())
    return loss


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: "-".join(map(str, cell)))
def test_every_structure_and_head_trains_where_its_weights_are(cell: tuple[str, str, int]) -> None:
    policy = tiny_policy(*cell)
    assert step(policy, batch_for(policy)).device.type == DEVICE


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_backbone_trains_where_its_weights_are(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # transformers'; `meta` has none
    policy = tiny_policy("one-step", "flow", family=family)
    assert step(policy, batch_for(policy)).device.type == DEVICE


@pytest.mark.parametrize("told", [0, K])
def test_so_does_the_lesson_of_places(told: int) -> None:
    policy = tiny_policy("one-step", "flow", told=told)
    places = Places(np.random.default_rng(0).normal(size=(20, K)).astype(np.float32), policy.config.width, 1.0, told)
    assert step(policy, batch_for(policy), places).device.type == DEVICE


def test_so_does_the_head_alone() -> None:
    policy = tiny_policy("one-step", "flow", told=K)
    rest(policy)
    batch = {key: value for key, value in batch_for(policy).items() if key not in ("image", "light")}
    assert step(policy, {**batch, "found": torch.zeros(4, 1, K)}).device.type == DEVICE


def test_tensors_of_two_devices_are_refused() -> None:
    policy = tiny_policy("one-step", "flow")
    objective = StructureObjective(policy.train(), torch.Generator().manual_seed(0)).to(DEVICE)
    with pytest.raises(RuntimeError, match="meta"):
        objective(rows(policy, 4))
