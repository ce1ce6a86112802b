"""ACT as a teacher: pictures and state to a whole chunk in one pass, without noise and without words.

Read it top to bottom: a residual network turns each picture into feature tokens, the encoder mixes them with the state,
and the decoder reads one action per learned query out of them. The variational encoder of training is left out: at run
time its latent is zero, and what remains of it is the bias of its projection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgevla.errors import BadInput, explain
from export.onnx.stages import StageSpec
from export.teachers.interface import Inputs, TeacherPolicy, TeacherSpec
from export.teachers.lerobot.folder import PolicyFolder
from export.teachers.lerobot.pixels import Pixels, camera_specs, picture_size
from export.teachers.lerobot.resnet import FrozenNorm, ResNet
from export.teachers.lerobot.weights import load_tensors

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


class Attention(nn.Module):
    """Multi-head attention with projections of their own, each a plain matrix product in the graph."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = self._split(self.q(query)), self._split(self.k(key)), self._split(self.v(value))
        mixed: Tensor = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out_proj(mixed)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """Self-attention, cross-attention in the decoder, then two dense layers; norms before (`pre_norm`) or after.

    Positions are added to queries and keys, not to values.
    """

    def __init__(self, folder: PolicyFolder, decoder: bool) -> None:
        super().__init__()
        width, heads = folder.setting("dim_model", 512), folder.setting("n_heads", 8)
        inner, name = folder.setting("dim_feedforward", 3200), folder.setting("feedforward_activation", "relu")
        if name not in ACTIVATIONS or width % heads or width % 4:
            expected = f"one of {[*ACTIVATIONS]}, and a width that heads and 4 divide"
            got = f"{name}, width {width}, {heads} heads"
            raise BadInput(explain("layers of act in config.json", expected, got, "check config.json"))
        self.pre_norm = folder.setting("pre_norm", False)
        self.self_attn = Attention(width, heads)
        self.cross_attn = Attention(width, heads) if decoder else None
        self.dense = nn.Sequential(nn.Linear(width, inner), ACTIVATIONS[name](), nn.Linear(inner, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if decoder else 2))

    def forward(self, x: Tensor, position: Tensor, memory: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """x (B, M, W) with its position (1, M, W); memory: keys and values (B, K, W) to read from."""
        x = self._add(0, x, lambda y: self.self_attn(y + position, y + position, y))
        if memory is not None and self.cross_attn is not None:
            keys, values, attend = *memory, self.cross_attn
            x = self._add(1, x, lambda y: attend(y + position, keys, values))
        return self._add(len(self.norms) - 1, x, self.dense)

    def _add(self, norm: int, x: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
        if self.pre_norm:
            return x + work(self.norms[norm](x))
        added: Tensor = self.norms[norm](x + work(x))
        return added


class ActPolicy(TeacherPolicy):
    """Attributes follow the checkpoint where they can; `_rename` says where they do not."""

    def __init__(self, folder: PolicyFolder) -> None:
        super().__init__()
        if folder.setting("n_obs_steps", 1) != 1:
            got = f"{folder.config['n_obs_steps']}"
            raise BadInput(explain("n_obs_steps of act", "1", got, "check config.json"))
        width, self.horizon = folder.setting("dim_model", 512), folder.setting("chunk_size", 100)
        self.sizes = [n for n in (folder.robot_state_size, folder.env_state_size) if n]
        self.spec = _spec(folder, self.horizon)
        self.sha256 = folder.sha256
        self.latent = nn.Parameter(torch.zeros(width))
        self.states = nn.ModuleList(nn.Linear(size, width) for size in self.sizes)
        self.state_positions = nn.Parameter(torch.zeros(1 + len(self.sizes), width))
        if folder.cameras:
            self.pixels = Pixels(folder)
            name, dilate = folder.setting("vision_backbone", "resnet18"), "replace_final_stride_with_dilation"
            self.backbone = ResNet(name, FrozenNorm, bool(folder.config.get(dilate, False)))
            self.project = nn.Conv2d(self.backbone.channels, width, 1)
            grid = waves_2d(*self.backbone.map_size(*picture_size(folder)), width)
            self.register_buffer("grid", grid.repeat(1, len(folder.cameras), 1), persistent=False)
        self.encoder = nn.ModuleList(Layer(folder, False) for _ in range(folder.setting("n_encoder_layers", 4)))
        self.encoder_norm = nn.LayerNorm(width) if folder.setting("pre_norm", False) else nn.Identity()
        self.decoder = nn.ModuleList(Layer(folder, True) for _ in range(folder.setting("n_decoder_layers", 1)))
        self.decoder_norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.zeros(self.horizon, width))
        self.action_head = nn.Linear(width, folder.action_size)

    def see(self, image: Tensor) -> Tensor:
        """Pictures (B, N, h, w, 3) to tokens (B, N * fh * fw, W)."""
        pixels = self.pixels(image)
        features = self.project(self.backbone(pixels.flatten(0, 1)))  # (B * N, W, fh, fw)
        tokens: Tensor = features.flatten(2).transpose(1, 2)
        return tokens.reshape(image.shape[0], -1, tokens.shape[-1])

    def mix(self, vision: Tensor | None, state: Tensor) -> Tensor:
        """Tokens of pictures and the state (B, S) to what the decoder reads (B, M, W)."""
        parts = torch.split(state, self.sizes, dim=-1)
        rows = [self.latent.expand(len(state), -1)]
        rows += [project(part) for project, part in zip(self.states, parts, strict=True)]
        x = torch.stack(rows, dim=1)
        if vision is not None:
            x = torch.cat([x, vision], dim=1)
        for layer in self.encoder:
            x = layer(x, self._positions())
        encoded: Tensor = self.encoder_norm(x)
        return encoded

    def act(self, memory: Tensor) -> Tensor:
        """Memory (B, M, W) to the chunk (B, H, A)."""
        keys, queries = memory + self._positions(), self.queries[None]
        x = torch.zeros_like(queries).expand(len(memory), -1, -1)
        for layer in self.decoder:
            x = layer(x, queries, (keys, memory))
        chunk: Tensor = self.action_head(self.decoder_norm(x))
        return chunk

    def _positions(self) -> Tensor:
        positions = self.state_positions[None]
        return torch.cat([positions, torch.as_tensor(self.grid)], dim=1) if self.spec.cameras else positions

    def encode(self, inputs: Inputs) -> tuple[Tensor, ...]:
        return (self.mix(self.see(inputs["image"]) if self.spec.cameras else None, inputs["state"]),)

    def decode(self, context: tuple[Tensor, ...], noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        """Noise (B, H, 0), prefix and mask are not looked at: ACT knows none of them."""
        return self.act(context[0])

    def features(self, context: tuple[Tensor, ...]) -> Tensor | None:
        return context[0]

    def stages(self) -> list[StageSpec]:
        """`vision` turns pictures into tokens, `head` tokens and state into the chunk; without pictures only `head`."""
        generator = torch.Generator().manual_seed(0)
        state = torch.randn((1, sum(self.sizes)), generator=generator)
        if not self.spec.cameras:
            return [StageSpec("head", _Head(self), {"state": state}, ("chunk",))]
        camera = self.spec.cameras[0]
        shape = (1, len(self.spec.cameras), camera.height, camera.width, 3)
        image = torch.rand(shape, generator=generator) * 2 - 1
        with torch.inference_mode():
            vision = self.see(image).clone()
        return [
            StageSpec("vision", _Vision(self), {"image": image}, ("vision",)),
            StageSpec("head", _Head(self), {"state": state, "vision": vision}, ("chunk",)),
        ]


class _Vision(nn.Module):
    def __init__(self, policy: ActPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, image: Tensor) -> Tensor:
        return self.policy.see(image)


class _Head(nn.Module):
    def __init__(self, policy: ActPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, state: Tensor, vision: Tensor | None = None) -> Tensor:
        return self.policy.act(self.policy.mix(vision, state))


def waves_2d(height: int, width: int, channels: int) -> Tensor:
    """Sine and cosine of row and column (1, height * width, channels); both count from 1 and end at a full turn."""
    half = channels // 2
    frequencies = 10000 ** (2 * torch.arange(half // 2, dtype=torch.float32) / half)

    def waves(count: int) -> Tensor:
        turn = torch.arange(1, count + 1, dtype=torch.float32) / (count + 1e-6) * (2 * math.pi)
        angles = turn[:, None] / frequencies
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)

    rows = waves(height)[:, None].expand(-1, width, -1)
    columns = waves(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=-1).reshape(1, height * width, channels)


def _spec(folder: PolicyFolder, horizon: int) -> TeacherSpec:
    return TeacherSpec(
        name="act",
        cameras=camera_specs(folder),
        state=folder.state_names,
        actions=folder.action_names,
        horizon=horizon,
        d_max=0,
        max_tokens=0,
        noise=0,
        state_stats=folder.state_stats,
        action_stats=folder.action_stats,
    )


_NAMES = {
    "encoder_robot_state_input_proj.": "states.0.",
    "encoder_latent_input_proj.bias": "latent",
    "encoder_1d_feature_pos_embed.weight": "state_positions",
    "encoder_img_feat_input_proj.": "project.",
    "decoder_pos_embed.weight": "queries",
    "encoder.layers.": "encoder.",
    "encoder.norm.": "encoder_norm.",
    "decoder.layers.": "decoder.",
    "decoder.norm.": "decoder_norm.",
}
_LAYER_NAMES = {
    ".multihead_attn.": ".cross_attn.",
    ".linear1.": ".dense.0.",
    ".linear2.": ".dense.2.",
    ".norm1.": ".norms.0.",
    ".norm2.": ".norms.1.",
    ".norm3.": ".norms.2.",
}


def _rename(key: str, environment: str) -> str | None:
    """Key of the checkpoint to ours; None for what only training needs."""
    key = key.removeprefix("model.")
    if key.startswith("vae_encoder") or key == "encoder_latent_input_proj.weight":
        return None
    for theirs, ours in {**_NAMES, "encoder_env_state_input_proj.": environment}.items():
        if key.startswith(theirs):
            key = ours + key.removeprefix(theirs)
            break
    if key.startswith(("encoder.", "decoder.")):
        for theirs, ours in _LAYER_NAMES.items():
            key = key.replace(theirs, ours)
    return key


def _unpacked(source: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The packed projections of attention as the three that they are."""
    for key, tensor in source:
        path, _, kind = key.rpartition(".in_proj_")
        if not path:
            yield key, tensor
            continue
        for name, part in zip("qkv", tensor.chunk(3), strict=True):
            yield f"{path}.{name}.{kind}", part


def build(folder: PolicyFolder) -> ActPolicy:
    """The policy with its weights.

    Raises:
        BadInput: config or weights are not those of an ACT we know, or disagree.
    """
    policy = ActPolicy(folder)
    environment = f"states.{1 if folder.robot_state_size else 0}."
    source = _unpacked(folder.tensors(lambda key: _rename(key, environment)))
    load_tensors(policy, source, f"weights of act in {folder.weights.names}")
    return policy.eval()
