"""Stages of the two policies that flow over remembered keys and values: vision, prefix, and step or head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from export.onnx.stages import StageSpec
from export.teachers.interface import TeacherPolicy
from export.teachers.lerobot.flow import euler_step, euler_times, pad_last

SCENE = ["vision", "camera_mask", "tokens", "token_mask", "state"]
CACHE = ("keys", "values", "present")


class FlowNet(Protocol):
    """A network whose expert reads keys and values (B, n, P, K, D) of the scene, present (B, P)."""

    @property
    def sizes(self) -> Any: ...
    def see(self, image: Tensor) -> Tensor: ...
    def remember(
        self, vision: Tensor, camera_mask: Tensor, tokens: Tensor, token_mask: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]: ...
    def velocity(self, x: Tensor, times: Tensor, cache: tuple[Tensor, Tensor, Tensor]) -> Tensor: ...


def flow_stages(policy: TeacherPolicy, net: FlowNet, flow_steps: int) -> list[StageSpec]:
    """vision and prefix once per observation, then step, once per time, or head, for a policy of one step.

    A policy with d_max above 0 takes prefix and prefix_mask in its last stage.
    """
    inputs = _examples(policy, net)
    with torch.no_grad():  # tensors of inference_mode cannot be traced again
        inputs["vision"] = net.see(inputs["image"])
        remembered = net.remember(*(inputs[name] for name in SCENE))
    inputs.update(zip(CACHE, remembered, strict=True))
    flow = [*CACHE, *(["prefix", "prefix_mask"] if policy.spec.d_max else [])]
    last = StageSpec("step", _Step(net, flow_steps), _chosen(inputs, ["noisy", "t", *flow]), ("chunk",))
    if flow_steps == 1:
        last = StageSpec("head", _Head(net, len(policy.spec.actions)), _chosen(inputs, ["noise", *flow]), ("chunk",))
    else:
        last = StageSpec(last.name, last.module, last.inputs, last.outputs, euler_times(flow_steps))
    scene = [name for name in SCENE if name != "state" or _reads_state(net)]
    return [
        StageSpec("vision", _Vision(net), _chosen(inputs, ["image"]), ("vision",)),
        StageSpec("prefix", _Prefix(net, "state" in scene), _chosen(inputs, scene), CACHE),
        last,
    ]


def _reads_state(net: FlowNet) -> bool:
    """Whether the state is a token of its own; in pi05 it is among the words, and a graph would lose that input."""
    return getattr(net, "state_proj", None) is not None


def _examples(policy: TeacherPolicy, net: FlowNet) -> dict[str, Tensor]:
    """One observation of the shapes that the robot will feed."""
    spec, generator = policy.spec, torch.Generator().manual_seed(0)
    camera, words = spec.cameras[0], torch.arange(spec.max_tokens)
    noise = torch.randn((1, spec.horizon, spec.noise), generator=generator)
    picture = (1, len(spec.cameras), camera.height, camera.width, 3)
    return {
        "image": 2 * torch.rand(picture, generator=generator) - 1,
        "camera_mask": torch.ones(1, len(spec.cameras)),
        "tokens": words[None] % 16,
        "token_mask": (words < max(spec.max_tokens // 4, 1)).float()[None],
        "state": torch.randn((1, len(spec.state)), generator=generator),
        "noise": noise,
        "noisy": noise,
        "t": torch.ones(1),
        "prefix": torch.randn((1, spec.horizon, len(spec.actions)), generator=generator),
        "prefix_mask": (torch.arange(spec.horizon) < min(2, spec.d_max)).float()[None, :, None],
    }


def _chosen(inputs: Mapping[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    return {name: inputs[name] for name in names}


class _Vision(nn.Module):
    def __init__(self, net: FlowNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        return self.net.see(image)


class _Prefix(nn.Module):
    def __init__(self, net: FlowNet, reads_state: bool) -> None:
        super().__init__()
        self.net, self.reads_state = net, reads_state

    def forward(self, *scene: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        vision, camera_mask, tokens, token_mask = scene[:4]
        state = scene[4] if self.reads_state else vision.new_zeros(1, 1)
        return self.net.remember(vision, camera_mask, tokens, token_mask, state)


class _Step(nn.Module):
    """One step of `steps`; without a prefix no row is held."""

    def __init__(self, net: FlowNet, steps: int) -> None:
        super().__init__()
        self.net, self.steps = net, steps

    def forward(self, noisy: Tensor, t: Tensor, keys: Tensor, values: Tensor, present: Tensor, *held: Tensor) -> Tensor:
        def velocity(x: Tensor, times: Tensor) -> Tensor:
            return self.net.velocity(x, times, (keys, values, present))

        if not held:
            return noisy - velocity(noisy, t[:, None].expand(noisy.shape[:2])) / self.steps
        prefix, mask = held
        return euler_step(velocity, noisy, t, self.steps, pad_last(prefix, noisy.shape[-1]), mask)


class _Head(nn.Module):
    """The whole flow in one step, from time 1. It answers the actions only, not what they are padded with."""

    def __init__(self, net: FlowNet, actions: int) -> None:
        super().__init__()
        self.step, self.actions = _Step(net, 1), actions

    def forward(self, noise: Tensor, *rest: Tensor) -> Tensor:
        chunk: Tensor = self.step(noise, torch.ones_like(noise[:, 0, 0]), *rest)
        return chunk[..., : self.actions]
