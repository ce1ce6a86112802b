"""Diffusion Policy as a teacher: the last observations steer a U-Net that turns noise into a chunk.

The library draws fresh noise at every step when its config says DDPM (the default). A teacher has to be a function of
the observation and one starting noise, so here the steps are always DDIM, which a network trained for DDPM takes as it
is. `decode_ddpm` is the library's way, for comparison.

The network denoises `horizon` rows, the first T - 1 of which lie in the past. A chunk here starts now, so it has
H = horizon - T + 1 rows; the rows of the past ride along in columns A to 2 A of the first T - 1 rows of the noise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from edgevla.errors import BadInput, explain
from export.onnx.stages import StageSpec
from export.teachers.interface import Inputs, TeacherPolicy, TeacherSpec
from export.teachers.lerobot.folder import PolicyFolder
from export.teachers.lerobot.pixels import CenterCrop, Pixels, Resize, camera_specs, picture_size
from export.teachers.lerobot.resnet import FrozenNorm, ResNet
from export.teachers.lerobot.schedule import Schedule, schedule_of
from export.teachers.lerobot.unet import Unet


class SpatialSoftmax(nn.Module):
    """Feature maps (B, C, fh, fw) to where each of K learned maps is brightest (B, K, 2), x and y in [-1, 1]."""

    def __init__(self, channels: int, size: tuple[int, int], points: int) -> None:
        super().__init__()
        self.nets = nn.Conv2d(channels, points, 1)
        self.register_buffer("pos_grid", torch.zeros(size[0] * size[1], 2))

    def forward(self, features: Tensor) -> Tensor:
        attention = self.nets(features).flatten(2).softmax(dim=-1)
        return attention @ torch.as_tensor(self.pos_grid)


class Eye(nn.Module):
    """Normalised pictures (B, 3, h, w) to features (B, 2 K)."""

    def __init__(self, folder: PolicyFolder) -> None:
        super().__init__()
        size = picture_size(folder)
        self.prepare, size = _prepare(folder, size)
        grouped = folder.setting("use_group_norm", True)
        self.backbone = ResNet(folder.setting("vision_backbone", "resnet18"), _group_norm if grouped else FrozenNorm)
        points = folder.setting("spatial_softmax_num_keypoints", 32)
        self.pool = SpatialSoftmax(self.backbone.channels, self.backbone.map_size(*size), points)
        self.out = nn.Linear(2 * points, 2 * points)

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.relu(self.out(self.pool(self.backbone(self.prepare(pixels))).flatten(1)))


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(channels // 16, channels)


def _prepare(folder: PolicyFolder, size: tuple[int, int]) -> tuple[nn.Module, tuple[int, int]]:
    """Resize, then crop, as the config says, and the size that is left."""
    resize, crop = (_size(folder, name) for name in ("resize_shape", "crop_shape"))
    steps: list[nn.Module] = []
    if resize is not None:
        ratio = folder.setting("crop_ratio", 1.0)
        crop = (int(resize[0] * ratio), int(resize[1] * ratio)) if ratio < 1 else None
        steps.append(Resize(size, resize))
        size = resize
    if crop is not None:
        if not all(0 < small <= large for small, large in zip(crop, size, strict=True)):
            raise BadInput(explain("crop of diffusion", f"within {size}", f"{crop}", "check config.json"))
        steps.append(CenterCrop(size, crop))
        size = crop
    return nn.Sequential(*steps), size


def _size(folder: PolicyFolder, name: str) -> tuple[int, int] | None:
    value = folder.config.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(n, int) and n > 0 for n in value):
        raise BadInput(
            explain(f"{name} in config.json", "[height, width] in pixels", f"{value!r}", "check config.json")
        )
    return value[0], value[1]


class DiffusionPolicy(TeacherPolicy):
    """Noise (B, H, Z) to a chunk; Z = A for one observation, else 2 A, see above."""

    def __init__(self, folder: PolicyFolder, schedule: Schedule) -> None:
        super().__init__()
        self.past = folder.setting("n_obs_steps", 2) - 1
        self.sizes = [folder.robot_state_size, folder.env_state_size]
        rows = folder.setting("horizon", 16)
        halvings = 2 ** (len(folder.setting("down_dims", [512, 1024, 2048])) - 1)
        if self.past < 0 or rows % halvings or rows < 2 * self.past + 1 or not folder.robot_state_size:
            expected = f"observation.state, horizon a multiple of {halvings} and above twice n_obs_steps"
            got = f"{self.sizes[0]} states, horizon {rows}, {self.past + 1} observations"
            raise BadInput(explain("config of diffusion", expected, got, "check config.json"))
        self.schedule, self.sha256 = schedule, folder.sha256
        self.spec = _spec(folder, rows - self.past, folder.action_size * (2 if self.past else 1), self.past + 1)
        observation = folder.state_size
        if folder.cameras:
            self.pixels = Pixels(folder)
            separate = folder.setting("use_separate_rgb_encoder_per_camera", False)
            self.eyes = nn.ModuleList(Eye(folder) for _ in range(len(folder.cameras) if separate else 1))
            observation += 2 * folder.setting("spatial_softmax_num_keypoints", 32) * len(folder.cameras)
        self.unet = Unet(folder, observation * (self.past + 1))
        self.register_buffer("kept", schedule.kept, persistent=False)
        self.register_buffer("kept_next", schedule.kept_next, persistent=False)

    def observe(self, image: Tensor | None, state: Tensor) -> Tensor:
        """Pictures (B, T * N, h, w, 3) and states (B, T * S) to the condition (B, C)."""
        steps = self.past + 1
        robot, around = torch.split(state.unflatten(1, (steps, -1)), self.sizes, dim=-1)
        seen = [] if image is None else [self._see(self.pixels(image)).unflatten(0, (-1, steps))]
        return torch.cat([robot, *seen, around], dim=-1).flatten(1)

    def _see(self, pixels: Tensor) -> Tensor:
        """(B, T * N, 3, h, w) to features of all cameras (B * T, N * 2 K)."""
        cameras = len(self.spec.cameras)
        if len(self.eyes) == 1:
            features: Tensor = self.eyes[0](pixels.flatten(0, 1))
            return features.reshape(-1, cameras * features.shape[-1])
        one_by_one = [eye(pixels[:, n::cameras].flatten(0, 1)) for n, eye in enumerate(self.eyes)]
        return torch.cat(one_by_one, dim=-1)

    def step(self, noisy: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """One DDIM step: noisy (B, H, Z) at time (B,) to the same, one step less noisy."""
        rows = self.unpack(noisy)
        answer = self.unet(rows, time, condition)
        at = time.long()
        kept, kept_next = (torch.as_tensor(t)[at][:, None, None] for t in (self.kept, self.kept_next))
        return self.pack(self.schedule.ddim(rows, answer, kept, kept_next), noisy)

    def unpack(self, noisy: Tensor) -> Tensor:
        """(B, H, Z) to the rows of the network (B, horizon, A), oldest first."""
        if not self.past:
            return noisy
        actions = len(self.spec.actions)
        return torch.cat([noisy[:, : self.past, actions:], noisy[..., :actions]], dim=1)

    def pack(self, rows: Tensor, noisy: Tensor) -> Tensor:
        """The reverse; what is free of meaning in (B, H, Z) stays as it is in `noisy`."""
        if not self.past:
            return rows
        free = noisy[:, self.past :, len(self.spec.actions) :]
        return torch.cat([rows[:, self.past :], torch.cat([rows[:, : self.past], free], dim=1)], dim=-1)

    def encode(self, inputs: Inputs) -> tuple[Tensor, ...]:
        return (self.observe(inputs["image"] if self.spec.cameras else None, inputs["state"]),)

    def decode(self, context: tuple[Tensor, ...], noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        """All DDIM steps. The policy knows no prefix: prefix and mask are not looked at."""
        for time in self.schedule.times:
            at = torch.full((len(noise),), float(time), device=noise.device)
            noise = self.step(noise, at, context[0])
        return noise[..., : len(self.spec.actions)]

    def decode_ddpm(self, context: tuple[Tensor, ...], noise: Tensor, fresh: Callable[[], Tensor]) -> Tensor:
        """As `decode`, by DDPM: `fresh` draws new noise (B, horizon, A) after every step but the last."""
        rows = self.unpack(noise)
        for time in self.schedule.times:
            answer = self.unet(rows, torch.full((len(rows),), float(time), device=rows.device), context[0])
            rows = self.schedule.ddpm(rows, answer, time, fresh() if time else rows)
        return rows[:, self.past :]

    def features(self, context: tuple[Tensor, ...]) -> Tensor | None:
        """The condition as one token per observation (B, T, W)."""
        return context[0].unflatten(1, (self.past + 1, -1))

    def stages(self) -> list[StageSpec]:
        """`vision` makes the condition of pictures and states, `step` takes one DDIM step, at each of its times."""
        generator = torch.Generator().manual_seed(0)
        state = torch.randn((1, (self.past + 1) * len(self.spec.state)), generator=generator)
        observation = {"state": state}
        if self.spec.cameras:
            camera = self.spec.cameras[0]
            shape = (1, (self.past + 1) * len(self.spec.cameras), camera.height, camera.width, 3)
            observation = {"image": torch.rand(shape, generator=generator) * 2 - 1, **observation}
        with torch.inference_mode():
            condition = self.encode(observation)[0].clone()
        noisy = torch.randn((1, self.spec.horizon, self.spec.noise), generator=generator)
        step = {"noisy": noisy, "t": torch.tensor([float(self.schedule.times[0])]), "condition": condition}
        times = tuple(float(time) for time in self.schedule.times)
        return [
            StageSpec("vision", _Vision(self), observation, ("condition",)),
            StageSpec("step", _Step(self), step, ("chunk",), times),
        ]


class _Vision(nn.Module):
    def __init__(self, policy: DiffusionPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.policy.observe(inputs[0] if len(inputs) > 1 else None, inputs[-1])


class _Step(nn.Module):
    def __init__(self, policy: DiffusionPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, noisy: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return self.policy.step(noisy, t, condition)


def _spec(folder: PolicyFolder, horizon: int, noise: int, observations: int) -> TeacherSpec:
    return TeacherSpec(
        name="diffusion",
        cameras=camera_specs(folder),
        state=folder.state_names,
        actions=folder.action_names,
        horizon=horizon,
        d_max=0,
        max_tokens=0,
        noise=noise,
        state_stats=folder.state_stats,
        action_stats=folder.action_stats,
        observations=observations,
    )


_BACKBONE = {"0": "conv1", "1": "bn1", **{str(3 + stage): f"layer{stage}" for stage in range(1, 5)}}
_NAMES: Mapping[str, str] = {
    "diffusion_step_encoder.1.": "time.0.",
    "diffusion_step_encoder.3.": "time.2.",
    "down_modules.": "down.",
    "mid_modules.": "mid.",
    "up_modules.": "up.",
    "final_conv.0.block.": "out.0.",
    "final_conv.1.": "out.1.",
    ".block.": ".",
    ".cond_encoder.": ".film.",
    ".residual_conv.": ".shortcut.",
}
_STAGE = re.compile(r"(unet\.(?:down|up)\.\d+)\.([012])\.")
_PART = ("first", "second", "move")


def _rename(key: str) -> str | None:
    """Key of the checkpoint to ours; None for counters of batch norm."""
    key = key.removeprefix("diffusion.")
    if key.endswith("num_batches_tracked"):
        return None
    if key.startswith("rgb_encoder."):
        key = re.sub(r"^rgb_encoder\.(?!\d)", "eyes.0.", key).replace("rgb_encoder.", "eyes.")
        return re.sub(r"(?<=\.backbone\.)(\d)(?=\.)", lambda match: _BACKBONE.get(match[1], match[1]), key, count=1)
    for theirs, ours in _NAMES.items():
        key = key.replace(theirs, ours)
    return _STAGE.sub(lambda match: f"{match[1]}.{_PART[int(match[2])]}.", key)


def build(folder: PolicyFolder, steps: int | None = None) -> DiffusionPolicy:
    """The policy with its weights.

    Args:
        folder: of type diffusion.
        steps: DDIM steps; None: as many as the config says, which is commonly all 100 of training.

    Raises:
        BadInput: config or weights are not those of a Diffusion Policy we know, or disagree.
    """
    policy = DiffusionPolicy(folder, schedule_of(folder, steps))
    folder.load_into(policy, _rename)
    return policy.eval()
