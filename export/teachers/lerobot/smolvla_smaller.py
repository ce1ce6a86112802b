"""A SmolVLA with fewer layers or fewer vision tokens, started from the weights of a whole one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from edgevla.errors import BadInput, explain
from export.teachers.lerobot.smolvla import SmolVlaPolicy, restore_buffers
from export.teachers.lerobot.smolvla_net import SmolVla, SmolVlaSizes


def smaller(policy: SmolVlaPolicy, layers: int | None = None, image_side: int | None = None) -> SmolVlaPolicy:
    """The policy with `layers` of its language model's and expert's layers, and pictures of `image_side` pixels.

    It shares its weights with `policy`; untrained it is only good for timing, and to start training from.

    Raises:
        BadInput: layers that cannot be chosen so that self- and cross-attention stay where they were; a side that does
            not fill whole tokens.
    """
    sizes = policy.net.sizes
    keep = kept_layers(sizes, layers or sizes.text.layers)
    side = image_side or sizes.image_side
    square = sizes.vlm.vision.patch * sizes.vlm.pixel_shuffle
    if side % square:
        raise BadInput(explain("side of the pictures", f"a multiple of {square}", f"{side}", "choose another"))
    experts = len(keep) if sizes.num_expert_layers > 0 else -1
    new = replace(sizes, num_vlm_layers=len(keep), num_expert_layers=experts, image_side=side)
    with torch.device("meta"):
        net = SmolVla(new)
    # The same modules, but for the two stacks of layers and the rows of the position table.
    whole = policy.net
    net.load_state_dict(_of_kept(whole, keep), assign=True)
    restore_buffers(net)
    cameras = tuple(replace(camera, height=side, width=side) for camera in policy.spec.cameras)
    spec = replace(policy.spec, cameras=cameras)
    return SmolVlaPolicy(net.eval(), spec, policy.words, policy.sha256, policy.flow_steps)


def kept_layers(sizes: SmolVlaSizes, layers: int) -> list[int]:
    """Which layers stay: runs of `self_attn_every_n_layers`, spread evenly, the first one always."""
    total = sizes.text.layers
    run = max(sizes.self_attn_every_n_layers, 1) if sizes.cross_attention else 1
    if sizes.expert.layers != total or not 0 < layers <= total or layers % run or total % run:
        expected = f"a multiple of {run} up to {total}, with an expert of {total} layers"
        raise BadInput(explain("layers of a smaller SmolVLA", expected, f"{layers}", "choose another number"))
    runs, wanted = total // run, layers // run
    starts = [run * (i * runs // wanted) for i in range(wanted)]
    return [start + i for start in starts for i in range(run)]


def _of_kept(whole: nn.Module, keep: list[int]) -> dict[str, torch.Tensor]:
    """The state of the whole network without the layers that go, the others numbered anew."""
    state: dict[str, torch.Tensor] = {}
    place = {old: new for new, old in enumerate(keep)}
    for key, tensor in whole.state_dict(keep_vars=True).items():
        stack = next((s for s in ("vlm.text_model.layers.", "expert.layers.") if key.startswith(s)), None)
        if stack is None:
            state[key] = tensor
            continue
        number, rest = key.removeprefix(stack).split(".", 1)
        if int(number) in place:
            state[f"{stack}{place[int(number)]}.{rest}"] = tensor
    return state
