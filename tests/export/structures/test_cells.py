"""Every structure with every head: it trains, and the robot's graphs give the numbers of training, moment by moment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgevla.bundle.wiring import NEXT
from edgevla.errors import BadInput
from export.onnx.chain import blank_memory, run_chain, torch_stage
from export.structures.config import HEADS, SEQUENTIAL, StructureConfig
from export.structures.objective import StructureObjective
from export.structures.policy import StructurePolicy
from export.structures.stages import stages_of
from tests.export.structures.tiny import LONGEST, rows, tiny_config, tiny_policy

CELLS = [
    *(("one-step", head, 1) for head in HEADS),
    *((structure, head, 3) for structure in ("interleaved", "policy-head") for head in HEADS if head != SEQUENTIAL),
]


@pytest.fixture(params=CELLS, ids=lambda cell: "-".join(map(str, cell)))
def policy(request: pytest.FixtureRequest) -> StructurePolicy:
    return tiny_policy(*request.param)


def frame(batch: dict[str, torch.Tensor], moment: int, noise: torch.Tensor) -> dict[str, Any]:
    """Raw inputs of one moment of the first row, as the engine feeds them."""
    one = {
        "image": batch["image"][:1, moment], "state": batch["state"][:1, moment], "tokens": batch["tokens"][:1],
        "token_mask": batch["token_mask"][:1], "noise": noise,
        "prefix": batch["actions"][:1, moment] * batch["mask"][:1, moment], "prefix_mask": batch["mask"][:1, moment],
    }  # fmt: skip
    return {name: value.numpy() for name, value in one.items()}


def test_the_graphs_answer_moment_by_moment_what_the_row_does(policy: StructurePolicy) -> None:
    window, config = policy.config.window, policy.config
    batch = rows(policy, 1, window + 2)
    noise = torch.randn(1, config.horizon, config.actions, generator=torch.Generator().manual_seed(2))
    specs = stages_of(policy, LONGEST)
    memory = blank_memory(specs)
    assert bool(memory) == (window > 1)
    for moment in range(window + 2):
        values = run_chain(specs, {**frame(batch, moment, noise), **memory}, torch_stage)
        memory = {name: values[name + NEXT] for name in memory}
        first = max(0, moment - window + 1)
        inputs = {key: batch[key][:, first : moment + 1] for key in ("image", "state")}
        inputs |= {key: batch[key] for key in ("tokens", "token_mask")}
        mask = batch["mask"][:, moment]
        with torch.no_grad():
            row = policy.act(inputs, noise, batch["actions"][:, moment] * mask, mask)
        np.testing.assert_allclose(values["chunk"], row.numpy(), rtol=0, atol=2e-5)


def test_committed_rows_are_answered_as_they_are(policy: StructurePolicy) -> None:
    batch, config = rows(policy, 2), policy.config
    noise = torch.randn(2, config.horizon, config.actions)
    mask = batch["mask"][:, -1]
    with torch.no_grad():
        chunk = policy.act(batch, noise, batch["actions"][:, -1] * mask, mask)
    assert torch.equal(chunk[:, 0], batch["actions"][:, -1, 0])
    assert chunk.isfinite().all()


def test_training_lowers_the_loss_and_reaches_every_weight(policy: StructurePolicy) -> None:
    policy.train()
    objective = StructureObjective(policy, torch.Generator().manual_seed(0))
    batch, optimiser = rows(policy, 4), torch.optim.Adam(policy.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = objective(batch)
        loss.backward()
        if not losses:
            idle = {name for name, p in policy.named_parameters() if p.grad is None}
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert idle == set()


def test_words_and_pictures_matter(policy: StructurePolicy) -> None:
    batch, config = rows(policy, 1), policy.config
    noise = torch.randn(1, config.horizon, config.actions)
    mask = torch.zeros(1, config.horizon, 1)
    objective = StructureObjective(policy, torch.Generator().manual_seed(0))
    with torch.no_grad():
        policy.act(batch, noise, mask.expand(-1, -1, config.actions), mask)
        plain, other = objective(batch), objective({**batch, "tokens": batch["tokens"].flip(1)})
        dark = StructureObjective(policy, torch.Generator().manual_seed(0))({**batch, "image": -batch["image"]})
        plain_again = StructureObjective(policy, torch.Generator().manual_seed(0))(batch)
    assert not torch.equal(dark, plain_again)
    assert not torch.equal(plain, other)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"structure": "video"}, "structure"),
        ({"head": "lstn"}, "head"),
        ({"window": 2}, "1 with one-step"),
        ({"structure": "policy-head", "window": 17}, "1 to 16"),
        ({"horizon": 9}, "multiple of ticks_per_token"),
        ({"structure": "policy-head", "head": SEQUENTIAL, "window": 2}, "take head discrete"),
    ],
)
def test_a_config_that_cannot_be_says_why(changes: dict[str, Any], said: str) -> None:
    told = {**tiny_config("one-step", "mlp").to_dict(), **changes}
    with pytest.raises(BadInput, match=said):
        StructureConfig.from_dict(told)


def test_a_config_is_read_back_and_unknown_keys_are_listed() -> None:
    config = tiny_config("policy-head", "lstm", 4)
    assert StructureConfig.from_dict(config.to_dict()) == config
    with pytest.raises(BadInput, match="hedd"):
        StructureConfig.from_dict({**config.to_dict(), "hedd": 1})
    with pytest.raises(BadInput, match="all sizes"):
        StructureConfig.from_dict({"structure": "one-step"})


def test_a_resampler_leaves_so_many_tokens_of_each_picture() -> None:
    policy = tiny_policy("one-step", "mlp", resampled=3, pictures=2)
    with torch.no_grad():
        assert policy.look(torch.rand(1, 2, 32, 32, 3)).shape[1] == 6
    assert tiny_policy("one-step", "mlp", pictures=2).look(torch.rand(1, 2, 32, 32, 3)).shape[1] == 8
